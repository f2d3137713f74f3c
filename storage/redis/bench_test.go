package redis_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/redis"
)

// BenchmarkDrain20000 enqueues 20,000 executions of 100 bytes in chunks of 500 and
// works them off with Finish and Claim fused, 500 at a time. The ledger is kept, so
// from the second round on history lies beside the work.
func BenchmarkDrain20000(b *testing.B) {
	s := open(b, testdb.Redis(b))
	worker := benchWorker(b, s)
	var enqueueing, draining time.Duration
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		enqueueMany(b, s, 20_000)
		enqueueing += time.Since(start)
		start = time.Now()
		if n := drain(b, s, worker, "default", 500); n != 20_000 {
			b.Fatalf("drained %d executions, want 20000", n)
		}
		draining += time.Since(start)
	}
	n := float64(20_000 * b.N)
	b.ReportMetric(n/enqueueing.Seconds(), "enqueued/s")
	b.ReportMetric(n/draining.Seconds(), "jobs/s")
}

// BenchmarkLine works off a flow of 1,000 members, each waiting for the one before
// it: a call each, as a run of operations makes them.
func BenchmarkLine(b *testing.B) {
	const members = 1000
	s := open(b, testdb.Redis(b))
	worker := benchWorker(b, s)
	var spent time.Duration
	for b.Loop() {
		queue := storage.PrivateQueue + storage.NewID().String()
		enqueueLine(b, s, queue, members)
		start := time.Now()
		if n := drain(b, s, worker, queue, 1); n != members {
			b.Fatalf("worked off %d members, want %d", n, members)
		}
		spent += time.Since(start)
	}
	b.ReportMetric(float64(b.N*members)/spent.Seconds(), "steps/s")
}

func benchWorker(b *testing.B, s *redis.Store) storage.ID {
	b.Helper()
	w := storage.Worker{ID: storage.NewID(), Lease: time.Hour}
	if err := s.Join(b.Context(), w); err != nil {
		b.Fatal(err)
	}
	return w.ID
}

func job(queue string) storage.Execution {
	return storage.Execution{
		ID: storage.NewID(), Name: "mail.welcome", Kind: storage.Unlisted, Method: "async", Queue: queue,
		Priority: storage.PriorityDefault, OnLoss: storage.LossRetry, Input: bytes.Repeat([]byte("x"), 100),
	}
}

func enqueueMany(b *testing.B, s *redis.Store, n int) {
	b.Helper()
	for ; n > 0; n -= 500 {
		rows := make([]storage.Execution, 500)
		for i := range rows {
			rows[i] = job("default")
		}
		if _, err := s.Enqueue(b.Context(), storage.EnqueueRequest{Executions: rows}); err != nil {
			b.Fatal(err)
		}
	}
}

func enqueueLine(b *testing.B, s *redis.Store, queue string, n int) {
	b.Helper()
	r := storage.EnqueueRequest{Flows: []storage.Flow{{ID: storage.NewID(), Kind: storage.FlowRun, Policy: storage.PolicyStop}}}
	for i := range n {
		e := job(queue)
		e.FlowID, e.Position = r.Flows[0].ID, i
		if i > 0 {
			r.Edges = append(r.Edges, storage.Edge{From: r.Executions[i-1].ID, To: e.ID, Needs: true})
		}
		r.Executions = append(r.Executions, e)
	}
	if _, err := s.Enqueue(b.Context(), r); err != nil {
		b.Fatal(err)
	}
}

// drain works a queue off, so many at a time.
func drain(b *testing.B, s *redis.Store, worker storage.ID, queue string, batch int) int {
	b.Helper()
	next := &storage.ClaimRequest{Queues: []string{queue}, Limit: batch}
	n := 0
	var outcomes []storage.Outcome
	for {
		done, err := s.Finish(b.Context(), storage.FinishRequest{Worker: worker, Outcomes: outcomes, Claim: next})
		if err != nil {
			b.Fatal(err)
		}
		n += len(outcomes)
		outcomes = outcomes[:0]
		for i := range done.Claimed.Executions {
			e := &done.Claimed.Executions[i]
			outcomes = append(outcomes, storage.Outcome{ID: e.ID, Delivery: e.Delivery, State: storage.Completed, Of: e, Ran: time.Millisecond})
		}
		if len(outcomes) == 0 {
			return n
		}
	}
}
