package memory

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// flow is a flow with its members and edges.
type flow struct {
	storage.Flow
	members []*row
	edges   []storage.Edge
	out     map[storage.ID][]storage.Edge // edges by where they leave from
}

// StopFlow implements [storage.Queue].
func (s *Store) StopFlow(ctx context.Context, r storage.StopFlowRequest) (storage.Flow, error) {
	var stopped storage.Flow
	err := s.write(ctx, r.Now, func(t *tx) (err error) {
		if t.flows[r.ID] == nil {
			return fmt.Errorf("flow %s: %w", r.ID, storage.ErrNotFound)
		}
		if _, err = settle.Stop(ctx, t, t.now, r); err == nil {
			stopped = t.flows[r.ID].Flow
		}
		return err
	})
	return stopped, err
}

var _ settle.Rows = (*tx)(nil)

// changeFlow is the only way an existing flow is written.
func (t *tx) changeFlow(f *flow, do func()) {
	was := f.Flow
	do()
	t.onRollback(func() { f.Flow = was })
}

func (t *tx) addEdge(f *flow, e storage.Edge) {
	f.edges = append(f.edges, e)
	f.out[e.From] = append(f.out[e.From], e)
	t.onRollback(func() {
		f.edges = f.edges[:len(f.edges)-1]
		f.out[e.From] = f.out[e.From][:len(f.out[e.From])-1]
	})
}

// dropEdges forgets the edges from and to a row that goes.
func (s *Store) dropEdges(r *row) {
	f := s.flows[r.FlowID]
	if f == nil {
		return
	}
	f.edges = slices.DeleteFunc(f.edges, func(e storage.Edge) bool { return e.From == r.ID || e.To == r.ID })
	delete(f.out, r.ID)
	for from, edges := range f.out {
		f.out[from] = slices.DeleteFunc(edges, func(e storage.Edge) bool { return e.To == r.ID })
	}
}

// outOf calls f for each edge that leaves one of the rows and leads to a pending one.
func (t *tx) outOf(from []storage.ID, f func(storage.Edge, *row)) {
	for _, id := range from {
		r := t.rows[id]
		if r == nil || t.flows[r.FlowID] == nil {
			continue
		}
		for _, e := range t.flows[r.FlowID].out[id] {
			if to := t.rows[e.To]; to != nil && to.State == storage.Pending {
				f(e, to)
			}
		}
	}
}

// LockFlows implements [settle.Rows].
func (t *tx) LockFlows(_ context.Context, ids []storage.ID) ([]storage.Flow, error) {
	var flows []storage.Flow
	for _, id := range slices.SortedFunc(slices.Values(ids), compareIDs) {
		if f := t.flows[id]; f != nil {
			locked := f.Flow
			locked.Options = bytes.Clone(f.Options)
			flows = append(flows, locked)
		}
	}
	return flows, nil
}

// SaveFlow implements [settle.Rows].
func (t *tx) SaveFlow(_ context.Context, f storage.Flow) error {
	kept := t.flows[f.ID]
	t.changeFlow(kept, func() { kept.Flow = f })
	return nil
}

// Release implements [settle.Rows].
func (t *tx) Release(_ context.Context, now time.Time, from []storage.ID, needs bool) error {
	t.outOf(from, func(e storage.Edge, to *row) {
		if e.Needs && !needs || to.Waits == 0 {
			return
		}
		t.change(to, func() {
			if to.Waits--; to.Waits == 0 {
				to.dueAfter(now, to.Delay)
				to.deadlineAnew()
			}
		})
	})
	return nil
}

// Needing implements [settle.Rows].
func (t *tx) Needing(_ context.Context, from []storage.ID) ([]storage.Edge, error) {
	var edges []storage.Edge
	t.outOf(from, func(e storage.Edge, _ *row) {
		if e.Needs {
			edges = append(edges, e)
		}
	})
	return edges, nil
}

// Cancel implements [settle.Rows].
func (t *tx) Cancel(_ context.Context, _ time.Time, members []settle.Cancellation) ([]settle.Ending, error) {
	var ended []settle.Ending
	for _, m := range members {
		if r := t.rows[m.ID]; r != nil && r.State == storage.Pending {
			t.cancelRow(r, m.Reason)
			ended = append(ended, r.ending())
		}
	}
	return ended, nil
}

// cancelRow ends a pending row.
func (t *tx) cancelRow(r *row, reason string) {
	t.change(r, func() {
		r.State, r.Reason, r.FinishedAt, r.Parked, r.cancel = storage.Cancelled, reason, t.now, false, false
	})
}

// CancelPending implements [settle.Rows].
func (t *tx) CancelPending(ctx context.Context, now time.Time, id storage.ID, reason string) ([]settle.Ending, error) {
	var members []settle.Cancellation
	for _, r := range t.flows[id].members {
		if r.Kind != storage.Undo {
			members = append(members, settle.Cancellation{ID: r.ID, Reason: reason})
		}
	}
	return t.Cancel(ctx, now, members)
}

// Undoable implements [settle.Rows].
func (t *tx) Undoable(_ context.Context, id storage.ID) ([]storage.Execution, error) {
	var found []storage.Execution
	for _, r := range t.flows[id].members {
		if r.Kind != storage.Undo && r.Undoable && r.State == storage.Completed {
			found = append(found, r.Execution)
		}
	}
	slices.SortStableFunc(found, func(a, b storage.Execution) int {
		return cmp.Or(b.FinishedAt.Compare(a.FinishedAt), cmp.Compare(b.Position, a.Position))
	})
	return found, nil
}

// Insert implements [settle.Rows]. A row whose unique key another live row holds
// goes in without it: a step that must happen now cannot wait for a stranger.
func (t *tx) Insert(_ context.Context, now time.Time, members []storage.Execution, edges []storage.Edge) error {
	added := map[storage.ID]*row{}
	for _, e := range members {
		if t.rows[e.ID] != nil {
			continue
		}
		if t.holder(e) != nil {
			e.UniqueKey = ""
		}
		added[e.ID] = newRow(e, now)
		t.insert(added[e.ID])
	}
	return t.join(edges, added)
}

// MarkUndone implements [settle.Rows].
func (t *tx) MarkUndone(_ context.Context, _ time.Time, target storage.ID) error {
	if r := t.rows[target]; r != nil && r.State.CanBecome(storage.RolledBack) {
		t.change(r, func() { r.State, r.UndoError = storage.RolledBack, "" })
	}
	return nil
}

// MarkUndoFailed implements [settle.Rows].
func (t *tx) MarkUndoFailed(_ context.Context, target storage.ID, message string) error {
	if r := t.rows[target]; r != nil {
		t.change(r, func() { r.UndoError = message })
	}
	return nil
}

// ending is what the flow rules need to know of a row that is over.
func (r *row) ending() settle.Ending {
	message := r.LastError
	if r.State == storage.Skipped || r.State == storage.Cancelled {
		message = r.Reason
	}
	return settle.Ending{
		ID: r.ID, FlowID: r.FlowID, Name: r.Name, Kind: r.Kind, State: r.State, ForNow: r.ForNow,
		AllowedToFail: r.AllowedToFail, Undoes: r.Undoes, Message: message,
	}
}
