package redis_test

import (
	"context"
	"net/url"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/redis"
)

// client is a connection of the test's own to a ledger's server.
func client(t *testing.T, address string) *goredis.Client {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Del("ledger")
	u.RawQuery = q.Encode()
	o, err := goredis.ParseURL(u.String())
	if err != nil {
		t.Fatal(err)
	}
	c := goredis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func enqueue(t *testing.T, s *redis.Store, rows ...storage.Execution) {
	t.Helper()
	if _, err := s.Enqueue(t.Context(), storage.EnqueueRequest{Executions: rows}); err != nil {
		t.Fatal(err)
	}
}

func join(t *testing.T, s *redis.Store) storage.ID {
	t.Helper()
	w := storage.Worker{ID: storage.NewID(), Purpose: "work"}
	if err := s.Join(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	return w.ID
}

func claim(t *testing.T, s *redis.Store, worker storage.ID, limit int) []storage.Execution {
	t.Helper()
	got, err := s.Claim(t.Context(), storage.ClaimRequest{Worker: worker, Queues: []string{"default"}, Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	return got.Executions
}

func TestConformanceInAClusterWhereEveryKeyIsInOneSlot(t *testing.T) {
	t.Parallel()
	conformance(t, testdb.RedisCluster)
}

// Verbs that are decided in Go write nothing if the ledger moved on meanwhile. With
// many at one flow that is so nearly always; each must come through all the same.
func TestStoresThatSettleOneFlowAtOnceAllComeThrough(t *testing.T) { // F1 F6
	t.Parallel()
	const stores, members = 6, 120
	address := testdb.Redis(t)
	first := open(t, address)
	flow := storage.Flow{ID: storage.NewID(), Kind: storage.FlowBatch, Policy: storage.PolicyContinue}
	r := storage.EnqueueRequest{Flows: []storage.Flow{flow}}
	for range members {
		e := job("default")
		e.FlowID = flow.ID
		r.Executions = append(r.Executions, e)
	}
	if _, err := first.Enqueue(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range stores {
		s := open(t, address)
		worker := join(t, s)
		held := claim(t, s, worker, members/stores)
		for _, e := range held {
			all.Go(func() {
				o := storage.Outcome{ID: e.ID, Delivery: e.Delivery, State: storage.Failed, Failure: &storage.Failure{Message: "boom"}}
				done, err := s.Finish(t.Context(), storage.FinishRequest{Worker: worker, Outcomes: []storage.Outcome{o}})
				if err != nil || !done.Applied[0] {
					t.Errorf("Finish: %+v, %v", done, err)
				}
			})
		}
	}
	all.Wait()
	flows, err := first.Flows(t.Context(), storage.FlowFilter{IDs: []storage.ID{flow.ID}})
	if err != nil || len(flows) != 1 || flows[0].Failed != members || flows[0].State != storage.Failed || !flows[0].Over() {
		t.Errorf("flow %+v, %v; want it over with %d failed", flows, err, members)
	}
	if left, err := client(t, address).Exists(t.Context(), gateOf(t, address)).Result(); err != nil || left != 0 {
		t.Errorf("the gate is there after all is done (%d, %v)", left, err)
	}
}

// gateOf is the key by which a verb has the ledger to itself.
func gateOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return "{" + u.Query().Get("ledger") + "}:gate"
}

func TestWhoeverMeetsAClosedGateWaitsUntilItOpens(t *testing.T) {
	t.Parallel()
	address := testdb.Redis(t)
	s, c := open(t, address), client(t, address)
	worker := join(t, s)
	if err := c.Set(t.Context(), gateOf(t, address), "somebody", 0).Err(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	refused := make(chan error)
	go func() {
		_, err := s.Enqueue(ctx, storage.EnqueueRequest{Executions: []storage.Execution{job("default")}, RefuseDuplicates: true})
		refused <- err
	}()
	cancel()
	if err := <-refused; err == nil {
		t.Error("a call that met a closed gate, and whose context is done, gave no error")
	}
	if got, err := s.Executions(t.Context(), storage.Filter{}); err != nil || len(got) != 0 {
		t.Errorf("%d executions and %v behind a closed gate, want none", len(got), err)
	}
	done := make(chan error)
	go func() {
		_, err := s.Enqueue(t.Context(), storage.EnqueueRequest{Executions: []storage.Execution{job("default")}})
		done <- err
	}()
	if err := c.Del(t.Context(), gateOf(t, address)).Err(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("Enqueue after the gate opened: %v", err)
	}
	if got := claim(t, s, worker, 1); len(got) != 1 {
		t.Errorf("claimed %d, want 1", len(got))
	}
}

// A claim answers with all that a row carries; inputs of the full size must not add up
// to more than a server can hold.
func TestAClaimIsBoundedByBytesAndLosesNothing(t *testing.T) {
	t.Parallel()
	s := open(t, testdb.Redis(t))
	worker := join(t, s)
	const rows = 7
	for range rows {
		e := job("default")
		e.Input = make([]byte, 5<<20)
		enqueue(t, s, e)
	}
	seen := map[storage.ID]bool{}
	for len(seen) < rows {
		got := claim(t, s, worker, 100)
		if len(got) == 0 || len(got) > 3 {
			t.Fatalf("claimed %d rows of 5 MiB, want up to 3", len(got))
		}
		for _, e := range got {
			if len(e.Input) != 5<<20 || seen[e.ID] {
				t.Errorf("%s has %d bytes of input, seen before: %v", e.ID, len(e.Input), seen[e.ID])
			}
			seen[e.ID] = true
		}
	}
}

func TestPruneTakesWhatEndedInOrderAndKeepsWhatMustStay(t *testing.T) { // Q10.24
	t.Parallel()
	address := testdb.Redis(t)
	s := open(t, address)
	worker := join(t, s)
	for range 30 {
		enqueue(t, s, job("default"))
	}
	var outcomes []storage.Outcome
	for i, e := range claim(t, s, worker, 30) {
		o := storage.Outcome{ID: e.ID, Delivery: e.Delivery, State: storage.Completed}
		if i%3 == 0 {
			o.State, o.Failure = storage.Failed, &storage.Failure{Message: "boom"}
		}
		outcomes = append(outcomes, o)
	}
	if _, err := s.Finish(t.Context(), storage.FinishRequest{Worker: worker, Outcomes: outcomes}); err != nil {
		t.Fatal(err)
	}
	later := outcomes[0].ID
	rows, err := s.Executions(t.Context(), storage.Filter{IDs: []storage.ID{later}})
	if err != nil || len(rows) != 1 {
		t.Fatal(rows, err)
	}
	prune := func(r storage.PruneRequest, want int) {
		t.Helper()
		if n, err := s.Prune(t.Context(), r); err != nil || n != want {
			t.Errorf("pruned %d, %v; want %d", n, err, want)
		}
	}
	end := rows[0].FinishedAt
	prune(storage.PruneRequest{Now: end.Add(59 * 60e9), Completed: 60 * 60e9, Failed: 60 * 60e9}, 0)
	// The completed ones go, the failed ones stay for their own, longer, age.
	prune(storage.PruneRequest{Now: end.Add(61 * 60e9), Completed: 60 * 60e9, Failed: 120 * 60e9, Limit: 15}, 15)
	prune(storage.PruneRequest{Now: end.Add(61 * 60e9), Completed: 60 * 60e9, Failed: 120 * 60e9}, 5)
	prune(storage.PruneRequest{Now: end.Add(61 * 60e9), Completed: 60 * 60e9, Failed: 120 * 60e9}, 0)
	prune(storage.PruneRequest{Now: end.Add(121 * 60e9), Completed: 60 * 60e9, Failed: 120 * 60e9}, 10)
	if got, err := s.Executions(t.Context(), storage.Filter{}); err != nil || len(got) != 0 {
		t.Errorf("%d rows are left, %v", len(got), err)
	}
	prune(storage.PruneRequest{Now: end.Add(121 * 60e9), Completed: 60 * 60e9, Failed: 120 * 60e9}, 0) // forgets the minute
	for _, suffix := range []string{"x", "d", "endings", "ended:failed", "ended:completed", "error", "errors", "counts", "n:mail.welcome"} {
		key := gateOf(t, address)
		key = key[:len(key)-len("gate")] + suffix
		if left, err := client(t, address).Exists(t.Context(), key).Result(); err != nil || left != 0 {
			t.Errorf("%s is left behind (%d, %v)", key, left, err)
		}
	}
}

// The home of a row may have left before the row comes: nobody serves it, so it is
// rescued, whichever way it came.
func TestARowWhoseHomeHasLeftIsRescued(t *testing.T) { // Q2.16
	t.Parallel()
	for name, tick := range map[string]*storage.Tick{"by a script": nil, "by a unit": {Schedule: "nightly"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, testdb.Redis(t))
			home, rescuer := join(t, s), join(t, s)
			if err := s.Leave(t.Context(), home); err != nil {
				t.Fatal(err)
			}
			if got := rescue(t, s, rescuer); len(got) != 0 { // nothing is held, and the worker is forgotten
				t.Fatalf("rescued %d rows before there was one", len(got))
			}
			if err := s.Announce(t.Context(), storage.AnnounceRequest{Schedules: []storage.Schedule{{Name: "nightly"}}}); err != nil {
				t.Fatal(err)
			}
			e := job(storage.PrivateQueue + "call")
			e.WorkerID = home
			if tick != nil {
				tick.At = time.Now().Add(time.Hour)
			}
			if _, err := s.Enqueue(t.Context(), storage.EnqueueRequest{Executions: []storage.Execution{e}, Tick: tick}); err != nil {
				t.Fatal(err)
			}
			if got := rescue(t, s, rescuer); len(got) != 1 || got[0].ID != e.ID || got[0].State != storage.Pending {
				t.Errorf("rescued %+v, want the row, found pending", got)
			}
		})
	}
}

func rescue(t *testing.T, s *redis.Store, rescuer storage.ID) []storage.Execution {
	t.Helper()
	got, err := s.Rescue(t.Context(), storage.RescueRequest{Worker: rescuer, Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	return got
}
