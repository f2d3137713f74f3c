package settle

import (
	"context"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Stop ends a flow early, see [storage.StopFlowRequest], and tells whether there was
// anything to stop that a person asked for, which the store audits.
func Stop(ctx context.Context, rows Rows, now time.Time, r storage.StopFlowRequest) (_ storage.Flow, audited bool, _ error) {
	w := newWork(rows, now, wholly)
	if err := w.lock(ctx, []storage.ID{r.ID}); err != nil {
		return storage.Flow{}, false, err
	}
	f := w.flows[r.ID]
	if f == nil {
		return storage.Flow{}, false, storage.ErrNotFound
	}
	if f.Over() || f.Phase == storage.PhaseUndo {
		return *f, false, nil
	}
	if err := w.lockAround(ctx, f); err != nil {
		return storage.Flow{}, false, err
	}
	audited = r.Actor != "" && f.StopState != r.State // not a repeat
	f.StopState, f.Reason, f.StopForNow = r.State, r.Reason, r.State == storage.Interrupted
	if err := w.cancelAll(ctx, f, r.Reason, f.StopForNow); err != nil {
		return storage.Flow{}, false, err
	}
	if err := w.advance(ctx, f); err != nil {
		return storage.Flow{}, false, err
	}
	_, err := w.run(ctx)
	return *f, audited, err
}

// lockAround locks the flows that f is nested in, before any row of f is touched: who
// completes a step in one of them has its lock, and then wants rows of f.
func (w *work) lockAround(ctx context.Context, f *storage.Flow) error {
	for !f.ParentID.IsZero() {
		found, err := w.rows.Find(ctx, []storage.ID{f.ParentID})
		if err != nil || len(found) == 0 {
			return err
		}
		if err := w.lock(ctx, []storage.ID{found[0].FlowID}); err != nil {
			return err
		}
		if f = w.flows[found[0].FlowID]; f == nil {
			return nil
		}
	}
	return nil
}

// CancelNested stops the flows that executions stand for, which a person cancelled.
// Other executions are left alone.
func CancelNested(ctx context.Context, rows Rows, now time.Time, executions []storage.Execution, reason string) error {
	var nested []storage.ID
	w := newWork(rows, now, (*storage.Flow).Compensates)
	var around []storage.ID
	for i := range executions {
		if e := &executions[i]; e.Kind == storage.Nested || e.Kind == storage.KindCallback {
			nested, around = append(nested, e.ID), append(around, e.FlowID)
		}
	}
	if len(nested) == 0 {
		return nil
	}
	if err := w.lock(ctx, around); err != nil {
		return err
	}
	if err := w.stopNested(ctx, nested, reason, false); err != nil {
		return err
	}
	_, err := w.run(ctx)
	return err
}

// stopNested stops the flows that pending rows stand for. The rows end when these
// flows do: at once, unless a member runs.
func (w *work) stopNested(ctx context.Context, nested []storage.ID, reason string, forNow bool) error {
	if len(nested) == 0 {
		return nil
	}
	children, err := w.rows.Children(ctx, nested)
	if err != nil {
		return err
	}
	w.know(children)
	for i := range children {
		f := w.flows[children[i].ID]
		if f.Over() || f.Phase == storage.PhaseUndo {
			continue
		}
		if f.StopState == "" {
			f.StopState, f.StopForNow = storage.Cancelled, forNow
		}
		if f.Reason == "" {
			f.Reason = reason
		}
		if err := w.cancelAll(ctx, f, reason, forNow); err != nil {
			return err
		}
		if err := w.advance(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// endOutside ends the row that stands for a flow which is over, as a member of the
// flow around it.
func (w *work) endOutside(ctx context.Context, f *storage.Flow) error {
	end := Nested{ID: f.ParentID, State: f.Outside()}
	if end.State != storage.Completed {
		end.Reason, end.ForNow = f.Reason, end.State == storage.Cancelled && f.StopForNow
	}
	e, was, err := w.rows.EndNested(ctx, w.now, end)
	if err != nil || e.ID.IsZero() {
		return err
	}
	if was == storage.Interrupted && e.Kind == storage.KindCallback {
		return nil // that end was counted
	}
	if was == storage.Interrupted { // a person resolved what interrupted the flow
		if err := w.lock(ctx, []storage.ID{e.FlowID}); err != nil {
			return err
		}
		if around := w.flows[e.FlowID]; around != nil {
			around.Resolve(e.Kind, e.AllowedToFail)
		}
	}
	e.inside, e.failed = true, f.FailedID
	w.ended = append(w.ended, e)
	return nil
}

// claimed ends the empty flow behind a row that a worker completed.
func (w *work) claimed(ctx context.Context, e Ending) error {
	if e.Kind != storage.Nested || e.inside {
		return nil
	}
	children, err := w.rows.Children(ctx, []storage.ID{e.ID})
	if err != nil {
		return err
	}
	w.know(children)
	for i := range children {
		if f := w.flows[children[i].ID]; !f.Over() && f.Open() == 0 {
			if err := w.advance(ctx, f); err != nil {
				return err
			}
		}
	}
	return nil
}
