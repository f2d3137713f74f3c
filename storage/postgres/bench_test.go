package postgres_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/postgres"
)

// BenchmarkDrain20000 enqueues 20,000 executions in bulk and drains them with three
// workers, each finishing a batch of 500 and claiming the next in one call. What is
// over stays in the ledger.
func BenchmarkDrain20000(b *testing.B) {
	const jobs, workers, batch = 20_000, 3, 500
	s := ledger(b)
	var filling, draining time.Duration
	for b.Loop() {
		start := time.Now()
		enqueue(b, s, jobs)
		filling += time.Since(start)
		start = time.Now()
		drain(b, s, workers, batch)
		draining += time.Since(start)
	}
	b.ReportMetric(float64(b.N*jobs)/filling.Seconds(), "enqueued/s")
	b.ReportMetric(float64(b.N*jobs)/draining.Seconds(), "jobs/s")
}

// BenchmarkLine finishes a flow of 1,000 members that wait for each other, one by
// one, each call claiming the next.
func BenchmarkLine(b *testing.B) {
	const members = 1_000
	s := ledger(b)
	var spent time.Duration
	for b.Loop() {
		line(b, s, members)
		w := worker(b, s)
		start := time.Now()
		drainAs(b, s, w, 1)
		spent += time.Since(start)
	}
	b.ReportMetric(float64(b.N*members)/spent.Seconds(), "steps/s")
}

// enqueue writes n plain executions with about 100 bytes of input.
func enqueue(tb testing.TB, s *postgres.Store, n int) {
	tb.Helper()
	rows := make([]storage.Execution, n)
	for i := range rows {
		rows[i] = job("mail")
		rows[i].Input = bytes.Repeat([]byte("x"), 100)
	}
	if _, err := s.Enqueue(tb.Context(), storage.EnqueueRequest{Executions: rows}); err != nil {
		tb.Fatal(err)
	}
}

// line writes a flow of n members, each of which needs the one before it.
func line(tb testing.TB, s *postgres.Store, n int) {
	tb.Helper()
	r := storage.EnqueueRequest{Flows: []storage.Flow{{ID: storage.NewID(), Kind: storage.FlowChain, Policy: storage.PolicyStop}}}
	for i := range n {
		e := job(fmt.Sprintf("step-%d", i))
		e.FlowID, e.Position = r.Flows[0].ID, i
		r.Executions = append(r.Executions, e)
		if i > 0 {
			r.Edges = append(r.Edges, storage.Edge{From: r.Executions[i-1].ID, To: e.ID, Needs: true})
		}
	}
	if _, err := s.Enqueue(tb.Context(), r); err != nil {
		tb.Fatal(err)
	}
}

func job(name string) storage.Execution {
	return storage.Execution{
		ID: storage.NewID(), Name: name, Kind: storage.Unlisted, Method: "async", Queue: "default",
		Priority: storage.PriorityDefault, OnLoss: storage.LossRetry,
	}
}

func worker(tb testing.TB, s *postgres.Store) storage.ID {
	tb.Helper()
	id := storage.NewID()
	if err := s.Join(tb.Context(), storage.Worker{ID: id, Purpose: "work", Actor: "test", Hostname: "here", Lease: time.Hour}); err != nil {
		tb.Fatal(err)
	}
	return id
}

// drain runs workers until each finds nothing more to claim.
func drain(tb testing.TB, s *postgres.Store, workers, batch int) {
	tb.Helper()
	var all sync.WaitGroup
	for range workers {
		w := worker(tb, s)
		all.Go(func() { drainAs(tb, s, w, batch) })
	}
	all.Wait()
}

func drainAs(tb testing.TB, s *postgres.Store, w storage.ID, batch int) {
	tb.Helper()
	claim := &storage.ClaimRequest{Worker: w, Queues: []string{"default"}, Limit: batch}
	got, err := s.Claim(tb.Context(), *claim)
	for err == nil && len(got.Executions) > 0 {
		r := storage.FinishRequest{Worker: w, Claim: claim}
		for _, e := range got.Executions {
			r.Outcomes = append(r.Outcomes, storage.Outcome{ID: e.ID, Delivery: e.Delivery, State: storage.Completed, Ran: time.Millisecond})
		}
		var done storage.Finished
		done, err = s.Finish(tb.Context(), r)
		got = done.Claimed
	}
	if err != nil {
		tb.Error(err)
	}
}
