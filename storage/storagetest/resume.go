package storagetest

import (
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

func (d *draft) resuming() storage.Order {
	o := d.l.order(storage.ActResumeFlow)
	o.Flow = d.flow.ID
	return o
}

func (l *lab) resumeFlow(d *draft) []storage.Execution {
	l.t.Helper()
	after := l.operate(d.resuming())
	for _, e := range after { // they are delivered anew
		delete(d.held, e.ID)
	}
	Check(l.t, l.store)
	return after
}

var resumeRules = []rule{
	{"Q5.29 resuming takes back what failed and what was cancelled because of it, as a new generation; then fires at most once, the others again", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a", "c needs b", "allowed")
		f.member("allowed").AllowedToFail = true
		f.on(storage.RoleThen, "report")
		f.on(storage.RoleCatch, "alarm")
		f.on(storage.RoleFinally, "tidy")
		f.enqueue()
		f.end("allowed", storage.Failed)
		f.end("a", storage.Completed)
		f.end("b", storage.Failed)
		f.run(storage.RoleCatch, "alarm", storage.Completed)
		f.run(storage.RoleFinally, "tidy", storage.Completed)
		l.tick(time.Second)
		after := l.resumeFlow(f)
		l.same("taken back", names(after), []string{"b", "c"})
		got := f.wantOpen()
		if got.Generation != 2 || got.Failed != 0 || got.Cancelled != 0 || got.FailedAllowed != 1 || got.Reason != "" || !got.FailedID.IsZero() {
			t.Errorf("the open flow is %+v; want generation 2 without failures", got)
		}
		if b, c := f.get("b"), f.get("c"); b.Waits != 0 || !b.DueAt.Equal(l.now) || c.Waits != 1 || c.ForNow || b.Errors != 0 {
			t.Errorf("b waits for %d, due %v; c for %d", b.Waits, b.DueAt, c.Waits)
		}
		f.end("b", storage.Failed)
		f.wantFired(map[string]int{"catch alarm": 2, "finally tidy": 1})
		l.tick(time.Second)
		l.resumeFlow(f)
		f.end("b", storage.Completed)
		f.end("c", storage.Completed)
		f.wantOver(storage.Completed)
		l.claimAll(f)
		f.wantFired(map[string]int{"catch alarm": 2, "then report": 1, "finally tidy": 2})
		if got := f.now(); got.Generation != 3 {
			t.Errorf("generation %d, want 3", got.Generation)
		}
	}},
	{"Q6.5 retrying the failed step of a chain opens the steps behind it again; catch fires again if it fails again", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a", "c needs b")
		f.flow.Kind = storage.FlowChain
		f.on(storage.RoleCatch, "alarm")
		f.enqueue()
		f.end("a", storage.Completed)
		f.end("b", storage.Failed)
		l.tick(time.Second)
		l.operate(l.order(storage.ActRetry, f.id("b")))
		Check(t, l.store)
		f.wantStates(states{"a": storage.Completed, "b": storage.Pending, "c": storage.Pending, "catch alarm": storage.Pending})
		f.end("b", storage.Failed)
		f.wantFired(map[string]int{"catch alarm": 2})
		l.tick(time.Second)
		l.operate(l.order(storage.ActRetry, f.id("b")))
		f.end("b", storage.Completed)
		f.end("c", storage.Completed)
		f.wantOver(storage.Completed)
	}},
	{"Q5.29 a flow that a person cancelled is resumed by force alone", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a")
		f.enqueue()
		l.stop(f, storage.Cancelled)
		l.unchanged("the refused order", func() { l.refusedOrder(f.resuming()) })
		o := f.resuming()
		o.Force = true
		l.same("taken back", names(l.operate(o)), []string{"a", "b"})
		f.end("a", storage.Completed)
		f.end("b", storage.Completed)
		f.wantOver(storage.Completed)
	}},
	{"Q5.29 what a person cancelled in a flow that failed stays so, and what needed it; with force it comes back", func(t *testing.T, l *lab) {
		for _, force := range []bool{false, true} {
			f := l.draft(storage.PolicyContinue, "a", "b", "c needs b")
			f.enqueue()
			l.operate(l.order(storage.ActCancel, f.id("b")))
			f.end("a", storage.Failed)
			o := f.resuming()
			o.Force = force
			l.operate(o)
			Check(t, l.store)
			want := states{"a": storage.Pending, "b": storage.Cancelled, "c": storage.Cancelled}
			if force {
				want = states{"a": storage.Pending, "b": storage.Pending, "c": storage.Pending}
			}
			f.wantStates(want)
			f.end("a", storage.Completed)
			if force {
				f.end("b", storage.Completed)
				f.end("c", storage.Completed)
			}
		}
	}},
	{"Q5.29 a flow that was interrupted from outside is resumed; with an interrupted member a person decides first, or forces it", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a")
		f.enqueue()
		l.stop(f, storage.Interrupted)
		l.same("taken back", names(l.resumeFlow(f)), []string{"a", "b"})
		f.end("a", storage.Interrupted)
		l.unchanged("the refused order", func() { l.refusedOrder(f.resuming()) })
		o := f.resuming()
		o.Force = true
		l.operate(o)
		f.end("a", storage.Completed)
		f.end("b", storage.Completed)
		f.wantOver(storage.Completed)
	}},
	{"Q5.29 a flow that is open, completed, undone or unknown is not resumed", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyCompensate, "a", "b needs a")
		f.enqueue()
		refused := func(what string, o storage.Order) {
			t.Helper()
			l.unchanged(what, func() { l.refusedOrder(o) })
		}
		refused("an open flow", f.resuming())
		f.end("a", storage.Completed)
		f.end("b", storage.Failed)
		f.end("undo a", storage.Completed)
		refused("an undone flow", f.resuming())
		done := l.draft(storage.PolicyStop, "a")
		done.enqueue()
		done.end("a", storage.Completed)
		refused("a completed flow", done.resuming())
		o := done.resuming()
		o.Flow = l.id()
		refused("an unknown flow", o)
	}},
	{"Q5.29 Q4.15 a resumed member whose key is held makes the order one that changes nothing", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a")
		f.member("a").UniqueKey = "k"
		f.enqueue()
		f.end("a", storage.Failed)
		e := l.row("busy")
		e.UniqueKey, e.Queue = "k", "elsewhere"
		l.enqueue(e)
		l.unchanged("the refused order", func() { l.refusedOrder(f.resuming()) })
	}},
	{"Q5.29 Q6.5 resuming a nested flow opens those around it, with what was cancelled because of it", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "batch", "after needs batch")
		f.flow.Kind = storage.FlowChain
		f.on(storage.RoleFinally, "tidy")
		b := f.nest("batch", storage.FlowBatch, storage.PolicyStop, "x", "y", "z needs x")
		b.on(storage.RoleCatch, "alarm")
		f.enqueue()
		b.take("y")
		b.end("x", storage.Failed)
		b.end("y", storage.Completed)
		f.wantOver(storage.Failed)
		l.tick(time.Second)
		got := l.resumeFlow(b)
		l.same("taken back", names(got), []string{"batch", "after", "x", "z"}, sortedNames)
		if e := f.get("batch"); e.State != storage.Pending || e.Waits != 1 || !e.DueAt.IsZero() {
			t.Errorf("the row of the batch is %s, waits for %d, due %v; want pending, 1, never", e.State, e.Waits, e.DueAt)
		}
		if e := f.get("after"); e.Waits != 1 {
			t.Errorf("after waits for %d, want 1", e.Waits)
		}
		if b, f := b.wantOpen(), f.wantOpen(); b.Generation != 2 || f.Generation != 2 {
			t.Errorf("generations %d and %d, want 2 and 2", b.Generation, f.Generation)
		}
		b.end("x", storage.Completed)
		b.end("z", storage.Completed)
		b.wantOver(storage.Completed)
		f.end("after", storage.Completed)
		f.wantOver(storage.Completed)
	}},
	{"Q5.29 resuming the outer flow resumes the nested ones that fell with it, and those that were stopped", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "bad", "idle", "done", "busy")
		bad := f.nest("bad", storage.FlowChain, storage.PolicyStop, "x", "y needs x")
		idle := f.nest("idle", storage.FlowChain, storage.PolicyStop, "p", "q needs p")
		done := f.nest("done", storage.FlowChain, storage.PolicyStop, "d")
		busy := f.nest("busy", storage.FlowChain, storage.PolicyStop, "m")
		idle.member("p").Delay = time.Hour
		f.enqueue()
		done.end("d", storage.Completed)
		busy.take("m")
		bad.end("x", storage.Failed)
		busy.end("m", storage.Completed) // all it had to do; but it was stopped
		f.wantStates(states{"bad": storage.Failed, "idle": storage.Cancelled, "done": storage.Completed, "busy": storage.Cancelled})
		f.wantOver(storage.Failed)
		l.tick(2 * time.Hour)
		l.resumeFlow(f)
		f.wantStates(states{"bad": storage.Pending, "idle": storage.Pending, "done": storage.Completed, "busy": storage.Completed})
		bad.end("x", storage.Completed)
		bad.end("y", storage.Completed)
		idle.end("p", storage.Completed)
		idle.end("q", storage.Completed)
		f.wantOver(storage.Completed)
	}},
	{"Q5.29 a failed member of a batch whose failures are allowed is retried while others run, in a new generation", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyContinue, "a", "b")
		f.flow.Kind = storage.FlowBatch
		f.on(storage.RoleCatch, "alarm")
		f.on(storage.RoleThen, "report")
		f.enqueue()
		f.take("b")
		f.end("a", storage.Failed)
		l.operate(l.order(storage.ActRetry, f.id("a")))
		Check(t, l.store)
		if got := f.wantOpen(); got.Failed != 0 || got.Generation != 2 {
			t.Errorf("%d failed in generation %d; want 0, 2", got.Failed, got.Generation)
		}
		f.end("b", storage.Completed)
		f.wantOpen()
		l.claimAll(f)
		f.wantOver(storage.Completed)
		f.wantFired(map[string]int{"catch alarm": 1, "then report": 1})
	}},
	{"Q5.29 retrying the row of a nested flow resumes that flow", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyContinue, "chain", "b")
		c := f.nest("chain", storage.FlowChain, storage.PolicyStop, "x", "y needs x")
		f.enqueue()
		f.take("b")
		c.end("x", storage.Failed)
		f.end("b", storage.Completed)
		l.operate(l.order(storage.ActRetry, f.id("chain"), c.id("x")))
		Check(t, l.store)
		if f, c := f.wantOpen(), c.wantOpen(); f.Generation != 2 || c.Generation != 2 {
			t.Errorf("generations %d and %d, want 2 and 2", f.Generation, c.Generation)
		}
		c.end("x", storage.Completed)
		c.end("y", storage.Completed)
		f.wantOver(storage.Completed)
	}},
}

// claimAll completes whatever is due until nothing is.
func (l *lab) claimAll(d *draft) {
	l.t.Helper()
	for {
		for _, e := range l.claim(d.worker) {
			d.held[e.ID] = e
		}
		if len(d.held) == 0 {
			return
		}
		for _, e := range d.held {
			d.finish(outcome(e, storage.Completed))
		}
	}
}
