package storagetest

import (
	"slices"
	"strings"

	"github.com/gosequencer/sequencer/storage"
)

// draft is a flow in the making, and then the flow with a worker that runs it. It
// is described by lines like "a", "b needs a" and "c after b"; a member exists from
// the first line that mentions it, in this order.
type draft struct {
	l       *lab
	flow    storage.Flow
	members []storage.Execution
	edges   []storage.Edge
	worker  storage.ID
	held    map[storage.ID]storage.Execution
}

func (l *lab) draft(policy storage.FlowPolicy, lines ...string) *draft {
	d := &draft{
		l:    l,
		flow: storage.Flow{ID: l.id(), Kind: storage.FlowRun, Method: "sequential", Policy: policy},
		held: map[storage.ID]storage.Execution{},
	}
	for _, line := range lines {
		words := strings.Fields(line)
		to := d.ensure(words[0])
		if len(words) == 3 {
			d.edges = append(d.edges, storage.Edge{From: d.ensure(words[2]), To: to, Needs: words[1] == "needs"})
		}
	}
	return d
}

func (d *draft) ensure(name string) storage.ID {
	if i := d.find(name); i >= 0 {
		return d.members[i].ID
	}
	e := d.l.row(name)
	e.FlowID, e.Member, e.Position, e.Undoable = d.flow.ID, name, len(d.members), true
	d.members = append(d.members, e)
	return e.ID
}

func (d *draft) find(name string) int {
	return slices.IndexFunc(d.members, func(e storage.Execution) bool { return e.Name == name })
}

// member is a forward member that may still be changed before enqueue.
func (d *draft) member(name string) *storage.Execution {
	i := d.find(name)
	if i < 0 {
		d.l.t.Fatalf("the draft has no member %q", name)
	}
	return &d.members[i]
}

func (d *draft) request() storage.EnqueueRequest {
	return storage.EnqueueRequest{Flow: &d.flow, Executions: d.members, Edges: d.edges}
}

func (d *draft) enqueue() {
	d.l.t.Helper()
	d.l.send(d.request())
	d.worker = d.l.join()
}

// id finds a member's id; "undo x" is the undo member of x.
func (d *draft) id(name string) storage.ID {
	if of, ok := strings.CutPrefix(name, "undo "); ok {
		return storage.UndoID(d.member(of).ID)
	}
	return d.member(name).ID
}

func (d *draft) get(name string) storage.Execution {
	d.l.t.Helper()
	return d.l.get(d.id(name))
}

func (d *draft) now() storage.Flow {
	d.l.t.Helper()
	return d.l.flow(d.flow.ID)
}

// take makes the worker hold the member, which must be claimable.
func (d *draft) take(name string) storage.Execution {
	d.l.t.Helper()
	id := d.id(name)
	if _, ok := d.held[id]; !ok {
		for _, e := range d.l.claim(d.worker) {
			d.held[e.ID] = e
		}
	}
	e, ok := d.held[id]
	if !ok {
		d.l.t.Fatalf("%s cannot be claimed, it is %+v", name, d.get(name))
	}
	return e
}

// end runs the member to an ending and checks the ledger. Failures carry the
// message "<name> broke", skips and cancellations a reason.
func (d *draft) end(name string, to storage.State) storage.Flow {
	d.l.t.Helper()
	o := outcome(d.take(name), to)
	switch to {
	case storage.Failed, storage.Interrupted:
		o = failure(d.take(name), to, name+" broke")
	case storage.Skipped, storage.Cancelled:
		o.Reason = name + " need not"
	case storage.Pending, storage.Running, storage.Completed, storage.RolledBack:
	}
	return d.finish(o)
}

func (d *draft) finish(o storage.Outcome) storage.Flow {
	d.l.t.Helper()
	done := d.l.settle(d.worker, o)
	delete(d.held, o.ID)
	stands := d.now()
	if o.State.Over() {
		d.l.sameFlows(done.Flows, stands)
	}
	Check(d.l.t, d.l.store)
	return stands
}

// states of all members, undo members as "undo x".
func (d *draft) states() map[string]storage.State {
	d.l.t.Helper()
	got := map[string]storage.State{}
	for _, e := range d.l.list(storage.Filter{FlowID: d.flow.ID, Limit: 10_000}) {
		name := e.Name
		if e.Kind == storage.Undo {
			name = "undo " + name
		}
		got[name] = e.State
	}
	return got
}

func (d *draft) wantStates(want map[string]storage.State) {
	d.l.t.Helper()
	d.l.same("states of the members", d.states(), want)
}

func (d *draft) wantOver(want storage.State) storage.Flow {
	d.l.t.Helper()
	f := d.now()
	if !f.Over() || f.State != want || !f.FinishedAt.Equal(d.l.now) {
		d.l.t.Errorf("the flow is %s, finished at %v; want %s at %v", f.State, f.FinishedAt, want, d.l.now)
	}
	return f
}

func (d *draft) wantOpen() storage.Flow {
	d.l.t.Helper()
	f := d.now()
	if f.Over() || f.State != storage.Running {
		d.l.t.Errorf("the flow is %s, finished at %v; want it open and running", f.State, f.FinishedAt)
	}
	return f
}
