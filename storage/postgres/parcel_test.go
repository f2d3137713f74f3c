package postgres

import (
	"testing"
	"time"

	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/storage"
)

// Requests that share a statement are repeats each for itself, also of what is over,
// which no unique index of the live part knows any more.
func TestARepeatThatSharesAStatementWritesNothing(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), testdb.Postgres(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if _, err := s.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	plain := func(name string) storage.Execution {
		return storage.Execution{ID: storage.NewID(), Name: name, Kind: storage.Unlisted, Queue: "q", OnLoss: storage.LossRetry}
	}
	over := plain("over")
	if _, err := s.Enqueue(t.Context(), storage.EnqueueRequest{Executions: []storage.Execution{over}}); err != nil {
		t.Fatal(err)
	}
	w := storage.Worker{ID: storage.NewID(), Purpose: "test", Lease: time.Minute}
	if err := s.Join(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	got, err := s.Claim(t.Context(), storage.ClaimRequest{Worker: w.ID, Queues: []string{"q"}, Limit: 2})
	if err != nil || len(got.Executions) != 1 {
		t.Fatalf("claimed %d, %v", len(got.Executions), err)
	}
	done := storage.Outcome{ID: over.ID, Delivery: got.Executions[0].Delivery, State: storage.Completed}
	if _, err := s.Finish(t.Context(), storage.FinishRequest{Worker: w.ID, Outcomes: []storage.Outcome{done}}); err != nil {
		t.Fatal(err)
	}
	// As callers who meet send them, and then each by itself.
	shared := []storage.Execution{plain("fresh"), over, plain("fresh")}
	if n, err := s.insertPlain(t.Context(), shared, []int{0, 1, 2}); err != nil || n == len(shared) {
		t.Errorf("the shared statement wrote %d rows, %v; want fewer than all", n, err)
	}
	for i := range shared {
		if _, err := s.insertPlain(t.Context(), shared[i:i+1], []int{0}); err != nil {
			t.Errorf("request %d: %v", i, err)
		}
	}
	rows, err := s.Executions(t.Context(), storage.Filter{Limit: 100})
	if err != nil || len(rows) != 3 {
		t.Errorf("%d rows, %v; want the one that is over and two fresh ones", len(rows), err)
	}
}
