package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
)

// retryCommand runs a failed or interrupted execution again.
type retryCommand struct{ reason string }

func newRetry(a *app) *cobra.Command {
	c := &retryCommand{}
	cmd := &cobra.Command{
		Use:   "retry NAME|ID",
		Short: "Run a failed or interrupted execution again, here and now",
		Long: "Runs the newest execution of an operation, or the one with an id, again as the same execution:\n" +
			"its counters start anew and its history stays.",
		Example: "  " + a.root.Name() + ` retry 20240115120000_seed_admin --reason "the API is back"`,
		Args:    takes("NAME|ID"),
		RunE:    a.with(c.body),
	}
	cmd.Flags().StringVar(&c.reason, "reason", "", "why, for the audit log")
	return cmd
}

func (c *retryCommand) body(ctx context.Context, s *session) error {
	w := &witness{result: executed{Name: s.args[0]}}
	d := newDisplay(s.ui)
	err := s.Seq.Retry(sequencer.WithObserver(sequencer.WithObserver(ctx, d.observe), w.observe), s.args[0], c.reason)
	d.close()
	return w.conclude(s, err)
}
