package mysql_test

import (
	"context"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// A worker that holds few rows once found them by itself, in the index of holders, when
// it ended one of them, and so locked all of them. Handlers that ended together, each in
// its transaction, then stood in each other's way.
func TestHandlersOfOneWorkerThatEndTogetherDoNotWaitForEachOther_Q9_9(t *testing.T) {
	t.Parallel()
	s := ledger(t)
	w := worker(t, s)
	if _, err := s.Enqueue(t.Context(), storage.EnqueueRequest{Executions: []storage.Execution{job("a"), job("b"), job("c")}}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Claim(t.Context(), storage.ClaimRequest{Worker: w, Queues: []string{"default"}, Limit: 3})
	if err != nil || len(got.Executions) != 3 {
		t.Fatalf("claimed %d, %v", len(got.Executions), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // less than a lock is waited for
	defer cancel()
	for i := range got.Executions {
		e := &got.Executions[i]
		tx, err := s.TxKinds()[0].Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // the others are open meanwhile
		done, err := s.FinishTx(ctx, tx, storage.FinishRequest{
			Worker: w, Outcomes: []storage.Outcome{{ID: e.ID, Delivery: e.Delivery, State: storage.Completed}},
		})
		if err != nil || !done.Applied[0] {
			t.Fatalf("%s: %v, %v", e.Name, done.Applied, err)
		}
	}
}
