package storagetest

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gosequencer/sequencer/storage"
)

// ownInstants are the fields of a worker that a store may write by a clock of its
// own, or not at all.
var ownInstants = cmp.Options{
	cmpopts.IgnoreFields(storage.Worker{}, "Lease", "JoinedAt", "LeaseUntil"),
}

var leaseRules = []rule{
	{"Q2.14 a worker that joined is listed as it described itself", func(t *testing.T, l *lab) {
		w := l.worker()
		l.must(l.store.Join(t.Context(), w), "Join")
		got := l.findWorker(w.ID)
		l.same("worker", got, w, ownInstants)
		if got.JoinedAt.IsZero() || got.JoinedAt.Location() != time.UTC {
			t.Errorf("joined at %v, want an instant in UTC", got.JoinedAt)
		}
	}},
	{"Q2.14 a worker's id is used once", func(t *testing.T, l *lab) {
		w := l.worker()
		l.must(l.store.Join(t.Context(), w), "Join")
		again := w
		again.Hostname = "elsewhere"
		if err := l.store.Join(t.Context(), again); err == nil {
			t.Error("a second Join with the same id was accepted")
		}
		l.same("worker", l.findWorker(w.ID), w, ownInstants)
		l.leave(w.ID)
		if err := l.store.Join(t.Context(), w); err == nil {
			t.Error("a Join with the id of a worker that left was accepted")
		}
	}},
	{"Q2.14 a worker that left is listed only by its id, with the time it left; leaving again does nothing", func(t *testing.T, l *lab) {
		w, other := l.join(), l.join()
		l.leave(w)
		left := l.findWorker(w)
		if left.LeftAt.IsZero() || left.Dead {
			t.Errorf("left at %v, dead %v; want an instant, not dead", left.LeftAt, left.Dead)
		}
		l.leave(w)
		l.same("worker after leaving again", l.findWorker(w), left)
		present, err := l.store.Workers(t.Context())
		l.must(err, "Workers")
		if len(present) != 1 || present[0].ID != other {
			t.Errorf("present are %+v, want only %s", present, other)
		}
	}},
	{"Q2.15 Renew of a worker that left, was declared dead or never joined is ErrLeaseLost", func(t *testing.T, l *lab) {
		left, dead, rescuer := l.join(), l.join(), l.join()
		l.leave(left)
		l.rescue(rescuer, dead)
		for what, w := range map[string]storage.ID{"left": left, "dead": dead, "unknown": l.id()} {
			_, err := l.store.Renew(t.Context(), storage.RenewRequest{Now: l.now, Worker: w, Lease: longLease})
			if !errors.Is(err, storage.ErrLeaseLost) {
				t.Errorf("Renew of a worker that is %s: error %v, want ErrLeaseLost", what, err)
			}
		}
	}},
	{"Q2.14 S5.7 Renew carries progress of what the worker runs, and of nothing else", func(t *testing.T, l *lab) {
		a := l.row("a")
		l.enqueue(a)
		w, other := l.join(), l.join()
		first := l.take(w)
		l.settle(w, outcome(first, storage.Pending))
		second := l.take(w)
		l.renew(w, storage.Progress{ID: a.ID, Delivery: second.Delivery, Done: 3, Total: 10})
		l.unchanged("progress of a late writer", func() {
			l.renew(w, storage.Progress{ID: a.ID, Delivery: first.Delivery, Done: 9, Total: 9})
			l.renew(other, storage.Progress{ID: a.ID, Delivery: second.Delivery, Done: 9, Total: 9})
		})
		if e := l.get(a.ID); e.Done != 3 || e.Total != 10 {
			t.Errorf("progress %d of %d, want 3 of 10", e.Done, e.Total)
		}
	}},
	{"Q2.16 S5.7 Rescue hands what a dead worker ran to the rescuer at a new, excused delivery, and fences the old one off", func(t *testing.T, l *lab) {
		a := l.row("a")
		a.Input, a.OnLoss = []byte("in"), storage.LossInterrupt
		l.enqueue(a)
		dead, rescuer := l.join(), l.join()
		l.tick(time.Second)
		held := l.take(dead)
		before := l.get(a.ID)
		l.tick(time.Minute)
		got := l.rescue(rescuer, dead)
		want := before
		want.WorkerID, want.Delivery, want.Excused = rescuer, 2, 1
		l.same("rescued, in the state it was found in", got, []storage.Execution{want})
		l.same("row", l.get(a.ID), want)
		l.unchanged("a write of the dead worker", func() {
			l.same("Applied", l.finish(dead, outcome(held, storage.Completed)).Applied, []bool{false})
		})
		if w := l.findWorker(dead); !w.Dead || w.LeftAt.IsZero() {
			t.Errorf("the dead worker: dead %v, left at %v", w.Dead, w.LeftAt)
		}
		l.settle(rescuer, failure(got[0], storage.Interrupted, "worker lost"))
		l.wantState(a.ID, storage.Interrupted)
	}},
	{"Q2.16 Q1.3 a lost attempt counts once: the rescuer's delivery is excused, the record has the lost one's number", func(t *testing.T, l *lab) {
		a := l.row("a")
		l.enqueue(a)
		for n := 1; n <= 2; n++ {
			w, rescuer := l.join(), l.join()
			l.take(w)
			got := l.rescue(rescuer, w)
			o := failure(got[0], storage.Pending, "worker lost")
			o.Failure.Outcome, o.Errors, o.Losses = "lost", 0, n
			l.settle(rescuer, o)
			if e := l.get(a.ID); e.Attempts() != n || e.Losses != n || e.State != storage.Pending {
				t.Errorf("after loss %d: %s, %d attempts, %d losses", n, e.State, e.Attempts(), e.Losses)
			}
			l.leave(rescuer)
		}
		log := l.attempts(a.ID)
		if len(log) != 2 || log[0].Number != 1 || log[1].Number != 2 || log[0].Outcome != "lost" {
			t.Errorf("attempts %+v, want lost attempts 1 and 2", log)
		}
	}},
	{"Q2.16 Rescue takes what a worker that left still ran, and nothing from the living", func(t *testing.T, l *lab) {
		l.enqueue(l.row("a"), l.row("b"))
		leaves, lives, rescuer := l.join(), l.join(), l.join()
		a := l.claimAs(storage.ClaimRequest{Worker: leaves, Limit: 1}).Executions[0]
		b := l.claimAs(storage.ClaimRequest{Worker: lives, Limit: 1}).Executions[0]
		l.unchanged("a rescue while all live", func() {
			if got := l.rescue(rescuer); len(got) != 0 {
				t.Errorf("rescued %v from the living", names(got))
			}
		})
		l.leave(leaves)
		got := l.rescue(rescuer)
		if len(got) != 1 || got[0].ID != a.ID || got[0].State != storage.Running {
			t.Errorf("rescued %+v, want %s found running", got, a.Name)
		}
		if e := l.get(b.ID); e.WorkerID != lives || e.Delivery != 1 {
			t.Errorf("%s is held by %s at delivery %d, want %s at 1", b.Name, e.WorkerID, e.Delivery, lives)
		}
		if w := l.findWorker(leaves); w.Dead {
			t.Error("a worker that left by itself is marked dead")
		}
	}},
	{"Q2.16 Rescue takes pending rows homed with the dead that belong to no flow, and says they were pending", func(t *testing.T, l *lab) {
		dead, rescuer := l.join(), l.join()
		private := storage.PrivateQueue + "call"
		homed, public := l.row("homed"), l.row("public")
		homed.Queue, homed.WorkerID, homed.Delay = private, dead, time.Hour
		l.enqueue(homed, public)
		f := l.draft(storage.PolicyStop, "member")
		f.member("member").Queue, f.member("member").WorkerID = private, dead
		f.enqueue()
		got := l.rescue(rescuer, dead)
		l.same("rescued", names(got), []string{"homed"})
		if got[0].State != storage.Pending || got[0].Delivery != 1 || got[0].Attempts() != 0 {
			t.Errorf("found %s at delivery %d with %d attempts; want pending, 1, 0", got[0].State, got[0].Delivery, got[0].Attempts())
		}
		if e := l.wantState(homed.ID, storage.Running); e.WorkerID != rescuer {
			t.Errorf("held by %s, want the rescuer %s", e.WorkerID, rescuer)
		}
		l.wantState(public.ID, storage.Pending)
		if e := f.get("member"); e.State != storage.Pending || e.WorkerID != dead || e.Delivery != 0 {
			t.Errorf("the member is %s, home %s, delivery %d; want it as it was", e.State, e.WorkerID, e.Delivery)
		}
		o := outcome(got[0], storage.Failed)
		o.Failure = &storage.Failure{Outcome: "lost", Message: "its process is gone"}
		l.settle(rescuer, o)
		l.wantState(homed.ID, storage.Failed)
	}},
	{"Q2.16 what an interrupted rescuer held is rescued again", func(t *testing.T, l *lab) {
		a := l.row("a")
		l.enqueue(a)
		w, first, second := l.join(), l.join(), l.join()
		l.take(w)
		one := l.rescue(first, w)
		two := l.rescue(second, first)
		if len(two) != 1 || two[0].Delivery != 3 || two[0].Excused != 2 || two[0].Attempts() != 1 {
			t.Fatalf("rescued again %+v, want delivery 3 with 2 excused", two)
		}
		l.same("Applied of the first rescuer", l.finish(first, outcome(one[0], storage.Failed)).Applied, []bool{false})
		l.settle(second, outcome(two[0], storage.Completed))
	}},
	{"Q2.16 Limit bounds a rescue; further ones take the rest, each row once", func(t *testing.T, l *lab) {
		dead, rescuer := l.join(), l.join()
		l.bulk(5)
		l.claim(dead)
		seen := map[storage.ID]bool{}
		for _, want := range []int{2, 2, 1, 0} {
			got, err := l.store.Rescue(t.Context(), storage.RescueRequest{Now: l.now, Worker: rescuer, Dead: []storage.ID{dead}, Limit: 2})
			l.must(err, "Rescue")
			if len(got) != want {
				t.Errorf("rescued %d, want %d", len(got), want)
			}
			for _, e := range got {
				if seen[e.ID] {
					t.Errorf("%s was rescued twice", e.ID)
				}
				seen[e.ID] = true
			}
		}
	}},
	{"Q2.15 a rescuer that has left rescues nothing", func(t *testing.T, l *lab) {
		l.enqueue(l.row("a"))
		dead, rescuer := l.join(), l.join()
		l.take(dead)
		l.leave(rescuer)
		l.unchanged("the refused rescue", func() {
			_, err := l.store.Rescue(t.Context(), storage.RescueRequest{Now: l.now, Worker: rescuer, Dead: []storage.ID{dead}, Limit: 10})
			if !errors.Is(err, storage.ErrLeaseLost) {
				t.Errorf("got error %v, want ErrLeaseLost", err)
			}
		})
		if w := l.findWorker(dead); w.Dead || !w.LeftAt.IsZero() {
			t.Errorf("the refused rescue ended the worker: %+v", w)
		}
	}},
	{"Q2.14 Q2.15 a lease that is over loses what it held, where leases are; elsewhere time alone kills nobody", leaseExpiry},
	{"Q2.14 control: a lease that is renewed in time never ends", func(t *testing.T, l *lab) {
		l.enqueue(l.row("a"))
		w, rescuer := l.join(), l.join()
		e := l.take(w)
		for range 10 {
			_, err := l.store.Renew(t.Context(), storage.RenewRequest{Now: l.now, Worker: w, Lease: time.Minute})
			l.must(err, "Renew")
			l.tick(50 * time.Second)
			if got := l.rescue(rescuer); len(got) != 0 {
				t.Fatalf("rescued %v from a worker that renews", names(got))
			}
		}
		l.settle(w, outcome(e, storage.Completed))
	}},
	{"S26.1 a lock has one holder, and who is refused learns who it is", func(t *testing.T, l *lab) {
		w := l.worker()
		l.must(l.store.Join(t.Context(), w), "Join")
		other, flow := l.join(), l.id()
		l.must(l.store.Lock(t.Context(), storage.LockRequest{Now: l.now, Name: "run", Worker: w.ID, Flow: flow}), "Lock")
		acquired := l.now
		l.tick(time.Minute)
		held := l.refused("run", other)
		if held.Name != "run" || held.Flow != flow || !held.AcquiredAt.Equal(acquired) {
			t.Errorf("lock %q for flow %s since %v; want run, %s, %v", held.Name, held.Flow, held.AcquiredAt, flow, acquired)
		}
		l.same("holder", held.Worker, w, ownInstants)
		locks, err := l.store.Locks(t.Context())
		l.must(err, "Locks")
		l.same("Locks", locks, []storage.LockState{held})
	}},
	{"S26.1 taking a lock one holds succeeds and changes nothing; other names are free", func(t *testing.T, l *lab) {
		w, other := l.join(), l.join()
		l.lock("run", w)
		before, err := l.store.Locks(t.Context())
		l.must(err, "Locks")
		l.tick(time.Minute)
		l.lock("run", w)
		after, err := l.store.Locks(t.Context())
		l.must(err, "Locks")
		l.same("locks after taking it again", after, before)
		l.lock("prune", other)
		l.refused("run", other)
	}},
	{"S26.2 Q4.8 only the holder's Unlock frees a lock; a repeat does nothing", func(t *testing.T, l *lab) {
		w, other := l.join(), l.join()
		l.lock("run", w)
		l.unlock("run", other)
		l.refused("run", other)
		l.unlock("run", w)
		l.unlock("run", w)
		l.lock("run", other)
		l.unlock("run", w)
		l.refused("run", w)
	}},
	{"S26.2 a holder that leaves or is declared dead frees its locks", func(t *testing.T, l *lab) {
		leaves, dies, other := l.join(), l.join(), l.join()
		l.lock("one", leaves)
		l.lock("two", dies)
		l.leave(leaves)
		held, err := l.store.Locks(t.Context())
		l.must(err, "Locks")
		if len(held) != 1 || held[0].Name != "two" {
			t.Errorf("after the holder of one left: %+v, want only two", held)
		}
		l.lock("one", other)
		l.refused("two", other)
		l.rescue(other, dies)
		l.lock("two", other)
		locks, err := l.store.Locks(t.Context())
		l.must(err, "Locks")
		if len(locks) != 2 || locks[0].Worker.ID != other || locks[1].Worker.ID != other {
			t.Errorf("locks %+v, want both held by %s", locks, other)
		}
	}},
	{"S14.6 Q4.8 a lock without a worker is its execution's, until it is unlocked or its time is over", func(t *testing.T, l *lab) {
		a, b, w := l.id(), l.id(), l.join()
		take := func(execution storage.ID) error {
			return l.store.Lock(t.Context(), storage.LockRequest{Now: l.now, Name: "unique", Execution: execution, For: time.Minute})
		}
		free := func(execution storage.ID) {
			l.must(l.store.Unlock(t.Context(), storage.UnlockRequest{Name: "unique", Execution: execution}), "Unlock")
		}
		for _, r := range []storage.LockRequest{{Name: "unique", Execution: a}, {Name: "unique", For: time.Minute}} {
			if r.Now = l.now; l.store.Lock(t.Context(), r) == nil {
				t.Errorf("a lock for ever, or for nobody, was taken: %+v", r)
			}
		}
		l.must(take(a), "Lock")
		l.must(take(a), "Lock again")
		locks, err := l.store.Locks(t.Context())
		l.must(err, "Locks")
		held := storage.LockState{Name: "unique", Execution: a, AcquiredAt: l.now, FreeAt: l.now.Add(time.Minute)}
		if len(locks) == 1 {
			locks[0].Worker = storage.Worker{} // without a face
		}
		l.same("Locks", locks, []storage.LockState{held})
		if got := refusal(t, take(b)); got.Execution != a || !got.Worker.ID.IsZero() {
			t.Errorf("the holder is %+v, want execution %s", got, a)
		}
		l.refused("unique", w)
		l.leave(w)
		l.rescue(l.join(), w)
		free(b) // not its own
		refusal(t, take(b))
		free(a)
		free(a)
		l.must(take(b), "Lock after Unlock")
		l.tick(time.Minute - time.Millisecond)
		refusal(t, take(a))
		l.tick(2 * time.Millisecond)
		l.must(take(a), "Lock once the time is over")
		free(b)
		refusal(t, take(b))
		l.tick(time.Minute + time.Millisecond)
		_, err = l.store.Prune(t.Context(), storage.PruneRequest{Now: l.now})
		l.must(err, "Prune")
		locks, err = l.store.Locks(t.Context())
		l.must(err, "Locks")
		l.same("Locks after Prune", locks, []storage.LockState{})
	}},
	{"Q2.15 a worker that has left takes no lock", func(t *testing.T, l *lab) {
		w := l.join()
		l.leave(w)
		err := l.store.Lock(t.Context(), storage.LockRequest{Now: l.now, Name: "run", Worker: w})
		if !errors.Is(err, storage.ErrLeaseLost) {
			t.Errorf("got error %v, want ErrLeaseLost", err)
		}
		l.lock("run", l.join())
	}},
	{"S26.1 of workers that race for a lock exactly one gets it", func(t *testing.T, l *lab) {
		var winners atomic.Int32
		l.race(func(ctx context.Context, w storage.ID) error {
			err := l.store.Lock(ctx, storage.LockRequest{Now: l.now, Name: "run", Worker: w})
			if err == nil {
				winners.Add(1)
			}
			if _, refused := errors.AsType[*storage.LockedError](err); refused {
				return nil
			}
			return err
		})
		if n := winners.Load(); n != 1 {
			t.Errorf("%d workers got the lock, want 1", n)
		}
	}},
	{"Q2.16 of rescuers that race each lost row goes to one", func(t *testing.T, l *lab) {
		const rows = 40
		dead := l.join()
		l.bulk(rows)
		l.claim(dead)
		rescued := make(chan storage.ID, racers*rows)
		l.race(func(ctx context.Context, w storage.ID) error {
			got, err := l.store.Rescue(ctx, storage.RescueRequest{Now: l.now, Worker: w, Dead: []storage.ID{dead}, Limit: rows})
			for _, e := range got {
				rescued <- e.ID
			}
			return err
		})
		close(rescued)
		var ids []storage.ID
		for id := range rescued {
			if slices.Contains(ids, id) {
				t.Errorf("%s was rescued twice", id)
			}
			ids = append(ids, id)
		}
		if rest := l.rescue(l.join()); len(ids)+len(rest) != rows {
			t.Errorf("%d rows were rescued, want %d", len(ids)+len(rest), rows)
		}
		for _, e := range l.list(storage.Filter{}) {
			if e.Delivery != 2 || e.State != storage.Running {
				t.Errorf("%s is %s at delivery %d, want running at 2", e.ID, e.State, e.Delivery)
			}
		}
	}},
}

// leaseExpiry goes by what the store shows: leases by a clock, or none.
func leaseExpiry(t *testing.T, l *lab) {
	t.Helper()
	a := l.row("a")
	l.enqueue(a)
	w, rescuer := l.join(), l.join()
	held := l.take(w)
	l.lock("run", w)
	_, err := l.store.Renew(t.Context(), storage.RenewRequest{Now: l.now, Worker: w, Lease: time.Minute})
	l.must(err, "Renew")
	claim := func() error {
		_, err := l.store.Claim(t.Context(), storage.ClaimRequest{Now: l.now, Worker: w, Queues: []string{"default"}, Limit: 1})
		return err
	}

	if !l.leases(w) {
		l.tick(1000 * time.Hour)
		if got := l.rescue(rescuer); len(got) != 0 {
			t.Errorf("rescued %v by time alone from a worker without a lease", names(got))
		}
		l.must(claim(), "Claim long after the last renewal")
		l.refused("run", rescuer)
		l.settle(w, outcome(held, storage.Completed))
		return
	}

	if got := l.findWorker(w).LeaseUntil; !got.Equal(l.now.Add(time.Minute)) {
		t.Errorf("lease until %v, want %v", got, l.now.Add(time.Minute))
	}
	l.tick(time.Minute - time.Millisecond)
	l.must(claim(), "Claim just before the lease ends")
	if got := l.rescue(rescuer); len(got) != 0 {
		t.Errorf("rescued %v before the lease ended", names(got))
	}
	l.refused("run", rescuer)

	l.tick(2 * time.Millisecond)
	if err := claim(); !errors.Is(err, storage.ErrLeaseLost) {
		t.Errorf("Claim after the lease: error %v, want ErrLeaseLost", err)
	}
	if _, err := l.store.Renew(t.Context(), storage.RenewRequest{Now: l.now, Worker: w, Lease: time.Minute}); !errors.Is(err, storage.ErrLeaseLost) {
		t.Errorf("Renew after the lease: error %v, want ErrLeaseLost", err)
	}
	l.lock("run", rescuer)
	got := l.rescue(rescuer)
	if len(got) != 1 || got[0].ID != a.ID || got[0].State != storage.Running {
		t.Fatalf("rescued %+v, want a found running", got)
	}
	if !l.findWorker(w).Dead {
		t.Error("the worker whose lease is over is not marked dead")
	}
	l.same("Applied of the dead worker", l.finish(w, outcome(held, storage.Completed)).Applied, []bool{false})
}

func (l *lab) lock(name string, worker storage.ID) {
	l.t.Helper()
	l.must(l.store.Lock(l.t.Context(), storage.LockRequest{Now: l.now, Name: name, Worker: worker}), "Lock "+name)
}

func (l *lab) unlock(name string, worker storage.ID) {
	l.t.Helper()
	l.must(l.store.Unlock(l.t.Context(), storage.UnlockRequest{Name: name, Worker: worker}), "Unlock "+name)
}

// refused expects that another worker holds the lock, and returns what was told.
func (l *lab) refused(name string, worker storage.ID) storage.LockState {
	l.t.Helper()
	return refusal(l.t, l.store.Lock(l.t.Context(), storage.LockRequest{Now: l.now, Name: name, Worker: worker}))
}

// refusal is the lock that stood in the way.
func refusal(t *testing.T, err error) storage.LockState {
	t.Helper()
	held, ok := errors.AsType[*storage.LockedError](err)
	if !ok {
		t.Fatalf("Lock: got error %v, want a *LockedError", err)
	}
	return held.Lock
}
