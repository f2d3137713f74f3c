package storagetest

import (
	"bytes"
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
	inner   []*draft // flows nested in this one
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

// nest makes a member stand for a flow of its own. The member exists already if a
// line mentions it.
func (d *draft) nest(name string, kind storage.FlowKind, policy storage.FlowPolicy, lines ...string) *draft {
	id := d.ensure(name)
	d.member(name).Kind, d.member(name).Undoable = storage.Nested, false
	n := d.l.draft(policy, lines...)
	n.flow.Kind, n.flow.Name, n.flow.ParentID, n.held = kind, name, id, d.held
	d.inner = append(d.inner, n)
	return n
}

// on adds a callback that runs the named operations one after the other.
func (d *draft) on(role storage.Role, names ...string) {
	c := storage.Callback{Role: role}
	for i, name := range names {
		c.Executions = append(c.Executions, d.l.row(name))
		if i > 0 {
			c.Edges = append(c.Edges, storage.Edge{From: c.Executions[i-1].ID, To: c.Executions[i].ID})
		}
	}
	d.flow.Callbacks = append(d.flow.Callbacks, c)
}

func (d *draft) request() storage.EnqueueRequest {
	r := storage.EnqueueRequest{}
	d.collect(&r)
	return r
}

func (d *draft) collect(r *storage.EnqueueRequest) {
	r.Flows = append(r.Flows, d.flow)
	r.Executions = append(r.Executions, d.members...)
	r.Edges = append(r.Edges, d.edges...)
	for _, n := range d.inner {
		n.collect(r)
	}
}

func (d *draft) enqueue() {
	d.l.t.Helper()
	d.l.send(d.request())
	d.work(d.l.join())
}

// work has a worker run the flow and those nested in it.
func (d *draft) work(w storage.ID) {
	d.worker = w
	for _, n := range d.inner {
		n.work(w)
	}
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
		all := []storage.Flow{}
		for _, f := range done.Flows {
			if f.ID != stands.ID {
				all = append(all, d.l.flow(f.ID))
			}
		}
		all = append(all, stands)
		slices.SortFunc(all, func(a, b storage.Flow) int { return bytes.Compare(a.ID[:], b.ID[:]) })
		d.l.sameFlows(done.Flows, all...)
	}
	Check(d.l.t, d.l.store)
	return stands
}

// callback is the row of a callback: the open one, else the newest.
func (d *draft) callback(role storage.Role, name string) storage.Execution {
	d.l.t.Helper()
	var found []storage.Execution
	for _, e := range d.callbacks() {
		if e.Method == string(role) && e.Name == name {
			found = append(found, e)
		}
	}
	if open := slices.IndexFunc(found, func(e storage.Execution) bool { return !e.State.Over() }); open >= 0 {
		return found[open]
	}
	if len(found) > 0 {
		return found[0]
	}
	d.l.t.Fatalf("there is no %s callback %s, only %v", role, name, names(d.callbacks()))
	return storage.Execution{}
}

// callbacks are all rows of them, newest first.
func (d *draft) callbacks() []storage.Execution {
	d.l.t.Helper()
	return d.l.list(storage.Filter{FlowID: d.flow.ID, Kinds: []storage.Kind{storage.KindCallback}, Limit: 10_000})
}

// fired is how often each callback was made a row, by role and name.
func (d *draft) fired() map[string]int {
	d.l.t.Helper()
	n := map[string]int{}
	for _, e := range d.callbacks() {
		n[e.Method+" "+e.Name]++
	}
	return n
}

func (d *draft) wantFired(want map[string]int) {
	d.l.t.Helper()
	d.l.same("callbacks that fired", d.fired(), want)
}

// run ends the newest row of a callback.
func (d *draft) run(role storage.Role, name string, to storage.State) storage.Flow {
	d.l.t.Helper()
	e := d.callback(role, name)
	if e.State == storage.Pending {
		for _, c := range d.l.claim(d.worker) {
			d.held[c.ID] = c
		}
	}
	held, ok := d.held[e.ID]
	if !ok {
		d.l.t.Fatalf("the %s callback %s cannot be claimed, it is %+v", role, name, d.l.get(e.ID))
	}
	if to == storage.Failed {
		return d.finish(failure(held, to, name+" broke"))
	}
	return d.finish(outcome(held, to))
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
		if e.Kind == storage.KindCallback {
			name = e.Method + " " + name
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
