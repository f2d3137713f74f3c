package memory

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// Enqueue implements [storage.Queue].
func (s *Store) Enqueue(ctx context.Context, r storage.EnqueueRequest) (storage.Enqueued, error) {
	var done storage.Enqueued
	err := s.write(ctx, r.Now, func(t *tx) (err error) {
		if r.Claim != nil {
			if err := t.alive(r.Claim.Worker); err != nil {
				return err
			}
		}
		if done.Receipts, err = t.enqueue(ctx, r); err != nil {
			return err
		}
		if r.Claim != nil {
			done.Claimed, err = t.claim(*r.Claim)
		}
		return err
	})
	if err != nil {
		return storage.Enqueued{}, err
	}
	return done, nil
}

func (t *tx) enqueue(ctx context.Context, r storage.EnqueueRequest) ([]storage.Receipt, error) {
	ids := make(map[storage.ID]bool, len(r.Executions))
	for _, e := range r.Executions {
		if e.ID.IsZero() || e.Name == "" || ids[e.ID] {
			return nil, fmt.Errorf("enqueue %q: an execution needs a name and an id of its own", e.Name)
		}
		ids[e.ID] = true
	}
	if r.Tick != nil {
		if last, refused, err := t.tick(r); err != nil || refused {
			return refusedTick(r.Executions, last), err
		}
	}
	if t.repeats(r) {
		return t.receiptsAgain(r.Executions), nil
	}
	var into *storage.Flow
	if !r.Into.IsZero() {
		f, err := settle.Admit(ctx, t, r.Into)
		if err != nil {
			return nil, err
		}
		into = &f
	}
	receipts := make([]storage.Receipt, len(r.Executions))
	var admitted []storage.Execution
	taken := map[string]storage.ID{}
	for i, e := range r.Executions {
		receipts[i].ID = e.ID
		holder, held := taken[e.UniqueKey]
		if h := t.holder(e); h != nil {
			holder, held = h.ID, true
		}
		if held && r.RefuseDuplicates {
			return nil, &storage.DuplicateError{Name: e.Name, Key: e.UniqueKey, HolderID: holder}
		}
		if held {
			receipts[i].Duplicate, receipts[i].HolderID = true, holder
			continue
		}
		if e.UniqueKey != "" {
			taken[e.UniqueKey] = e.ID
		}
		admitted = append(admitted, e)
	}
	p, err := settle.Plan(t.now, r.Flows, admitted, r.Edges, into)
	if err != nil {
		return nil, err
	}
	if err := t.Insert(ctx, t.now, p.Insertion); err != nil {
		return nil, err
	}
	if into != nil {
		p.Grow(into)
		if err := t.SaveFlow(ctx, *into); err != nil {
			return nil, err
		}
	}
	if n := len(admitted); r.Audit != nil && n > 0 {
		t.addAudit(r.Audit.Action, r.Audit.Target, r.Audit.Actor, r.Audit.Reason, n)
	}
	return receipts, settle.Opened(ctx, t, t.now, &p)
}

// tick fires the request's tick. One that is not due is refused, with the first
// execution of the latest one, unless this is the call that fired it, repeated.
func (t *tx) tick(r storage.EnqueueRequest) (last storage.ID, refused bool, err error) {
	var first storage.ID
	if len(r.Executions) > 0 {
		first = r.Executions[0].ID
	}
	if t.repeats(r) {
		return last, false, nil
	}
	was, due, err := t.fires(*r.Tick, first)
	return was.LastID, !due, err
}

// refusedTick answers executions that a tick did not bring.
func refusedTick(executions []storage.Execution, last storage.ID) []storage.Receipt {
	receipts := make([]storage.Receipt, len(executions))
	for i, e := range executions {
		receipts[i] = storage.Receipt{ID: e.ID, Duplicate: true, HolderID: last}
	}
	return receipts
}

// repeats reports whether the request was written before: one transaction wrote
// all of it but the duplicates, so any part tells.
func (t *tx) repeats(r storage.EnqueueRequest) bool {
	if slices.ContainsFunc(r.Flows, func(f storage.Flow) bool { return t.flows[f.ID] != nil }) {
		return true
	}
	return slices.ContainsFunc(r.Executions, func(e storage.Execution) bool { return t.rows[e.ID] != nil })
}

// receiptsAgain answers a repeat. What was left out the first time is still a
// duplicate, whoever holds the key now.
func (t *tx) receiptsAgain(executions []storage.Execution) []storage.Receipt {
	receipts := make([]storage.Receipt, len(executions))
	for i, e := range executions {
		receipts[i].ID = e.ID
		if t.rows[e.ID] == nil && e.UniqueKey != "" {
			receipts[i].Duplicate = true
			if h := t.holders[e.UniqueKey]; h != nil {
				receipts[i].HolderID = h.ID
			}
		}
	}
	return receipts
}

// openFlow writes a flow that begins.
func (t *tx) openFlow(f storage.Flow) error {
	callbacks, err := storage.EncodeCallbacks(f.Callbacks)
	if err != nil {
		return err
	}
	f.Options, f.Callbacks = append([]byte(nil), f.Options...), nil
	t.flows[f.ID] = &flow{Flow: f, callbacks: callbacks}
	t.onRollback(func() { delete(t.flows, f.ID) })
	return nil
}

// newRow takes from e what Enqueue reads and fills in the rest.
func newRow(e storage.Execution, now time.Time) *row {
	if e.Kind != storage.Undo {
		e.Result = nil
	}
	e = copied(storage.Execution{
		ID: e.ID, Name: e.Name, Kind: e.Kind, Method: e.Method, Actor: e.Actor,
		Queue: e.Queue, Priority: e.Priority, Delay: e.Delay, RetryFor: e.RetryFor, Input: e.Input, Policy: e.Policy,
		UniqueKey: e.UniqueKey, UniqueFor: e.UniqueFor, OnLoss: e.OnLoss, MinBuild: e.MinBuild, Tags: e.Tags,
		Undoable: e.Undoable, AllowedToFail: e.AllowedToFail, Checksum: e.Checksum,
		FlowID: e.FlowID, Member: e.Member, Position: e.Position, Undoes: e.Undoes, WorkerID: e.WorkerID, Result: e.Result,
		State: storage.Pending, CreatedAt: now,
	})
	if e.Priority == 0 {
		e.Priority = storage.PriorityDefault
	}
	r := &row{Execution: e}
	r.dueAfter(now, e.Delay)
	r.deadlineAnew()
	return r
}

// dueAfter makes the row runnable this much after now.
func (r *row) dueAfter(now time.Time, delay time.Duration) {
	r.DueAt = now.Add(delay).Truncate(time.Microsecond)
}

// deadlineAnew counts the deadline from the due time.
func (r *row) deadlineAnew() {
	r.DeadlineAt = time.Time{}
	if r.RetryFor > 0 {
		r.DeadlineAt = r.DueAt.Add(r.RetryFor).Truncate(time.Microsecond)
	}
}

// holder returns the live row that keeps e from taking its unique key. A waiting
// holder whose UniqueFor has passed loses the key instead.
func (t *tx) holder(e storage.Execution) *row {
	h := t.holders[e.UniqueKey]
	if e.UniqueKey == "" || h == nil || h.ID == e.ID {
		return nil
	}
	if h.State == storage.Pending && h.UniqueFor > 0 && !t.now.Before(h.CreatedAt.Add(h.UniqueFor)) {
		t.change(h, func() { h.UniqueKey = "" })
		return nil
	}
	return h
}
