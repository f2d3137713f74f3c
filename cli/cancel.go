package cli

import (
	"context"

	"github.com/spf13/cobra"
)

// cancelCommand takes back what waits, or asks what runs to stop.
type cancelCommand struct{ reason string }

func newCancel(a *app) *cobra.Command {
	c := &cancelCommand{}
	cmd := &cobra.Command{
		Use:   "cancel NAME|ID",
		Short: "Take back what is queued, or ask what runs to stop",
		Long: "Takes back the newest execution of an operation, or the one with an id, if it has not started.\n" +
			"One that runs is asked to stop, and ends when its process has heard of it, or fails before.",
		Example: "  " + a.root.Name() + ` cancel sync_customer --reason "queued by mistake"`,
		Args:    takes("NAME|ID"),
		RunE:    a.with(c.body),
	}
	cmd.Flags().StringVar(&c.reason, "reason", "", "why, for the audit log")
	return cmd
}

func (c *cancelCommand) body(ctx context.Context, s *session) error {
	if err := s.Seq.Cancel(ctx, s.args[0], c.reason); err != nil {
		return err
	}
	if s.json {
		s.document(map[string]any{"name": s.args[0], "cancelled": true})
		return nil
	}
	s.printf("%s is cancelled, or asked to stop if it runs.", s.args[0])
	return nil
}
