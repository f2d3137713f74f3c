package sequencer

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/gosequencer/sequencer/storage"
)

// orphans lists runs and rollbacks that are not over, and not with workers. Whoever
// holds the run lock knows that no living process drives them.
func (s *Sequencer) orphans(ctx context.Context) ([]storage.Flow, error) {
	flows, err := s.openRuns(ctx)
	if err != nil {
		return nil, err
	}
	var orphans []storage.Flow
	for _, f := range flows {
		if isDetached(&f) {
			if left, err := s.migrating(ctx, f.ID); err != nil {
				return nil, err
			} else if !left {
				continue
			}
		}
		orphans = append(orphans, f)
	}
	return orphans, nil
}

// openRuns lists runs and rollbacks that are not over.
func (s *Sequencer) openRuns(ctx context.Context) ([]storage.Flow, error) {
	flows, err := s.store.Flows(ctx, storage.FlowFilter{Kinds: []storage.FlowKind{storage.FlowRun, storage.FlowRollback}, Open: true})
	if err != nil && !noLedger(err) {
		return nil, err
	}
	return flows, nil
}

// recover takes over from processes that died: their attempts are settled, a run
// they were in the middle of ends as interrupted (the new plan offers again what
// it had not done; of one that is all or nothing, what it did is undone), and an undoing
// they had begun is finished (S10.6). It returns a line for each run it touched. The
// run lock is held.
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
		if f.Phase != storage.PhaseUndo {
			if f, err = s.endOrphan(ctx, sess, f.ID); err != nil {
				return said, fmt.Errorf("ending run %s: %w", flows[i].ID, err)
			}
		}
		if f.Phase == storage.PhaseUndo && !f.Over() && !isDetached(&f) { // of that one workers do it
			if f, what, err = s.finishOrphan(ctx, sess, f); err != nil {
				return said, err
			}
		}
		line := fmt.Sprintf("%s %s of %s, which was left unfinished, was %s", f.Kind, f.ID, f.CreatedAt.Format("2006-01-02 15:04:05"), what)
		said = append(said, line)
		s.emit(ctx, Event{Kind: EventRecovered, Method: f.Method, RunID: f.ID.String(), State: f.State, Reason: line})
	}
	if err := s.adoptApplied(ctx); err != nil {
		return said, err
	}
	return said, s.awaitDetached(ctx, 0) // what was stopped may still be with workers
}

// finishOrphan undoes to its end what a process began to undo, or has to be undone
// because it died, and says what it did.
func (s *Sequencer) finishOrphan(ctx context.Context, sess session, f storage.Flow) (storage.Flow, string, error) {
	if err := s.dropForward(ctx, f.ID); err != nil {
		return f, "", err
	}
	sess.run, sess.tasks = f.ID, f.UndoTotal
	end, err := s.serveFlow(ctx, sess, f.ID, 1, storage.Claimed{})
	if err != nil {
		return f, "", fmt.Errorf("finishing the rollback of run %s: %w", f.ID, err)
	}
	if !end.Over() {
		return end, "", context.Cause(ctx)
	}
	what := "rolled back to its end"
	report, err := s.report(ctx, f.ID, sess.errs)
	if err != nil {
		return end, "", err
	}
	var ended *RunError
	if errors.As(report.Err(), &ended) && len(ended.Kept) > 0 {
		what += ", but for what has no rollback: " + strings.Join(ended.Kept, ", ")
	}
	return end, what, nil
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
