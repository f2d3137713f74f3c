package storagetest

import (
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

var stopRules = []rule{
	{"S5.5 Q0.2 what was asked to stop, and would go back to pending, ends as cancelled", func(t *testing.T, l *lab) {
		for what, change := range map[string]func(o *storage.Outcome){
			"after an error": func(o *storage.Outcome) {
				o.Errors, o.Failure = 1, &storage.Failure{Outcome: "error", Type: "*errors.errorString", Message: "boom", Group: "g"}
			},
			"put off":             func(o *storage.Outcome) { o.Delay, o.Reason = time.Hour, "not yet" },
			"parked":              func(o *storage.Outcome) { o.Park, o.Excuse = true, true },
			"with a new deadline": func(o *storage.Outcome) { o.Rewind, o.Excuse = true, true },
		} {
			a, b := l.row("a"), l.row("b")
			a.UniqueKey, a.RetryFor, b.Priority = "k", time.Hour, storage.PriorityLowest
			l.enqueue(a, b)
			w := l.join()
			held := byName(l.claim(w))
			l.tick(time.Second)
			l.operate(l.order(storage.ActCancel, a.ID))
			asked, other := outcome(held["a"], storage.Pending), outcome(held["b"], storage.Pending)
			change(&asked)
			change(&other)
			done := l.settle(w, other, asked)
			l.same(what+": Stopped", done.Stopped, []bool{false, true})
			l.wantState(b.ID, storage.Pending)
			e := l.wantState(a.ID, storage.Cancelled)
			if e.Reason != "cancelled" || !e.FinishedAt.Equal(l.now) || e.Parked || e.WorkerID != w || e.Errors != asked.Errors {
				t.Errorf("%s: reason %q, finished %v, parked %v, worker %s, %d errors; want cancelled, %v, false, %s, %d",
					what, e.Reason, e.FinishedAt, e.Parked, e.WorkerID, e.Errors, l.now, w, asked.Errors)
			}
			if log := l.attempts(a.ID); (len(log) == 1) != (asked.Failure != nil) || len(log) > 0 && (log[0].Number != 1 || log[0].Message != "boom") {
				t.Errorf("%s: attempts %+v", what, log)
			}
			if got := l.renew(w).Cancelled; len(got) != 0 {
				t.Errorf("%s: told %v after the end", what, got)
			}
			again := l.row("a")
			again.UniqueKey = "k"
			if l.enqueue(again)[0].Duplicate { // Q4.6
				t.Errorf("%s: what was cancelled holds its key", what)
			}
			l.same(what+": a repeat", l.finish(w, asked).Applied, []bool{false})
			l.operate(l.order(storage.ActCancel, b.ID, again.ID))
		}
	}},
	{"S5.5 Q0.2 many that go back alike, and one of them was asked to stop", func(t *testing.T, l *lab) {
		rows := make([]storage.Execution, 12)
		for i := range rows {
			rows[i] = l.row("a")
		}
		l.enqueue(rows...)
		w := l.join()
		held := l.claim(w)
		l.operate(l.order(storage.ActCancel, held[7].ID))
		outcomes := make([]storage.Outcome, len(held))
		want := make([]bool, len(held))
		for i := range held {
			outcomes[i] = outcome(held[i], storage.Pending)
			outcomes[i].Park, outcomes[i].Excuse = true, true
		}
		want[7] = true
		l.same("Stopped", l.settle(w, outcomes...).Stopped, want)
		for i := range held {
			if i != 7 {
				l.wantState(held[i].ID, storage.Pending)
			}
		}
		l.wantState(held[7].ID, storage.Cancelled)
	}},
	{"S5.5 what ended before its worker heard of the wish stays what it is", func(t *testing.T, l *lab) {
		for _, to := range []storage.State{storage.Completed, storage.Failed, storage.Skipped, storage.Interrupted} {
			l.enqueue(l.row("a"))
			w := l.join()
			a := l.take(w)
			l.operate(l.order(storage.ActCancel, a.ID))
			if done := l.settle(w, outcome(a, to)); done.Stopped != nil {
				t.Errorf("%s: Stopped is %v", to, done.Stopped)
			}
			l.wantState(a.ID, to)
		}
	}},
	{"F1 F3 F6 the flow of a member that was stopped so is settled, and the next is claimed", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a", "c after a")
		f.enqueue()
		w := l.join()
		a := l.take(w)
		l.operate(l.order(storage.ActCancel, a.ID))
		done, err := l.store.Finish(t.Context(), storage.FinishRequest{
			Now: l.now, Worker: w, Outcomes: []storage.Outcome{failure(a, storage.Pending, "again")},
			Claim: &storage.ClaimRequest{Queues: []string{"default"}, Limit: 10},
		})
		l.must(err, "Finish")
		l.same("Stopped", done.Stopped, []bool{true})
		l.same("claimed", names(done.Claimed.Executions), []string{"c"})
		f.wantStates(states{"a": storage.Cancelled, "b": storage.Cancelled, "c": storage.Running})
		l.settle(w, outcome(done.Claimed.Executions[0], storage.Completed))
		f.wantOver(storage.Completed)
	}},
	{"Q9.20 S5.5 a hook goes back to pending whoever asked for its end", func(t *testing.T, l *lab) {
		l.enqueue(l.row("a"))
		w := l.join()
		held := l.take(w)
		o := outcome(held, storage.Completed)
		o.Hook = hookOf(held, storage.MethodAfter, w)
		l.settle(w, o)
		l.operate(l.order(storage.ActCancel, o.Hook.ID))
		back := outcome(l.get(o.Hook.ID), storage.Pending)
		back.Excuse = true
		if done := l.settle(w, back); done.Stopped != nil {
			t.Errorf("Stopped is %v", done.Stopped)
		}
		l.wantState(o.Hook.ID, storage.Pending)
	}},
}
