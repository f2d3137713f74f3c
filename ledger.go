package sequencer

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/migration"
	"github.com/gosequencer/sequencer/storage"
)

// Status is everything a person wants to know before and after a deploy.
type Status struct {
	Plan       *Plan                 `json:"plan"`       // what the next run would do
	Newest     []storage.Execution   `json:"executions"` // the effective execution of each operation and recorded migration, by position in time
	Migrations []migration.Migration `json:"-"`
	Locks      []storage.LockState   `json:"locks,omitempty"`
	Open       []storage.Flow        `json:"open_runs,omitempty"` // runs and rollbacks that are not over
	Last       *storage.Flow         `json:"last_run,omitempty"`
	Counts     []storage.Count       `json:"counts,omitempty"`
}

// Status reads it. It writes nothing; a database without a ledger has an empty one.
func (s *Sequencer) Status(ctx context.Context) (*Status, error) {
	snap, err := s.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	st := &Status{Migrations: snap.migrations}
	if st.Newest, err = s.whole(ctx, idsOf(snap.newest, func(e storage.Effective) storage.ID { return e.ID })); err != nil {
		return nil, err
	}
	if st.Plan, err = buildPlan(s.reg, snap, RunOptions{}); err == nil {
		err = s.notice(ctx, st.Plan)
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(st.Newest, func(a, b storage.Execution) int { return a.CreatedAt.Compare(b.CreatedAt) })
	if st.Locks, err = s.store.Locks(ctx); err != nil {
		if noLedger(err) {
			return st, nil
		}
		return nil, err
	}
	if st.Open, err = s.openRuns(ctx); err != nil {
		return nil, err
	}
	last, err := s.store.Flows(ctx, storage.FlowFilter{Kinds: []storage.FlowKind{storage.FlowRun, storage.FlowRollback}, Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(last) > 0 {
		st.Last = &last[0]
	}
	st.Counts, err = s.store.Counts(ctx)
	return st, err
}

// HasExecuted reports whether the newest execution of an operation completed;
// false after a rollback (S31.7).
func (s *Sequencer) HasExecuted(ctx context.Context, name string) (bool, error) {
	row, err := s.newest(ctx, name)
	return row.State == storage.Completed, err
}

// HasFailed reports whether the newest execution of an operation failed (S31.8).
func (s *Sequencer) HasFailed(ctx context.Context, name string) (bool, error) {
	row, err := s.newest(ctx, name)
	return row.State == storage.Failed, err
}

// Errors lists the failed attempts of an operation's newest execution, oldest first.
// Those of an Encrypted operation have their messages sealed: see Reveal.
func (s *Sequencer) Errors(ctx context.Context, name string) ([]storage.Attempt, error) {
	row, err := s.newest(ctx, name)
	if err != nil || row.ID.IsZero() {
		return nil, err
	}
	return s.store.Attempts(ctx, row.ID)
}

// newest is the newest execution of a registered operation, zero if it never ran.
func (s *Sequencer) newest(ctx context.Context, name string) (storage.Execution, error) {
	if _, ok := s.reg.lookup(name); !ok {
		return storage.Execution{}, notFound(s.reg, name)
	}
	row, err := s.find(ctx, name)
	if errors.Is(err, storage.ErrNotFound) || noLedger(err) {
		return storage.Execution{}, nil
	}
	return row, err
}

// Gate is the answer to "may traffic go to this build?".
type Gate struct {
	Ready       bool     `json:"ready"`
	Pending     []string `json:"pending,omitempty"`
	InFlight    []string `json:"in_flight,omitempty"`
	Failed      []string `json:"failed,omitempty"`
	Interrupted []string `json:"interrupted,omitempty"`
	Drift       []Drift  `json:"drift,omitempty"`
	// Allowed failed, and may: they do not stand in the way, although the next run
	// will try them again.
	Allowed []string `json:"allowed,omitempty"`
}

// Verify looks once: nothing pending, nothing in flight, nothing failed, no drift.
// An operation that failed and is AllowedToFail is pending, since it is not done,
// and yet not waited for: that is what being allowed to fail means. What depends
// on it is blocked and pending, and does stand in the way.
func (s *Sequencer) Verify(ctx context.Context) (*Gate, error) {
	plan, err := s.plan(ctx, RunOptions{})
	if err != nil {
		return nil, err
	}
	g := &Gate{InFlight: plan.InFlight, Interrupted: plan.Interrupted, Drift: plan.Drift}
	for _, t := range plan.Tasks {
		switch {
		case t.Last == storage.Failed && t.AllowedToFail:
			g.Allowed = append(g.Allowed, t.Name)
		case t.Last == storage.Failed:
			g.Failed = append(g.Failed, t.Name)
		case t.Elsewhere:
		default:
			g.Pending = append(g.Pending, t.Name)
		}
	}
	g.Ready = len(g.Pending)+len(g.InFlight)+len(g.Failed)+len(g.Interrupted)+len(g.Drift) == 0
	return g, nil
}

// Wait looks until the gate is ready or ctx ends, and returns the last answer.
// Something failed, interrupted or drifted does not become ready by waiting, so it
// ends at once.
func (s *Sequencer) Wait(ctx context.Context, every time.Duration) (*Gate, error) {
	last := &Gate{}
	if every <= 0 {
		every = time.Second
	}
	for {
		g, err := s.Verify(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			return last, context.Cause(ctx)
		case err != nil || g.Ready || len(g.Failed)+len(g.Interrupted)+len(g.Drift) > 0:
			return g, err
		}
		last = g
		if !sleep(ctx, every) {
			return g, context.Cause(ctx)
		}
	}
}
