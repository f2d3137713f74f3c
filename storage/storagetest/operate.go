package storagetest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

var operateRules = []rule{
	{"Q1.19 Q1.3 Q1.13 Q10.23 retry takes a row back to pending: counters zeroed, no attempt counted, deadline anew", func(t *testing.T, l *lab) {
		a := l.row("a")
		a.RetryFor, a.UniqueKey = time.Hour, "k"
		l.enqueue(a)
		w := l.join()
		l.settle(w, failure(l.take(w), storage.Pending, "one"))
		o := failure(l.take(w), storage.Failed, "two")
		o.Losses = 3
		l.settle(w, o)
		l.tick(2 * time.Hour)
		after := l.operate(l.order(storage.ActRetry, a.ID))
		e := l.get(a.ID)
		l.same("answer against the row", after, []storage.Execution{e})
		if e.State != storage.Pending || !e.FinishedAt.IsZero() || !e.WorkerID.IsZero() || e.Queue != "default" {
			t.Errorf("%s, finished %v, worker %q, queue %s; want pending, never, none, default", e.State, e.FinishedAt, e.WorkerID, e.Queue)
		}
		if e.Errors != 0 || e.Losses != 0 || e.Attempts() != 0 || e.Delivery != 2 {
			t.Errorf("errors %d, losses %d, attempts %d, delivery %d; want 0, 0, 0, 2", e.Errors, e.Losses, e.Attempts(), e.Delivery)
		}
		if !e.DueAt.Equal(l.now) || !e.DeadlineAt.Equal(l.now.Add(time.Hour)) {
			t.Errorf("due %v, deadline %v; want %v, %v", e.DueAt, e.DeadlineAt, l.now, l.now.Add(time.Hour))
		}
		if log := l.attempts(a.ID); len(log) != 2 {
			t.Errorf("the retry left %d attempts in the log, want both", len(log))
		}
		l.settle(w, failure(l.take(w), storage.Pending, "three"))
		if log := l.attempts(a.ID); len(log) != 3 || log[2].Number != 1 || log[2].Delivery != 3 {
			t.Errorf("attempts %+v, want a third with number 1 at delivery 3", log)
		}
	}},
	{"S5.5 retry serves what is failed, cancelled or interrupted, and refuses the rest", func(t *testing.T, l *lab) {
		for _, s := range storage.States {
			e := l.reach(s)
			if s == storage.Failed || s == storage.Cancelled || s == storage.Interrupted {
				l.operate(l.order(storage.ActRetry, e.ID))
				l.wantState(e.ID, storage.Pending)
			} else {
				l.refusedMove(l.order(storage.ActRetry, e.ID), e.ID)
			}
		}
	}},
	{"S28.13 Q1.13 Q10.5 reschedule moves what is pending to another time, with its deadline", func(t *testing.T, l *lab) {
		a, b := l.row("a"), l.row("b")
		a.Delay, a.RetryFor, b.RetryFor = time.Hour, time.Hour, time.Hour
		l.enqueue(a, b)
		w := l.join()
		later := l.order(storage.ActReschedule, b.ID)
		later.Delay = 2 * time.Hour
		l.same("answer against the row", l.operate(later), []storage.Execution{l.get(b.ID)})
		if e := l.get(b.ID); !e.DueAt.Equal(l.now.Add(2*time.Hour)) || !e.DeadlineAt.Equal(l.now.Add(3*time.Hour)) {
			t.Errorf("due %v, deadline %v; want two and three hours after %v", e.DueAt, e.DeadlineAt, l.now)
		}
		l.same("claimed too early", names(l.claim(w)), []string{})
		l.tick(time.Minute)
		sooner := l.order(storage.ActReschedule, a.ID)
		sooner.Delay = -time.Hour // as much as at once
		l.operate(sooner)
		held := l.take(w)
		l.same("claimed", held.Name, "a")
		if !held.DueAt.Equal(l.now) || !held.DeadlineAt.Equal(l.now.Add(time.Hour)) {
			t.Errorf("due %v, deadline %v; want %v and an hour later", held.DueAt, held.DeadlineAt, l.now)
		}
		l.tick(2 * time.Hour)
		l.same("claimed in time", names(l.claim(w)), []string{"b"})
	}},
	{"S28.13 S5.5 Q6.7 reschedule refuses what is not pending, and what waits for others", func(t *testing.T, l *lab) {
		for _, s := range storage.States {
			if e := l.reach(s); s != storage.Pending {
				l.refusedMove(l.order(storage.ActReschedule, e.ID), e.ID)
			}
		}
		f := l.draft(storage.PolicyStop, "first", "second needs first")
		f.enqueue()
		l.unchanged("the refused order", func() {
			if _, err := l.store.Operate(t.Context(), l.order(storage.ActReschedule, f.id("second"))); err == nil || !strings.Contains(err.Error(), "waits for others") {
				t.Errorf("got error %v, want one that says what it waits for", err)
			}
		})
	}},
	{"S5.7 a retry never lowers delivery, so the worker of before stays fenced off", func(t *testing.T, l *lab) {
		a := l.row("a")
		l.enqueue(a)
		w := l.join()
		first := l.take(w)
		l.settle(w, outcome(first, storage.Failed))
		l.operate(l.order(storage.ActRetry, a.ID))
		if second := l.take(w); second.Delivery != 2 || second.Attempts() != 1 {
			t.Errorf("delivery %d, attempts %d; want 2, 1", second.Delivery, second.Attempts())
		}
		l.same("Applied", l.finish(w, outcome(first, storage.Completed)).Applied, []bool{false})
	}},
	{"Q4.15 retry takes the unique key again, or is refused with its holder", func(t *testing.T, l *lab) {
		w := l.join()
		a, b, c := l.row("a"), l.row("a"), l.row("a")
		a.UniqueKey, b.UniqueKey, c.UniqueKey = "k", "k", "k"
		l.enqueue(a)
		l.settle(w, outcome(l.take(w), storage.Failed))
		l.enqueue(b)
		l.unchanged("the refused retry", func() {
			_, err := l.store.Operate(t.Context(), l.order(storage.ActRetry, a.ID))
			duplicate, ok := errors.AsType[*storage.DuplicateError](err)
			if !ok {
				t.Fatalf("got error %v, want a *DuplicateError", err)
			}
			l.same("error", *duplicate, storage.DuplicateError{Name: "a", Key: "k", HolderID: b.ID})
		})
		l.settle(w, outcome(l.take(w), storage.Failed))
		l.operate(l.order(storage.ActRetry, a.ID))
		l.same("a row with the key of the retried one", l.enqueue(c), []storage.Receipt{{ID: c.ID, Duplicate: true, HolderID: a.ID}})
		l.unchanged("a retry whose key is held", func() {
			l.refusedOrder(l.order(storage.ActRetry, b.ID))
		})
	}},
	{"Q4.15 one order that retries two rows with the same key is refused whole", func(t *testing.T, l *lab) {
		w := l.join()
		a, b := l.row("a"), l.row("a")
		a.UniqueKey, b.UniqueKey = "k", "k"
		for _, e := range []storage.Execution{a, b} {
			l.enqueue(e)
			l.settle(w, outcome(l.take(w), storage.Failed))
		}
		l.unchanged("the refused retry", func() {
			_, err := l.store.Operate(t.Context(), l.order(storage.ActRetry, a.ID, b.ID))
			if _, ok := errors.AsType[*storage.DuplicateError](err); !ok {
				t.Errorf("got error %v, want a *DuplicateError", err)
			}
		})
	}},
	{"Q10.23 retry may move rows to a queue, a private one with its home", func(t *testing.T, l *lab) {
		w := l.join()
		a, b := l.reach(storage.Failed), l.reach(storage.Failed)
		o := l.order(storage.ActRetry, a.ID)
		o.Queue, o.Home = storage.PrivateQueue+"run", w
		l.operate(o)
		if e := l.get(a.ID); e.Queue != o.Queue || e.WorkerID != w {
			t.Errorf("queue %s, home %q; want %s, %s", e.Queue, e.WorkerID, o.Queue, w)
		}
		l.same("claimed from the private queue", names(l.claim(w, o.Queue)), []string{a.Name})
		o = l.order(storage.ActRetry, b.ID)
		o.Queue = "low"
		l.operate(o)
		if e := l.get(b.ID); e.Queue != "low" || !e.WorkerID.IsZero() {
			t.Errorf("queue %s, home %q; want low, none", e.Queue, e.WorkerID)
		}
	}},
	{"S5.5 cancel ends a pending row with the order's reason", func(t *testing.T, l *lab) {
		a, b := l.row("a"), l.row("b")
		a.UniqueKey, b.Delay = "k", time.Hour
		l.enqueue(a, b)
		l.tick(time.Second)
		after := l.operate(l.order(storage.ActCancel, a.ID, b.ID))
		l.same("answer", ids(after), []storage.ID{a.ID, b.ID})
		for _, id := range []storage.ID{a.ID, b.ID} {
			e := l.wantState(id, storage.Cancelled)
			if e.Reason != "because" || !e.FinishedAt.Equal(l.now) || !e.StartedAt.IsZero() {
				t.Errorf("%s: reason %q, finished %v, started %v; want because, %v, never", e.Name, e.Reason, e.FinishedAt, e.StartedAt, l.now)
			}
		}
		if got := l.claim(l.join()); len(got) != 0 {
			t.Errorf("claimed %v", names(got))
		}
		again := l.row("a")
		again.UniqueKey = "k"
		if got := l.enqueue(again); got[0].Duplicate {
			t.Errorf("the cancelled row still holds its key: %+v", got)
		}
	}},
	{"S5.5 Q1.37 a parked row that is cancelled is parked no more", func(t *testing.T, l *lab) {
		l.enqueue(l.row("a"))
		w := l.join()
		o := outcome(l.take(w), storage.Pending)
		o.Park, o.Excuse = true, true
		l.settle(w, o)
		l.operate(l.order(storage.ActCancel, o.ID))
		if e := l.wantState(o.ID, storage.Cancelled); e.Parked {
			t.Error("a row that is over is parked")
		}
	}},
	{"S5.5 cancel of a running row leaves it running and is told to its worker by every Renew until it ends", func(t *testing.T, l *lab) {
		l.enqueue(l.row("a"), l.row("b"))
		w, other := l.join(), l.join()
		held := byName(l.claim(w))
		a := held["a"]
		after := l.operate(l.order(storage.ActCancel, a.ID))
		if after[0].State != storage.Running {
			t.Errorf("the answer says %s, want running", after[0].State)
		}
		for range 2 {
			l.same("told to the worker", l.renew(w).Cancelled, []storage.ID{a.ID})
		}
		if got := l.renew(other).Cancelled; len(got) != 0 {
			t.Errorf("another worker was told %v", got)
		}
		o := outcome(a, storage.Cancelled)
		o.Reason = "asked to"
		l.settle(w, o)
		if got := l.renew(w).Cancelled; len(got) != 0 {
			t.Errorf("told %v after the end", got)
		}
	}},
	{"Q2.16 a request to stop outlives the worker it was meant for", func(t *testing.T, l *lab) {
		a := l.row("a")
		l.enqueue(a)
		w, heir := l.join(), l.join()
		l.take(w)
		l.operate(l.order(storage.ActCancel, a.ID))
		got := l.rescue(heir, w)
		l.same("told to the rescuer", l.renew(heir).Cancelled, []storage.ID{a.ID})
		l.settle(heir, outcome(got[0], storage.Pending))
		l.wantState(a.ID, storage.Cancelled)
	}},
	{"S5.5 cancel refuses what is over", func(t *testing.T, l *lab) {
		for _, s := range storage.States {
			if s.Over() {
				e := l.reach(s)
				l.refusedMove(l.order(storage.ActCancel, e.ID), e.ID)
			}
		}
	}},
	{"F1 F3 cancel of a pending member settles its flow", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a", "c after a", "d needs b")
		f.enqueue()
		l.operate(l.order(storage.ActCancel, f.id("a")))
		f.wantStates(states{"a": storage.Cancelled, "b": storage.Cancelled, "c": storage.Pending, "d": storage.Cancelled})
		f.end("c", storage.Completed)
		if got := f.wantOver(storage.Completed); got.Cancelled != 3 {
			t.Errorf("%d cancelled, want 3", got.Cancelled)
		}
	}},
	{"F1 cancel of a member that still waits for others settles what waits for it", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a", "c needs b", "d after b", "d needs a")
		f.enqueue()
		l.operate(l.order(storage.ActCancel, f.id("b")))
		f.wantStates(states{"a": storage.Pending, "b": storage.Cancelled, "c": storage.Cancelled, "d": storage.Pending})
		f.end("a", storage.Completed)
		f.end("d", storage.Completed)
		f.wantOver(storage.Completed)
	}},
	{"S5.5 a person resolves an interrupted row as completed or failed", func(t *testing.T, l *lab) {
		for act, want := range map[storage.Action]storage.State{storage.ActComplete: storage.Completed, storage.ActFail: storage.Failed} {
			e := l.reach(storage.Interrupted)
			after := l.operate(l.order(act, e.ID))
			if len(after) != 1 || after[0].State != want {
				t.Errorf("%s: answer %+v, want one row that is %s", act, after, want)
			}
			if got := l.wantState(e.ID, want); got.FinishedAt.IsZero() {
				t.Errorf("%s: no finished time", act)
			}
			for _, s := range storage.States {
				if s != storage.Interrupted {
					other := l.reach(s)
					l.refusedMove(l.order(act, other.ID), other.ID)
				}
			}
		}
	}},
	{"F1 F6 resolving an interrupted member moves it to its new counter and the flow to its new state", func(t *testing.T, l *lab) {
		for act, want := range map[storage.Action]storage.State{storage.ActComplete: storage.Completed, storage.ActFail: storage.Failed} {
			f := l.draft(storage.PolicyStop, "a", "b needs a")
			f.enqueue()
			f.end("a", storage.Interrupted)
			f.wantOver(storage.Interrupted)
			l.operate(l.order(act, f.id("a")))
			if got := f.wantOver(want); got.Interrupted != 0 || got.Open() != 0 {
				t.Errorf("%s: %d interrupted, %d open; want 0, 0", act, got.Interrupted, got.Open())
			}
		}
	}},
	{"F4 a failure that a person establishes undoes nothing by itself", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyCompensate, "a", "b needs a")
		f.enqueue()
		f.end("a", storage.Completed)
		f.end("b", storage.Interrupted)
		l.operate(l.order(storage.ActFail, f.id("b")))
		f.wantStates(states{"a": storage.Completed, "b": storage.Failed})
		if got := f.wantOver(storage.Failed); got.Phase != storage.PhaseForward || got.UndoTotal != 0 {
			t.Errorf("phase %s with %d undo members; want forward with none", got.Phase, got.UndoTotal)
		}
	}},
	{"F5 an interrupted undo that is resolved as completed marks its target", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyCompensate, "a", "b needs a")
		f.enqueue()
		f.end("a", storage.Completed)
		f.end("b", storage.Failed)
		f.end("undo a", storage.Interrupted)
		f.wantOver(storage.Failed)
		l.operate(l.order(storage.ActComplete, f.id("undo a")))
		if e := f.get("a"); e.State != storage.RolledBack || e.UndoError != "" {
			t.Errorf("a is %s with undo error %q; want rolled_back without", e.State, e.UndoError)
		}
		if got := f.wantOver(storage.Failed); got.UndoCompleted != 1 || got.UndoFailed != 0 {
			t.Errorf("%d undone, %d undo failed; want 1, 0", got.UndoCompleted, got.UndoFailed)
		}
	}},
	{"F7 Q5.29 retrying a member of a flow that is over re-opens the flow for its new driver", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a", "c needs b")
		f.enqueue()
		f.end("a", storage.Completed)
		f.end("b", storage.Failed)
		f.wantOver(storage.Failed)
		home := l.join()
		o := l.order(storage.ActRetry, f.id("b"), f.id("c"))
		o.Home = home
		l.operate(o)
		got := f.wantOpen()
		if got.Failed != 0 || got.Cancelled != 0 || got.Open() != 2 || got.WorkerID != home {
			t.Errorf("%d failed, %d cancelled, %d open, driven by %s; want 0, 0, 2, %s", got.Failed, got.Cancelled, got.Open(), got.WorkerID, home)
		}
		Check(t, l.store)
		f.end("b", storage.Completed)
		f.end("c", storage.Completed)
		f.wantOver(storage.Completed)
	}},
	{"F7 Q5.29 a stopped flow that is re-opened ends by what happens then", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a")
		f.enqueue()
		l.stop(f, storage.Cancelled)
		f.wantOver(storage.Cancelled)
		l.operate(l.order(storage.ActRetry, f.id("a"), f.id("b")))
		if got := f.wantOpen(); got.Reason != "" || got.StopState != "" {
			t.Errorf("the open flow has reason %q and stop state %q, want neither", got.Reason, got.StopState)
		}
		f.end("a", storage.Completed)
		f.end("b", storage.Completed)
		f.wantOver(storage.Completed)
	}},
	{"F7 Q6.5 a retried line waits in order again", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a", "c after b")
		f.enqueue()
		f.end("a", storage.Failed)
		l.tick(time.Second)
		l.operate(l.order(storage.ActRetry, f.id("c"), f.id("a"), f.id("b")))
		for name, waits := range map[string]int{"a": 0, "b": 1, "c": 1} {
			if e := f.get(name); e.Waits != waits || e.DueAt.IsZero() != (waits > 0) {
				t.Errorf("%s waits for %d, due %v; want %d open edges", name, e.Waits, e.DueAt, waits)
			}
		}
		for _, name := range []string{"a", "b", "c"} {
			f.end(name, storage.Completed)
		}
		f.wantOver(storage.Completed)
	}},
	{"F7 Q6.5 a member retried without those before it waits for nobody", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a", "c after a")
		f.enqueue()
		f.end("a", storage.Failed)
		l.operate(l.order(storage.ActRetry, f.id("b"), f.id("c")))
		f.end("b", storage.Completed)
		f.end("c", storage.Completed)
		f.wantOver(storage.Failed)
	}},
	{"F7 a retried member that fails again stops the flow again", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a")
		f.enqueue()
		f.end("a", storage.Failed)
		l.operate(l.order(storage.ActRetry, f.id("a"), f.id("b")))
		f.end("a", storage.Failed)
		f.wantStates(states{"a": storage.Failed, "b": storage.Cancelled})
		if got := f.wantOver(storage.Failed); got.Failed != 1 || got.Cancelled != 1 {
			t.Errorf("%d failed, %d cancelled; want 1, 1", got.Failed, got.Cancelled)
		}
	}},
	{"F7 F4 a retried compensating flow that fails again compensates", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyCompensate, "a", "b needs a")
		f.enqueue()
		f.end("a", storage.Failed)
		f.wantOver(storage.Failed)
		l.operate(l.order(storage.ActRetry, f.id("a"), f.id("b")))
		f.end("a", storage.Completed)
		f.end("b", storage.Failed)
		f.end("undo a", storage.Completed)
		f.wantOver(storage.Failed)
	}},
	{"F7 F5 a failed undo that is retried and completes rolls its target back after all", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyCompensate, "a", "b needs a")
		f.enqueue()
		f.end("a", storage.Completed)
		f.end("b", storage.Failed)
		f.end("undo a", storage.Failed)
		f.wantOver(storage.Failed)
		l.operate(l.order(storage.ActRetry, f.id("undo a")))
		if got := f.wantOpen(); got.UndoFailed != 0 || got.UndoOpen() != 1 {
			t.Errorf("%d undo failed, %d undo open; want 0, 1", got.UndoFailed, got.UndoOpen())
		}
		f.end("undo a", storage.Completed)
		if e := f.get("a"); e.State != storage.RolledBack || e.UndoError != "" {
			t.Errorf("a is %s with undo error %q; want rolled_back without", e.State, e.UndoError)
		}
		f.wantOver(storage.Failed)
	}},
	{"F7 while a flow is open its members are not retried", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyContinue, "a", "b")
		f.enqueue()
		f.end("a", storage.Failed)
		l.unchanged("the refused retry", func() { l.refusedOrder(l.order(storage.ActRetry, f.id("a"))) })
		f.end("b", storage.Completed)
		l.operate(l.order(storage.ActRetry, f.id("a")))
		f.end("a", storage.Completed)
		f.wantOver(storage.Completed)
	}},
	{"S5.5 an unknown id or one illegal state makes an order change nothing at all", func(t *testing.T, l *lab) {
		fine, over := l.reach(storage.Pending), l.reach(storage.Completed)
		l.unchanged("an order with an unknown id", func() {
			_, err := l.store.Operate(t.Context(), l.order(storage.ActCancel, fine.ID, l.id()))
			if !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("got error %v, want ErrNotFound", err)
			}
		})
		l.refusedMove(l.order(storage.ActCancel, fine.ID, over.ID), over.ID)
		l.unchanged("an unknown action", func() { l.refusedOrder(l.order("explode", fine.ID)) })
	}},
	{"S34.26 an order leaves one audit entry with who, why and how many", func(t *testing.T, l *lab) {
		a, b := l.reach(storage.Pending), l.reach(storage.Pending)
		l.tick(time.Second)
		l.operate(l.order(storage.ActCancel, a.ID, b.ID))
		l.tick(time.Second)
		l.operate(l.order(storage.ActRetry, b.ID))
		got, err := l.store.Audit(t.Context(), storage.AuditFilter{})
		l.must(err, "Audit")
		if len(got) != 2 {
			t.Fatalf("%d audit entries %+v, want 2", len(got), got)
		}
		for i, want := range []storage.AuditEntry{
			{At: l.now, Actor: "grace@lab", Action: "retry", Count: 1, Reason: "because"},
			{At: l.now.Add(-time.Second), Actor: "grace@lab", Action: "cancel", Count: 2, Reason: "because"},
		} {
			if got[i].ID.IsZero() {
				t.Errorf("entry %+v has no id", got[i])
			}
			want.ID, want.Target = got[i].ID, got[i].Target
			l.same("entry, newest first", got[i], want)
		}
		for target, want := range map[string]int{a.ID.String(): 1, b.ID.String(): 2, l.id().String(): 0} {
			found, err := l.store.Audit(t.Context(), storage.AuditFilter{Target: target})
			l.must(err, "Audit")
			if len(found) != want {
				t.Errorf("%d entries concern %s, want %d", len(found), target, want)
			}
		}
		limited, err := l.store.Audit(t.Context(), storage.AuditFilter{Limit: 1})
		l.must(err, "Audit")
		if len(limited) != 1 || limited[0].Action != "retry" {
			t.Errorf("with limit 1: %+v, want the newest", limited)
		}
	}},
	{"S26.4 S34.26 unlock takes a lock from its holder and is audited", func(t *testing.T, l *lab) {
		w, other := l.join(), l.join()
		l.lock("run", w)
		o := l.order(storage.ActUnlock)
		o.Lock = "run"
		l.operate(o)
		l.lock("run", other)
		l.unlock("run", w)
		l.refused("run", w)
		got, err := l.store.Audit(t.Context(), storage.AuditFilter{Target: "run"})
		l.must(err, "Audit")
		if len(got) != 1 || got[0].Action != string(storage.ActUnlock) || got[0].Actor != "grace@lab" {
			t.Errorf("audit %+v, want one unlock by grace@lab", got)
		}
	}},
	{"S26.4 unlock of a lock nobody holds is ErrNotFound", func(t *testing.T, l *lab) {
		o := l.order(storage.ActUnlock)
		o.Lock = "run"
		l.unchanged("the refused unlock", func() {
			if _, err := l.store.Operate(t.Context(), o); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("got error %v, want ErrNotFound", err)
			}
		})
	}},
}

// reach makes a row of its own that stands in the state.
func (l *lab) reach(s storage.State) storage.Execution {
	l.t.Helper()
	e := l.row("row-" + strings.ReplaceAll(string(s), "_", "-"))
	e.Queue, e.Input = "reach-"+e.ID.String(), []byte("\x01\x00{}")
	l.enqueue(e)
	if s == storage.Pending {
		return l.get(e.ID)
	}
	w := l.join()
	held := l.claim(w, e.Queue)[0]
	switch s {
	case storage.Running, storage.Pending:
	case storage.RolledBack:
		l.settle(w, outcome(held, storage.Completed))
		u := held.Undo()
		u.ID, u.Queue = l.id(), e.Queue
		l.enqueue(u)
		l.settle(w, outcome(l.claim(w, e.Queue)[0], storage.Completed))
	case storage.Completed, storage.Failed, storage.Skipped, storage.Cancelled, storage.Interrupted:
		l.settle(w, outcome(held, s))
	}
	return l.wantState(e.ID, s)
}

// refusedMove expects a *TransitionError about one row, and nothing written.
func (l *lab) refusedMove(o storage.Order, id storage.ID) {
	l.t.Helper()
	l.unchanged("the refused "+string(o.Action), func() {
		l.t.Helper()
		_, err := l.store.Operate(l.t.Context(), o)
		refused, ok := errors.AsType[*storage.TransitionError](err)
		if !ok {
			l.t.Errorf("%s of a row that is %s: got error %v, want a *TransitionError", o.Action, l.get(id).State, err)
		} else if e := l.get(id); refused.ID != id || refused.From != e.State || refused.Name != e.Name {
			l.t.Errorf("%s: error %+v, want it to name %s, which is %s", o.Action, refused, e.Name, e.State)
		}
	})
}

// refusedOrder expects an error, whichever.
func (l *lab) refusedOrder(o storage.Order) {
	l.t.Helper()
	if _, err := l.store.Operate(l.t.Context(), o); err == nil {
		l.t.Errorf("%s of %v was carried out", o.Action, o.IDs)
	}
}
