package storagetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

var undoRules = []rule{
	{"F4 F5 S10.1 S10.9 a failed compensating flow undoes what completed, newest first, one after the other", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyCompensate, "a", "b needs a", "c needs b", "d needs c")
		f.enqueue()
		for _, name := range []string{"a", "b"} {
			l.tick(time.Second)
			f.end(name, storage.Completed)
		}
		completed := f.get("b").FinishedAt
		l.tick(time.Second)
		got := f.end("c", storage.Failed)
		if got.Over() || got.Phase != storage.PhaseUndo || got.UndoTotal != 2 || got.UndoOpen() != 2 {
			t.Errorf("over %v, phase %s, %d undo members, %d open; want open, undo, 2, 2", got.Over(), got.Phase, got.UndoTotal, got.UndoOpen())
		}
		l.same("claimable", names(l.claim(f.worker)), []string{"b"})
		f.held[f.id("undo b")] = f.get("undo b")
		l.tick(time.Second)
		f.end("undo b", storage.Completed)
		if e := f.get("b"); e.State != storage.RolledBack || !e.FinishedAt.Equal(completed) {
			t.Errorf("b is %s, finished %v; want rolled_back, and still %v", e.State, e.FinishedAt, completed)
		}
		f.wantOpen()
		l.tick(time.Second)
		f.end("undo a", storage.Completed)
		f.wantStates(states{
			"a": storage.RolledBack, "b": storage.RolledBack, "c": storage.Failed, "d": storage.Cancelled,
			"undo a": storage.Completed, "undo b": storage.Completed,
		})
		if got := f.wantOver(storage.Failed); got.UndoCompleted != 2 || got.Completed != 2 {
			t.Errorf("%d undone, %d completed; want 2, 2", got.UndoCompleted, got.Completed)
		}
	}},
	{"F4 S10.1 the order is that of actual completion, and of position at equal instants", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyCompensate, "a", "b", "c", "d", "fails")
		f.enqueue()
		for _, name := range []string{"c", "a"} {
			l.tick(time.Second)
			f.end(name, storage.Completed)
		}
		l.tick(time.Second)
		b, d := f.take("b"), f.take("d")
		l.settle(f.worker, outcome(b, storage.Completed), outcome(d, storage.Completed))
		f.end("fails", storage.Failed)
		var order []string
		for range 4 {
			e := l.take(f.worker)
			order = append(order, e.Name)
			l.settle(f.worker, outcome(e, storage.Completed))
		}
		l.same("order of undoing", order, []string{"d", "b", "a", "c"})
		f.wantOver(storage.Failed)
	}},
	{"F4 S10.7 an undo member has the input and the result of its target, and its identity", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyCompensate, "op", "fails needs op")
		op := f.member("op")
		op.Kind, op.UniqueKey, op.OnLoss, op.Queue, op.Priority = storage.Ordered, storage.OrderedKey("op"), storage.LossInterrupt, "ops", 1
		op.Input, op.Policy, op.Tags, op.Actor, op.Checksum = []byte("in"), []byte("policy"), []string{"t"}, "ada@lab", "sum"
		f.enqueue()
		held := l.claim(f.worker, "ops")[0]
		o := outcome(held, storage.Completed)
		o.Result = []byte("kept for rollback")
		f.finish(o)
		target := f.get("op")
		l.tick(time.Second)
		f.end("fails", storage.Failed)
		want := storage.Execution{
			ID: storage.UndoID(target.ID), Name: "op", Kind: storage.Undo, Method: "rollback", Member: "op", Actor: "ada@lab",
			Queue: "ops", Priority: 1, Input: []byte("in"), Policy: []byte("policy"), Tags: []string{"t"}, OnLoss: storage.LossInterrupt,
			Checksum: "sum", Result: []byte("kept for rollback"), UniqueKey: storage.OrderedKey("op"), Undoes: target.ID,
			FlowID: f.flow.ID, Position: 2, State: storage.Pending, CreatedAt: l.now, DueAt: l.now,
		}
		l.same("undo member", f.get("undo op"), want)
		claimed := l.claim(f.worker, "ops")
		if len(claimed) != 1 || string(claimed[0].Input) != "in" || string(claimed[0].Result) != "kept for rollback" || claimed[0].Undoes != target.ID {
			t.Fatalf("claimed %+v, want the undo member with input, result and target", claimed)
		}
		again := l.ordered("op")
		l.same("a deploy of the same operation meanwhile", l.enqueue(again),
			[]storage.Receipt{{ID: again.ID, Duplicate: true, HolderID: want.ID}})
	}},
	{"F4 Q5.38 S10.5 compensation waits for running members and covers exactly what completed and can be undone", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyCompensate, "plain", "skipped", "running", "fails", "never needs fails")
		f.member("plain").Undoable = false
		f.enqueue()
		f.end("plain", storage.Completed)
		f.end("skipped", storage.Skipped)
		f.take("running")
		got := f.end("fails", storage.Failed)
		if got.Phase != storage.PhaseForward || got.UndoTotal != 0 {
			t.Errorf("while a member runs: phase %s, %d undo members; want forward, none", got.Phase, got.UndoTotal)
		}
		f.end("running", storage.Completed)
		f.end("undo running", storage.Completed)
		f.wantStates(states{
			"plain": storage.Completed, "skipped": storage.Skipped, "running": storage.RolledBack, "undo running": storage.Completed,
			"fails": storage.Failed, "never": storage.Cancelled,
		})
		f.wantOver(storage.Failed)
	}},
	{"F4 S10.2 with nothing to undo the phase stays forward and the flow is over", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyCompensate, "a", "b needs a")
		f.member("a").Undoable = false
		f.enqueue()
		f.end("a", storage.Completed)
		f.end("b", storage.Failed)
		if got := f.wantOver(storage.Failed); got.Phase != storage.PhaseForward || got.UndoTotal != 0 {
			t.Errorf("phase %s, %d undo members; want forward, none", got.Phase, got.UndoTotal)
		}
	}},
	{"F4 control: the other policies undo nothing", func(t *testing.T, l *lab) {
		for _, policy := range []storage.FlowPolicy{storage.PolicyStop, storage.PolicyContinue} {
			f := l.draft(policy, "a", "b needs a")
			f.enqueue()
			f.end("a", storage.Completed)
			f.end("b", storage.Failed)
			f.wantStates(states{"a": storage.Completed, "b": storage.Failed})
			f.wantOver(storage.Failed)
		}
	}},
	{"F4 Q2.16 an interruption while a failed flow still runs keeps it from compensating", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyCompensate, "a", "b", "c")
		f.enqueue()
		f.end("a", storage.Completed)
		f.take("c")
		f.end("b", storage.Failed)
		f.end("c", storage.Interrupted)
		f.wantStates(states{"a": storage.Completed, "b": storage.Failed, "c": storage.Interrupted})
		f.wantOver(storage.Interrupted)
	}},
	{"F4 S22.1 an atomic flow that is stopped, by whomever, undoes what completed once nothing runs", func(t *testing.T, l *lab) {
		for _, state := range []storage.State{storage.Interrupted, storage.Cancelled} {
			f := l.draft(storage.PolicyAtomic, "a", "b", "c", "d needs c")
			f.member("b").Undoable = false
			f.enqueue()
			f.end("a", storage.Completed)
			f.end("b", storage.Completed)
			f.take("c")
			if got := l.stop(f, state); got.Over() || got.Phase != storage.PhaseForward {
				t.Errorf("while c runs: over %v, phase %s; want open, forward", got.Over(), got.Phase)
			}
			l.tick(time.Second)
			f.end("c", storage.Completed)
			f.wantOpen()
			f.end("undo c", storage.Completed)
			f.end("undo a", storage.Completed)
			f.wantStates(states{
				"a": storage.RolledBack, "b": storage.Completed, "c": storage.RolledBack, "d": storage.Cancelled,
				"undo a": storage.Completed, "undo c": storage.Completed,
			})
			f.wantOver(state)
		}
	}},
	{"F4 S22.1 an atomic flow that is stopped while nothing runs begins undoing at once", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyAtomic, "a", "b needs a")
		f.enqueue()
		f.end("a", storage.Completed)
		if got := l.stop(f, storage.Interrupted); got.Phase != storage.PhaseUndo || got.UndoOpen() != 1 {
			t.Errorf("phase %s, %d undo members open; want undo, 1", got.Phase, got.UndoOpen())
		}
		l.unchanged("a second stop", func() { l.stop(f, storage.Cancelled) })
		f.end("undo a", storage.Completed)
		f.wantOver(storage.Interrupted)
	}},
	{"F4 control: a stop of a compensating flow undoes nothing, nor of an atomic one that did all it had to", func(t *testing.T, l *lab) {
		for policy, want := range map[storage.FlowPolicy]storage.State{storage.PolicyCompensate: storage.Interrupted, storage.PolicyAtomic: storage.Completed} {
			f := l.draft(policy, "a", "b after a")
			f.enqueue()
			f.end("a", storage.Completed)
			if policy == storage.PolicyAtomic {
				f.take("b")
			}
			l.stop(f, storage.Interrupted)
			if policy == storage.PolicyAtomic {
				f.end("b", storage.Completed)
			}
			f.wantOver(want)
			if got := f.get("a"); got.State != storage.Completed {
				t.Errorf("%s: a is %s, want completed", policy, got.State)
			}
		}
	}},
	{"F2 F4 S22.1 a member of an atomic flow that a person cancels stops it; one that merely needs an allowed failure does not", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyAtomic, "a", "runs", "b after runs", "c after runs")
		f.enqueue()
		f.end("a", storage.Completed)
		l.operate(l.order(storage.ActCancel, f.id("b")))
		l.tick(time.Second)
		f.end("runs", storage.Completed)
		f.end("undo runs", storage.Completed)
		f.end("undo a", storage.Completed)
		f.wantStates(states{
			"a": storage.RolledBack, "runs": storage.RolledBack, "b": storage.Cancelled, "c": storage.Cancelled,
			"undo a": storage.Completed, "undo runs": storage.Completed,
		})
		f.wantOver(storage.Cancelled)

		f = l.draft(storage.PolicyAtomic, "a", "b", "c needs b")
		f.member("b").AllowedToFail = true
		f.enqueue()
		f.end("a", storage.Completed)
		f.end("b", storage.Failed)
		f.wantStates(states{"a": storage.Completed, "b": storage.Failed, "c": storage.Cancelled})
		f.wantOver(storage.Completed)
	}},
	{"F4 S22.1 an atomic flow with an interrupted member waits for a person, whose word undoes it if others never ran", func(t *testing.T, l *lab) {
		for _, c := range []struct {
			action storage.Action
			end    storage.State
		}{{storage.ActComplete, storage.RolledBack}, {storage.ActFail, storage.Failed}} {
			f := l.draft(storage.PolicyAtomic, "a", "b", "c after b")
			f.enqueue()
			f.end("a", storage.Completed)
			l.tick(time.Second)
			f.end("b", storage.Interrupted)
			f.wantStates(states{"a": storage.Completed, "b": storage.Interrupted, "c": storage.Cancelled})
			f.wantOver(storage.Interrupted)
			l.operate(l.order(c.action, f.id("b")))
			if c.end == storage.RolledBack {
				f.end("undo b", storage.Completed)
			}
			f.end("undo a", storage.Completed)
			want := states{"a": storage.RolledBack, "b": c.end, "c": storage.Cancelled, "undo a": storage.Completed}
			if c.end == storage.RolledBack {
				want["undo b"] = storage.Completed
			}
			f.wantStates(want)
			f.wantOver(storage.Interrupted)
		}
	}},
	{"F4 F7 S22.1 a member of an atomic flow that comes back does not make whole what was stopped", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyAtomic, "a", "b after a")
		f.enqueue()
		f.end("a", storage.Interrupted)
		f.wantOver(storage.Interrupted)
		again := l.order(storage.ActRetry, f.id("a"))
		again.Home = f.worker
		l.operate(again)
		f.end("a", storage.Completed)
		f.end("undo a", storage.Completed)
		f.wantStates(states{"a": storage.RolledBack, "b": storage.Cancelled, "undo a": storage.Completed})
		f.wantOver(storage.Interrupted)

		whole := l.draft(storage.PolicyAtomic, "a", "b") // control: nothing was cancelled
		whole.enqueue()
		whole.end("b", storage.Completed)
		whole.end("a", storage.Interrupted)
		again = l.order(storage.ActRetry, whole.id("a"))
		again.Home = whole.worker
		l.operate(again)
		whole.end("a", storage.Completed)
		whole.wantOver(storage.Completed)
	}},
	{"F4 an empty nested flow may stand in one that undoes, and is not undone", func(t *testing.T, l *lab) {
		for _, policy := range []storage.FlowPolicy{storage.PolicyCompensate, storage.PolicyAtomic} {
			f := l.draft(policy, "a", "join after a", "b after join")
			f.nest("join", storage.FlowBatch, storage.PolicyContinue)
			f.enqueue()
			f.end("a", storage.Completed)
			f.end("join", storage.Completed)
			f.end("b", storage.Failed)
			f.end("undo a", storage.Completed)
			f.wantStates(states{"a": storage.RolledBack, "join": storage.Completed, "b": storage.Failed, "undo a": storage.Completed})
			f.wantOver(storage.Failed)
		}
	}},
	{"F5 S10.3 an undo that fails leaves its target completed with the error, and the line goes on", func(t *testing.T, l *lab) {
		for _, end := range []storage.State{storage.Failed, storage.Interrupted, storage.Cancelled, storage.Skipped} {
			f := l.draft(storage.PolicyCompensate, "a", "b needs a", "c needs b")
			f.enqueue()
			f.end("a", storage.Completed)
			l.tick(time.Second)
			f.end("b", storage.Completed)
			f.end("c", storage.Failed)
			got := f.end("undo b", end)
			if got.UndoFailed != 1 || got.UndoOpen() != 1 || got.Over() {
				t.Errorf("undo b %s: %d undo failed, %d open, over %v; want 1, 1, open", end, got.UndoFailed, got.UndoOpen(), got.Over())
			}
			want := "b broke"
			if end == storage.Cancelled || end == storage.Skipped {
				want = "b need not"
			}
			want = "undo " + want
			if e := f.get("b"); e.State != storage.Completed || e.UndoError != want {
				t.Errorf("undo b %s: b is %s with undo error %q; want completed and %q", end, e.State, e.UndoError, want)
			}
			f.end("undo a", storage.Completed)
			f.wantStates(states{"a": storage.RolledBack, "b": storage.Completed, "c": storage.Failed, "undo a": storage.Completed, "undo b": end})
			f.wantOver(storage.Failed)
		}
	}},
	{"F5 Q5.25 an undo that is tried again changes its target only at its end", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyCompensate, "a", "b needs a")
		f.enqueue()
		f.end("a", storage.Completed)
		f.end("b", storage.Failed)
		f.finish(failure(f.take("undo a"), storage.Pending, "not yet"))
		if e := f.get("a"); e.State != storage.Completed || e.UndoError != "" {
			t.Errorf("a is %s with undo error %q; want completed without", e.State, e.UndoError)
		}
		f.end("undo a", storage.Completed)
		f.wantOver(storage.Failed)
	}},
	{"F4 Q0.6 repeating the call that began compensation creates no second undo", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyCompensate, "a", "b needs a")
		f.enqueue()
		f.end("a", storage.Completed)
		o := failure(f.take("b"), storage.Failed, "boom")
		f.finish(o)
		l.tick(time.Second)
		l.unchanged("a repeated Finish", func() { l.finish(f.worker, o) })
	}},
	{"S10.6 another worker undoes what a dead one left half undone", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyCompensate, "a", "b needs a", "c needs b")
		f.enqueue()
		f.end("a", storage.Completed)
		l.tick(time.Second)
		f.end("b", storage.Completed)
		f.end("c", storage.Failed)
		f.take("undo b")
		heir := l.join()
		lost := l.rescue(heir, f.worker)
		l.same("rescued", names(lost), []string{"b"})
		l.settle(heir, outcome(lost[0], storage.Completed))
		f.worker = heir
		f.end("undo a", storage.Completed)
		f.wantOver(storage.Failed)
	}},
	{"Q5.27 StopFlow of a flow that is undoing leaves it alone", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyCompensate, "a", "b needs a")
		f.enqueue()
		f.end("a", storage.Completed)
		f.end("b", storage.Failed)
		l.unchanged("a stop while undoing", func() { l.stop(f, storage.Cancelled) })
		f.end("undo a", storage.Completed)
		f.wantOver(storage.Failed)
	}},
	{"F5 F6 an explicit rollback is a flow of undo members over executions of other flows", func(t *testing.T, l *lab) {
		for _, fails := range []bool{false, true} {
			done := l.draft(storage.PolicyStop, fmt.Sprint("a-", fails), fmt.Sprint("b-", fails))
			done.enqueue()
			for _, m := range done.members {
				done.end(m.Name, storage.Completed)
			}
			back := l.draft(storage.PolicyContinue)
			back.flow.Kind = storage.FlowRollback
			for _, m := range done.members {
				u := l.get(m.ID)
				u = u.Undo()
				u.ID, u.FlowID, u.Position = l.id(), back.flow.ID, len(back.members)
				back.members = append(back.members, u)
			}
			back.edges = []storage.Edge{{From: back.members[0].ID, To: back.members[1].ID}}
			back.enqueue()
			first, end, want := l.take(back.worker), storage.Completed, storage.Completed
			if fails {
				end, want = storage.Failed, storage.Failed
			}
			back.finish(failure(first, end, "boom"))
			back.finish(outcome(l.take(back.worker), storage.Completed))
			back.wantOver(want)
			if got := l.get(done.members[0].ID); (got.State == storage.RolledBack) == fails {
				t.Errorf("the first target is %s after an undo that is %s", got.State, end)
			}
			l.wantState(done.members[1].ID, storage.RolledBack)
			if got := done.now(); got.State != storage.Completed || got.Completed != 2 {
				t.Errorf("the undone flow is %s with %d completed; want completed, 2", got.State, got.Completed)
			}
		}
	}},
	{"F5 an undo outside any flow marks its target too", func(t *testing.T, l *lab) {
		op := l.ordered("op")
		op.Undoable = true
		l.enqueue(op)
		w := l.join()
		l.settle(w, outcome(l.take(w), storage.Completed))
		for i, end := range []storage.State{storage.Failed, storage.Completed} {
			u := l.get(op.ID)
			u = u.Undo()
			u.ID = l.id()
			l.enqueue(u)
			l.settle(w, failure(l.take(w), end, "boom"))
			e := l.get(op.ID)
			if want := []storage.State{storage.Completed, storage.RolledBack}[i]; e.State != want {
				t.Errorf("after an undo that is %s the target is %s, want %s", end, e.State, want)
			}
			if want := []string{"boom", ""}[i]; e.UndoError != want {
				t.Errorf("after an undo that is %s the undo error is %q, want %q", end, e.UndoError, want)
			}
		}
	}},
}
