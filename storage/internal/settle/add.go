package settle

import (
	"context"
	"fmt"

	"github.com/gosequencer/sequencer/storage"
)

// Admit locks the flow that an Enqueue goes into and returns it, unless it takes no
// more members.
func Admit(ctx context.Context, rows Rows, id storage.ID) (storage.Flow, error) {
	flows, err := rows.LockFlows(ctx, []storage.ID{id})
	if err != nil {
		return storage.Flow{}, err
	}
	for _, f := range flows {
		if f.ID == id {
			return f, f.Admits()
		}
	}
	return storage.Flow{}, fmt.Errorf("flow %s: %w", id, storage.ErrNotFound)
}

// add writes what a member adds as it completes, before its end is settled.
func (w *work) add(ctx context.Context, by Ending, a storage.Addition) error {
	f, own := w.flows[a.Flow], w.flows[by.FlowID]
	if f == nil || own == nil || own.RootID != f.RootID {
		return fmt.Errorf("%s adds to flow %s, which it is no part of: %w", by.Name, a.Flow, storage.ErrNotFound)
	}
	if f.Over() || f.Hollow() {
		return f.Admits()
	}
	members, err := w.free(ctx, a.Executions)
	if err != nil {
		return err
	}
	position := f.Total
	for i := range members {
		if members[i].FlowID == f.ID {
			members[i].Position = position
			position++
		}
	}
	p, err := Plan(w.now, a.Flows, members, a.Edges, f)
	if err != nil {
		return err
	}
	if a.Place == storage.PlacePrepend || a.Place == storage.PlaceAppend {
		err = w.line(ctx, by, f, a.Place, &p)
	} else {
		err = w.outer(ctx, &p)
	}
	if err != nil {
		return err
	}
	if err := w.rows.Insert(ctx, w.now, p.Insertion); err != nil {
		return err
	}
	p.Grow(f)
	w.touched[f.ID] = true
	if err := w.opened(ctx, &p); err != nil {
		return err
	}
	if f.Stopping() {
		return w.cancelAll(ctx, f, f.Reason, f.StopState == "" || f.StopForNow)
	}
	return nil
}

// free leaves out executions whose unique key is held.
func (w *work) free(ctx context.Context, executions []storage.Execution) ([]storage.Execution, error) {
	var keys []string
	for i := range executions {
		if k := executions[i].UniqueKey; k != "" {
			keys = append(keys, k)
		}
	}
	taken := map[string]bool{}
	if len(keys) > 0 {
		held, err := w.rows.Held(ctx, w.now, keys)
		if err != nil {
			return nil, err
		}
		for i, k := range keys {
			taken[k] = held[i]
		}
	}
	free := make([]storage.Execution, 0, len(executions))
	for _, e := range executions {
		if e.UniqueKey != "" && taken[e.UniqueKey] {
			continue
		}
		taken[e.UniqueKey] = true
		free = append(free, e)
	}
	return free, nil
}

// outer keeps the edges that lead from what is added to pending members.
func (w *work) outer(ctx context.Context, p *Planned) error {
	if len(p.Outer) == 0 {
		return nil
	}
	ids := make([]storage.ID, len(p.Outer))
	for i, e := range p.Outer {
		ids[i] = e.To
	}
	found, err := w.rows.Find(ctx, ids)
	if err != nil {
		return err
	}
	flowOf := map[storage.ID]storage.ID{}
	for i := range p.Members {
		flowOf[p.Members[i].ID] = p.Members[i].FlowID
	}
	pending := map[storage.ID]storage.ID{} // and the flow they are in
	for _, e := range found {
		if e.State == storage.Pending {
			pending[e.ID] = e.FlowID
		}
	}
	var hold []storage.ID
	seen := map[storage.Edge]bool{}
	for _, e := range p.Outer {
		pair := storage.Edge{From: e.From, To: e.To}
		flow, ok := pending[e.To]
		if !ok || seen[pair] {
			continue
		}
		if flow != flowOf[e.From] {
			return fmt.Errorf("the edge from %s to %s is not inside one flow", e.From, e.To)
		}
		seen[pair] = true
		p.Edges = append(p.Edges, e)
		hold = append(hold, e.To)
	}
	if len(hold) == 0 {
		return nil
	}
	return w.rows.Hold(ctx, hold)
}

// line joins what is added to the flow itself into a line: behind the member that
// adds it and before what is behind that one, or behind the last member.
func (w *work) line(ctx context.Context, by Ending, f *storage.Flow, place storage.Place, p *Planned) error {
	entries := p.entries(f.ID)
	if len(entries) == 0 {
		return nil
	}
	anchor, err := w.anchor(ctx, by, f)
	if err != nil {
		return err
	}
	join := func(from storage.ID, to ...storage.ID) {
		for _, id := range to {
			p.Edges = append(p.Edges, storage.Edge{From: from, To: id, Needs: true})
			p.Waits[id]++
		}
	}
	for i := range entries[1:] {
		join(entries[i][0], entries[i+1]...)
	}
	last := entries[len(entries)-1][0]
	if place == storage.PlaceAppend && f.LastID != anchor {
		p.Gain.LastID = last
		if f.LastID.IsZero() {
			return nil
		}
		found, err := w.rows.Find(ctx, []storage.ID{f.LastID})
		if err == nil && len(found) > 0 && !found[0].State.Over() {
			join(f.LastID, entries[0]...)
		}
		return err
	}
	join(anchor, entries[0]...)
	behind, err := w.rows.Leaving(ctx, []storage.ID{anchor})
	if err != nil {
		return err
	}
	p.Gain.LastID = storage.ID{}
	if f.LastID == anchor {
		p.Gain.LastID = last
	}
	hold := make([]storage.ID, len(behind))
	for i, b := range behind {
		p.Edges = append(p.Edges, storage.Edge{From: last, To: b.To, Needs: b.Needs})
		hold[i] = b.To
	}
	if len(hold) == 0 {
		return nil
	}
	return w.rows.Hold(ctx, hold)
}

// anchor is the member of f that ends: by itself, or the one that stands for the
// flow that by is in.
func (w *work) anchor(ctx context.Context, by Ending, f *storage.Flow) (storage.ID, error) {
	id := by.ID
	for in := w.flows[by.FlowID]; in != nil && in.ID != f.ID; {
		found, err := w.rows.Find(ctx, []storage.ID{in.ParentID})
		if err != nil {
			return id, err
		}
		if len(found) == 0 {
			break
		}
		id = found[0].ID
		if err := w.lock(ctx, []storage.ID{found[0].FlowID}); err != nil {
			return id, err
		}
		in = w.flows[found[0].FlowID]
	}
	return id, nil
}

// entries returns for each planned member of a flow the rows that an edge to it has to
// lead to: the member itself first, then those of a flow nested in it that wait for
// nobody inside.
func (p *Planned) entries(flow storage.ID) [][]storage.ID {
	inside := map[storage.ID][]storage.ID{} // a flow → the rows in it that no edge leads to
	behind := map[storage.ID]bool{}
	for _, e := range p.Edges {
		behind[e.To] = true
	}
	var top []storage.ID
	for i := range p.Members {
		switch e := &p.Members[i]; {
		case e.FlowID == flow:
			top = append(top, e.ID)
		case !behind[e.ID]:
			inside[e.FlowID] = append(inside[e.FlowID], e.ID)
		}
	}
	nested := map[storage.ID]storage.ID{}
	for i := range p.Flows {
		nested[p.Flows[i].ParentID] = p.Flows[i].ID
	}
	var into func(id storage.ID) []storage.ID
	into = func(id storage.ID) []storage.ID {
		list := []storage.ID{id}
		if f, ok := nested[id]; ok {
			for _, row := range inside[f] {
				list = append(list, into(row)...)
			}
		}
		return list
	}
	entries := make([][]storage.ID, len(top))
	for i, id := range top {
		entries[i] = into(id)
	}
	return entries
}
