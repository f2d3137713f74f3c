package cli

import (
	"context"

	"github.com/spf13/cobra"
)

// unlockCommand takes the run lock from its holder.
type unlockCommand struct {
	reason string
	yes    bool
}

func newUnlock(a *app) *cobra.Command {
	c := &unlockCommand{}
	cmd := &cobra.Command{
		Use:   "unlock",
		Short: "Take the run lock from a process that is gone",
		Long: "The lock of a process that died is taken over by itself where its death can be seen. This is for one\n" +
			"that is known to be gone and cannot be seen, on a machine that burnt down, say. Be sure: nothing stops\n" +
			"a run that still lives.",
		Args: takes(),
		RunE: a.with(c.body),
	}
	cmd.Flags().StringVar(&c.reason, "reason", "", "why, for the audit log")
	cmd.Flags().BoolVar(&c.yes, "yes", false, "do not ask")
	return cmd
}

func (c *unlockCommand) body(ctx context.Context, s *session) error {
	ok, err := s.confirm(c.yes, "take the run lock from its holder")
	if !ok || err != nil {
		return err
	}
	held, err := s.Seq.Unlock(ctx, c.reason)
	switch {
	case err != nil:
		return err
	case s.json:
		s.document(map[string]any{"unlocked": held != nil, "holder": held})
	case held == nil:
		s.printf("No run holds the lock.")
	default:
		s.printf("Taken from %s (%s on %s, pid %d).", held.Worker.Actor, held.Worker.Purpose, held.Worker.Hostname, held.Worker.PID)
	}
	return nil
}
