package storagetest

import (
	"fmt"

	"pgregory.net/rapid"

	"github.com/gosequencer/sequencer/storage"
)

func (h *history) enqueueFlow() {
	policy := pick(h, "policy", storage.PolicyStop, storage.PolicyContinue, storage.PolicyCompensate, storage.PolicyCompensate, storage.PolicyAtomic, storage.PolicyAtomic)
	kind := pick(h, "kind", storage.FlowRun, storage.FlowBatch, storage.FlowChain)
	f := storage.Flow{ID: h.id(), Kind: kind, Method: "graph", Policy: policy}
	if h.chance(2, "callbacks") {
		f.Callbacks = h.callbacks()
	}
	r := storage.EnqueueRequest{Flows: []storage.Flow{f}}
	h.members(&r, f.ID, rapid.IntRange(1, 5).Draw(h.rt, "members"))
	if h.chance(2, "nested") {
		most := 3
		if f.Undoes() { // only an empty one may be in it
			most = 0
		}
		h.nest(&r, f.ID, most)
	}
	for _, f := range r.Flows {
		h.flows = append(h.flows, f.ID)
	}
	h.past = append(h.past, r)
	h.send(r)
}

// members adds some to a flow, with edges between them.
func (h *history) members(r *storage.EnqueueRequest, flow storage.ID, n int) []storage.Execution {
	first := len(r.Executions)
	for i := range n {
		e := h.execution()
		e.FlowID, e.Member, e.Position = flow, fmt.Sprintf("m%d", i), i
		r.Executions = append(r.Executions, e)
		h.edges(r, first, e.ID)
	}
	return r.Executions[first:]
}

// edges leads to a row from some of those since first.
func (h *history) edges(r *storage.EnqueueRequest, first int, to storage.ID) {
	for _, from := range r.Executions[first : len(r.Executions)-1] {
		if h.chance(2, "edge") {
			r.Edges = append(r.Edges, storage.Edge{From: from.ID, To: to, Needs: rapid.Bool().Draw(h.rt, "needs")})
		}
	}
}

// nest adds a nested flow to one, of at most so many members, sometimes an empty one.
func (h *history) nest(r *storage.EnqueueRequest, flow storage.ID, most int) {
	stands := h.execution()
	stands.Kind, stands.UniqueKey, stands.UniqueFor, stands.WorkerID, stands.Queue = storage.Nested, "", 0, storage.ID{}, h.queue("one")
	stands.FlowID, stands.Member, stands.Position = flow, "nested", 9
	r.Executions = append(r.Executions, stands)
	h.edges(r, 0, stands.ID)
	f := storage.Flow{
		ID: h.id(), ParentID: stands.ID, Kind: pick(h, "kind", storage.FlowBatch, storage.FlowChain), Method: "graph",
		Policy: pick(h, "policy", storage.PolicyStop, storage.PolicyContinue),
	}
	if h.chance(2, "callbacks") {
		f.Callbacks = h.callbacks()
	}
	r.Flows = append(r.Flows, f)
	h.members(r, f.ID, rapid.IntRange(0, most).Draw(h.rt, "members"))
}

// callbacks draws some, each of one or two rows.
func (h *history) callbacks() []storage.Callback {
	var list []storage.Callback
	for _, role := range []storage.Role{storage.RoleThen, storage.RoleCatch, storage.RoleFinally, storage.RoleProgress} {
		if !h.chance(2, string(role)) {
			continue
		}
		c := storage.Callback{Role: role, Executions: []storage.Execution{h.execution()}}
		if h.chance(3, "two") {
			c.Executions = append(c.Executions, h.execution())
			c.Edges = []storage.Edge{{From: c.Executions[0].ID, To: c.Executions[1].ID}}
		}
		for i := range c.Executions {
			c.Executions[i].UniqueKey, c.Executions[i].UniqueFor = "", 0 // callbacks take theirs when they run
		}
		list = append(list, c)
	}
	return list
}

// added draws what a member adds to its flow.
func (h *history) added(flow storage.ID) storage.Addition {
	a := storage.Addition{Flow: flow, Place: pick(h, "place", storage.PlaceAdd, storage.PlacePrepend, storage.PlaceAppend)}
	for range rapid.IntRange(1, 2).Draw(h.rt, "added") {
		e := h.execution()
		e.FlowID = flow
		a.Executions = append(a.Executions, e)
	}
	return a
}

// joinFlow adds members to a flow from outside.
func (h *history) joinFlow() {
	if len(h.flows) == 0 {
		h.rt.Skip("no flow")
	}
	r := storage.EnqueueRequest{Into: pick(h, "flow", h.flows...)}
	h.members(&r, r.Into, rapid.IntRange(1, 2).Draw(h.rt, "members"))
	h.past = append(h.past, r)
	h.send(r)
}

func (h *history) resumeFlow() {
	if len(h.flows) == 0 {
		h.rt.Skip("no flow")
	}
	o := storage.Order{
		Now: h.now, Actor: "grace@lab", Reason: "because", Action: storage.ActResumeFlow,
		Flow: pick(h, "flow", h.flows...), Force: h.chance(2, "force"),
	}
	write(h, "Operate", o, func(s storage.Store) ([]storage.Execution, error) { return s.Operate(h.ctx, o) })
}

func (h *history) stop() {
	if len(h.flows) == 0 {
		h.rt.Skip("no flow")
	}
	r := storage.StopFlowRequest{
		Now: h.now, ID: pick(h, "flow", h.flows...), Reason: "enough",
		State: pick(h, "state", storage.Cancelled, storage.Interrupted),
	}
	write(h, "StopFlow", r, func(s storage.Store) (storage.Flow, error) { return s.StopFlow(h.ctx, r) })
}
