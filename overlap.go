package sequencer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// attemptLock starts the names of locks that attempts hold, to tell them from those
// of runs.
const attemptLock = "key:"

// HeldError says which execution holds a key that an attempt asked for.
type HeldError struct {
	Key         string
	ExecutionID string
	Worker      string // user, purpose and host, as people know them
	FreeAt      time.Time
}

func (e *HeldError) Error() string {
	text := fmt.Sprintf("key %q is held by execution %s (%s)", e.Key, e.ExecutionID, e.Worker)
	if !e.FreeAt.IsZero() {
		text += " until " + e.FreeAt.UTC().Format(time.RFC3339) + " at the latest"
	}
	return text
}

// Lock takes a key for this attempt, so that no other has it, in any process, until
// the outcome of the attempt is durable. A handler that was abandoned keeps it until
// it returns (Q2.11); with the worker's lease it ends in any case, and after most at
// the latest, 0 = no bound. Where another execution has it the error is a
// *[HeldError]. The store has a keyed hash of an Encrypted operation's keys, which
// therefore never meet those of operations that are not.
func (a *Attempt) Lock(ctx context.Context, key string, most time.Duration) error {
	if a.secret() {
		var err error
		if key, err = a.seq.hashed(ctx, "overlap", key); err != nil {
			return err
		}
	}
	name := attemptLock + key
	err := a.seq.store.Lock(ctx, storage.LockRequest{
		Name: name, Worker: a.session.worker(), Execution: a.exec.ID, Delivery: a.exec.Delivery, Flow: a.exec.FlowID, For: most,
	})
	var held *storage.LockedError
	if errors.As(err, &held) {
		w := held.Lock.Worker
		return &HeldError{
			Key: key, ExecutionID: held.Lock.Execution.String(), FreeAt: held.Lock.FreeAt,
			Worker: fmt.Sprintf("%s, %s on %s", w.Actor, w.Purpose, w.Hostname),
		}
	}
	if err == nil {
		a.mu.Lock()
		a.locks = append(a.locks, name)
		a.mu.Unlock()
	}
	return err
}

// held are the locks that end with the outcome.
func (a *Attempt) held() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.locks
}

// takeLocks keeps the locks from ending with the outcome, and hands them over.
func (a *Attempt) takeLocks() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	names := a.locks
	a.locks = nil
	return names
}

// unlock frees locks that outlived their outcome. What it cannot free ends with the
// worker.
func (a *Attempt) unlock(ctx context.Context, names []string) {
	for _, name := range names {
		err := a.seq.store.Unlock(ctx, storage.UnlockRequest{Name: name, Worker: a.session.worker(), Execution: a.exec.ID, Delivery: a.exec.Delivery})
		if err != nil {
			a.seq.cfg.Logger.WarnContext(ctx, "lock of an abandoned handler", keyOperation, a.Name, keyExecution, a.ID, keyError, err)
		}
	}
}
