// Package faketime gives a store the clock of its process. A server decides by its own
// clock what is due, and that one cannot be faked; a request that says what time it is,
// it believes. So each request gets the Now of the process, which in a synctest bubble is
// the bubble's: hours pass in milliseconds on real servers too, for a worker that knows
// nothing of it.
//
// Nobody is woken: a server's notifications would come by a connection on which somebody
// waits, and time stands still in a bubble while somebody waits for the network. Polling
// alone is correct, and time that nobody lives through costs nothing.
package faketime

import (
	"context"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// New wraps a store. The answer can share transactions (storage.TxStore) if the store
// can. now is what time it is.
func New(store storage.Store, now func() time.Time) storage.Store {
	s := &clocked{Store: store, now: now}
	if tx, ok := store.(storage.TxStore); ok {
		return &clockedTx{clocked: s, tx: tx}
	}
	return s
}

// clocked hides what a store can do beyond the contract, waking above all.
type clocked struct {
	storage.Store
	now func() time.Time
}

func (s *clocked) Enqueue(ctx context.Context, r storage.EnqueueRequest) (storage.Enqueued, error) {
	r.Now = s.now()
	return s.Store.Enqueue(ctx, r)
}

func (s *clocked) Claim(ctx context.Context, r storage.ClaimRequest) (storage.Claimed, error) {
	r.Now = s.now()
	return s.Store.Claim(ctx, r)
}

func (s *clocked) Finish(ctx context.Context, r storage.FinishRequest) (storage.Finished, error) {
	r.Now = s.now()
	return s.Store.Finish(ctx, r)
}

func (s *clocked) Checkpoint(ctx context.Context, r storage.CheckpointRequest) error {
	r.Now = s.now()
	return s.Store.Checkpoint(ctx, r)
}

func (s *clocked) HoldKey(ctx context.Context, r storage.HoldKeyRequest) error {
	r.Now = s.now()
	return s.Store.HoldKey(ctx, r)
}

func (s *clocked) StopFlow(ctx context.Context, r storage.StopFlowRequest) (storage.Flow, error) {
	r.Now = s.now()
	return s.Store.StopFlow(ctx, r)
}

func (s *clocked) Join(ctx context.Context, w storage.Worker) error {
	w.JoinedAt = s.now()
	return s.Store.Join(ctx, w)
}

func (s *clocked) Renew(ctx context.Context, r storage.RenewRequest) (storage.Renewed, error) {
	r.Now = s.now()
	return s.Store.Renew(ctx, r)
}

func (s *clocked) Rescue(ctx context.Context, r storage.RescueRequest) ([]storage.Execution, error) {
	r.Now = s.now()
	return s.Store.Rescue(ctx, r)
}

func (s *clocked) Lock(ctx context.Context, r storage.LockRequest) error {
	r.Now = s.now()
	return s.Store.Lock(ctx, r)
}

func (s *clocked) Take(ctx context.Context, r storage.TakeRequest) (storage.Taken, error) {
	r.Now = s.now()
	return s.Store.Take(ctx, r)
}

func (s *clocked) Operate(ctx context.Context, o storage.Order) ([]storage.Execution, error) {
	o.Now = s.now()
	return s.Store.Operate(ctx, o)
}

func (s *clocked) Record(ctx context.Context, r storage.RecordRequest) (int, error) {
	r.Now = s.now()
	return s.Store.Record(ctx, r)
}

func (s *clocked) Reseal(ctx context.Context, r storage.ResealRequest) (int, error) {
	r.Now = s.now()
	return s.Store.Reseal(ctx, r)
}

func (s *clocked) Prune(ctx context.Context, r storage.PruneRequest) (int, error) {
	r.Now = s.now()
	return s.Store.Prune(ctx, r)
}

func (s *clocked) Announce(ctx context.Context, r storage.AnnounceRequest) error {
	r.Now = s.now()
	return s.Store.Announce(ctx, r)
}

func (s *clocked) Queues(ctx context.Context, now time.Time) ([]storage.QueueState, error) {
	if now.IsZero() {
		now = s.now()
	}
	return s.Store.Queues(ctx, now)
}
