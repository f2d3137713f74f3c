package storagetest

import (
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// hookOf is what an outcome of e asks for: a hook that the worker has at once, or, with
// none, one that waits.
func hookOf(e storage.Execution, method string, worker storage.ID) *storage.Execution {
	h := e.Hook(method)
	h.Policy, h.WorkerID = []byte("frozen"), worker
	return &h
}

// stored is a hook as it must stand after an outcome at now.
func stored(h storage.Execution, now time.Time, state storage.State) storage.Execution {
	h.State, h.CreatedAt, h.DueAt = state, now, now
	if state == storage.Running {
		h.StartedAt, h.Delivery = now, 1
	}
	return h
}

var hookRules = []rule{
	{"Q9.20 the hook of an outcome is running for the worker in the same step, and leaves no row when it ends", func(t *testing.T, l *lab) {
		a := l.row("a")
		a.UniqueKey, a.Input, a.Tags, a.Actor = "k", []byte("in"), []string{"t"}, "ada@lab"
		l.enqueue(a)
		w := l.join()
		l.tick(time.Second)
		held := l.take(w)
		o := outcome(held, storage.Completed)
		o.Hook = hookOf(held, storage.MethodAfter, w)
		l.tick(time.Second)
		l.settle(w, o)
		l.wantState(a.ID, storage.Completed)
		hook := l.get(o.Hook.ID)
		l.same("the hook", hook, stored(*o.Hook, l.now, storage.Running))
		if got := l.enqueue(func() storage.Execution { b := l.row("a"); b.UniqueKey = "k"; return b }()); got[0].Duplicate { // Q4.6
			t.Error("the key is still held while the hook runs")
		}
		for _, e := range l.claim(w) {
			if e.Kind == storage.Hook {
				t.Error("a hook that runs was claimed")
			}
		}
		l.tick(time.Second)
		l.settle(w, outcome(hook, storage.Completed))
		l.gone(hook.ID)
		if log := l.attempts(a.ID); len(log) != 0 {
			t.Errorf("a hook that ended well left %d attempts", len(log))
		}
	}},
	{"Q9.20 a repeat of the outcome, and one that is void, make no second hook", func(t *testing.T, l *lab) {
		a := l.row("a")
		l.enqueue(a)
		w, stranger := l.join(), l.join()
		held := l.take(w)
		o := outcome(held, storage.Completed)
		o.Hook = hookOf(held, storage.MethodAfter, w)
		late := o
		late.Hook = hookOf(held, storage.MethodAfter, stranger)
		if done := l.finish(stranger, late); done.Applied[0] {
			t.Error("a stranger's outcome was applied")
		}
		l.gone(o.Hook.ID)
		l.settle(w, o)
		l.settle(w, outcome(l.get(o.Hook.ID), storage.Completed))
		if done := l.finish(w, o); done.Applied[0] {
			t.Error("a repeat was applied")
		}
		l.gone(o.Hook.ID)
	}},
	{"Q9.3 Q9.6 a hook that failed is told by its execution, whose own attempts and state stay", func(t *testing.T, l *lab) {
		a := l.row("a")
		l.enqueue(a)
		w := l.join()
		held := l.take(w)
		o := failure(held, storage.Failed, "boom")
		o.Hook = hookOf(held, storage.MethodFailed, w)
		l.settle(w, o)
		before := l.get(a.ID)
		l.tick(time.Second)
		broken := failure(l.get(o.Hook.ID), storage.Failed, "the hook broke")
		broken.Failure.Outcome, broken.Ran = "hook", time.Second
		l.settle(w, broken)
		l.gone(o.Hook.ID)
		l.same("the execution", l.get(a.ID), before)
		log := l.attempts(a.ID)
		if len(log) != 2 {
			t.Fatalf("%d attempts, want 2: %+v", len(log), log)
		}
		l.same("the hook's", log[1], storage.Attempt{
			ExecutionID: a.ID, Delivery: -1, WorkerID: w, StartedAt: l.now.Add(-time.Second), FinishedAt: l.now, Failure: *broken.Failure,
		})
	}},
	{"Q9.20 the hook of a lost worker is rescued, delivered again, and fenced like any row", func(t *testing.T, l *lab) {
		a := l.row("a")
		l.enqueue(a)
		w, other := l.join(), l.join()
		held := l.take(w)
		o := outcome(held, storage.Completed)
		o.Hook = hookOf(held, storage.MethodAfter, w)
		l.settle(w, o)
		first := l.get(o.Hook.ID)
		rescued := l.rescue(other, w)
		l.same("rescued", names(rescued), []string{"a"})
		again := outcome(rescued[0], storage.Pending)
		again.Losses = 1
		l.settle(other, again)
		if done := l.finish(w, outcome(first, storage.Completed)); done.Applied[0] {
			t.Error("the dead worker's end of the hook was applied")
		}
		got := l.take(other)
		l.same("the second delivery", []any{got.ID, got.Kind, got.Losses, got.Undoes, got.Position, string(got.Policy)},
			[]any{o.Hook.ID, storage.Hook, 1, a.ID, 1, "frozen"})
		l.settle(other, outcome(got, storage.Completed))
		l.gone(got.ID)
	}},
	{"Q9.20 a hook that is nobody's yet waits in its queue, before what else is due", func(t *testing.T, l *lab) {
		a, b := l.row("a"), l.row("b")
		l.enqueue(a)
		w := l.join()
		held := l.take(w)
		l.enqueue(b)
		o := failure(held, storage.Failed, "lost")
		o.Hook = hookOf(held, storage.MethodFailed, storage.ID{})
		o.Hook.Input = make([]byte, 10_000)
		l.tick(time.Second)
		l.settle(w, o)
		l.same("the hook", l.get(o.Hook.ID), stored(*o.Hook, l.now, storage.Pending))
		got := l.claim(w)
		l.same("claimed", []storage.Kind{got[0].Kind, got[1].Kind}, []storage.Kind{storage.Hook, storage.Unlisted})
		l.settle(w, outcome(got[0], storage.Completed), outcome(got[1], storage.Completed))
		l.gone(o.Hook.ID)
	}},
	{"Q9.20 a hook that is nobody's yet can be claimed with the outcome that asks for it", func(t *testing.T, l *lab) {
		a := l.row("a")
		l.enqueue(a)
		w := l.join()
		held := l.take(w)
		o := outcome(held, storage.Completed)
		o.Of, o.Hook = &held, hookOf(held, storage.MethodAfter, storage.ID{})
		done := l.settleClaiming(w, o)
		l.same("claimed", ids(done.Claimed.Executions), []storage.ID{o.Hook.ID})
	}},
	{"Q9.20 a hook whose queue nobody serves any more moves to one that is served", func(t *testing.T, l *lab) {
		a := l.row("a")
		w, other := l.join(), l.join()
		a.Queue, a.WorkerID = storage.PrivateQueue+w.String(), w
		l.enqueue(a)
		held := l.claim(w, a.Queue)[0]
		o := outcome(held, storage.Completed)
		o.Hook = hookOf(held, storage.MethodAfter, w)
		l.settle(w, o)
		back := outcome(l.get(o.Hook.ID), storage.Pending)
		back.Excuse = true
		l.settle(w, back)
		if e := l.get(o.Hook.ID); e.WorkerID != w || e.State != storage.Pending {
			t.Errorf("the hook is %s, at home with %s; want pending, %s", e.State, e.WorkerID, w)
		}
		found := l.rescue(other, w)
		l.same("rescued", names(found), []string{"a"})
		moved := *o.Hook
		moved.ID, moved.Queue, moved.WorkerID = storage.HookID(found[0].ID, found[0].Delivery), "default", storage.ID{}
		drop := outcome(found[0], storage.Completed)
		drop.Hook = &moved
		l.tick(time.Second)
		l.settle(other, drop)
		l.gone(o.Hook.ID)
		l.same("the hook that came instead", l.take(other).ID, moved.ID)
		l.settle(other, outcome(l.get(moved.ID), storage.Completed))
		l.gone(moved.ID)
	}},
	{"Q9.20 Q9.10 an outcome that ends nothing writes no hook", func(t *testing.T, l *lab) {
		a := l.row("a")
		l.enqueue(a)
		w := l.join()
		held := l.take(w)
		o := outcome(held, storage.Pending)
		o.Hook = hookOf(held, storage.MethodFailed, w)
		l.settle(w, o)
		l.gone(o.Hook.ID)
	}},
	{"Q9.20 a hook counts as no execution in the statistics, and its flow goes on without it", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a")
		f.enqueue()
		held := f.take("a")
		o := outcome(held, storage.Completed)
		o.Of, o.Hook = &held, hookOf(held, storage.MethodAfter, f.worker)
		done := l.settleClaiming(f.worker, o)
		l.same("claimed with the outcome", names(done.Claimed.Executions), []string{"b"})
		hook := l.get(o.Hook.ID)
		last := outcome(done.Claimed.Executions[0], storage.Completed)
		l.settle(f.worker, last)
		f.wantOver(storage.Completed)
		end := outcome(hook, storage.Completed)
		end.Watched = []string{"billing"}
		l.settle(f.worker, end)
		l.gone(hook.ID)
		for watched, want := range map[bool]int64{false: 2, true: 0} {
			n := int64(0)
			stats, err := l.store.Stats(t.Context(), storage.StatsFilter{Watched: watched})
			l.must(err, "Stats")
			for _, s := range stats {
				n += s.N
			}
			if n != want {
				t.Errorf("statistics (of watched tags: %t) count %d endings, want %d: those of the flow have no tag", watched, n, want)
			}
		}
	}},
	{"Q9.20 hooks of many executions end together, whatever else does", func(t *testing.T, l *lab) {
		const n = 25
		w := l.join()
		for range n {
			l.enqueue(l.row("a"))
		}
		var outcomes []storage.Outcome
		var hooks []storage.ID
		for _, e := range l.claim(w) {
			o := outcome(e, storage.Completed)
			o.Hook = hookOf(e, storage.MethodAfter, w)
			hooks = append(hooks, o.Hook.ID)
			outcomes = append(outcomes, o)
		}
		l.settle(w, outcomes...)
		outcomes = nil
		for i, id := range hooks {
			h := l.get(id)
			o := outcome(h, storage.Completed)
			if i%5 == 0 {
				o = failure(h, storage.Failed, "hook")
			}
			outcomes = append(outcomes, o)
		}
		l.enqueue(l.row("b"))
		outcomes = append(outcomes, outcome(l.take(w), storage.Completed))
		l.settle(w, outcomes...)
		if live := l.list(storage.Filter{States: []storage.State{storage.Pending, storage.Running}}); len(live) != 0 {
			t.Errorf("%d rows are left", len(live))
		}
		counts, err := l.store.Counts(t.Context())
		l.must(err, "Counts")
		for _, c := range counts {
			if c.State != storage.Completed || c.N != n+1 {
				t.Errorf("counted %+v, want %d completed alone", c, n+1)
			}
		}
	}},
}

// gone demands that there is no such row.
func (l *lab) gone(id storage.ID) {
	l.t.Helper()
	if rows := l.list(storage.Filter{IDs: []storage.ID{id}}); len(rows) != 0 {
		l.t.Errorf("%s %s is still there: %s", rows[0].Kind, rows[0].Name, rows[0].State)
	}
}

// settleClaiming is settle with a claim of what comes next, from the default queue.
func (l *lab) settleClaiming(worker storage.ID, outcomes ...storage.Outcome) storage.Finished {
	l.t.Helper()
	done, err := l.store.Finish(l.t.Context(), storage.FinishRequest{
		Now: l.now, Worker: worker, Outcomes: outcomes, Claim: &storage.ClaimRequest{Queues: []string{"default"}, Limit: 10},
	})
	l.must(err, "Finish")
	return done
}
