// Package settle carries out the flow rules of [storage.Flow] for any backend
// that can do a handful of primitive steps inside one transaction. The rules are
// decisions, so they exist once, here; the statements are the backend's own.
//
// The entry points are [Endings], called with the members that a verb ended,
// [Resolved] for those that a person gave another end, and [Stop]. All leave every
// flow they touch saved.
package settle

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Ending is a member of a flow that is over.
type Ending struct {
	ID            storage.ID
	FlowID        storage.ID
	Name          string
	Kind          storage.Kind
	State         storage.State
	ForNow        bool
	AllowedToFail bool
	Undoes        storage.ID
	Message       string // its last error, or the reason it was skipped or cancelled
}

// Cancellation is a pending member that will not run, and why.
type Cancellation struct {
	ID     storage.ID
	Reason string
}

// Rows are the steps a backend provides, all inside the caller's transaction.
type Rows interface {
	// LockFlows returns the flows, locked against other transactions, in id order.
	LockFlows(ctx context.Context, ids []storage.ID) ([]storage.Flow, error)
	// SaveFlow writes counters, phase, state, reason, stop state and finished_at.
	SaveFlow(ctx context.Context, f storage.Flow) error
	// Release lowers Waits of the pending members behind the edges that leave from,
	// by one per edge; those at zero become due (now + Delay, deadline now + Delay +
	// RetryFor). With needs false, edges with Needs stay unsettled.
	Release(ctx context.Context, now time.Time, from []storage.ID, needs bool) error
	// Needing returns the edges with Needs that leave from and lead to pending members.
	Needing(ctx context.Context, from []storage.ID) ([]storage.Edge, error)
	// Cancel makes the pending ones among the members cancelled and returns them.
	Cancel(ctx context.Context, now time.Time, members []Cancellation) ([]Ending, error)
	// CancelPending does the same for all pending forward members of a flow.
	CancelPending(ctx context.Context, now time.Time, flow storage.ID, reason string) ([]Ending, error)
	// Undoable returns the completed, undoable forward members of a flow, newest
	// FinishedAt first, then highest Position, complete rows.
	Undoable(ctx context.Context, flow storage.ID) ([]storage.Execution, error)
	// Insert adds members and edges to a flow, as Enqueue does.
	Insert(ctx context.Context, now time.Time, members []storage.Execution, edges []storage.Edge) error
	// MarkUndone makes a completed execution rolled back.
	MarkUndone(ctx context.Context, now time.Time, target storage.ID) error
	// MarkUndoFailed stores why undoing an execution failed.
	MarkUndoFailed(ctx context.Context, target storage.ID, message string) error
}

// Advancer is a backend that can do the commonest step of a flow at once: Advance
// raises Completed by n in a flow that goes on all the same (forward, and with a
// member still open after it), and reports whether it did. What it did not do is
// settled step by step.
type Advancer interface {
	Advance(ctx context.Context, flow storage.ID, n int) (bool, error)
}

// Endings applies the rules for members that are over and returns the flows they
// belong to, as they stand afterwards, in id order. Endings of no flow are ignored
// but for what they undo.
func Endings(ctx context.Context, rows Rows, now time.Time, endings []Ending) ([]storage.Flow, error) {
	return apply(ctx, rows, now, endings, (*storage.Flow).Compensates)
}

// Resolved does the same for interrupted members that a person gave another end,
// except that nothing is compensated (see [storage.Flow.Resolve]).
func Resolved(ctx context.Context, rows Rows, now time.Time, endings []Ending) ([]storage.Flow, error) {
	return apply(ctx, rows, now, endings, func(*storage.Flow) bool { return false })
}

func apply(ctx context.Context, rows Rows, now time.Time, endings []Ending, undo func(*storage.Flow) bool) ([]storage.Flow, error) {
	byFlow := map[storage.ID][]Ending{}
	for _, e := range endings {
		if e.Kind == storage.Undo {
			if err := markUndo(ctx, rows, now, e); err != nil {
				return nil, err
			}
		}
		if !e.FlowID.IsZero() {
			byFlow[e.FlowID] = append(byFlow[e.FlowID], e)
		}
	}
	if len(byFlow) == 0 {
		return nil, nil
	}
	ids := make([]storage.ID, 0, len(byFlow))
	for id := range byFlow {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b storage.ID) int { return slices.Compare(a[:], b[:]) })
	ids, err := advanced(ctx, rows, now, ids, byFlow)
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	flows, err := rows.LockFlows(ctx, ids)
	if err != nil {
		return nil, err
	}
	for i := range flows {
		if err := settle(ctx, rows, now, &flows[i], byFlow[flows[i].ID], undo); err != nil {
			return nil, err
		}
	}
	return flows, nil
}

// advanced takes the commonest step where the backend can, and returns the flows
// for which it could not.
func advanced(ctx context.Context, rows Rows, now time.Time, ids []storage.ID, byFlow map[storage.ID][]Ending) ([]storage.ID, error) {
	can, ok := rows.(Advancer)
	if !ok {
		return ids, nil
	}
	var left []storage.ID
	for _, id := range ids {
		ended := byFlow[id]
		if slices.ContainsFunc(ended, func(e Ending) bool { return e.Kind == storage.Undo || e.State != storage.Completed }) {
			left = append(left, id)
			continue
		}
		did, err := can.Advance(ctx, id, len(ended))
		if err != nil {
			return nil, err
		}
		if !did {
			left = append(left, id)
			continue
		}
		from := make([]storage.ID, len(ended))
		for i, e := range ended {
			from[i] = e.ID
		}
		if err := rows.Release(ctx, now, from, true); err != nil {
			return nil, err
		}
	}
	return left, nil
}

// Stop ends a flow early, see [storage.StopFlowRequest].
func Stop(ctx context.Context, rows Rows, now time.Time, r storage.StopFlowRequest) (storage.Flow, error) {
	flows, err := rows.LockFlows(ctx, []storage.ID{r.ID})
	if err != nil {
		return storage.Flow{}, err
	}
	if len(flows) == 0 {
		return storage.Flow{}, storage.ErrNotFound
	}
	f := flows[0]
	if f.Over() || f.Phase == storage.PhaseUndo {
		return f, nil
	}
	f.StopState, f.Reason = r.State, r.Reason
	cancelled, err := rows.CancelPending(ctx, now, f.ID, r.Reason)
	if err != nil {
		return storage.Flow{}, err
	}
	for _, c := range cancelled {
		f.Count(c.Kind, c.State, c.AllowedToFail, 1)
	}
	err = advance(ctx, rows, now, &f, false)
	return f, err
}

// settle applies rules 1 to 3 to one flow, then lets it advance.
func settle(ctx context.Context, rows Rows, now time.Time, f *storage.Flow, ended []Ending, undo func(*storage.Flow) bool) error {
	stopped := ""
	for work := ended; len(work) > 0; {
		var good, bad []storage.ID
		names := map[storage.ID]Ending{}
		for _, e := range work {
			f.Count(e.Kind, e.State, e.AllowedToFail, 1)
			if f.Stops(e.Kind, e.State, e.AllowedToFail) && stopped == "" {
				stopped = e.Name + " " + string(e.State)
			}
			if storage.Satisfies(e.State, e.ForNow) {
				good = append(good, e.ID)
			} else {
				bad = append(bad, e.ID)
				names[e.ID] = e
			}
		}
		if stopped != "" {
			break
		}
		if len(good) > 0 {
			if err := rows.Release(ctx, now, good, true); err != nil {
				return err
			}
		}
		work = nil
		if len(bad) > 0 {
			var err error
			if work, err = cancelNeeding(ctx, rows, now, bad, names); err != nil {
				return err
			}
		}
	}
	if stopped != "" {
		if f.Reason == "" {
			f.Reason = stopped
		}
		cancelled, err := rows.CancelPending(ctx, now, f.ID, stopped)
		if err != nil {
			return err
		}
		for _, c := range cancelled {
			f.Count(c.Kind, c.State, c.AllowedToFail, 1)
		}
	}
	return advance(ctx, rows, now, f, undo(f))
}

// cancelNeeding cancels the members that need one which ended badly, and then
// releases those that merely come after it. In this order, because releasing a
// member that is about to be cancelled would make it claimable for no reason.
func cancelNeeding(ctx context.Context, rows Rows, now time.Time, bad []storage.ID, names map[storage.ID]Ending) ([]Ending, error) {
	needing, err := rows.Needing(ctx, bad)
	if err != nil {
		return nil, err
	}
	var cancelled []Ending
	if len(needing) > 0 {
		seen := map[storage.ID]bool{}
		var list []Cancellation
		for _, edge := range needing {
			if !seen[edge.To] {
				seen[edge.To] = true
				from := names[edge.From]
				list = append(list, Cancellation{ID: edge.To, Reason: "needs " + from.Name + ", which is " + string(from.State)})
			}
		}
		if cancelled, err = rows.Cancel(ctx, now, list); err != nil {
			return nil, err
		}
	}
	return cancelled, rows.Release(ctx, now, bad, false)
}

// advance applies rule 4 if it is due, and rule 6, and saves the flow.
func advance(ctx context.Context, rows Rows, now time.Time, f *storage.Flow, undo bool) error {
	if undo {
		targets, err := rows.Undoable(ctx, f.ID)
		if err != nil {
			return err
		}
		if len(targets) > 0 {
			members, edges := undoLine(f, targets)
			if err := rows.Insert(ctx, now, members, edges); err != nil {
				return err
			}
			f.Phase = storage.PhaseUndo
			f.UndoTotal = len(members)
		}
	}
	if f.Open() == 0 && f.UndoOpen() == 0 {
		f.State = f.Verdict()
		f.FinishedAt = now
	}
	return rows.SaveFlow(ctx, *f)
}

// undoLine builds rule 4's members: one after the other, whatever becomes of each.
func undoLine(f *storage.Flow, targets []storage.Execution) ([]storage.Execution, []storage.Edge) {
	members := make([]storage.Execution, len(targets))
	edges := make([]storage.Edge, 0, len(targets)-1)
	for i, t := range targets {
		members[i] = t.Undo()
		members[i].ID = storage.UndoID(t.ID)
		members[i].FlowID = f.ID
		members[i].Position = f.Total + i
		if i > 0 {
			edges = append(edges, storage.Edge{From: members[i-1].ID, To: members[i].ID})
		}
	}
	return members, edges
}

func markUndo(ctx context.Context, rows Rows, now time.Time, e Ending) error {
	if e.State == storage.Completed {
		return rows.MarkUndone(ctx, now, e.Undoes)
	}
	return rows.MarkUndoFailed(ctx, e.Undoes, strings.TrimSpace(e.Message))
}
