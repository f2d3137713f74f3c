package sequencer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gosequencer/sequencer/internal/engine"
	"github.com/gosequencer/sequencer/storage"
)

// A detached run (RunOptions.Detach) is a flow like any other, but that its operations
// wait in the queues that workers serve, and so do their rollbacks. Migrations wait in
// the private queue, for the process that began the run and for nobody else: without it
// a run that still has some is an orphan. One that has none left goes on by itself, and
// no other run begins before it is over.

// isDetached reports whether workers drive a run.
func isDetached(f *storage.Flow) bool {
	var r runRecord
	return f.Kind == storage.FlowRun && json.Unmarshal(f.Options, &r) == nil && r.Detach
}

// migrating reports whether a run has migrations that are not over.
func (s *Sequencer) migrating(ctx context.Context, run storage.ID) (bool, error) {
	rows, err := s.store.Executions(ctx, storage.Filter{
		FlowID: run, Kinds: []storage.Kind{storage.Migration}, States: []storage.State{storage.Pending, storage.Running}, Limit: 1,
	})
	return len(rows) > 0, err
}

// serveMigrations works on the migrations of a detached run, while workers do what is
// between them, until none is left.
func (s *Sequencer) serveMigrations(ctx context.Context, sess session, run storage.ID, first storage.Claimed) (storage.Flow, error) {
	pool := s.pool(sess, 1, []string{privateQueue(run)}, func(ctx context.Context, found engine.Found) (bool, error) {
		if found.Running > 0 {
			return false, nil
		}
		left, err := true, error(nil)
		if found.Idle() { // a worker that has what the next one waits for may have died
			_, err = s.rescue(ctx, sess)
		}
		if err == nil {
			left, err = s.migrating(ctx, run)
		}
		if err == nil && left && found.Quiet() { // a migration may be behind what waits for an approval
			var over bool
			if over, err = sess.patience.exhausted(ctx, s, run); over {
				left = false
			}
		}
		if ctx.Err() != nil { // the pool ends by itself
			return false, nil
		}
		return !left, err
	})
	err := pool.Run(ctx, first)
	f, flowErr := s.flow(context.WithoutCancel(ctx), run)
	return f, errors.Join(err, flowErr)
}

// detach ends this process's part in a run. One that was stopped before its migrations
// were done is interrupted: nobody else applies them.
func (s *Sequencer) detach(ctx context.Context, sess session, f storage.Flow) (storage.Flow, error) {
	if f.Over() {
		return f, nil
	}
	left, err := s.migrating(context.WithoutCancel(ctx), f.ID)
	if err != nil {
		return f, err
	}
	if left {
		return s.interrupt(ctx, f.ID, sess.patience.reason())
	}
	s.emit(ctx, Event{Kind: EventRunDetached, Method: f.Method, RunID: f.ID.String(), State: f.State})
	return f, nil
}

// awaitDetached waits for detached runs that go on, up to wait. The run lock is held.
func (s *Sequencer) awaitDetached(ctx context.Context, wait time.Duration) error {
	deadline := time.Now().Add(wait)
	for told := false; ; {
		f, err := s.goingOn(ctx)
		if err != nil || f == nil {
			return err
		}
		held := &DetachedError{Run: f.ID.String(), Since: f.CreatedAt}
		switch {
		case wait == 0:
			return held
		case time.Now().After(deadline):
			return fmt.Errorf("waited %s: %w", wait, held)
		case !told:
			told = true
			s.emit(ctx, Event{Kind: EventLockWaiting, RunID: f.ID.String(), Err: held})
		}
		if !sleep(ctx, lockPoll) {
			return context.Cause(ctx)
		}
	}
}

// goingOn is a detached run that workers drive, nil if there is none.
func (s *Sequencer) goingOn(ctx context.Context) (*storage.Flow, error) {
	flows, err := s.openRuns(ctx)
	if err != nil {
		return nil, err
	}
	for i := range flows {
		if !isDetached(&flows[i]) {
			continue
		}
		if left, err := s.migrating(ctx, flows[i].ID); err != nil || !left {
			return &flows[i], err
		}
	}
	return nil, nil //nolint:nilnil // there is none
}
