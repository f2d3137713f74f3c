package main

import (
	"context"
	"fmt"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// The library has no worker yet, so that a drain here is the store alone: claimers
// that finish a batch and claim the next in one write, as the pool of a run does. The
// handler gets the input as it is stored, and what needs a worker has no figure.

func oursSettings(claimers int) string {
	return fmt.Sprintf("the store alone, %d × %d; keeps what is done", claimers, batch)
}

func (q *oursQueue) drain(ctx context.Context, handle handler) error {
	return together(q.claimers, func() error { return claimAll(ctx, q.seq.Store(), handle) })
}

func claimAll(ctx context.Context, store storage.Store, handle handler) error {
	w := storage.Worker{ID: storage.NewID(), Purpose: "bench", Lease: time.Minute}
	if err := store.Join(ctx, w); err != nil {
		return err
	}
	claim := &storage.ClaimRequest{Worker: w.ID, Queues: []string{"default"}, Limit: batch}
	var outcomes []storage.Outcome
	for {
		done, err := store.Finish(ctx, storage.FinishRequest{Worker: w.ID, Outcomes: outcomes, Claim: claim})
		if err != nil {
			return err
		}
		if len(done.Claimed.Executions) == 0 {
			return store.Leave(ctx, w.ID)
		}
		outcomes = outcomes[:0]
		for _, e := range done.Claimed.Executions {
			handle(e.Input)
			outcomes = append(outcomes, storage.Outcome{ID: e.ID, Delivery: e.Delivery, State: storage.Completed})
		}
	}
}
