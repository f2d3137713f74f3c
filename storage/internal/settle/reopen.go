package settle

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Retry takes the executions of an order back, and with them what it says of flows,
// see [storage.Order].
func Retry(ctx context.Context, rows Rows, now time.Time, o storage.Order, found []storage.Execution) error {
	for i := range found {
		if e := &found[i]; !retryable(e.State) || e.Kind == storage.KindApproval { // an answer is for good
			return &storage.TransitionError{ID: e.ID, Name: e.Name, From: e.State, To: storage.Pending}
		}
	}
	r := newReopening(rows, now, o)
	var flows []storage.ID
	for i := range found {
		flows = append(flows, found[i].FlowID)
	}
	if err := r.lock(ctx, flows); err != nil {
		return err
	}
	for i := range found {
		e := &found[i]
		if f := r.flows[e.FlowID]; f != nil && e.Kind != storage.KindCallback && !f.Retryable() {
			return fmt.Errorf("retry %s (%s): its flow %s is still open", e.Name, e.ID, f.ID)
		}
	}
	for i := range found {
		if err := r.retry(ctx, asEnding(&found[i])); err != nil {
			return err
		}
	}
	_, err := r.done(ctx)
	return err
}

func retryable(s storage.State) bool {
	return s == storage.Failed || s == storage.Cancelled || s == storage.Interrupted
}

func asEnding(e *storage.Execution) Ending {
	return Ending{
		ID: e.ID, FlowID: e.FlowID, Name: e.Name, Kind: e.Kind, Method: e.Method, State: e.State, ForNow: e.ForNow,
		AllowedToFail: e.AllowedToFail, Undoes: e.Undoes,
	}
}

// Resume takes a flow back as an order says and returns what it took, in id order.
func Resume(ctx context.Context, rows Rows, now time.Time, o storage.Order) ([]storage.ID, error) {
	r := newReopening(rows, now, o)
	r.whole = true
	if err := r.lock(ctx, []storage.ID{o.Flow}); err != nil {
		return nil, err
	}
	f := r.flows[o.Flow]
	switch {
	case f == nil:
		return nil, fmt.Errorf("flow %s: %w", o.Flow, storage.ErrNotFound)
	case !f.Over():
		return nil, fmt.Errorf("resume flow %s: it is still open", f.ID)
	case f.Phase == storage.PhaseUndo:
		return nil, fmt.Errorf("resume flow %s: what it did was undone; dispatch it anew", f.ID)
	case o.Force:
	case f.Interrupted > 0:
		return nil, fmt.Errorf("resume flow %s: a member is interrupted; resolve it, or force the flow", f.ID)
	case f.StopState == storage.Cancelled && !f.StopForNow:
		return nil, fmt.Errorf("resume flow %s: it was cancelled (%s); force it", f.ID, f.Reason)
	}
	n, err := r.inside(ctx, f)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, fmt.Errorf("resume flow %s: no member failed or was cancelled because of another", f.ID)
	}
	if err := r.outside(ctx, f); err != nil {
		return nil, err
	}
	return r.done(ctx)
}

// reopening is an order that takes members back.
type reopening struct {
	*work
	o     storage.Order
	whole bool // a flow is resumed, not single members retried
	taken map[storage.ID]bool
	begun map[storage.ID]bool // flows with a new generation
	again []*storage.Flow     // nested ones that were stopped after all they did: they end anew
}

func newReopening(rows Rows, now time.Time, o storage.Order) *reopening {
	return &reopening{work: newWork(rows, now, neverUndo), o: o, taken: map[storage.ID]bool{}, begun: map[storage.ID]bool{}}
}

// retry takes one row of an order back.
func (r *reopening) retry(ctx context.Context, e Ending) error {
	if r.taken[e.ID] {
		return nil
	}
	f := r.flows[e.FlowID]
	if children, err := r.children(ctx, e); err != nil {
		return err
	} else if len(children) > 0 {
		took, err := r.nested(ctx, e, children)
		if err == nil && !took {
			err = fmt.Errorf("retry %s (%s): no member of flow %s failed, or it was cancelled; resume that flow with force", e.Name, e.ID, children[0].ID)
		}
		if err != nil || f == nil {
			return err
		}
		return r.outside(ctx, f)
	}
	r.take(e)
	if f == nil || e.Kind == storage.KindCallback {
		return nil
	}
	if f.Kind == storage.FlowChain && comesBack(e) {
		if err := r.revive(ctx, f); err != nil {
			return err
		}
	}
	return r.outside(ctx, f)
}

// children are the flows that a row stands for.
func (r *reopening) children(ctx context.Context, e Ending) ([]*storage.Flow, error) {
	if e.Kind != storage.Nested && e.Kind != storage.KindCallback {
		return nil, nil
	}
	found, err := r.rows.Children(ctx, []storage.ID{e.ID})
	if err != nil {
		return nil, err
	}
	r.know(found)
	children := make([]*storage.Flow, len(found))
	for i := range found {
		children[i] = r.flows[found[i].ID]
	}
	return children, nil
}

// nested takes back the row of a nested flow with what comes back in that flow, and
// reports whether anything did.
func (r *reopening) nested(ctx context.Context, e Ending, children []*storage.Flow) (bool, error) {
	took := false
	for _, f := range children {
		if !f.Over() || f.Phase == storage.PhaseUndo {
			continue
		}
		stopped := f.StopState != "" && (f.StopForNow || r.o.Force)
		n, err := r.inside(ctx, f)
		if err != nil {
			return false, err
		}
		if n == 0 && stopped && f.Failed == 0 && f.Interrupted == 0 && f.Cancelled == 0 {
			r.begin(f)
			f.State, f.StopState, f.StopForNow, f.Reason, f.FinishedAt = storage.Running, "", false, "", time.Time{}
			r.again = append(r.again, f)
			n = 1
		}
		took = took || n > 0
	}
	if took {
		r.take(e)
	}
	return took, nil
}

// inside takes back the members of a flow that a resumed flow takes back, and returns
// how many.
func (r *reopening) inside(ctx context.Context, f *storage.Flow) (int, error) {
	return r.fallen(ctx, f, func(e Ending) bool {
		return e.State == storage.Failed && !e.AllowedToFail || e.State == storage.Cancelled && e.ForNow || r.o.Force && e.State != storage.Failed
	})
}

// revive takes back what was cancelled because of another member.
func (r *reopening) revive(ctx context.Context, f *storage.Flow) error {
	_, err := r.fallen(ctx, f, func(e Ending) bool { return e.State == storage.Cancelled && e.ForNow })
	return err
}

func (r *reopening) fallen(ctx context.Context, f *storage.Flow, which func(Ending) bool) (int, error) {
	fallen, err := r.rows.Fallen(ctx, f.ID)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, e := range fallen {
		if !which(e) || r.taken[e.ID] {
			continue
		}
		children, err := r.children(ctx, e)
		if err != nil {
			return n, err
		}
		if len(children) == 0 {
			r.take(e)
		} else if took, err := r.nested(ctx, e, children); err != nil || !took {
			if err != nil {
				return n, err
			}
			continue
		}
		n++
	}
	return n, nil
}

// outside takes back the row that stands for a flow, and opens the flow around it. A
// row that completed stays so: what is around it went on (Q6.10).
func (r *reopening) outside(ctx context.Context, f *storage.Flow) error {
	if f.ParentID.IsZero() {
		return nil
	}
	found, err := r.rows.Find(ctx, []storage.ID{f.ParentID})
	if err != nil || len(found) == 0 || !retryable(found[0].State) || r.taken[f.ParentID] {
		return err
	}
	e := found[0]
	if err := r.lock(ctx, []storage.ID{e.FlowID}); err != nil {
		return err
	}
	r.take(e)
	around := r.flows[e.FlowID]
	if around == nil || e.Kind == storage.KindCallback {
		return nil
	}
	if r.whole || around.Kind == storage.FlowChain {
		if err := r.revive(ctx, around); err != nil {
			return err
		}
	}
	return r.outside(ctx, around)
}

// take marks a row as taken back and uncounts it in its flow.
func (r *reopening) take(e Ending) {
	r.taken[e.ID] = true
	f := r.flows[e.FlowID]
	if f == nil {
		return
	}
	r.touched[f.ID] = true
	if e.Kind == storage.KindCallback {
		f.CallbacksBegin(storage.Role(e.Method), 1)
		return
	}
	r.begin(f)
	f.TakeBack(e.Kind, e.State, e.AllowedToFail, r.o.Home)
}

func (r *reopening) begin(f *storage.Flow) {
	r.touched[f.ID] = true
	if !r.begun[f.ID] {
		r.begun[f.ID] = true
		f.Regenerate()
	}
}

// done writes it all.
func (r *reopening) done(ctx context.Context) ([]storage.ID, error) {
	if _, err := r.save(ctx); err != nil {
		return nil, err
	}
	ids := make([]storage.ID, 0, len(r.taken))
	for id := range r.taken {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, compareIDs)
	if err := r.rows.Retake(ctx, r.now, r.o, ids); err != nil {
		return nil, err
	}
	for _, f := range r.again {
		if err := r.advance(ctx, f); err != nil {
			return nil, err
		}
	}
	if len(r.again) > 0 {
		if _, err := r.run(ctx); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// Resolvable refuses a person's word about a row that stands for a flow: it ends with
// that flow.
func Resolvable(executions []storage.Execution) error {
	for i := range executions {
		if e := &executions[i]; e.Kind == storage.Nested {
			return fmt.Errorf("%s (%s) stands for a flow: resolve the member of that flow", e.Name, e.ID)
		}
	}
	return nil
}
