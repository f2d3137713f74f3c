package storagetest

import (
	"context"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

var callbackRules = []rule{
	{"Q5.17 Q5.19 Q5.22 then is written by the call that ends the flow, finally by the one that ends then, however that ends", func(t *testing.T, l *lab) {
		for _, end := range []storage.State{storage.Completed, storage.Failed, storage.Skipped, storage.Cancelled} {
			f := l.draft(storage.PolicyStop, "a", "b needs a")
			f.on(storage.RoleThen, "report")
			f.on(storage.RoleFinally, "tidy")
			f.on(storage.RoleCatch, "alarm")
			f.enqueue()
			f.end("a", storage.Completed)
			f.wantFired(map[string]int{})
			l.tick(time.Second)
			got := f.end("b", storage.Completed)
			f.wantOver(storage.Completed)
			if got.CallbacksOpen != 1 || got.Total != 2 || got.Completed != 2 {
				t.Errorf("%d callbacks open, %d of %d completed; want 1, 2 of 2", got.CallbacksOpen, got.Completed, got.Total)
			}
			f.wantFired(map[string]int{"then report": 1})
			e := f.callback(storage.RoleThen, "report")
			if e.State != storage.Pending || e.FlowID != f.flow.ID || !e.DueAt.Equal(l.now) || !e.CreatedAt.Equal(l.now) {
				t.Errorf("the callback is %s in flow %s, due %v, created %v; want pending, %s, %v", e.State, e.FlowID, e.DueAt, e.CreatedAt, f.flow.ID, l.now)
			}
			over := l.now
			l.tick(time.Second)
			got = f.run(storage.RoleThen, "report", end)
			f.wantFired(map[string]int{"then report": 1, "finally tidy": 1})
			f.run(storage.RoleFinally, "tidy", storage.Failed)
			now := f.now()
			got.Fired, now.Fired = 0, 0
			l.same("flow after its finally failed", now, got)
			if got.State != storage.Completed || !got.FinishedAt.Equal(over) || got.CallbacksOpen != 0 {
				t.Errorf("a %s callback leaves the flow %s, finished %v, %d open; want completed, %v, 0", end, got.State, got.FinishedAt, got.CallbacksOpen, over)
			}
		}
	}},
	{"Q5.18 Q5.24 catch fires at the first failure that is not allowed, once, with its member, under any policy; then never does", func(t *testing.T, l *lab) {
		for _, policy := range []storage.FlowPolicy{storage.PolicyStop, storage.PolicyContinue, storage.PolicyCompensate, storage.PolicyAtomic} {
			f := l.draft(policy, "allowed", "a", "b", "c")
			f.member("allowed").AllowedToFail = true
			for _, name := range []string{"allowed", "a", "b", "c"} {
				f.member(name).Undoable = false
			}
			f.on(storage.RoleThen, "report")
			f.on(storage.RoleCatch, "alarm")
			f.on(storage.RoleFinally, "tidy")
			f.enqueue()
			f.end("allowed", storage.Failed)
			f.wantFired(map[string]int{})
			f.take("b")
			f.take("c")
			got := f.end("a", storage.Failed)
			f.wantFired(map[string]int{"catch alarm": 1})
			if e := f.callback(storage.RoleCatch, "alarm"); e.Undoes != f.id("a") || got.FailedID != f.id("a") {
				t.Errorf("%s: the callback is about %s, the flow about %s; want %s", policy, e.Undoes, got.FailedID, f.id("a"))
			}
			f.end("b", storage.Failed)
			f.end("c", storage.Completed)
			f.wantOver(storage.Failed)
			f.wantFired(map[string]int{"catch alarm": 1})
			f.run(storage.RoleCatch, "alarm", storage.Completed)
			f.wantFired(map[string]int{"catch alarm": 1, "finally tidy": 1})
		}
	}},
	{"Q5.17 Q5.32 an allowed failure and a skip keep then from nothing, a cancelled or interrupted member does", func(t *testing.T, l *lab) {
		for end, fires := range map[storage.State]bool{
			storage.Failed: true, storage.Skipped: true, storage.Completed: true, storage.Cancelled: false, storage.Interrupted: false,
		} {
			f := l.draft(storage.PolicyContinue, "a", "b")
			f.member("a").AllowedToFail = true
			f.on(storage.RoleThen, "report")
			f.enqueue()
			f.take("b")
			f.end("a", end)
			f.end("b", storage.Completed)
			if got := f.fired()["then report"] == 1; got != fires {
				t.Errorf("after a member that is %s then fires: %v, want %v", end, got, fires)
			}
		}
	}},
	{"Q5.23 a flow without members fires then and finally as it is enqueued", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop)
		f.on(storage.RoleThen, "report")
		f.on(storage.RoleFinally, "tidy")
		f.on(storage.RoleCatch, "alarm")
		f.enqueue()
		f.wantOver(storage.Completed)
		f.wantFired(map[string]int{"then report": 1})
		f.run(storage.RoleThen, "report", storage.Completed)
		f.run(storage.RoleFinally, "tidy", storage.Completed)
		f.wantFired(map[string]int{"then report": 1, "finally tidy": 1})
		l.unchanged("a repeated Enqueue", func() { l.send(f.request()) })
	}},
	{"Q5.23 so does one whose members are all duplicates", func(t *testing.T, l *lab) {
		busy := l.row("busy")
		busy.UniqueKey, busy.Queue = "k", "elsewhere"
		l.enqueue(busy)
		f := l.draft(storage.PolicyStop, "a")
		f.member("a").UniqueKey = "k"
		f.on(storage.RoleFinally, "tidy")
		f.enqueue()
		f.wantOver(storage.Completed)
		f.wantFired(map[string]int{"finally tidy": 1})
	}},
	{"Q5.19 several callbacks of a role run in their order, and finally waits for all of them", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a")
		f.on(storage.RoleThen, "one", "two", "three")
		f.on(storage.RoleFinally, "tidy")
		f.enqueue()
		f.end("a", storage.Completed)
		f.wantFired(map[string]int{"then one": 1, "then two": 1, "then three": 1})
		ends := []storage.State{storage.Completed, storage.Failed, storage.Completed}
		for i, name := range []string{"one", "two", "three"} {
			got := l.take(f.worker)
			if got.Name != name {
				t.Errorf("due is %s, want %s", got.Name, name)
			}
			f.held[got.ID] = got
			f.run(storage.RoleThen, name, ends[i])
		}
		f.run(storage.RoleFinally, "tidy", storage.Completed)
	}},
	{"Q5.20 progress fires after members ended, one at a time, and never after finally", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyContinue, "a", "b", "c", "d")
		f.on(storage.RoleProgress, "bar")
		f.on(storage.RoleFinally, "tidy")
		f.enqueue()
		f.take("a")
		f.end("a", storage.Completed)
		f.wantFired(map[string]int{"progress bar": 1})
		f.end("b", storage.Failed) // the first is still open
		f.end("c", storage.Completed)
		f.wantFired(map[string]int{"progress bar": 1})
		f.run(storage.RoleProgress, "bar", storage.Failed)
		f.wantFired(map[string]int{"progress bar": 2})
		l.tick(time.Second)
		f.run(storage.RoleProgress, "bar", storage.Completed)
		f.wantFired(map[string]int{"progress bar": 2})
		f.end("d", storage.Completed)
		f.wantOver(storage.Failed)
		f.wantFired(map[string]int{"progress bar": 3})
		l.tick(time.Second)
		f.run(storage.RoleProgress, "bar", storage.Completed)
		f.wantFired(map[string]int{"progress bar": 3, "finally tidy": 1})
		f.run(storage.RoleFinally, "tidy", storage.Completed)
		f.wantFired(map[string]int{"progress bar": 3, "finally tidy": 1})
	}},
	{"Q5.20 progress fires again for a member whose end was resolved", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a")
		f.on(storage.RoleProgress, "bar")
		f.enqueue()
		f.end("a", storage.Interrupted)
		f.run(storage.RoleProgress, "bar", storage.Completed)
		l.operate(l.order(storage.ActComplete, f.id("a")))
		Check(t, l.store)
		f.wantFired(map[string]int{"progress bar": 2})
	}},
	{"Q5.14 Q0.6 repeating the call that fired a callback fires it no more", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyContinue, "a", "b")
		f.on(storage.RoleCatch, "alarm")
		f.on(storage.RoleFinally, "tidy")
		f.enqueue()
		a, b := failure(f.take("a"), storage.Failed, "boom"), outcome(f.take("b"), storage.Completed)
		l.settle(f.worker, a)
		l.settle(f.worker, b)
		l.tick(time.Second)
		l.unchanged("a repeated Finish", func() { l.finish(f.worker, a, b) })
		f.wantFired(map[string]int{"catch alarm": 1})
	}},
	{"Q5.27 stopping a flow cancels no callback, and finally fires once the running members ended; then does not", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyContinue, "a", "b", "c")
		f.on(storage.RoleThen, "report")
		f.on(storage.RoleCatch, "alarm")
		f.on(storage.RoleFinally, "tidy")
		f.member("c").Delay = time.Hour
		f.enqueue()
		f.end("a", storage.Failed)
		f.take("b")
		l.stop(f, storage.Cancelled)
		if e := f.callback(storage.RoleCatch, "alarm"); e.State != storage.Pending && e.State != storage.Running {
			t.Errorf("the catch callback is %s", e.State)
		}
		f.end("b", storage.Completed)
		f.wantFired(map[string]int{"catch alarm": 1})
		f.run(storage.RoleCatch, "alarm", storage.Completed)
		f.wantFired(map[string]int{"catch alarm": 1, "finally tidy": 1})
	}},
	{"Q5.22 a callback may be a flow: it is expanded with it, and finally waits until that flow is over", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a")
		chain := l.draft(storage.PolicyStop, "x", "y needs x")
		stands := l.row("chain")
		chain.flow.Kind, chain.flow.ParentID = storage.FlowChain, stands.ID
		chain.on(storage.RoleFinally, "inner tidy")
		f.flow.Callbacks = []storage.Callback{{
			Role: storage.RoleThen, Flows: []storage.Flow{chain.flow}, Executions: append([]storage.Execution{stands}, chain.members...), Edges: chain.edges,
		}}
		f.on(storage.RoleFinally, "tidy")
		f.enqueue()
		f.end("a", storage.Completed)
		f.wantFired(map[string]int{"then chain": 1})
		row := f.callback(storage.RoleThen, "chain")
		if row.Waits != 1 || !row.DueAt.IsZero() {
			t.Errorf("the row that stands for the chain waits for %d, due %v; want 1, never", row.Waits, row.DueAt)
		}
		flows, err := l.store.Flows(t.Context(), storage.FlowFilter{Root: f.flow.ID})
		l.must(err, "Flows")
		inner := f.flow
		for _, g := range flows {
			if g.ParentID == row.ID {
				inner = g
			}
		}
		if len(flows) != 2 || inner.RootID != f.flow.ID || inner.Total != 2 || inner.ID == chain.flow.ID {
			t.Fatalf("the nest has the flows %+v, want the batch and a chain of two with an id of its own", flows)
		}
		for _, name := range []string{"x", "y"} {
			e := l.take(f.worker)
			if e.Name != name || e.FlowID != inner.ID || e.Kind != storage.Unlisted {
				t.Errorf("claimed %s (%s) of flow %s, want %s of %s", e.Name, e.Kind, e.FlowID, name, inner.ID)
			}
			l.settle(f.worker, outcome(e, storage.Completed))
			Check(t, l.store)
		}
		if got := l.get(row.ID); got.State != storage.Completed {
			t.Errorf("the row that stands for the chain is %s, want completed", got.State)
		}
		f.wantFired(map[string]int{"then chain": 1, "finally tidy": 1})
		l.same("due", names(l.claim(f.worker)), []string{"inner tidy", "tidy"}, sortedNames)
	}},
	{"Q5.22 a flow of callbacks that is empty, a callback without a role, or one with a unique key, is refused, and nothing is written", func(t *testing.T, l *lab) {
		keyed, inside := l.row("x"), l.row("x")
		keyed.UniqueKey, inside.UniqueKey, inside.FlowID = "k", "k", numberedID(98)
		for _, c := range []storage.Callback{
			{Role: storage.RoleThen, Executions: []storage.Execution{keyed}},
			{Role: storage.RoleThen, Flows: []storage.Flow{{ID: numberedID(98), ParentID: numberedID(99), Policy: storage.PolicyStop}}, Executions: []storage.Execution{inside}},
			{Role: "later", Executions: []storage.Execution{l.row("x")}},
			{Role: storage.RoleThen, Flows: []storage.Flow{{ID: l.id(), ParentID: numberedID(99), Policy: storage.PolicyStop}}},
		} {
			f := l.draft(storage.PolicyStop, "a")
			f.flow.Callbacks = []storage.Callback{c}
			l.unchanged("the refused call", func() {
				r := f.request()
				r.Now = l.now
				if _, err := l.store.Enqueue(t.Context(), r); err == nil {
					t.Error("the flow was written")
				}
			})
		}
	}},
	{"Q5.22 a callback that failed is retried without its flow, one that waits can be cancelled", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a")
		f.on(storage.RoleThen, "one", "two")
		f.on(storage.RoleFinally, "tidy")
		f.enqueue()
		f.end("a", storage.Completed)
		f.run(storage.RoleThen, "one", storage.Failed)
		l.operate(l.order(storage.ActRetry, f.callback(storage.RoleThen, "one").ID))
		Check(t, l.store)
		if got := f.wantOver(storage.Completed); got.CallbacksOpen != 2 || got.Generation != 1 {
			t.Errorf("%d callbacks open in generation %d; want 2, 1", got.CallbacksOpen, got.Generation)
		}
		l.operate(l.order(storage.ActCancel, f.callback(storage.RoleThen, "two").ID))
		f.run(storage.RoleThen, "one", storage.Completed)
		f.wantFired(map[string]int{"then one": 1, "then two": 1, "finally tidy": 1})
	}},
	{"Q5.22 a callback that is interrupted is over for its flow, and resolving it counts nothing twice", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a")
		f.on(storage.RoleThen, "one", "two")
		f.on(storage.RoleFinally, "tidy")
		f.enqueue()
		f.end("a", storage.Completed)
		f.run(storage.RoleThen, "one", storage.Interrupted)
		l.operate(l.order(storage.ActComplete, f.callback(storage.RoleThen, "one").ID))
		Check(t, l.store)
		if got := f.wantOver(storage.Completed); got.CallbacksOpen != 1 {
			t.Errorf("%d callbacks open, want 1", got.CallbacksOpen)
		}
		f.run(storage.RoleThen, "two", storage.Completed)
		f.wantFired(map[string]int{"then one": 1, "then two": 1, "finally tidy": 1})
	}},
	{"F4 Q5.22 a flow that a person ended as failed undoes nothing, nor does the end of its callbacks make it", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyCompensate, "a", "b")
		f.on(storage.RoleFinally, "tidy")
		f.enqueue()
		f.end("a", storage.Completed)
		f.end("b", storage.Interrupted)
		f.run(storage.RoleFinally, "tidy", storage.Completed)
		f.wantOver(storage.Interrupted)
		l.operate(l.order(storage.ActFail, f.id("b")))
		f.wantOver(storage.Failed)
		l.operate(l.order(storage.ActRetry, f.id("b")))
		f.end("b", storage.Interrupted)
		l.operate(l.order(storage.ActFail, f.id("b")))
		f.run(storage.RoleFinally, "tidy", storage.Completed)
		if got := f.wantOver(storage.Failed); got.Phase != storage.PhaseForward || got.UndoTotal != 0 {
			t.Errorf("the flow is in phase %s and undoes %d; want forward, 0", got.Phase, got.UndoTotal)
		}
	}},
	{"Q5.22 what a flow was enqueued with can be read, and a change of keys reaches it", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a")
		f.on(storage.RoleThen, "report")
		f.flow.Callbacks[0].Executions[0].Input = []byte("\x02\x01kold")
		f.flow.Callbacks[0].Executions[0].Tags = []string{"t"}
		f.enqueue()
		got, err := l.store.Callbacks(t.Context(), f.flow.ID)
		l.must(err, "Callbacks")
		l.same("callbacks", got, f.flow.Callbacks)
		old, err := storage.EncodeCallbacks(got)
		l.must(err, "encode")
		got[0].Executions[0].Input = []byte("\x02\x01knew")
		changed, err := storage.EncodeCallbacks(got)
		l.must(err, "encode")
		c := storage.Reseal{ID: f.flow.ID, Field: storage.FieldCallbacks, Old: old, New: changed}
		if n := l.reseal(c); n != 1 {
			t.Errorf("%d changes, want 1", n)
		}
		if n := l.reseal(c); n != 0 {
			t.Errorf("the repeat made %d changes, want none", n)
		}
		f.end("a", storage.Completed)
		if e := f.callback(storage.RoleThen, "report"); string(e.Input) != "\x02\x01knew" || len(e.Tags) != 1 {
			t.Errorf("the callback has input %q and tags %v", e.Input, e.Tags)
		}
		none, err := l.store.Callbacks(t.Context(), l.id())
		if err != nil || len(none) != 0 {
			t.Errorf("callbacks of an unknown flow: %v, %v", none, err)
		}
	}},
	{"Q5.14 Q0.6 whoever ends the last members at once, each callback fires once", callbackRace},
}

func callbackRace(t *testing.T, l *lab) {
	t.Helper()
	const flows, width = 8, 12
	var lines []string
	for i := range width {
		lines = append(lines, string(rune('a'+i)))
	}
	var drafts []*draft
	for i := range flows {
		d := l.draft(storage.PolicyContinue, lines...)
		d.on(storage.RoleThen, "report")
		d.on(storage.RoleCatch, "alarm")
		d.on(storage.RoleFinally, "tidy")
		if i%2 == 1 {
			for j := range d.members {
				d.members[j].Name = "bad"
			}
		}
		d.enqueue()
		drafts = append(drafts, d)
	}
	l.race(func(ctx context.Context, w storage.ID) error {
		for {
			got, err := l.store.Claim(ctx, storage.ClaimRequest{Now: l.now, Worker: w, Queues: []string{"default"}, Limit: 5})
			if err != nil || len(got.Executions) == 0 {
				return err
			}
			r := storage.FinishRequest{Now: l.now, Worker: w}
			for _, e := range got.Executions {
				if e.Name == "bad" {
					r.Outcomes = append(r.Outcomes, failure(e, storage.Failed, "boom"))
				} else {
					r.Outcomes = append(r.Outcomes, outcome(e, storage.Completed))
				}
			}
			if _, err := l.store.Finish(ctx, r); err != nil {
				return err
			}
		}
	})
	last := l.join()
	for got := l.claim(last); len(got) > 0; got = l.claim(last) {
		for _, e := range got {
			l.settle(last, outcome(e, storage.Completed))
		}
	}
	for i, d := range drafts {
		if i%2 == 1 {
			d.wantFired(map[string]int{"catch alarm": 1, "finally tidy": 1})
		} else {
			d.wantFired(map[string]int{"then report": 1, "finally tidy": 1})
		}
	}
}
