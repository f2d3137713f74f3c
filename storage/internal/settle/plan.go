package settle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Planned is what a call writes, decided: an [Insertion], and what it adds to the
// flow that is there already.
type Planned struct {
	Insertion
	Gain  storage.Flow    // Total, UndoTotal, CallbacksOpen and LastID that the flow gains
	Outer []storage.Edge  // edges to rows that are there already
	Empty []*storage.Flow // flows that are over at once
}

// Plan decides what flows, executions and edges of one call come to. Executions are
// those that were admitted: an edge from or to one that was left out holds nobody up,
// and goes with it, or is an outer one. into is the flow they join, nil for none.
func Plan(now time.Time, flows []storage.Flow, executions []storage.Execution, edges []storage.Edge, into *storage.Flow) (Planned, error) {
	p := Planned{Insertion: Insertion{Members: executions, Waits: make(map[storage.ID]int, len(executions))}}
	at := make(map[storage.ID]int, len(executions))
	for i := range executions {
		at[executions[i].ID] = i
	}
	p.Flows = make([]storage.Flow, len(flows))
	byID := make(map[storage.ID]*storage.Flow, len(flows)+1)
	if into != nil {
		byID[into.ID] = into
	}
	around := map[storage.ID]storage.ID{} // flow → the one it is nested in
	var undone []*storage.Flow            // nested in one that undoes what it did
	for i := range flows {
		f := &p.Flows[i]
		*f = flows[i]
		if err := fresh(f, now); err != nil {
			return p, err
		}
		if byID[f.ID] != nil {
			return p, fmt.Errorf("flow %s is there twice", f.ID)
		}
		if !f.ParentID.IsZero() {
			k, ok := at[f.ParentID]
			if !ok {
				return p, fmt.Errorf("flow %s is nested in execution %s, which is not written with it", f.ID, f.ParentID)
			}
			outer := byID[executions[k].FlowID]
			if outer == nil {
				return p, fmt.Errorf("flow %s: the flow around it has to come before it", f.ID)
			}
			f.RootID, around[f.ID] = outer.RootID, outer.ID
			if outer.Undoes() {
				undone = append(undone, f)
			}
		}
		byID[f.ID] = f
	}
	for i := range executions {
		if err := p.join(&executions[i], byID, into); err != nil {
			return p, err
		}
	}
	for _, f := range undone {
		if !f.Hollow() {
			return p, fmt.Errorf("flow %s: a flow that undoes what it did when it fails takes no nested flows with members", around[f.ID])
		}
	}
	if err := p.edges(edges, at, around); err != nil {
		return p, err
	}
	p.begin()
	for i := range p.Flows {
		f := &p.Flows[i]
		switch {
		case f.Total+f.UndoTotal > 0 && !f.ParentID.IsZero():
			p.Waits[f.ParentID]++
		case f.Total+f.UndoTotal == 0 && (f.ParentID.IsZero() || p.Waits[f.ParentID] == 0):
			p.Empty = append(p.Empty, f)
		}
	}
	return p, nil
}

// fresh makes a flow of a request one that begins now.
func fresh(f *storage.Flow, now time.Time) error {
	if f.ID.IsZero() {
		return errors.New("a flow needs an id")
	}
	*f = storage.Flow{
		ID: f.ID, Kind: f.Kind, Name: f.Name, Method: f.Method, Policy: f.Policy, Reason: f.Reason, Actor: f.Actor,
		Host: f.Host, Build: f.Build, Options: f.Options, WorkerID: f.WorkerID, ParentID: f.ParentID, RootID: f.ID,
		Phase: storage.PhaseForward, State: storage.Running, CreatedAt: now, Generation: 1,
		Callbacks: f.Callbacks, Roles: storage.RolesOf(f.Callbacks),
	}
	return nil
}

// join counts an execution in its flow.
func (p *Planned) join(e *storage.Execution, flows map[storage.ID]*storage.Flow, into *storage.Flow) error {
	if e.FlowID.IsZero() {
		return nil
	}
	f := flows[e.FlowID]
	if f == nil {
		return fmt.Errorf("%s is to join flow %s, which is neither written with it nor the one to go into: %w", e.Name, e.FlowID, storage.ErrNotFound)
	}
	there := f == into
	switch {
	case e.Kind == storage.KindCallback && there:
		p.Gain.CallbacksOpen++
	case e.Kind == storage.KindCallback:
	case e.Kind == storage.Undo && there:
		p.Gain.UndoTotal++
	case e.Kind == storage.Undo:
		f.UndoTotal++
	case there:
		p.Gain.Total++
		if f.Kind == storage.FlowChain {
			p.Gain.LastID = e.ID
		}
	default:
		f.Total++
		if f.Kind == storage.FlowChain {
			f.LastID = e.ID
		}
	}
	return nil
}

// edges keeps the edges between rows that are written together, each once, and
// counts those that lead to a row. One may lead from a member into a flow that is
// nested behind it; any other that leaves its flow is an error.
func (p *Planned) edges(edges []storage.Edge, at map[storage.ID]int, around map[storage.ID]storage.ID) error {
	type pair struct{ from, to storage.ID }
	seen := make(map[pair]int, len(edges)) // its place among those kept
	for _, e := range edges {
		i, here := at[e.From]
		j, there := at[e.To]
		if here && !there {
			p.Outer = append(p.Outer, e)
		}
		if !here || !there {
			continue
		}
		if k, twice := seen[pair{e.From, e.To}]; twice {
			p.Edges[k].Needs = p.Edges[k].Needs || e.Needs
			continue
		}
		seen[pair{e.From, e.To}] = len(p.Edges)
		from, to := p.Members[i].FlowID, p.Members[j].FlowID
		for in := to; in != from && !in.IsZero(); {
			in = around[in]
			if in == from {
				to = from
			}
		}
		if from != to || from.IsZero() {
			return fmt.Errorf("the edge from %s to %s is not inside one flow", e.From, e.To)
		}
		p.Waits[e.To]++
		p.Edges = append(p.Edges, e)
	}
	return nil
}

// begin leads what leads to a nested flow to the members that it begins with too:
// those that wait for none of it, perhaps because one before them was left out.
func (p *Planned) begin() {
	if !slices.ContainsFunc(p.Flows, func(f storage.Flow) bool { return !f.ParentID.IsZero() }) {
		return
	}
	flowOf := make(map[storage.ID]storage.ID, len(p.Members))
	members := map[storage.ID][]storage.ID{}
	for i := range p.Members {
		e := &p.Members[i]
		flowOf[e.ID] = e.FlowID
		members[e.FlowID] = append(members[e.FlowID], e.ID)
	}
	into := map[storage.ID][]storage.Edge{}
	inside := map[storage.ID]bool{}
	for _, e := range p.Edges {
		into[e.To] = append(into[e.To], e)
		inside[e.To] = inside[e.To] || flowOf[e.From] == flowOf[e.To]
	}
	for i := range p.Flows { // outermost first
		f := &p.Flows[i]
		for _, first := range members[f.ID] {
			if f.ParentID.IsZero() || inside[first] {
				continue
			}
			for _, e := range into[f.ParentID] {
				if slices.ContainsFunc(into[first], func(x storage.Edge) bool { return x.From == e.From }) {
					continue
				}
				e.To = first
				p.Edges = append(p.Edges, e)
				p.Waits[first]++
				into[first] = append(into[first], e)
			}
		}
	}
}

// Grow adds what was planned to the counters of the flow that it goes into.
func (p *Planned) Grow(f *storage.Flow) {
	f.Total += p.Gain.Total
	f.UndoTotal += p.Gain.UndoTotal
	if !p.Gain.LastID.IsZero() {
		f.LastID = p.Gain.LastID
	}
}

// Opened ends the empty flows of an Enqueue, which no ending will ever end, after they
// were inserted.
func Opened(ctx context.Context, rows Rows, now time.Time, p *Planned) error {
	if len(p.Empty) == 0 {
		return nil
	}
	w := newWork(rows, now, neverUndo)
	if err := w.opened(ctx, p); err != nil {
		return err
	}
	_, err := w.run(ctx)
	return err
}

func (w *work) opened(ctx context.Context, p *Planned) error {
	w.know(p.Flows)
	for i := range p.Flows { // a flow is saved and told of without them
		p.Flows[i].Callbacks = nil
	}
	for i := len(p.Empty) - 1; i >= 0; i-- { // innermost first
		if err := w.advance(ctx, w.flows[p.Empty[i].ID]); err != nil {
			return err
		}
	}
	return nil
}
