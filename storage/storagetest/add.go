package storagetest

import (
	"errors"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// added makes rows that join the flow of d, in their order.
func (d *draft) added(names ...string) []storage.Execution {
	rows := make([]storage.Execution, len(names))
	for i, name := range names {
		rows[i] = d.l.row(name)
		rows[i].FlowID, rows[i].Member = d.flow.ID, name
	}
	return rows
}

// adds ends a member as completed, with additions.
func (d *draft) adds(name string, additions ...storage.Addition) storage.Flow {
	d.l.t.Helper()
	o := outcome(d.take(name), storage.Completed)
	o.Adds = additions
	for _, a := range additions {
		d.members = append(d.members, a.Executions...)
	}
	return d.finish(o)
}

var addRules = []rule{
	{"Q5.28 what a member adds joins its flow as it completes, and keeps it open", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a")
		f.on(storage.RoleThen, "report")
		f.enqueue()
		rows := f.added("x", "y")
		rows[0].Input = []byte("in")
		got := f.adds("a", storage.Addition{Flow: f.flow.ID, Place: storage.PlaceAdd, Executions: rows, Edges: []storage.Edge{{From: rows[0].ID, To: rows[1].ID, Needs: true}}})
		if got.Total != 3 || got.Completed != 1 || got.Over() {
			t.Errorf("%d of %d completed, over %v; want 1 of 3, open", got.Completed, got.Total, got.Over())
		}
		if e := f.get("x"); string(e.Input) != "in" || e.Position != 1 || !e.DueAt.Equal(l.now) {
			t.Errorf("x has input %q, position %d, due %v; want in, 1, %v", e.Input, e.Position, e.DueAt, l.now)
		}
		if e := f.get("y"); e.Waits != 1 {
			t.Errorf("y waits for %d, want 1", e.Waits)
		}
		f.end("x", storage.Completed)
		f.wantFired(map[string]int{})
		f.end("y", storage.Completed)
		f.wantOver(storage.Completed)
		f.wantFired(map[string]int{"then report": 1})
	}},
	{"Q5.28 Q0.6 what a member adds is forgotten with any other outcome, and added once however often the call is repeated", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyContinue, "a", "b")
		f.enqueue()
		f.take("b")
		for _, end := range []storage.State{storage.Pending, storage.Failed} {
			o := failure(f.take("a"), end, "boom")
			o.Adds = []storage.Addition{{Flow: f.flow.ID, Place: storage.PlaceAdd, Executions: f.added("never")}}
			if got := f.finish(o); got.Total != 2 {
				t.Errorf("after an attempt that is %s the flow has %d members, want 2", end, got.Total)
			}
		}
		o := outcome(f.take("b"), storage.Completed)
		o.Adds = []storage.Addition{{Flow: f.flow.ID, Place: storage.PlaceAdd, Executions: f.added("once")}}
		l.settle(f.worker, o)
		l.tick(time.Second)
		l.unchanged("a repeated Finish", func() { l.finish(f.worker, o) })
	}},
	{"Q6.8 prepended steps run right after the one that adds them, in their order, and before the next", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a", "c needs b")
		f.flow.Kind = storage.FlowChain
		f.enqueue()
		f.adds("a", storage.Addition{Flow: f.flow.ID, Place: storage.PlacePrepend, Executions: f.added("x", "y")})
		f.wantLine("x", "y", "b", "c")
		f.wantOver(storage.Completed)
	}},
	{"Q6.8 appended steps run last, in their order, whichever step adds them", func(t *testing.T, l *lab) {
		for _, by := range []string{"a", "b", "c"} {
			f := l.draft(storage.PolicyStop, "a", "b needs a", "c needs b")
			f.flow.Kind = storage.FlowChain
			f.enqueue()
			line := []string{"a", "b", "c", "x", "y"}
			for i, name := range line[:3] {
				if name == by {
					f.wantLine(line[:i]...)
					f.adds(by, storage.Addition{Flow: f.flow.ID, Place: storage.PlaceAppend, Executions: f.added("x", "y")})
					f.wantLine(line[i+1:]...)
				}
			}
			f.wantOver(storage.Completed)
		}
	}},
	{"Q6.8 steps may be appended and prepended again, also by those that were", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a")
		f.flow.Kind = storage.FlowChain
		f.enqueue()
		f.adds("a",
			storage.Addition{Flow: f.flow.ID, Place: storage.PlaceAppend, Executions: f.added("x")},
			storage.Addition{Flow: f.flow.ID, Place: storage.PlacePrepend, Executions: f.added("p")},
			storage.Addition{Flow: f.flow.ID, Place: storage.PlaceAppend, Executions: f.added("y")})
		f.wantLine("p", "b")
		f.adds("x", storage.Addition{Flow: f.flow.ID, Place: storage.PlacePrepend, Executions: f.added("q")})
		f.wantLine("q")
		f.adds("y", storage.Addition{Flow: f.flow.ID, Place: storage.PlacePrepend, Executions: f.added("r")})
		f.adds("r", storage.Addition{Flow: f.flow.ID, Place: storage.PlaceAppend, Executions: f.added("z")})
		f.wantLine("z")
		f.wantOver(storage.Completed)
	}},
	{"Q6.8 Q6.4 an appended step that fails cancels those behind it", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a")
		f.flow.Kind = storage.FlowChain
		f.enqueue()
		f.adds("a", storage.Addition{Flow: f.flow.ID, Place: storage.PlaceAppend, Executions: f.added("x", "y")})
		f.end("x", storage.Failed)
		f.wantStates(states{"a": storage.Completed, "x": storage.Failed, "y": storage.Cancelled})
		f.wantOver(storage.Failed)
	}},
	{"Q6.8 Q6.12 a batch may be prepended: its members wait for the step, and the next step for all of them", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "batch needs a", "z needs batch")
		f.flow.Kind = storage.FlowChain
		next := f.nest("batch", storage.FlowBatch, storage.PolicyStop, "m", "n")
		f.enqueue()
		added := l.draft(storage.PolicyStop, "p", "q")
		stands := f.added("more")
		stands[0].Kind = storage.Nested
		added.flow.Kind, added.flow.ParentID, added.held = storage.FlowBatch, stands[0].ID, f.held
		added.work(f.worker)
		f.adds("a", storage.Addition{
			Flow: f.flow.ID, Place: storage.PlacePrepend, Flows: []storage.Flow{added.flow}, Executions: append(stands, added.members...),
		})
		if e := next.get("m"); e.Waits != 1 {
			t.Errorf("m of the next batch waits for %d, want the prepended one", e.Waits)
		}
		if got := added.now(); got.RootID != f.flow.ID || got.Total != 2 {
			t.Errorf("the prepended batch has root %s and %d members; want %s, 2", got.RootID, got.Total, f.flow.ID)
		}
		added.end("p", storage.Completed)
		added.end("q", storage.Completed)
		next.end("m", storage.Completed)
		next.end("n", storage.Completed)
		f.end("z", storage.Completed)
		f.wantOver(storage.Completed)
	}},
	{"Q5.28 a step of a nested chain may add to the batch around it", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "chain")
		c := f.nest("chain", storage.FlowChain, storage.PolicyStop, "x")
		f.enqueue()
		o := outcome(c.take("x"), storage.Completed)
		o.Adds = []storage.Addition{{Flow: f.flow.ID, Place: storage.PlaceAdd, Executions: f.added("more")}}
		f.members = append(f.members, o.Adds[0].Executions...)
		l.settle(f.worker, o)
		Check(t, l.store)
		c.wantOver(storage.Completed)
		if got := f.wantOpen(); got.Total != 2 || got.Completed != 1 {
			t.Errorf("%d of %d completed, want 1 of 2", got.Completed, got.Total)
		}
		f.end("more", storage.Completed)
		f.wantOver(storage.Completed)
	}},
	{"Q5.28 Q5.27 what is added to a flow that is stopping is cancelled, and comes back with it", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b")
		f.enqueue()
		f.take("a")
		f.end("b", storage.Failed)
		f.adds("a", storage.Addition{Flow: f.flow.ID, Place: storage.PlaceAdd, Executions: f.added("x")})
		f.wantStates(states{"a": storage.Completed, "b": storage.Failed, "x": storage.Cancelled})
		f.wantOver(storage.Failed)
		l.resumeFlow(f)
		f.end("b", storage.Completed)
		f.end("x", storage.Completed)
		f.wantOver(storage.Completed)
	}},
	{"Q4.13 Q4.1 what is added under a key that somebody holds is left out", func(t *testing.T, l *lab) {
		busy := l.row("busy")
		busy.UniqueKey, busy.Queue = "k", "elsewhere"
		l.enqueue(busy)
		f := l.draft(storage.PolicyStop, "a")
		f.enqueue()
		rows := f.added("x", "y", "z")
		rows[0].UniqueKey, rows[1].UniqueKey, rows[2].UniqueKey = "k", "other", "other"
		if got := f.adds("a", storage.Addition{Flow: f.flow.ID, Place: storage.PlaceAdd, Executions: rows}); got.Total != 2 {
			t.Errorf("the flow has %d members, want 2", got.Total)
		}
		f.end("y", storage.Completed)
		f.wantOver(storage.Completed)
	}},
	{"Q5.28 an edge of what is added may lead to a member that is pending", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b", "last needs b")
		f.enqueue()
		rows := f.added("x")
		f.adds("a", storage.Addition{
			Flow: f.flow.ID, Place: storage.PlaceAdd, Executions: rows,
			Edges: []storage.Edge{{From: rows[0].ID, To: f.id("last"), Needs: true}, {From: rows[0].ID, To: l.id()}},
		})
		if e := f.get("last"); e.Waits != 2 {
			t.Errorf("the last waits for %d, want 2", e.Waits)
		}
		f.end("b", storage.Completed)
		f.end("x", storage.Completed)
		f.end("last", storage.Completed)
		f.wantOver(storage.Completed)
	}},
	{"Q5.28 adding to a flow that is over, or to a stranger's, is refused, and nothing of the call is written", func(t *testing.T, l *lab) {
		over, strange := l.draft(storage.PolicyStop), l.draft(storage.PolicyStop, "s")
		over.enqueue()
		strange.enqueue()
		f := l.draft(storage.PolicyStop, "a", "b")
		f.enqueue()
		f.take("b")
		for _, other := range []*draft{over, strange} {
			o := outcome(f.take("a"), storage.Completed)
			o.Adds = []storage.Addition{{Flow: other.flow.ID, Place: storage.PlaceAdd, Executions: other.added("x")}}
			l.unchanged("the refused call", func() {
				if _, err := l.store.Finish(t.Context(), storage.FinishRequest{Now: l.now, Worker: f.worker, Outcomes: []storage.Outcome{o}}); err == nil {
					t.Error("the row was added")
				}
			})
		}
		f = l.draft(storage.PolicyStop, "a")
		f.on(storage.RoleThen, "report")
		f.enqueue()
		f.end("a", storage.Completed)
		e := f.callback(storage.RoleThen, "report")
		for _, c := range l.claim(f.worker) {
			f.held[c.ID] = c
		}
		o := outcome(f.held[e.ID], storage.Completed)
		o.Adds = []storage.Addition{{Flow: f.flow.ID, Place: storage.PlaceAdd, Executions: f.added("x")}}
		if _, err := l.store.Finish(t.Context(), storage.FinishRequest{Now: l.now, Worker: f.worker, Outcomes: []storage.Outcome{o}}); !errors.Is(err, storage.ErrFlowOver) {
			t.Errorf("a callback that adds to its flow, which is over: got error %v, want ErrFlowOver", err)
		}
	}},
}

// wantLine runs members in this order and expects that only one is due at a time.
func (d *draft) wantLine(line ...string) {
	d.l.t.Helper()
	for _, name := range line {
		got := d.l.claim(d.worker)
		if len(got) != 1 || got[0].Name != name {
			d.l.t.Fatalf("due are %v, want %s alone", names(got), name)
		}
		d.held[got[0].ID] = got[0]
		d.end(name, storage.Completed)
	}
}
