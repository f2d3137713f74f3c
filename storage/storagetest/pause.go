package storagetest

import (
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

var pauseRules = []rule{
	{"Q10.18 a paused queue gives nothing and counts for no due time, while what runs goes on and delays keep running", func(t *testing.T, l *lab) {
		low, later := l.row("low"), l.row("later")
		low.Queue, later.Delay = "low", time.Minute
		l.enqueue(l.row("a"))
		w := l.join()
		held := l.take(w)
		l.enqueue(l.row("b"), later, low)
		l.pause(storage.PauseQueue, "default")
		got := l.claimAs(storage.ClaimRequest{Worker: w})
		if len(got.Executions) != 0 || got.NextDue >= 0 || len(got.PausedNames) != 0 {
			t.Errorf("claimed %v, next due in %v, paused %q; want nothing at all", names(got.Executions), got.NextDue, got.PausedNames)
		}
		got = l.claimAs(storage.ClaimRequest{Worker: w, Queues: []string{"default", "low"}})
		l.same("claimed beside a paused queue", names(got.Executions), []string{"low"})
		l.settle(w, outcome(held, storage.Completed))
		l.tick(time.Minute)
		l.resume(storage.PauseQueue, "default")
		l.same("claimed after the resume", names(l.claim(w)), []string{"b", "later"})
	}},
	{"Q10.18 claims inside Enqueue and Finish heed pauses too", func(t *testing.T, l *lab) {
		w := l.join()
		l.enqueue(l.row("a"))
		held := l.take(w)
		l.pause(storage.PauseQueue, "default")
		l.pause(storage.PauseOperation, "b")
		claim := &storage.ClaimRequest{Worker: w, Queues: []string{"default"}, Limit: 10}
		sent := l.send(storage.EnqueueRequest{Executions: []storage.Execution{l.row("b")}, Claim: claim}).Claimed
		done, err := l.store.Finish(t.Context(), storage.FinishRequest{
			Now: l.now, Worker: w, Outcomes: []storage.Outcome{outcome(held, storage.Completed)}, Claim: claim,
		})
		l.must(err, "Finish")
		for what, got := range map[string]storage.Claimed{"Enqueue": sent, "Finish": done.Claimed} {
			if len(got.Executions) != 0 || got.NextDue >= 0 {
				t.Errorf("%s claimed %v, next due in %v; want nothing", what, names(got.Executions), got.NextDue)
			}
			l.same(what+": paused operations", got.PausedNames, []string{"b"})
		}
	}},
	{"Q10.18 a claim tells, sorted, which operations are paused, and offers no parked row of theirs until they are resumed", func(t *testing.T, l *lab) {
		w := l.join()
		l.parked(w, "b", 0)
		l.parked(w, "c", 0)
		l.enqueue(l.row("a"), l.row("b"))
		for _, name := range []string{"b", "a", "_x"} {
			l.pause(storage.PauseOperation, name)
		}
		r := storage.ClaimRequest{Worker: w, Names: []string{"b", "c"}}
		got := l.claimAs(r)
		l.same("paused operations", got.PausedNames, []string{"_x", "a", "b"})
		if held := byName(got.Executions); len(held) != 3 || held["a"].ID.IsZero() || held["b"].Delivery != 1 || held["c"].Delivery != 2 {
			t.Errorf("claimed %v; want a and b, which are not parked, and the parked c", names(got.Executions))
		}
		got = l.claimAs(r)
		if len(got.Executions) != 0 || got.NextDue >= 0 {
			t.Errorf("claimed %v, next due in %v; want nothing", names(got.Executions), got.NextDue)
		}
		got = l.claimAs(storage.ClaimRequest{Worker: w, Queues: []string{"default"}, Limit: 1})
		l.same("paused operations, to who names none", got.PausedNames, []string{"_x", "a", "b"})
		l.resume(storage.PauseOperation, "b")
		got = l.claimAs(r)
		l.same("claimed after the resume", names(got.Executions), []string{"b"})
		l.same("still paused", got.PausedNames, []string{"_x", "a"})
	}},
	{"Q10.18 a claim from private queues alone is told of no pause, and a private queue cannot be paused", func(t *testing.T, l *lab) {
		w := l.join()
		private := "@" + w.String()
		a := l.row("a")
		a.Queue, a.WorkerID = private, w
		l.enqueue(a)
		l.pause(storage.PauseOperation, "a")
		for _, p := range []storage.Pause{
			{Kind: storage.PauseQueue, Name: private},
			{Kind: storage.PauseQueue},
			{Kind: "weather", Name: "a"},
		} {
			o := l.order(storage.ActPause)
			o.Pause = p
			l.unchanged("the refused pause", func() { l.refusedOrder(o) })
		}
		got := l.claimAs(storage.ClaimRequest{Worker: w, Queues: []string{private}})
		l.same("claimed", names(got.Executions), []string{"a"})
		if len(got.PausedNames) != 0 {
			t.Errorf("told of %q, want nothing", got.PausedNames)
		}
	}},
	{"Q10.18 S34.26 a pause keeps who made it first, is audited by its kind and name, and may be made and lifted again", func(t *testing.T, l *lab) {
		first := l.now
		l.pause(storage.PauseSchedule, "nightly")
		l.pause(storage.PauseQueue, "low")
		l.pause(storage.PauseQueue, "high")
		l.tick(time.Minute)
		second := l.order(storage.ActPause)
		second.Actor, second.Reason, second.Pause = "joan@lab", "again", storage.Pause{Kind: storage.PauseQueue, Name: "high"}
		l.unchanged("a second pause", func() { l.operate(second) })
		list := func() []storage.Pause {
			pauses, err := l.store.Pauses(t.Context())
			l.must(err, "Pauses")
			return pauses
		}
		l.same("pauses, by kind, then name", list(), []storage.Pause{
			{Kind: storage.PauseQueue, Name: "high", At: first, Actor: "grace@lab", Reason: "because"},
			{Kind: storage.PauseQueue, Name: "low", At: first, Actor: "grace@lab", Reason: "because"},
			{Kind: storage.PauseSchedule, Name: "nightly", At: first, Actor: "grace@lab", Reason: "because"},
		})
		l.resume(storage.PauseQueue, "high")
		l.unchanged("a second resume", func() { l.resume(storage.PauseQueue, "high") })
		l.unchanged("a resume of another kind", func() { l.resume(storage.PauseOperation, "low") })
		if got := list(); len(got) != 2 || got[0].Name != "low" {
			t.Errorf("pauses %+v, want low and nightly", got)
		}
		entries, err := l.store.Audit(t.Context(), storage.AuditFilter{Target: "queue high"})
		l.must(err, "Audit")
		if len(entries) != 2 || entries[0].Action != "resume" || entries[1].Action != "pause" {
			t.Fatalf("audit %+v, want a resume and a pause", entries)
		}
		for _, e := range entries {
			if e.Target != "queue high" || e.Actor != "grace@lab" || e.Reason != "because" || e.Count != 1 {
				t.Errorf("audit entry %+v, want one of grace@lab for queue high, because", e)
			}
		}
	}},
	{"Q1.37 a parked row that asks for a newer build stays parked, counts for no due time, and goes to a build that is new enough", func(t *testing.T, l *lab) {
		w := l.join()
		id := l.parked(w, "a", 7)
		later := l.row("a")
		later.MinBuild = 9
		l.enqueue(later)
		got := l.claimAs(storage.ClaimRequest{Worker: w, Names: []string{"a"}, Build: 6})
		if len(got.Executions) != 1 || got.Executions[0].ID != later.ID {
			t.Fatalf("build 6 claimed %v, want the one that is not parked, whatever build it asks for", names(got.Executions))
		}
		l.settle(w, outcome(got.Executions[0], storage.Completed))
		got = l.claimAs(storage.ClaimRequest{Worker: w, Names: []string{"a"}, Build: 6})
		if len(got.Executions) != 0 || got.NextDue >= 0 {
			t.Errorf("build 6 claimed %v, next due in %v; want nothing", names(got.Executions), got.NextDue)
		}
		if e := l.get(id); !e.Parked || e.Delivery != 1 {
			t.Errorf("parked %v at delivery %d, want untouched", e.Parked, e.Delivery)
		}
		got = l.claimAs(storage.ClaimRequest{Worker: w, Names: []string{"a"}, Build: 7})
		if len(got.Executions) != 1 || got.Executions[0].ID != id {
			t.Errorf("build 7 claimed %v, want the parked one", names(got.Executions))
		}
	}},
}

// parked makes a row in the default queue that the worker has claimed and parked.
func (l *lab) parked(worker storage.ID, name string, minBuild int64) storage.ID {
	l.t.Helper()
	e := l.row(name)
	e.MinBuild = minBuild
	l.enqueue(e)
	o := outcome(l.take(worker), storage.Pending)
	o.Park, o.Excuse = true, true
	l.settle(worker, o)
	return e.ID
}

func (l *lab) pause(kind storage.PauseKind, name string) {
	l.t.Helper()
	l.halt(storage.ActPause, kind, name)
}

func (l *lab) resume(kind storage.PauseKind, name string) {
	l.t.Helper()
	l.halt(storage.ActResume, kind, name)
}

func (l *lab) halt(act storage.Action, kind storage.PauseKind, name string) {
	l.t.Helper()
	o := l.order(act)
	o.Pause = storage.Pause{Kind: kind, Name: name}
	if after := l.operate(o); len(after) != 0 {
		l.t.Errorf("%s of %s returned %v, want no executions", act, name, names(after))
	}
}
