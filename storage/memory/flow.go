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

// flow is a flow with its members and the edges that lead to them.
type flow struct {
	storage.Flow
	members   []*row
	edges     []storage.Edge
	callbacks []byte
}

// StopFlow implements [storage.Queue].
func (s *Store) StopFlow(ctx context.Context, r storage.StopFlowRequest) (storage.Flow, error) {
	var stopped storage.Flow
	err := s.write(ctx, r.Now, func(t *tx) error {
		if t.flows[r.ID] == nil {
			return fmt.Errorf("flow %s: %w", r.ID, storage.ErrNotFound)
		}
		_, audited, err := settle.Stop(ctx, t, t.now, r)
		if err != nil {
			return err
		}
		stopped = t.flows[r.ID].Flow
		if audited {
			t.addAudit(storage.AuditStopFlow, r.ID.String(), r.Actor, r.Reason, 1)
		}
		return nil
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
	t.out[e.From] = append(t.out[e.From], e)
	t.onRollback(func() {
		f.edges = f.edges[:len(f.edges)-1]
		if left := t.out[e.From][:len(t.out[e.From])-1]; len(left) > 0 {
			t.out[e.From] = left
		} else {
			delete(t.out, e.From)
		}
	})
}

// dropEdges forgets the edges from and to a row that goes.
func (s *Store) dropEdges(r *row) {
	for _, f := range s.flows {
		f.edges = slices.DeleteFunc(f.edges, func(e storage.Edge) bool { return e.From == r.ID || e.To == r.ID })
	}
	delete(s.out, r.ID)
	for from, edges := range s.out {
		s.out[from] = slices.DeleteFunc(edges, func(e storage.Edge) bool { return e.To == r.ID })
	}
}

// outOf calls f for each edge that leaves one of the rows and leads to a pending one.
func (t *tx) outOf(from []storage.ID, f func(storage.Edge, *row)) {
	for _, id := range from {
		for _, e := range t.out[id] {
			if to := t.rows[e.To]; to != nil && to.State == storage.Pending {
				f(e, to)
			}
		}
	}
}

// LockFlows implements [settle.Rows].
func (t *tx) LockFlows(_ context.Context, ids []storage.ID) ([]storage.Flow, error) {
	all := slices.Clone(ids)
	for _, id := range ids {
		if f := t.flows[id]; f != nil {
			all = append(all, f.RootID)
		}
	}
	var flows []storage.Flow
	for _, id := range slices.Compact(slices.SortedFunc(slices.Values(all), compareIDs)) {
		if f := t.flows[id]; f != nil {
			flows = append(flows, f.locked())
		}
	}
	return flows, nil
}

func (f *flow) locked() storage.Flow {
	locked := f.Flow
	locked.Options = bytes.Clone(f.Options)
	return locked
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

// Leaving implements [settle.Rows].
func (t *tx) Leaving(_ context.Context, from []storage.ID) ([]settle.Behind, error) {
	var behind []settle.Behind
	t.outOf(from, func(e storage.Edge, to *row) { behind = append(behind, settle.Behind{Edge: e, Kind: to.Kind}) })
	return behind, nil
}

// Cancel implements [settle.Rows].
func (t *tx) Cancel(_ context.Context, _ time.Time, members []settle.Cancellation) ([]settle.Ending, error) {
	var ended []settle.Ending
	for _, m := range members {
		if r := t.rows[m.ID]; r != nil && r.State == storage.Pending {
			t.cancelRow(r, m.Reason, m.ForNow)
			ended = append(ended, r.ending())
		}
	}
	return ended, nil
}

// cancelRow ends a pending row.
func (t *tx) cancelRow(r *row, reason string, forNow bool) {
	t.change(r, func() {
		r.State, r.Reason, r.ForNow, r.FinishedAt, r.Parked, r.cancel = storage.Cancelled, reason, forNow, t.now, false, false
	})
}

// CancelPending implements [settle.Rows].
func (t *tx) CancelPending(ctx context.Context, now time.Time, id storage.ID, reason string, forNow bool) ([]settle.Ending, error) {
	var members []settle.Cancellation
	for _, r := range t.flows[id].members {
		if r.Kind != storage.Undo && r.Kind != storage.Nested && r.Kind != storage.KindCallback {
			members = append(members, settle.Cancellation{ID: r.ID, Reason: reason, ForNow: forNow})
		}
	}
	return t.Cancel(ctx, now, members)
}

// PendingNested implements [settle.Rows].
func (t *tx) PendingNested(_ context.Context, id storage.ID) ([]storage.ID, error) {
	var nested []storage.ID
	for _, r := range t.flows[id].members {
		if r.Kind == storage.Nested && r.State == storage.Pending {
			nested = append(nested, r.ID)
		}
	}
	return nested, nil
}

// Children implements [settle.Rows].
func (t *tx) Children(_ context.Context, parents []storage.ID) ([]storage.Flow, error) {
	var flows []storage.Flow
	for _, f := range t.flows {
		if slices.Contains(parents, f.ParentID) {
			flows = append(flows, f.locked())
		}
	}
	slices.SortFunc(flows, func(a, b storage.Flow) int { return compareIDs(a.ID, b.ID) })
	return flows, nil
}

// EndNested implements [settle.Rows].
func (t *tx) EndNested(_ context.Context, _ time.Time, end settle.Nested) (settle.Ending, storage.State, error) {
	r := t.rows[end.ID]
	if r == nil || r.State != storage.Pending && r.State != storage.Interrupted {
		return settle.Ending{}, "", nil
	}
	was := r.State
	t.change(r, func() {
		r.State, r.Reason, r.ForNow, r.FinishedAt, r.Parked, r.cancel = end.State, end.Reason, end.ForNow, t.now, false, false
	})
	return r.ending(), was, nil
}

// Find implements [settle.Rows].
func (t *tx) Find(_ context.Context, ids []storage.ID) ([]settle.Ending, error) {
	var found []settle.Ending
	for _, id := range ids {
		if r := t.rows[id]; r != nil {
			found = append(found, r.ending())
		}
	}
	return found, nil
}

// Callbacks implements [settle.Rows].
func (t *tx) Callbacks(_ context.Context, id storage.ID) ([]storage.Callback, error) {
	return storage.DecodeCallbacks(t.flows[id].callbacks)
}

// Held implements [settle.Rows].
func (t *tx) Held(_ context.Context, _ time.Time, keys []string) ([]bool, error) {
	held := make([]bool, len(keys))
	for i, k := range keys {
		held[i] = t.holder(storage.Execution{UniqueKey: k}) != nil
	}
	return held, nil
}

// Hold implements [settle.Rows].
func (t *tx) Hold(_ context.Context, rows []storage.ID) error {
	for _, id := range rows {
		if r := t.rows[id]; r != nil && r.State == storage.Pending {
			t.change(r, func() {
				r.Waits++
				r.DueAt, r.DeadlineAt = time.Time{}, time.Time{}
			})
		}
	}
	return nil
}

// Fallen implements [settle.Rows].
func (t *tx) Fallen(_ context.Context, id storage.ID) ([]settle.Ending, error) {
	var fallen []settle.Ending
	for _, r := range t.flows[id].members {
		if r.Kind != storage.Undo && r.Kind != storage.KindCallback && r.State.CanBecome(storage.Pending) && r.State.Over() {
			fallen = append(fallen, r.ending())
		}
	}
	return fallen, nil
}

// Retake implements [settle.Rows].
func (t *tx) Retake(_ context.Context, _ time.Time, o storage.Order, ids []storage.ID) error {
	for _, id := range ids {
		r := t.rows[id]
		if h := t.holder(r.Execution); h != nil {
			return &storage.DuplicateError{Name: r.Name, Key: r.UniqueKey, HolderID: h.ID}
		}
		t.change(r, func() {
			r.State, r.FinishedAt, r.Reason, r.ForNow, r.Environment = storage.Pending, time.Time{}, "", false, ""
			r.Errors, r.Losses, r.Excused = 0, 0, r.Delivery
			r.Parked, r.cancel, r.Waits = false, false, 0
			r.Queue = cmp.Or(o.Queue, r.Queue)
			r.WorkerID = storage.ID{}
			if r.private() {
				r.WorkerID = o.Home
			}
			r.dueAfter(t.now, 0)
			r.deadlineAnew()
		})
	}
	waits := map[storage.ID]int{}
	around := map[storage.ID]bool{}
	for _, id := range ids {
		around[t.rows[id].FlowID] = true
	}
	for id, f := range t.flows {
		if !f.Over() {
			waits[f.ParentID]++
		}
		if !around[id] {
			continue
		}
		for _, e := range f.edges {
			if from := t.rows[e.From]; from != nil && !from.State.Over() {
				waits[e.To]++
			}
		}
	}
	for _, id := range ids {
		if r := t.rows[id]; waits[id] > 0 {
			t.change(r, func() { r.Waits, r.DueAt, r.DeadlineAt = waits[id], time.Time{}, time.Time{} })
		}
	}
	return nil
}

// Undoable implements [settle.Rows].
func (t *tx) Undoable(_ context.Context, id storage.ID) ([]storage.Execution, error) {
	var found []storage.Execution
	for _, r := range t.flows[id].members {
		if r.Kind != storage.Undo && r.Kind != storage.KindCallback && r.Undoable && r.State == storage.Completed {
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
func (t *tx) Insert(_ context.Context, now time.Time, add settle.Insertion) error {
	for _, f := range add.Flows {
		if err := t.openFlow(f); err != nil {
			return err
		}
	}
	for _, e := range add.Members {
		if t.rows[e.ID] != nil {
			continue
		}
		if t.holder(e) != nil {
			e.UniqueKey = ""
		}
		r := newRow(e, now)
		if r.Waits = add.Waits[e.ID]; r.Waits > 0 {
			r.DueAt, r.DeadlineAt = time.Time{}, time.Time{}
		}
		t.insert(r)
	}
	for _, e := range add.Edges {
		t.addEdge(t.flows[t.rows[e.To].FlowID], e)
	}
	return nil
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
		ID: r.ID, FlowID: r.FlowID, Name: r.Name, Kind: r.Kind, Method: r.Method, State: r.State, ForNow: r.ForNow,
		AllowedToFail: r.AllowedToFail, Undoes: r.Undoes, Message: message,
	}
}
