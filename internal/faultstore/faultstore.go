// Package faultstore wraps a store so that a test can do something at each step of
// it: note the step, end the process there, or let the call fail.
//
// Every call passes two points, named after the verb, the number of the call of
// that verb, and the side of the effect: "Finish#3/before", "Finish#3/after". The
// transactions that a store begins pass Begin, Commit and Rollback. Whoever calls
// the verbs in the same order passes the same points in the same order. A Finish that
// carries no outcome, with which an idle pool looks for work, is called Look: how
// often that happens is a matter of time.
//
// An error from the hook takes the place of the answer. At "before" the call is not
// made; at "after" it was made and its answer is lost, as when a connection breaks.
// That every verb may be repeated is shown with the second.
package faultstore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/gosequencer/sequencer/storage"
)

// Hook is called at each point, by whichever goroutine makes the call.
type Hook func(point string) error

// New wraps a store. The answer can share transactions (storage.TxStore) if the
// store can.
func New(store storage.Store, hook Hook) storage.Store {
	return wrap(store, hook)
}

func wrap(store storage.Store, hook Hook) wrapped {
	s := &faulty{Store: store, counted: &counted{hook: hook, calls: map[string]int{}, open: map[storage.OwnedTx]bool{}}}
	if tx, ok := store.(storage.TxStore); ok {
		return &faultyTx{faulty: s, tx: tx}
	}
	return s
}

// wrapped is a store with points.
type wrapped interface {
	storage.Store
	begun() []storage.OwnedTx
}

// counted numbers the calls of each verb, and knows the transactions that are open.
type counted struct {
	hook  Hook
	mu    sync.Mutex // guards calls and open
	calls map[string]int
	open  map[storage.OwnedTx]bool
}

// begun are the transactions of the wrapped store that nobody has ended yet.
func (c *counted) begun() []storage.OwnedTx {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.open))
}

func (c *counted) note(tx storage.OwnedTx, open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if open {
		c.open[tx] = true
	} else {
		delete(c.open, tx)
	}
}

func (c *counted) next(verb string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[verb]++
	return fmt.Sprintf("%s#%d", verb, c.calls[verb])
}

// around makes one call between its two points.
func around[T any](c *counted, verb string, call func() (T, error)) (T, error) {
	var none T
	point := c.next(verb)
	if err := c.hook(point + "/before"); err != nil {
		return none, fmt.Errorf("%s/before: %w", point, err)
	}
	answer, err := call()
	if broken := c.hook(point + "/after"); broken != nil {
		return none, fmt.Errorf("%s/after: %w", point, broken)
	}
	return answer, err
}

// step is around for a call without an answer.
func step(c *counted, verb string, call func() error) error {
	_, err := around(c, verb, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

// faulty is a store with points. Name, Close and Watch have none.
type faulty struct {
	storage.Store
	*counted
}

func (s *faulty) Setup(ctx context.Context) (storage.Schema, error) {
	return around(s.counted, "Setup", func() (storage.Schema, error) { return s.Store.Setup(ctx) })
}

func (s *faulty) Schema(ctx context.Context) (storage.Schema, error) {
	return around(s.counted, "Schema", func() (storage.Schema, error) { return s.Store.Schema(ctx) })
}

func (s *faulty) Enqueue(ctx context.Context, r storage.EnqueueRequest) (storage.Enqueued, error) {
	return around(s.counted, "Enqueue", func() (storage.Enqueued, error) { return s.Store.Enqueue(ctx, r) })
}

func (s *faulty) Claim(ctx context.Context, r storage.ClaimRequest) (storage.Claimed, error) {
	return around(s.counted, "Claim", func() (storage.Claimed, error) { return s.Store.Claim(ctx, r) })
}

func (s *faulty) Finish(ctx context.Context, r storage.FinishRequest) (storage.Finished, error) {
	verb := "Finish"
	if len(r.Outcomes) == 0 {
		verb = "Look"
	}
	return around(s.counted, verb, func() (storage.Finished, error) { return s.Store.Finish(ctx, r) })
}

func (s *faulty) Checkpoint(ctx context.Context, r storage.CheckpointRequest) error {
	return step(s.counted, "Checkpoint", func() error { return s.Store.Checkpoint(ctx, r) })
}

func (s *faulty) HoldKey(ctx context.Context, r storage.HoldKeyRequest) error {
	return step(s.counted, "HoldKey", func() error { return s.Store.HoldKey(ctx, r) })
}

func (s *faulty) StopFlow(ctx context.Context, r storage.StopFlowRequest) (storage.Flow, error) {
	return around(s.counted, "StopFlow", func() (storage.Flow, error) { return s.Store.StopFlow(ctx, r) })
}

func (s *faulty) Join(ctx context.Context, w storage.Worker) error {
	return step(s.counted, "Join", func() error { return s.Store.Join(ctx, w) })
}

func (s *faulty) Renew(ctx context.Context, r storage.RenewRequest) (storage.Renewed, error) {
	return around(s.counted, "Renew", func() (storage.Renewed, error) { return s.Store.Renew(ctx, r) })
}

func (s *faulty) Leave(ctx context.Context, worker storage.ID) error {
	return step(s.counted, "Leave", func() error { return s.Store.Leave(ctx, worker) })
}

func (s *faulty) Rescue(ctx context.Context, r storage.RescueRequest) ([]storage.Execution, error) {
	return around(s.counted, "Rescue", func() ([]storage.Execution, error) { return s.Store.Rescue(ctx, r) })
}

func (s *faulty) Lock(ctx context.Context, r storage.LockRequest) error {
	return step(s.counted, "Lock", func() error { return s.Store.Lock(ctx, r) })
}

func (s *faulty) Unlock(ctx context.Context, r storage.UnlockRequest) error {
	return step(s.counted, "Unlock", func() error { return s.Store.Unlock(ctx, r) })
}

func (s *faulty) Take(ctx context.Context, r storage.TakeRequest) (storage.Taken, error) {
	return around(s.counted, "Take", func() (storage.Taken, error) { return s.Store.Take(ctx, r) })
}

func (s *faulty) Operate(ctx context.Context, o storage.Order) ([]storage.Execution, error) {
	return around(s.counted, "Operate", func() ([]storage.Execution, error) { return s.Store.Operate(ctx, o) })
}

func (s *faulty) Record(ctx context.Context, r storage.RecordRequest) (int, error) {
	return around(s.counted, "Record", func() (int, error) { return s.Store.Record(ctx, r) })
}

func (s *faulty) Reseal(ctx context.Context, r storage.ResealRequest) (int, error) {
	return around(s.counted, "Reseal", func() (int, error) { return s.Store.Reseal(ctx, r) })
}

func (s *faulty) Prune(ctx context.Context, r storage.PruneRequest) (int, error) {
	return around(s.counted, "Prune", func() (int, error) { return s.Store.Prune(ctx, r) })
}

func (s *faulty) Announce(ctx context.Context, r storage.AnnounceRequest) error {
	return step(s.counted, "Announce", func() error { return s.Store.Announce(ctx, r) })
}

// Watch has no points, because it runs beside the calls. Over a store that wakes
// nobody it waits.
func (s *faulty) Watch(ctx context.Context, queues []string, wake func()) error {
	if waker, ok := s.Store.(storage.Waker); ok {
		return waker.Watch(ctx, queues, wake)
	}
	<-ctx.Done()
	return nil
}

// Sync passes its points also over a store that has nothing to sync.
func (s *faulty) Sync(ctx context.Context) error {
	return step(s.counted, "Sync", func() error {
		if disk, ok := s.Store.(storage.Syncer); ok {
			return disk.Sync(ctx)
		}
		return nil
	})
}
