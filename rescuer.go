package sequencer

import (
	"context"
	"fmt"
	"time"

	"github.com/gosequencer/sequencer/internal/engine"
	"github.com/gosequencer/sequencer/storage"
)

// rescuer takes over from dead workers beside a worker that lives on. It does so as a
// worker of its own: between taking rows and recording their loss an answer may be
// lost, and then nobody knows whose hands they are in. It leaves, and what it held is
// rescued from it like anybody's (Q2.16). Had the worker taken them itself, they would
// wait until that ends, or be taken for what it has claimed and run.
type rescuer struct {
	s      *Sequencer
	queue  string       // for hooks whose own is gone
	worker storage.ID   // zero: it has not joined
	former []storage.ID // those that could not leave yet
}

// look takes over what there is, and says whose processes can be watched from here.
func (r *rescuer) look(ctx context.Context) (engine.Neighbours, error) {
	r.leave(ctx)
	if err := r.join(ctx); err != nil {
		return engine.Neighbours{}, err
	}
	_, _, near, err := r.s.rescueAs(ctx, r.worker, home{queue: r.queue})
	if err != nil {
		r.end(ctx)
	}
	return near, err
}

// join makes sure that there is a worker, under a lease that has just begun.
func (r *rescuer) join(ctx context.Context) error {
	if !r.worker.IsZero() {
		if _, err := r.s.store.Renew(ctx, storage.RenewRequest{Worker: r.worker, Lease: r.s.cfg.Lease}); err == nil {
			return nil
		}
		r.end(ctx)
	}
	w := r.s.newWorker("rescue")
	if err := r.s.store.Join(ctx, w); err != nil {
		r.former = append(r.former, w.ID) // perhaps it has
		return fmt.Errorf("joining the ledger as a rescuer: %w", err)
	}
	r.worker = w.ID
	return nil
}

// end gives the present worker up.
func (r *rescuer) end(ctx context.Context) {
	if r.worker.IsZero() {
		return
	}
	r.former = append(r.former, r.worker)
	r.worker = storage.ID{}
	r.leave(ctx)
}

// leave ends former workers; those that cannot be reached are kept for the next time.
func (r *rescuer) leave(ctx context.Context) {
	if len(r.former) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(r.s.cfg.Lease, 5*time.Second))
	defer cancel()
	for len(r.former) > 0 && r.s.store.Leave(ctx, r.former[0]) == nil {
		r.former = r.former[1:]
	}
}
