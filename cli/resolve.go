package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
)

// resolveCommand records what a person found out about an interrupted execution.
type resolveCommand struct {
	completed, failed bool
	reason            string
}

func newResolve(a *app) *cobra.Command {
	c := &resolveCommand{}
	cmd := &cobra.Command{
		Use:   "resolve NAME|ID --completed|--failed",
		Short: "Say what became of an interrupted execution",
		Long: "An execution whose process died is interrupted when repeating it may do harm. Look at what it did,\n" +
			"then say so: completed counts as done, failed is offered again by the next run.",
		Example: "  " + a.root.Name() + ` resolve 20240115120000_charge --completed --reason "the invoice is paid"`,
		Args:    takes("NAME|ID"),
		RunE:    a.with(c.body),
	}
	f := cmd.Flags()
	f.BoolVar(&c.completed, "completed", false, "it did happen")
	f.BoolVar(&c.failed, "failed", false, "it did not")
	f.StringVar(&c.reason, "reason", "", "why, for the audit log")
	return cmd
}

func (c *resolveCommand) body(ctx context.Context, s *session) error {
	if c.completed == c.failed {
		return usagef("give one of --completed and --failed")
	}
	as := sequencer.ResolveFailed
	if c.completed {
		as = sequencer.ResolveCompleted
	}
	if err := s.Seq.Resolve(ctx, s.args[0], as, c.reason); err != nil {
		return err
	}
	if s.json {
		s.document(map[string]any{"name": s.args[0], "state": as})
		return nil
	}
	s.printf("%s is %s.", s.args[0], as)
	return nil
}
