package sequencer

import (
	"context"
	"fmt"

	"github.com/gosequencer/sequencer/storage"
)

// orphans lists runs and rollbacks that are not over. Whoever holds the run lock
// knows that no living process drives them.
func (s *Sequencer) orphans(ctx context.Context) ([]storage.Flow, error) {
	flows, err := s.store.Flows(ctx, storage.FlowFilter{Kinds: []storage.FlowKind{storage.FlowRun, storage.FlowRollback}, Open: true})
	if err != nil && !noLedger(err) {
		return nil, err
	}
	return flows, nil
}

// recover takes over from processes that died: their attempts are settled, a run
// they were in the middle of ends as interrupted (the new plan offers again what
// it had not done), and an undoing they had begun is finished (S10.6). It returns
// a line for each run it touched. The run lock is held.
func (s *Sequencer) recover(ctx context.Context, sess session) ([]string, error) {
	if _, err := s.rescue(ctx, sess); err != nil {
		return nil, err
	}
	flows, err := s.orphans(ctx)
	if err != nil {
		return nil, err
	}
	var said []string
	for i := len(flows) - 1; i >= 0; i-- { // oldest first
		f := flows[i]
		what := "ended as interrupted"
		if f.Phase == storage.PhaseUndo {
			what = "rolled back to its end"
			if err := s.dropForward(ctx, f.ID); err != nil {
				return said, err
			}
			sess := sess
			sess.run, sess.tasks = f.ID, f.UndoTotal
			if f, err = s.serveFlow(ctx, sess, f.ID, 1, storage.Claimed{}); err != nil {
				return said, fmt.Errorf("finishing the rollback of run %s: %w", f.ID, err)
			}
			if !f.Over() {
				return said, context.Cause(ctx)
			}
		} else if f, err = s.endOrphan(ctx, sess, f.ID); err != nil {
			return said, fmt.Errorf("ending run %s: %w", f.ID, err)
		}
		line := fmt.Sprintf("%s %s of %s, whose process died, was %s", f.Kind, f.ID, f.CreatedAt.Format("2006-01-02 15:04:05"), what)
		said = append(said, line)
		s.emit(ctx, Event{Kind: EventRecovered, Method: f.Method, RunID: f.ID.String(), State: f.State, Reason: line})
	}
	return said, s.adoptApplied(ctx)
}

// endOrphan ends a run whose process died. One that was only slow, and lost its
// lease, may have had a commit on its way, which StopFlow waits for; what it claimed
// in that transaction can be seen, and rescued, only then.
func (s *Sequencer) endOrphan(ctx context.Context, sess session, id storage.ID) (storage.Flow, error) {
	for {
		f, err := s.store.StopFlow(ctx, storage.StopFlowRequest{ID: id, State: storage.Interrupted, Reason: "its process died"})
		if err != nil || f.Over() {
			return f, err
		}
		if n, err := s.rescue(ctx, sess); err != nil || n == 0 {
			return f, err
		}
	}
}

// dropForward cancels members that wait in a flow that is being undone: a retry
// whose process died. They wait in a queue of their own, which nobody serves.
func (s *Sequencer) dropForward(ctx context.Context, flow storage.ID) error {
	rows, err := s.store.Executions(ctx, storage.Filter{FlowID: flow, States: []storage.State{storage.Pending}, Limit: 10_000})
	if err != nil {
		return err
	}
	var ids []storage.ID
	for _, row := range rows {
		if row.Kind != storage.Undo {
			ids = append(ids, row.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	_, err = s.store.Operate(ctx, storage.Order{
		Action: storage.ActCancel, IDs: ids, Actor: s.cfg.Actor, Reason: "its process died while its run was being rolled back",
	})
	return err
}

// adoptApplied settles migrations that were interrupted after they had been
// applied: the source's table is the truth, and it says they happened.
func (s *Sequencer) adoptApplied(ctx context.Context) error {
	if s.cfg.Migrations == nil {
		return nil
	}
	rows, err := s.store.Executions(ctx, storage.Filter{
		Kinds: []storage.Kind{storage.Migration}, States: []storage.State{storage.Interrupted},
	})
	if err != nil || len(rows) == 0 {
		return err
	}
	list, err := s.cfg.Migrations.Migrations(ctx)
	if err != nil {
		return fmt.Errorf("reading migrations: %w", err)
	}
	applied := map[string]bool{}
	for _, m := range list {
		applied[m.Name] = m.Applied()
	}
	var ids []storage.ID
	for _, row := range rows {
		if applied[row.Name] {
			ids = append(ids, row.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	_, err = s.store.Operate(ctx, storage.Order{
		Action: storage.ActComplete, IDs: ids, Actor: s.cfg.Actor, Reason: "the migration table says that it was applied",
	})
	return err
}
