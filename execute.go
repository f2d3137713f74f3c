package sequencer

import (
	"context"
	"errors"
	"fmt"

	"github.com/gosequencer/sequencer/internal/engine"
	"github.com/gosequencer/sequencer/storage"
)

// Execute runs op here and now, or queues it if it is marked Async (Q10.2). It
// does not look at history: what is done runs again, as a new execution (S31.4).
func (s *Sequencer) Execute(ctx context.Context, op Operation, opts ...DispatchOption) error {
	op = With(op, opts...)
	reg, _, _, err := s.reg.resolve(op)
	if err != nil {
		return err
	}
	if reg.async {
		_, err := s.Dispatch(ctx, op)
		return err
	}
	return s.ExecuteSync(ctx, op)
}

// ExecuteIf executes op if cond holds; otherwise nothing happens at all (S31.2).
func (s *Sequencer) ExecuteIf(ctx context.Context, cond bool, op Operation, opts ...DispatchOption) error {
	if !cond {
		return nil
	}
	return s.Execute(ctx, op, opts...)
}

// ExecuteUnless executes op unless cond holds.
func (s *Sequencer) ExecuteUnless(ctx context.Context, cond bool, op Operation, opts ...DispatchOption) error {
	return s.ExecuteIf(ctx, !cond, op, opts...)
}

// methodSync is how the ledger shows what a caller waited for.
const methodSync = "sync"

// ExecuteSync runs op here and now under the same rules as anywhere else, retries
// included, and waits for the end, also of whatever puts it off (see [NoWait]). The value that runs is a fresh one from the
// factory with op's input, so results are not in op's fields: SetResult keeps
// them. Any end but completed is an *ExecutionError.
func (s *Sequencer) ExecuteSync(ctx context.Context, op Operation, opts ...DispatchOption) error {
	if err := s.CheckGuards(ctx); err != nil {
		return err
	}
	if sc := scopeOf(ctx); sc != nil && sc.tx.open() != nil {
		return fmt.Errorf("executing inside %s: %w: the ledger may be locked by it; dispatch instead, or mark %s TxNever",
			sc.attempt.Name, ErrOpenTx, sc.attempt.Name)
	}
	op = With(op, opts...)
	row, s, err := s.execution(ctx, op, methodSync)
	if err != nil {
		return err
	}
	if s.cfg.Recorder != nil {
		_, err := s.record(ctx, []Operation{op}, []storage.Execution{row})
		return err
	}
	return s.hold(ctx, "execute", func(ctx context.Context, sess session) error {
		return s.executeRow(ctx, sess, row)
	})
}

func (s *Sequencer) executeRow(ctx context.Context, sess session, row storage.Execution) error {
	row.Queue, row.WorkerID, row.Delay = privateQueue(row.ID), sess.worker(), 0
	switch row.OnLoss {
	case storage.LossRetry:
		row.OnLoss = storage.LossCancel
		if row.Kind == storage.Unlisted {
			row.OnLoss = storage.LossFail
		}
	case storage.LossInterrupt, storage.LossFail, storage.LossCancel:
	}
	queues := []string{row.Queue}
	request := storage.EnqueueRequest{
		Executions: []storage.Execution{row}, RefuseDuplicates: true,
		Claim: &storage.ClaimRequest{Worker: sess.worker(), Queues: queues, Limit: 1},
	}
	keys, err := s.claimElsewhere(ctx, request.Executions)
	if err != nil {
		return fmt.Errorf("executing %s: %w", row.Name, err)
	}
	if holder, held := keys.holders[0]; held {
		return fmt.Errorf("%w: %w", ErrDuplicate, &storage.DuplicateError{Name: row.Name, HolderID: holder})
	}
	done, err := s.store.Enqueue(ctx, request)
	var duplicate *storage.DuplicateError
	if errors.As(err, &duplicate) { // the holder may be a process that died
		if n, rescueErr := s.rescue(ctx, sess); rescueErr != nil {
			return rescueErr
		} else if n > 0 {
			done, err = s.store.Enqueue(ctx, request)
		}
		if errors.As(err, &duplicate) {
			return fmt.Errorf("%w: %w", ErrDuplicate, err)
		}
	}
	if err != nil {
		s.release(ctx, keys, nil)
		return fmt.Errorf("executing %s: %w", row.Name, err)
	}
	return s.serveRow(ctx, sess, row.ID, queues, done.Claimed)
}

// serveRow works on one execution's private queue until it is over.
func (s *Sequencer) serveRow(ctx context.Context, sess session, id storage.ID, queues []string, first storage.Claimed) error {
	pool := s.pool(sess, 1, queues, func(ctx context.Context, found engine.Found) (bool, error) {
		if sess.ended.has(id) { // a hook has its own time, not that of a pool that stops
			return found.Running == 0, nil
		}
		if !found.Idle() {
			return false, nil
		}
		row, err := s.row(ctx, id)
		return err == nil && row.State.Over(), err
	})
	if err := pool.Run(ctx, first); err != nil {
		return err
	}
	row, err := s.row(context.WithoutCancel(ctx), id)
	if err != nil {
		return err
	}
	return executionError(row, sess.errs.get(id))
}

func (s *Sequencer) row(ctx context.Context, id storage.ID) (storage.Execution, error) {
	rows, err := s.store.Executions(ctx, storage.Filter{IDs: []storage.ID{id}})
	if err != nil {
		return storage.Execution{}, err
	}
	if len(rows) == 0 {
		return storage.Execution{}, fmt.Errorf("execution %s: %w", id, storage.ErrNotFound)
	}
	return rows[0], nil
}

// executionError is nil for a completed execution. cause is the Go error it ended
// with where it ran in this process; the ledger's text serves otherwise.
func executionError(row storage.Execution, cause error) error {
	e := &ExecutionError{ID: row.ID.String(), Name: row.Name, State: row.State}
	switch row.State {
	case storage.Completed:
		return nil
	case storage.Skipped:
		e.Cause = fmt.Errorf("%w: %s", ErrSkipped, row.Reason)
	case storage.Cancelled:
		if errors.As(cause, new(*DeferredError)) {
			e.Cause = cause
			return e
		}
		e.Cause = fmt.Errorf("%w: %s", ErrCancelled, row.Reason)
	case storage.Interrupted:
		e.Cause = ErrInterrupted
	case storage.Pending, storage.Running: // stopped before its end: it goes on elsewhere, or is rescued
		e.Cause = ErrShutdown
	default:
		e.Cause = cause
		if cause == nil && row.LastError != "" {
			e.Cause = errors.New(row.LastError)
		}
		e.Cause = withoutOutcome(e.Cause)
	}
	return e
}

// withoutOutcome strips Fail and RetryAfter from an error that leaves its
// execution: they were meant for it, not for whoever called.
func withoutOutcome(err error) error {
	var s *signal
	if errors.As(err, &s) && s.err != nil {
		if direct, ok := err.(*signal); ok { //nolint:errorlint // only the outermost is ours to take off
			return direct.err
		}
	}
	return err
}
