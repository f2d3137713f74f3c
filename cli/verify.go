package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
)

func newVerify(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Look whether everything is done: the gate of a deploy",
		Long: "Exits 0 when nothing is pending, in flight, failed or interrupted and no applied migration changed;\n" +
			"5 when something is open, 7 when only changed migrations stand in the way. What failed and is\n" +
			"allowed to fail does not count.",
		Args: takes(),
		RunE: a.with(func(ctx context.Context, s *session) error {
			if err := s.something(ctx); err != nil {
				return err
			}
			gate, err := s.Seq.Verify(ctx)
			if err != nil {
				return err
			}
			s.gate(gate)
			return verdict(gate)
		}),
	}
}

// something refuses to call ready what looks like the wrong directory or
// database: nothing to do, and no sign that anything ever was done.
func (s *session) something(ctx context.Context) error {
	s.warn()
	schema, err := s.Seq.Store().Schema(ctx)
	if err != nil || schema.Version > 0 {
		return err
	}
	st, err := s.Seq.Status(ctx)
	if err != nil {
		return err
	}
	if st.Plan.Empty() && len(st.Plan.Scheduled) == 0 && len(st.Migrations) == 0 {
		return &exitError{exitFound, "there are no migrations and no operations, and the database has no ledger: is this the right directory?"}
	}
	return nil
}

// waitCommand is verify until it is true.
type waitCommand struct {
	timeout, interval time.Duration
}

func newWait(a *app) *cobra.Command {
	c := &waitCommand{}
	cmd := &cobra.Command{
		Use:   "wait",
		Short: "Wait until everything is done",
		Long: "Looks again and again until verify would exit 0, as an application's container does before it serves.\n" +
			"Ends at once when something failed: that does not mend itself.",
		Example: "  " + a.root.Name() + " wait --timeout 10m",
		Args:    takes(),
		RunE:    a.with(c.body),
	}
	cmd.Flags().DurationVar(&c.timeout, "timeout", 5*time.Minute, "how long to wait; exit 6 when it is over; 0 = for ever")
	cmd.Flags().DurationVar(&c.interval, "interval", 2*time.Second, "how long to wait between two looks")
	return cmd
}

var errWaited = errors.New("still not done")

func (c *waitCommand) body(ctx context.Context, s *session) error {
	if c.timeout < 0 || c.interval <= 0 {
		return usagef("--timeout %s --interval %s: want durations above zero", c.timeout, c.interval)
	}
	if err := s.something(ctx); err != nil {
		return err
	}
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.timeout, errWaited)
		defer cancel()
	}
	gate, err := s.Seq.Wait(ctx, c.interval)
	over := errors.Is(context.Cause(ctx), errWaited)
	if over && gate == nil { // it ended in the middle of a look
		gate, err = s.Seq.Verify(context.WithoutCancel(ctx))
	}
	if gate == nil {
		return err
	}
	s.gate(gate)
	switch {
	case gate.Ready:
		return nil
	case over:
		return &exitError{exitTimeout, "still not done after " + c.timeout.String()}
	case err != nil:
		return err
	}
	return verdict(gate)
}

// gate prints what stands in the way.
func (u *ui) gate(g *sequencer.Gate) {
	if u.json {
		u.document(g)
		return
	}
	for _, name := range g.Allowed {
		u.sayf("note: %s failed, which is allowed; the next run tries it again", name)
	}
	if g.Ready {
		u.printf("Ready.")
		return
	}
	u.printf("Not ready.")
	u.list("Pending", g.Pending)
	u.list("In flight", g.InFlight)
	u.list("Failed", g.Failed)
	u.list("Interrupted", g.Interrupted)
	var drift []string
	for _, d := range g.Drift {
		drift = append(drift, d.Name)
	}
	u.list("Changed after it was applied", drift)
}

// verdict is the exit code of a gate.
func verdict(g *sequencer.Gate) error {
	switch {
	case g.Ready:
		return nil
	case len(g.Pending)+len(g.InFlight)+len(g.Failed)+len(g.Interrupted) == 0:
		return &exitError{code: exitDrift}
	}
	return &exitError{code: exitFound}
}
