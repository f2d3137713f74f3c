package storagetest

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gosequencer/sequencer/storage"
)

var claimRules = []rule{
	{"Q1.1 a claim makes a row running for the worker, raises delivery and tells when it started", func(t *testing.T, l *lab) {
		a := l.row("a")
		a.Input, a.Policy, a.Tags, a.RetryFor = []byte("in"), []byte("policy"), []string{"t"}, time.Hour
		l.enqueue(a)
		w := l.join()
		l.tick(time.Second)
		got := l.take(w)
		want := a
		want.State, want.WorkerID, want.Delivery = storage.Running, w, 1
		want.CreatedAt, want.DueAt, want.StartedAt, want.DeadlineAt = base, base, l.now, base.Add(time.Hour)
		l.same("row", l.get(a.ID), want)
		// The contract leaves open whether a claim returns the fields no attempt needs.
		unneeded := cmpopts.IgnoreFields(storage.Execution{}, "Actor", "Priority", "Delay", "RetryFor", "UniqueKey", "UniqueFor", "WorkerID")
		l.same("claimed", got, want, unneeded)
	}},
	{"Q10.8 queues in the order asked for, inside one priority, then due time, then id", func(t *testing.T, l *lab) {
		add := func(name, queue string, priority int, delay time.Duration) storage.Execution {
			e := l.row(name)
			e.Queue, e.Priority, e.Delay = queue, priority, delay
			return e
		}
		rows := []storage.Execution{
			add("5", "first", storage.PriorityLowest, 0),
			add("2", "first", storage.PriorityHighest, 2*time.Second),
			add("3", "first", storage.PriorityDefault, 0),
			add("4", "first", storage.PriorityDefault, 0),
			add("1", "first", storage.PriorityHighest, time.Second),
			add("6", "second", storage.PriorityHighest, 0),
			add("not asked for", "third", storage.PriorityHighest, 0),
		}
		for i := len(rows) - 1; i >= 0; i-- { // the order of arrival must not matter
			l.enqueue(rows[i])
		}
		l.tick(time.Minute)
		l.same("order of one claim", names(l.claim(l.join(), "first", "second")), []string{"1", "2", "3", "4", "5", "6"})
	}},
	{"Q10.8 the order holds across claims of one", func(t *testing.T, l *lab) {
		w := l.join()
		for _, p := range []int{4, 2, 1, 3} {
			e := l.row(strconv.Itoa(p))
			e.Priority = p
			l.enqueue(e)
		}
		var got []string
		for range 4 {
			got = append(got, names(l.claimAs(storage.ClaimRequest{Worker: w, Limit: 1}).Executions)...)
		}
		l.same("order", got, []string{"1", "2", "3", "4"})
	}},
	{"Q10.5 a row is not claimed before it is due, and is at that instant", func(t *testing.T, l *lab) {
		a := l.row("a")
		a.Delay = time.Minute
		l.enqueue(a)
		w := l.join()
		l.tick(time.Minute - time.Microsecond)
		if got := l.claim(w); len(got) != 0 {
			t.Errorf("claimed %v before it was due", names(got))
		}
		l.tick(time.Microsecond)
		l.take(w)
	}},
	{"Q10.5 a row of high priority that is due later does not hide one that is due now", func(t *testing.T, l *lab) {
		later, now := l.row("later"), l.row("now")
		later.Priority, later.Delay, now.Priority = storage.PriorityHighest, time.Hour, storage.PriorityLowest
		l.enqueue(later, now)
		if got := l.take(l.join()); got.Name != "now" {
			t.Errorf("claimed %s, want now", got.Name)
		}
	}},
	{"Q10.8 Limit bounds a claim, and what is left is due now", func(t *testing.T, l *lab) {
		for range 5 {
			l.enqueue(l.row("a"))
		}
		got := l.claimAs(storage.ClaimRequest{Worker: l.join(), Limit: 3})
		if len(got.Executions) != 3 || got.NextDue != 0 {
			t.Errorf("claimed %d, next due in %v; want 3 and 0", len(got.Executions), got.NextDue)
		}
	}},
	{"Q10.8 NextDue is negative when time alone brings nothing", func(t *testing.T, l *lab) {
		w := l.join()
		if got := l.claimAs(storage.ClaimRequest{Worker: w}); got.NextDue >= 0 {
			t.Errorf("empty queue: next due in %v, want negative", got.NextDue)
		}
		f := l.draft(storage.PolicyStop, "a", "b needs a")
		f.enqueue()
		elsewhere := l.row("elsewhere")
		elsewhere.Queue, elsewhere.Delay = "other", time.Minute
		l.enqueue(elsewhere)
		if got := l.claimAs(storage.ClaimRequest{Worker: w}); len(got.Executions) != 1 || got.NextDue >= 0 {
			t.Errorf("claimed %v, next due in %v; want a, and nothing by time alone", names(got.Executions), got.NextDue)
		}
	}},
	{"Q10.8 NextDue is the time until the earliest further row of these queues", func(t *testing.T, l *lab) {
		for i, queue := range []string{"low", "default", "other"} {
			e := l.row("a")
			e.Queue, e.Delay = queue, time.Duration(30-10*i)*time.Second
			l.enqueue(e)
		}
		due := l.row("due")
		l.enqueue(due)
		got := l.claimAs(storage.ClaimRequest{Worker: l.join(), Queues: []string{"low", "default"}})
		if len(got.Executions) != 1 || got.NextDue != 20*time.Second {
			t.Errorf("claimed %v, next due in %v; want the one that is due and 20s", names(got.Executions), got.NextDue)
		}
	}},
	{"Q1.1 Q9.16 each claim raises delivery, StartedAt stays that of the first", func(t *testing.T, l *lab) {
		a := l.row("a")
		l.enqueue(a)
		w := l.join()
		for delivery := 1; delivery <= 3; delivery++ {
			l.tick(time.Second)
			e := l.take(w)
			if e.Delivery != delivery || !e.StartedAt.Equal(base.Add(time.Second)) {
				t.Errorf("delivery %d, started at %v; want %d and %v", e.Delivery, e.StartedAt, delivery, base.Add(time.Second))
			}
			l.settle(w, outcome(e, storage.Pending))
		}
	}},
	{"Q1.37 a parked row is claimed only by who names it, and the excused delivery cost no attempt", func(t *testing.T, l *lab) {
		a, b := l.row("unknown"), l.row("stranger")
		l.enqueue(a, b)
		w := l.join()
		for _, e := range l.claim(w) {
			o := outcome(e, storage.Pending)
			o.Park, o.Excuse = true, true
			l.settle(w, o)
		}
		if e := l.get(a.ID); !e.Parked || e.Attempts() != 0 || e.Delivery != 1 || !e.WorkerID.IsZero() {
			t.Errorf("after parking: parked %v, attempts %d, delivery %d, worker %q", e.Parked, e.Attempts(), e.Delivery, e.WorkerID)
		}
		got := l.claimAs(storage.ClaimRequest{Worker: w})
		if len(got.Executions) != 0 || got.NextDue >= 0 {
			t.Errorf("without names: claimed %v, next due in %v; want nothing at all", names(got.Executions), got.NextDue)
		}
		got = l.claimAs(storage.ClaimRequest{Worker: w, Names: []string{"unknown", "third"}})
		l.same("claimed by name", names(got.Executions), []string{"unknown"})
		if e := l.get(a.ID); e.Parked || e.Delivery != 2 || e.Attempts() != 1 {
			t.Errorf("after the claim: parked %v, delivery %d, attempts %d; want unparked, 2, 1", e.Parked, e.Delivery, e.Attempts())
		}
	}},
	{"Q1.37 names do not narrow a claim: rows that are not parked come too", func(t *testing.T, l *lab) {
		l.enqueue(l.row("plain"))
		got := l.claimAs(storage.ClaimRequest{Worker: l.join(), Names: []string{"other"}})
		l.same("claimed", names(got.Executions), []string{"plain"})
	}},
	{"Q1.37 a parked row of another queue stays where it is", func(t *testing.T, l *lab) {
		l.enqueue(l.row("a"))
		w := l.join()
		o := outcome(l.take(w), storage.Pending)
		o.Park, o.Excuse = true, true
		l.settle(w, o)
		got := l.claimAs(storage.ClaimRequest{Worker: w, Queues: []string{"low"}, Names: []string{"a"}})
		if len(got.Executions) != 0 {
			t.Errorf("claimed %v from a queue that was not asked for", names(got.Executions))
		}
	}},
	{"Q2.15 a worker that has left, or never joined, claims nothing", func(t *testing.T, l *lab) {
		l.enqueue(l.row("a"))
		left := l.join()
		l.leave(left)
		for what, w := range map[string]storage.ID{"left": left, "unknown": l.id()} {
			l.unchanged("the refused claim", func() {
				_, err := l.store.Claim(t.Context(), storage.ClaimRequest{Now: l.now, Worker: w, Queues: []string{"default"}, Limit: 1})
				if !errors.Is(err, storage.ErrLeaseLost) {
					t.Errorf("claim of a worker that is %s: error %v, want ErrLeaseLost", what, err)
				}
			})
		}
		l.take(l.join())
	}},
	{"Q2.15 a worker declared dead claims nothing", func(t *testing.T, l *lab) {
		w, rescuer := l.join(), l.join()
		l.rescue(rescuer, w)
		l.enqueue(l.row("a"))
		_, err := l.store.Claim(t.Context(), storage.ClaimRequest{Now: l.now, Worker: w, Queues: []string{"default"}, Limit: 1})
		if !errors.Is(err, storage.ErrLeaseLost) {
			t.Errorf("got error %v, want ErrLeaseLost", err)
		}
	}},
	{"Q0.6 concurrent claims never hand out one delivery twice, and miss nothing", claimRace},
	{"Q0.6 concurrent Finish with a fused claim drains a queue exactly once", drainRace},
}

const (
	racers   = 8
	raceRows = 400
)

func claimRace(t *testing.T, l *lab) {
	t.Helper()
	l.bulk(raceRows)
	var mu sync.Mutex
	holders := map[storage.ID]storage.ID{}
	l.race(func(ctx context.Context, w storage.ID) error {
		for {
			got, err := l.store.Claim(ctx, storage.ClaimRequest{Now: l.now, Worker: w, Queues: []string{"default"}, Limit: 7})
			if err != nil || len(got.Executions) == 0 {
				return err
			}
			mu.Lock()
			for _, e := range got.Executions {
				if other, twice := holders[e.ID]; twice || e.Delivery != 1 {
					t.Errorf("%s at delivery %d went to %s, and to %s before", e.ID, e.Delivery, w, other)
				}
				holders[e.ID] = w
			}
			mu.Unlock()
		}
	})
	if len(holders) != raceRows {
		t.Errorf("%d rows were claimed, want %d", len(holders), raceRows)
	}
	for _, e := range l.list(storage.Filter{Limit: 10_000}) {
		if e.WorkerID != holders[e.ID] || e.State != storage.Running {
			t.Fatalf("%s is %s for %q, claimed by %q; perhaps others too", e.ID, e.State, e.WorkerID, holders[e.ID])
		}
	}
}

func drainRace(t *testing.T, l *lab) {
	t.Helper()
	l.bulk(raceRows)
	var mu sync.Mutex
	applied := 0
	l.race(func(ctx context.Context, w storage.ID) error {
		claim := storage.ClaimRequest{Now: l.now, Worker: w, Queues: []string{"default"}, Limit: 10}
		got, err := l.store.Claim(ctx, claim)
		for err == nil && len(got.Executions) > 0 {
			r := storage.FinishRequest{Now: l.now, Worker: w, Claim: &claim}
			for _, e := range got.Executions {
				r.Outcomes = append(r.Outcomes, outcome(e, storage.Completed))
			}
			var done storage.Finished
			if done, err = l.store.Finish(ctx, r); err != nil {
				return err
			}
			mu.Lock()
			for _, ok := range done.Applied {
				if ok {
					applied++
				}
			}
			mu.Unlock()
			got = done.Claimed
		}
		return err
	})
	if applied != raceRows {
		t.Errorf("%d outcomes were applied, want %d", applied, raceRows)
	}
	l.same("counts", l.snapshot().Counts, []storage.Count{{Queue: "default", State: storage.Completed, N: raceRows}})
}

func (l *lab) bulk(n int) {
	l.t.Helper()
	rows := make([]storage.Execution, n)
	for i := range rows {
		rows[i] = l.row("bulk")
	}
	l.enqueue(rows...)
}

// race runs one goroutine per worker at once and waits for all.
func (l *lab) race(run func(ctx context.Context, worker storage.ID) error) {
	l.t.Helper()
	var wg sync.WaitGroup
	errs := make(chan error, racers)
	for range racers {
		w := l.join()
		wg.Go(func() {
			if err := run(l.t.Context(), w); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		l.t.Errorf("a racing worker stopped: %v", err)
	}
}
