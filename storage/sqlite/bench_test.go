package sqlite_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

// BenchmarkDrain20000 enqueues 20,000 executions of 100 bytes in chunks of 500
// and works them off with Finish and Claim fused, 500 at a time. The ledger is
// kept, so from the second round on history lies beside the work.
func BenchmarkDrain20000(b *testing.B) {
	for _, size := range []struct {
		name  string
		bytes int
	}{{"100B", 100}, {"1KiB", 1024}} {
		b.Run(size.name, func(b *testing.B) {
			s := ledger(b)
			worker := benchWorker(b, s)
			var enqueueing, draining time.Duration
			for b.Loop() {
				start := time.Now()
				enqueueMany(b, s, 20_000, size.bytes)
				enqueueing += time.Since(start)
				start = time.Now()
				if n := drain(b, s, worker); n != 20_000 {
					b.Fatalf("drained %d executions, want 20000", n)
				}
				draining += time.Since(start)
			}
			n := float64(20_000 * b.N)
			b.ReportMetric(n/enqueueing.Seconds(), "enqueued/s")
			b.ReportMetric(n/draining.Seconds(), "jobs/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func enqueueMany(b *testing.B, s *sqlite.Store, n, size int) {
	b.Helper()
	input := bytes.Repeat([]byte("x"), size)
	for ; n > 0; n -= 500 {
		rows := make([]storage.Execution, 500)
		for i := range rows {
			rows[i] = storage.Execution{
				ID: storage.NewID(), Name: "mail.welcome", Kind: storage.Unlisted, Method: "async",
				Queue: "default", Priority: storage.PriorityDefault, OnLoss: storage.LossRetry, Input: input,
			}
		}
		if _, err := s.Enqueue(b.Context(), storage.EnqueueRequest{Executions: rows}); err != nil {
			b.Fatal(err)
		}
	}
}

func drain(b *testing.B, s *sqlite.Store, worker storage.ID) int {
	b.Helper()
	next := &storage.ClaimRequest{Queues: []string{"default"}, Limit: 500}
	n := 0
	var outcomes []storage.Outcome
	for {
		done, err := s.Finish(b.Context(), storage.FinishRequest{Worker: worker, Outcomes: outcomes, Claim: next})
		if err != nil {
			b.Fatal(err)
		}
		n += len(outcomes)
		outcomes = outcomes[:0]
		for _, e := range done.Claimed.Executions {
			outcomes = append(outcomes, storage.Outcome{ID: e.ID, Delivery: e.Delivery, State: storage.Completed, Ran: time.Millisecond})
		}
		if len(outcomes) == 0 {
			return n
		}
	}
}

// BenchmarkLine works off a flow of 1,000 members, each waiting for the one
// before, as a deploy run is: one outcome and one claim per commit.
func BenchmarkLine(b *testing.B) {
	for _, d := range []struct {
		name string
		opts sqlite.Options
	}{{"Normal", sqlite.Options{}}, {"Full", sqlite.Options{Durability: sqlite.Full}}} {
		b.Run(d.name, func(b *testing.B) {
			s := open(b, b.TempDir()+"/ledger.db", d.opts)
			worker := benchWorker(b, s)
			var took time.Duration
			for b.Loop() {
				enqueueLine(b, s, worker, 1000)
				start := time.Now()
				if n := drain1(b, s, worker); n != 1000 {
					b.Fatalf("the line ended after %d members, want 1000", n)
				}
				took += time.Since(start)
			}
			b.ReportMetric(float64(took.Microseconds())/float64(1000*b.N), "µs/member")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func enqueueLine(b *testing.B, s *sqlite.Store, worker storage.ID, n int) {
	b.Helper()
	flow := storage.Flow{ID: storage.NewID(), Kind: storage.FlowRun, Method: "sequential", Policy: storage.PolicyStop, WorkerID: worker}
	r := storage.EnqueueRequest{Flows: []storage.Flow{flow}}
	for i := range n {
		r.Executions = append(r.Executions, storage.Execution{
			ID: storage.NewID(), Name: "2026_01_02_backfill", Kind: storage.Ordered, Method: "sequential", Queue: "@line", Priority: storage.PriorityDefault,
			OnLoss: storage.LossInterrupt, FlowID: flow.ID, Position: i, WorkerID: worker,
		})
		if i > 0 {
			r.Edges = append(r.Edges, storage.Edge{From: r.Executions[i-1].ID, To: r.Executions[i].ID, Needs: true})
		}
	}
	if _, err := s.Enqueue(b.Context(), r); err != nil {
		b.Fatal(err)
	}
}

func drain1(b *testing.B, s *sqlite.Store, worker storage.ID) int {
	b.Helper()
	next := &storage.ClaimRequest{Queues: []string{"@line"}, Limit: 1}
	n := 0
	var outcomes []storage.Outcome
	for {
		done, err := s.Finish(b.Context(), storage.FinishRequest{Worker: worker, Outcomes: outcomes, Claim: next})
		if err != nil {
			b.Fatal(err)
		}
		n += len(outcomes)
		if len(done.Claimed.Executions) == 0 {
			return n
		}
		e := done.Claimed.Executions[0]
		outcomes = []storage.Outcome{{ID: e.ID, Delivery: e.Delivery, State: storage.Completed, Ran: time.Millisecond}}
	}
}

func benchWorker(b *testing.B, s *sqlite.Store) storage.ID {
	b.Helper()
	w := storage.Worker{ID: storage.NewID(), Purpose: "work"}
	if err := s.Join(b.Context(), w); err != nil {
		b.Fatal(err)
	}
	return w.ID
}
