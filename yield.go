package sequencer

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// yieldEvery is how often Yield reads pauses at most.
const yieldEvery = time.Second

// Yield is for handlers that work for long, step by step, and ask between two steps
// whether to go on: nil means yes, and any error is what the handler has to return.
//
// When the context is over, that is its cause. When the operation or its queue is
// paused (see [Sequencer.Pause]), the attempt ends without costing one, and the
// execution waits until it is resumed; what Checkpoint saved is still there then.
// What a process does for itself, a run or ExecuteSync, has no queue to go back to:
// there Yield waits until the operation is resumed. Pauses are read once a second at
// most, and a ledger that does not answer pauses nobody.
//
// With a transaction open, and outside an attempt, only the context is looked at.
func Yield(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	sc := scopeOf(ctx)
	if sc == nil || sc.tx.open() != nil || !sc.attempt.mayLook() {
		return nil
	}
	a := sc.attempt
	p := a.pausedBy(ctx)
	switch {
	case p == nil:
		return nil
	case !strings.HasPrefix(a.exec.Queue, storage.PrivateQueue):
		return &signal{kind: signalRelease, reason: p.Target() + " is paused", free: true, park: p.Kind == storage.PauseOperation}
	}
	a.seq.emit(ctx, a.event(EventWarning, func(e *Event) { e.Reason = fmt.Sprintf("waits: %s is paused", p.Target()) }))
	for p != nil {
		if !sleep(ctx, yieldEvery) {
			return context.Cause(ctx)
		}
		p = a.pausedBy(ctx)
	}
	return nil
}

// mayLook reports that pauses were last read long enough ago.
func (a *Attempt) mayLook() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seq == nil || !a.looked.IsZero() && time.Since(a.looked) < yieldEvery {
		return false
	}
	a.looked = time.Now()
	return true
}

// pausedBy is the pause that concerns this attempt, nil for none.
func (a *Attempt) pausedBy(ctx context.Context) *storage.Pause {
	pauses, err := a.seq.store.Pauses(ctx)
	if err != nil {
		if ctx.Err() == nil {
			Log(ctx).WarnContext(ctx, "reading pauses", keyError, err)
		}
		return nil
	}
	for _, p := range pauses {
		if p.Kind == storage.PauseOperation && p.Name == a.exec.Name || p.Kind == storage.PauseQueue && p.Name == a.exec.Queue {
			return &p
		}
	}
	return nil
}
