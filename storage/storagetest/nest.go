package storagetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gosequencer/sequencer/storage"
)

var sortedNames = cmp.Transformer("sorted", func(s []string) []string { return slices.Sorted(slices.Values(s)) })

var nestRules = []rule{
	{"Q5.31 Q6.12 a chain in a batch is one member of it, which nobody claims and which ends with the chain", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "chain")
		c := f.nest("chain", storage.FlowChain, storage.PolicyStop, "x", "y needs x")
		f.on(storage.RoleThen, "report")
		f.enqueue()
		if got := c.now(); got.RootID != f.flow.ID || got.ParentID != f.id("chain") || got.Generation != 1 || got.Total != 2 {
			t.Errorf("the chain has root %s, parent %s, generation %d, %d members; want %s, %s, 1, 2", got.RootID, got.ParentID, got.Generation, got.Total, f.flow.ID, f.id("chain"))
		}
		if e := f.get("chain"); e.Waits != 1 || !e.DueAt.IsZero() || e.Kind != storage.Nested {
			t.Errorf("its row waits for %d, due %v, kind %s; want 1, never, nested", e.Waits, e.DueAt, e.Kind)
		}
		c.take("x")
		l.same("claimable", heldNames(f), []string{"a", "x"}, sortedNames)
		f.end("a", storage.Completed)
		c.end("x", storage.Completed)
		l.tick(time.Second)
		f.wantOpen()
		c.end("y", storage.Completed)
		c.wantOver(storage.Completed)
		f.wantStates(states{"a": storage.Completed, "chain": storage.Completed, "then report": storage.Pending})
		if got := f.wantOver(storage.Completed); got.Completed != 2 || got.Total != 2 {
			t.Errorf("%d of %d completed, want 2 of 2", got.Completed, got.Total)
		}
		if e := f.get("chain"); !e.FinishedAt.Equal(l.now) {
			t.Errorf("the row finished at %v, want %v", e.FinishedAt, l.now)
		}
	}},
	{"Q5.31 Q6.3 Q5.18 a chain that fails cancels its rest and fails in its batch, whose catch tells of the step that failed", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyContinue, "a", "chain")
		c := f.nest("chain", storage.FlowChain, storage.PolicyStop, "x", "y needs x")
		c.on(storage.RoleCatch, "chain alarm")
		f.on(storage.RoleCatch, "batch alarm")
		f.on(storage.RoleFinally, "tidy")
		f.enqueue()
		f.take("a")
		c.end("x", storage.Failed)
		c.wantOver(storage.Failed)
		c.wantFired(map[string]int{"catch chain alarm": 1})
		f.wantFired(map[string]int{"catch batch alarm": 1})
		for _, e := range []storage.Execution{c.callback(storage.RoleCatch, "chain alarm"), f.callback(storage.RoleCatch, "batch alarm")} {
			if e.Undoes != c.id("x") {
				t.Errorf("%s is about %s, want the step %s", e.Name, e.Undoes, c.id("x"))
			}
		}
		if e := f.get("chain"); e.State != storage.Failed || e.Reason == "" {
			t.Errorf("the row of the chain is %s because of %q, want failed with a reason", e.State, e.Reason)
		}
		f.wantOpen()
		f.end("a", storage.Completed)
		f.wantOver(storage.Failed)
		f.run(storage.RoleCatch, "batch alarm", storage.Completed)
		f.wantFired(map[string]int{"catch batch alarm": 1, "finally tidy": 1})
	}},
	{"Q6.10 a chain goes on when the batch that is its step ends, with allowed failures too, and ends when it fails", func(t *testing.T, l *lab) {
		for policy, goesOn := range map[storage.FlowPolicy]bool{storage.PolicyContinue: true, storage.PolicyStop: false} {
			f := l.draft(storage.PolicyStop, "before", "batch needs before", "after needs batch")
			f.flow.Kind = storage.FlowChain
			f.on(storage.RoleCatch, "alarm")
			b := f.nest("batch", storage.FlowBatch, policy, "x", "y")
			f.enqueue()
			if e := f.get("batch"); e.Waits != 2 {
				t.Errorf("the row of the batch waits for %d, want its predecessor and the batch", e.Waits)
			}
			for _, name := range []string{"x", "y"} {
				if e := b.get(name); e.Waits != 1 || !e.DueAt.IsZero() {
					t.Errorf("%s waits for %d before its turn, want 1", name, e.Waits)
				}
			}
			f.end("before", storage.Completed)
			b.take("x")
			b.take("y")
			b.end("x", storage.Failed)
			f.wantOpen()
			b.end("y", storage.Completed)
			b.wantOver(storage.Failed)
			if goesOn {
				f.end("after", storage.Completed)
				f.wantOver(storage.Completed)
				f.wantFired(map[string]int{})
			} else {
				f.wantStates(states{"before": storage.Completed, "batch": storage.Failed, "after": storage.Cancelled, "catch alarm": storage.Pending})
				f.wantOver(storage.Failed)
			}
		}
	}},
	{"Q6.1 Q4.13 a nested flow whose first member is left out as a duplicate still waits for its turn", func(t *testing.T, l *lab) {
		busy := l.row("busy")
		busy.UniqueKey, busy.Queue = "k", "elsewhere"
		l.enqueue(busy)
		f := l.draft(storage.PolicyStop, "before", "chain needs before")
		c := f.nest("chain", storage.FlowChain, storage.PolicyStop, "x", "y needs x")
		c.member("x").UniqueKey = "k"
		f.enqueue()
		if e := c.get("y"); e.Waits != 1 {
			t.Errorf("y waits for %d, want what its chain waits for", e.Waits)
		}
		f.end("before", storage.Completed)
		c.end("y", storage.Completed)
		f.wantOver(storage.Completed)
	}},
	{"Q6.11 Q6.15 a batch that a person cancels ends the chain around it as cancelled, without catch", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "batch", "after needs batch")
		f.flow.Kind = storage.FlowChain
		f.on(storage.RoleCatch, "alarm")
		f.on(storage.RoleFinally, "tidy")
		b := f.nest("batch", storage.FlowBatch, storage.PolicyContinue, "x", "y")
		f.enqueue()
		l.stop(b, storage.Cancelled)
		b.wantOver(storage.Cancelled)
		f.wantStates(states{"batch": storage.Cancelled, "after": storage.Cancelled, "finally tidy": storage.Pending})
		f.wantOver(storage.Cancelled)
	}},
	{"Q6.11 Q5.23 an empty batch in a chain ends when its turn comes, as the worker that claims its row completes it", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "before", "batch needs before", "after needs batch")
		f.flow.Kind = storage.FlowChain
		b := f.nest("batch", storage.FlowBatch, storage.PolicyStop)
		b.on(storage.RoleThen, "report")
		f.enqueue()
		b.wantOpen()
		more := l.row("more")
		more.FlowID = b.flow.ID
		_, err := l.store.Enqueue(t.Context(), storage.EnqueueRequest{Now: l.now, Into: b.flow.ID, Executions: []storage.Execution{more}})
		if !errors.Is(err, storage.ErrFlowOver) {
			t.Errorf("adding to a flow that began without members: got error %v, want ErrFlowOver", err)
		}
		f.end("before", storage.Completed)
		f.end("batch", storage.Completed)
		b.wantOver(storage.Completed)
		b.wantFired(map[string]int{"then report": 1})
		f.end("after", storage.Completed)
		f.wantOver(storage.Completed)
	}},
	{"Q6.11 an empty batch that waits for nobody ends at once, and its chain goes on", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "batch", "after needs batch")
		f.flow.Kind = storage.FlowChain
		b := f.nest("batch", storage.FlowBatch, storage.PolicyStop)
		b.on(storage.RoleFinally, "tidy")
		f.enqueue()
		b.wantOver(storage.Completed)
		b.wantFired(map[string]int{"finally tidy": 1})
		f.wantStates(states{"batch": storage.Completed, "after": storage.Pending})
		f.end("after", storage.Completed)
		f.wantOver(storage.Completed)
	}},
	{"Q5.27 Q5.16 stopping a flow stops those nested in it, at any depth, and is over when their running members are", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "chain")
		f.member("a").Delay = time.Hour
		c := f.nest("chain", storage.FlowChain, storage.PolicyStop, "x", "batch needs x", "y needs batch")
		b := c.nest("batch", storage.FlowBatch, storage.PolicyStop, "m", "n")
		f.on(storage.RoleFinally, "tidy")
		f.enqueue()
		c.end("x", storage.Completed)
		b.take("m")
		l.stop(f, storage.Cancelled)
		f.wantOpen()
		c.wantOpen()
		b.wantOpen()
		l.tick(time.Second)
		b.end("n", storage.Completed) // both were claimed
		b.end("m", storage.Completed)
		b.wantOver(storage.Cancelled)
		c.wantStates(states{"x": storage.Completed, "batch": storage.Cancelled, "y": storage.Cancelled})
		c.wantOver(storage.Cancelled)
		f.wantStates(states{"a": storage.Cancelled, "chain": storage.Cancelled, "finally tidy": storage.Pending})
		f.wantOver(storage.Cancelled)
	}},
	{"F2 Q5.31 a failure in a batch stops the chains beside it, with a reason that names the culprit", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "chain", "idle")
		c := f.nest("chain", storage.FlowChain, storage.PolicyStop, "x", "y needs x")
		d := f.nest("idle", storage.FlowChain, storage.PolicyStop, "p", "q needs p")
		d.member("p").Delay = time.Hour
		f.enqueue()
		c.take("x")
		f.end("a", storage.Failed)
		d.wantStates(states{"p": storage.Cancelled, "q": storage.Cancelled})
		d.wantOver(storage.Cancelled)
		c.wantStates(states{"x": storage.Running, "y": storage.Cancelled})
		f.wantStates(states{"a": storage.Failed, "chain": storage.Pending, "idle": storage.Cancelled})
		if e := d.get("p"); e.Reason != "a failed" || !e.ForNow {
			t.Errorf("p was cancelled because of %q, for now %v; want a failed, true", e.Reason, e.ForNow)
		}
		l.tick(time.Second)
		c.end("x", storage.Completed)
		c.wantOver(storage.Cancelled)
		f.wantOver(storage.Failed)
	}},
	{"F3 what needs a flow that failed is cancelled with the flows nested in it, what only follows goes on", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyContinue, "one", "two needs one", "three after one")
		one := f.nest("one", storage.FlowChain, storage.PolicyStop, "x")
		two := f.nest("two", storage.FlowChain, storage.PolicyStop, "p", "q needs p")
		three := f.nest("three", storage.FlowChain, storage.PolicyStop, "r", "s needs r")
		f.enqueue()
		one.end("x", storage.Failed)
		two.wantStates(states{"p": storage.Cancelled, "q": storage.Cancelled})
		two.wantOver(storage.Cancelled)
		three.end("r", storage.Completed)
		three.end("s", storage.Completed)
		f.wantStates(states{"one": storage.Failed, "two": storage.Cancelled, "three": storage.Completed})
		f.wantOver(storage.Failed)
	}},
	{"F3 Q6.1 one call that ends the last steps of two chains ends both, and the batch once", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "one", "two", "after needs one", "after needs two")
		one := f.nest("one", storage.FlowChain, storage.PolicyStop, "x")
		two := f.nest("two", storage.FlowChain, storage.PolicyStop, "y")
		f.enqueue()
		l.settle(f.worker, outcome(one.take("x"), storage.Completed), outcome(two.take("y"), storage.Completed))
		f.end("after", storage.Completed)
		if got := f.wantOver(storage.Completed); got.Completed != 3 {
			t.Errorf("%d completed, want 3", got.Completed)
		}
	}},
	{"F1 cancelling the row of a nested flow stops that flow", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyContinue, "chain", "after after chain")
		c := f.nest("chain", storage.FlowChain, storage.PolicyStop, "x", "y needs x")
		f.enqueue()
		l.operate(l.order(storage.ActCancel, f.id("chain")))
		c.wantOver(storage.Cancelled)
		f.wantStates(states{"chain": storage.Cancelled, "after": storage.Pending})
		f.end("after", storage.Completed)
	}},
	{"F6 Q5.16 an interrupted step interrupts the flows around it, and a person who resolves it settles them anew", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "chain", "after needs chain")
		c := f.nest("chain", storage.FlowChain, storage.PolicyStop, "x")
		f.on(storage.RoleFinally, "tidy")
		f.enqueue()
		c.end("x", storage.Interrupted)
		c.wantOver(storage.Interrupted)
		f.wantOver(storage.Interrupted)
		if _, err := l.store.Operate(t.Context(), l.order(storage.ActComplete, f.id("chain"))); err == nil {
			t.Error("the row of a flow was resolved without the flow")
		}
		l.operate(l.order(storage.ActComplete, c.id("x")))
		Check(t, l.store)
		c.wantOver(storage.Completed)
		f.wantStates(states{"chain": storage.Completed, "after": storage.Cancelled, "finally tidy": storage.Pending})
		f.wantFired(map[string]int{"finally tidy": 1})
	}},
	{"Q5.35 a nested flow without the row that stands for it, out of order, or in a flow that compensates is refused", func(t *testing.T, l *lab) {
		good := func() (storage.EnqueueRequest, *draft) {
			f := l.draft(storage.PolicyStop, "a", "chain")
			f.nest("chain", storage.FlowChain, storage.PolicyStop, "x", "y needs x")
			return f.request(), f
		}
		for what, bend := range map[string]func(*storage.EnqueueRequest){
			"without its row":       func(r *storage.EnqueueRequest) { r.Flows[1].ParentID = l.id() },
			"before its outer flow": func(r *storage.EnqueueRequest) { slices.Reverse(r.Flows) },
			"in one that undoes":    func(r *storage.EnqueueRequest) { r.Flows[0].Policy = storage.PolicyCompensate },
			"in an atomic one":      func(r *storage.EnqueueRequest) { r.Flows[0].Policy = storage.PolicyAtomic },
			"with an edge outwards": func(r *storage.EnqueueRequest) {
				r.Edges = append(r.Edges, storage.Edge{From: r.Executions[2].ID, To: r.Executions[0].ID})
			},
			"into an unknown flow":  func(r *storage.EnqueueRequest) { r.Into = l.id() },
			"with a stranger's row": func(r *storage.EnqueueRequest) { r.Executions[0].FlowID = l.id() },
		} {
			r, _ := good()
			bend(&r)
			r.Now = l.now
			l.unchanged(what, func() {
				if _, err := l.store.Enqueue(t.Context(), r); err == nil {
					t.Errorf("%s: it was written", what)
				}
			})
		}
		r, f := good()
		l.send(r)
		f.wantOpen()
	}},
	{"Q5.28 from outside members join a flow that is open; one that is over, stopped or stopping takes none, and nothing is written", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b")
		f.enqueue()
		f.take("a")
		more := func() storage.EnqueueRequest {
			e := l.row("more")
			e.FlowID = f.flow.ID
			return storage.EnqueueRequest{Into: f.flow.ID, Executions: []storage.Execution{e}}
		}
		r := more()
		l.send(r)
		if got := f.now(); got.Total != 3 || got.Open() != 3 {
			t.Errorf("%d members, %d open; want 3, 3", got.Total, got.Open())
		}
		l.unchanged("a repeat", func() { l.send(r) })
		refused := func(what string) {
			t.Helper()
			l.unchanged(what, func() {
				r := more()
				r.Now = l.now
				if _, err := l.store.Enqueue(t.Context(), r); !errors.Is(err, storage.ErrFlowOver) {
					t.Errorf("%s: got error %v, want ErrFlowOver", what, err)
				}
			})
		}
		f.take("b")
		f.end("a", storage.Failed)
		refused("a flow that is stopping")
		f.end("b", storage.Completed)
		refused("a flow that is over")
		f = l.draft(storage.PolicyContinue, "a", "b")
		f.enqueue()
		f.take("a")
		f.end("b", storage.Failed)
		l.send(more())
		l.stop(f, storage.Cancelled)
		refused("a stopped flow")
	}},
	{"Q5.28 from outside a chain joins a batch as one member", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a")
		f.enqueue()
		c := f.nest("chain", storage.FlowChain, storage.PolicyStop, "x", "y needs x")
		c.work(f.worker)
		stands := *f.member("chain")
		l.send(storage.EnqueueRequest{Into: f.flow.ID, Flows: []storage.Flow{c.flow}, Executions: append([]storage.Execution{stands}, c.members...), Edges: c.edges})
		if got := c.now(); got.RootID != f.flow.ID || f.now().Total != 2 {
			t.Errorf("the chain has root %s, the batch %d members; want %s, 2", got.RootID, f.now().Total, f.flow.ID)
		}
		f.end("a", storage.Completed)
		c.end("x", storage.Completed)
		c.end("y", storage.Completed)
		f.wantOver(storage.Completed)
	}},
}

// heldNames are what the worker of a flow holds.
func heldNames(f *draft) []string {
	var held []string
	for _, e := range f.held {
		held = append(held, e.Name)
	}
	return held
}
