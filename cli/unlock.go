package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer/internal/process"
	"github.com/gosequencer/sequencer/storage"
)

// unlockCommand takes the run lock from its holder.
type unlockCommand struct {
	reason string
	yes    bool
	force  bool
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
	cmd.Flags().BoolVar(&c.force, "force", false, "although its holder is alive")
	return cmd
}

func (c *unlockCommand) body(ctx context.Context, s *session) error {
	held, err := s.runLock(ctx)
	switch {
	case err != nil:
		return err
	case held == nil:
		return c.conclude(s, nil)
	case alive(held.Worker) && !c.force:
		return fmt.Errorf("the run lock is held by %s: pid %d is alive on this machine; stop it, or give --force",
			holder(held.Worker), held.Worker.PID)
	}
	if err := s.confirm(ctx, c.yes, "take the run lock from %s", holder(held.Worker)); err != nil {
		return err
	}
	if held, err = s.Seq.Unlock(ctx, c.reason); err != nil {
		return err
	}
	return c.conclude(s, held)
}

func (c *unlockCommand) conclude(s *session, held *storage.LockState) error {
	switch {
	case s.json:
		s.document(map[string]any{"unlocked": held != nil, "holder": held})
	case held == nil:
		s.printf("No run holds the lock.")
	default:
		s.printf("Taken from %s.", holder(held.Worker))
	}
	return nil
}

// runLock is the lock that Unlock would take, nil if nobody holds it.
func (s *session) runLock(ctx context.Context) (*storage.LockState, error) {
	locks, err := s.Seq.Store().Locks(ctx)
	if err != nil && !isMissingLedger(err) {
		return nil, err
	}
	for _, l := range locks {
		if l.Name == "run" {
			return &l, nil
		}
	}
	return nil, nil //nolint:nilnil // nobody is no error
}

func holder(w storage.Worker) string {
	return fmt.Sprintf("%s (%s on %s, pid %d)", w.Actor, w.Purpose, w.Hostname, w.PID)
}

// alive reports whether a worker's process is seen to run on this machine.
func alive(w storage.Worker) bool {
	self := process.Self()
	known := self.Boot != "" && w.Boot == self.Boot && w.PIDStart != ""
	return known && !self.Gone(process.Identity{Hostname: w.Hostname, Boot: w.Boot, PID: w.PID, Start: w.PIDStart})
}
