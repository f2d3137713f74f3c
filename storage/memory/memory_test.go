package memory_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
	"github.com/gosequencer/sequencer/storage/storagetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(t *testing.T) storage.Store {
		s := memory.New()
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
		return s
	})
}

// BenchmarkDrain takes 20,000 executions from enqueued to recorded.
func BenchmarkDrain(b *testing.B) {
	const rows, batch = 20_000, 100
	for b.Loop() {
		drain(b, rows, batch)
	}
	b.ReportMetric(float64(rows*b.N)/b.Elapsed().Seconds(), "rows/s")
}

func drain(tb testing.TB, rows, batch int) {
	tb.Helper()
	s, ctx := memory.New(), tb.Context()
	w := storage.Worker{ID: storage.NewID(), Lease: time.Hour}
	if err := s.Join(ctx, w); err != nil {
		tb.Fatal(err)
	}
	r := storage.EnqueueRequest{Executions: make([]storage.Execution, rows)}
	for i := range r.Executions {
		r.Executions[i] = storage.Execution{
			ID: storage.NewID(), Name: fmt.Sprint("op-", i%7), Kind: storage.Unlisted, Queue: "q", Priority: 1 + i%4, Input: []byte("input"),
		}
	}
	if _, err := s.Enqueue(ctx, r); err != nil {
		tb.Fatal(err)
	}
	claim := storage.ClaimRequest{Worker: w.ID, Queues: []string{"q"}, Limit: batch}
	got, err := s.Claim(ctx, claim)
	done := 0
	for err == nil && len(got.Executions) > 0 {
		f := storage.FinishRequest{Worker: w.ID, Claim: &claim}
		for _, e := range got.Executions {
			f.Outcomes = append(f.Outcomes, storage.Outcome{ID: e.ID, Delivery: e.Delivery, State: storage.Completed})
		}
		done += len(f.Outcomes)
		var finished storage.Finished
		finished, err = s.Finish(ctx, f)
		got = finished.Claimed
	}
	if err != nil || done != rows {
		tb.Fatalf("drained %d of %d rows: %v", done, rows, err)
	}
}
