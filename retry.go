package sequencer

import (
	"context"
	"errors"
	"fmt"

	"github.com/gosequencer/sequencer/storage"
)

// Retry makes a failed, interrupted or cancelled execution pending again, as the
// same execution: its counters start anew, its history stays (Q1.19). It is named
// by operation (its newest execution, of a dispatched one the newest that failed)
// or by id. What waited in a queue goes back there, for a worker; what a run or a
// call had in hand runs here and now, and Retry returns how it ended. A deploy task that
// needs an approval, and has none, is asked for and left as it is, with an *[ApprovalError].
// reason goes into the audit log.
func (s *Sequencer) Retry(ctx context.Context, nameOrID, reason string) error {
	if row, err := s.failedOne(ctx, nameOrID); err == nil && !ownLine(&row) {
		return s.requeue(ctx, row, reason)
	}
	if err := s.CheckGuards(ctx); err != nil {
		return err
	}
	return s.hold(ctx, "retry", func(ctx context.Context, sess session) error {
		return s.exclusive(ctx, sess, 0, func(ctx context.Context, sess session) error {
			if _, err := s.recover(ctx, sess); err != nil {
				return err
			}
			row, err := s.failedOne(ctx, nameOrID)
			if err != nil {
				return err
			}
			if err := s.retryable(ctx, row); err != nil {
				return err
			}
			if err := s.permitted(ctx, &row); err != nil {
				return err
			}
			queue := privateQueue(row.ID)
			if _, err := s.store.Operate(ctx, storage.Order{
				Action: storage.ActRetry, IDs: []storage.ID{row.ID}, Actor: s.cfg.Actor, Reason: reason, Queue: queue, Home: sess.worker(),
			}); err != nil {
				return fmt.Errorf("retrying %s: %w", row.Name, err)
			}
			sess.run = row.FlowID
			err = s.serveRow(ctx, sess, row.ID, []string{queue}, storage.Claimed{})
			return errors.Join(err, s.finishUndo(ctx, sess, row.FlowID))
		})
	})
}

func (s *Sequencer) failedOne(ctx context.Context, nameOrID string) (storage.Execution, error) {
	row, err := s.find(ctx, nameOrID)
	if err != nil || row.Kind != storage.Unlisted {
		return row, err
	}
	return s.newestIn(ctx, row, nameOrID, storage.Failed, storage.Interrupted)
}

// requeue puts an execution back into the queue it waited in.
func (s *Sequencer) requeue(ctx context.Context, row storage.Execution, reason string) error {
	if err := s.retryable(ctx, row); err != nil {
		return err
	}
	rows, err := s.store.Operate(ctx, storage.Order{
		Action: storage.ActRetry, IDs: []storage.ID{row.ID}, Actor: s.cfg.Actor, Reason: reason,
	})
	if err != nil {
		return fmt.Errorf("retrying %s: %w", row.Name, err)
	}
	s.queued(ctx, rows)
	return nil
}

// leftDuplicate is why RetryAll leaves an execution out that would be twice in flight.
const leftDuplicate = "another execution with its unique key is in flight"

// RetryAll puts what sel selects back into its queues, a page in one transaction
// and with one audit entry. What cannot be retried is left out, and counted by
// reason; on an error the pages before it are done.
func (s *Sequencer) RetryAll(ctx context.Context, sel Selection, reason string) (Selected, error) {
	var r Selected
	if err := sel.deliberate(); err != nil {
		return r, err
	}
	o := storage.Order{Action: storage.ActRetry, Actor: s.cfg.Actor, Reason: reason, Target: sel.String()}
	err := s.each(ctx, sel, haveFailed, func(rows []storage.Execution) error {
		page, err := s.requeueable(ctx, rows, &r)
		if err != nil {
			return err
		}
		done, err := s.order(ctx, o, page, &r)
		if err != nil {
			return fmt.Errorf("retrying what %s: %w", sel, err)
		}
		s.queued(ctx, done)
		return nil
	})
	return r, err
}

// requeueable leaves out what has no queue to go back to, or would be there twice.
func (s *Sequencer) requeueable(ctx context.Context, rows []storage.Execution, r *Selected) ([]storage.Execution, error) {
	open, err := s.flowsOpen(ctx, rows)
	if err != nil {
		return nil, err
	}
	keys := map[string]bool{}
	page := make([]storage.Execution, 0, len(rows))
	for _, row := range rows {
		switch {
		case ownLine(&row):
			r.leave("no queue to go back to: retry it by its id")
		case open[row.FlowID]:
			r.leave("its flow is not over")
		case keys[row.UniqueKey]: // of one failure the newest is tried again
			r.leave(leftDuplicate)
		case s.retryable(ctx, row) != nil:
			r.leave("what it depends on is not done, or its operation is not registered here")
		default:
			keys[row.UniqueKey] = row.UniqueKey != ""
			page = append(page, row)
		}
	}
	return page, nil
}

// liveKeys are the unique keys that an operation's live executions hold.
func (s *Sequencer) liveKeys(ctx context.Context, name string) (map[string]bool, error) {
	const most = 10_000
	keys := map[string]bool{}
	f := storage.Filter{Name: name, States: []storage.State{storage.Pending, storage.Running}, Limit: most}
	for {
		rows, err := s.store.Executions(ctx, f)
		if err != nil {
			return nil, fmt.Errorf("reading what %s has in flight: %w", name, err)
		}
		for i := range rows {
			keys[rows[i].UniqueKey] = rows[i].UniqueKey != ""
		}
		if len(rows) < most {
			return keys, nil
		}
		f.After = &storage.Cursor{At: rows[most-1].CreatedAt, ID: rows[most-1].ID}
	}
}

// queued tells that executions wait in their queues again.
func (s *Sequencer) queued(ctx context.Context, rows []storage.Execution) {
	for i := range rows {
		row := &rows[i]
		s.emit(ctx, Event{
			Kind: EventQueued, Method: row.Method, ID: row.ID.String(), Name: row.Name, Operation: row.Kind, State: storage.Pending, Tags: row.Tags,
		})
	}
}

// retryable refuses what would not be the same execution again: a migration, what
// never ran, and what needs something that is not done (S9.9).
func (s *Sequencer) retryable(ctx context.Context, row storage.Execution) error {
	switch {
	case row.Kind == storage.Migration:
		return fmt.Errorf("%s is a migration: resolve it as failed, and the next run applies it again", row.Name)
	case row.State == storage.Cancelled && row.Kind == storage.Ordered:
		return fmt.Errorf("%s was cancelled before it ran (%s): the next run offers it again", row.Name, row.Reason)
	case row.Kind != storage.Ordered:
		return nil
	}
	reg, ok := s.reg.lookup(row.Name)
	if !ok {
		return notFound(s.reg, row.Name)
	}
	op, err := reg.fresh()
	if err != nil {
		return err
	}
	deps, err := reg.dependsOn(op)
	if err != nil || len(deps) == 0 {
		return err
	}
	snap, err := s.snapshot(ctx)
	if err != nil {
		return err
	}
	p := newPlanner(s.reg, snap, RunOptions{})
	p.readLedger()
	for _, d := range deps {
		if !p.satisfied(d) {
			return fmt.Errorf("retrying %s: it depends on %s, which is not done: run what is pending first", row.Name, d)
		}
	}
	return nil
}

// finishUndo works off the undoing that a retried member's failure set off in its
// flow.
func (s *Sequencer) finishUndo(ctx context.Context, sess session, flow storage.ID) error {
	if flow.IsZero() || ctx.Err() != nil {
		return nil
	}
	f, err := s.flow(ctx, flow)
	if err != nil || f.Over() || f.Phase != storage.PhaseUndo {
		return err
	}
	_, err = s.serveFlow(ctx, sess, flow, 1, storage.Claimed{})
	return err
}
