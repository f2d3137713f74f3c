package redis

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// enqueueInFlow serves a request that no script can: one with a flow, edges, or a
// tick, and one that was written before.
func (s *Store) enqueueInFlow(ctx context.Context, r storage.EnqueueRequest) (storage.Enqueued, error) {
	var done storage.Enqueued
	claimed, err := s.unit(ctx, r.Now, func(ctx context.Context, u *unit) (err error) {
		if r.Claim != nil {
			if err := u.alive(ctx, r.Claim.Worker); err != nil {
				return err
			}
			u.claim = r.Claim
		}
		done.Receipts, err = u.enqueue(ctx, &r)
		return err
	})
	done.Claimed = claimed
	return done, err
}

func (u *unit) enqueue(ctx context.Context, r *storage.EnqueueRequest) ([]storage.Receipt, error) {
	repeated, err := u.repeats(ctx, r)
	if err != nil {
		return nil, err
	}
	if r.Tick != nil && !repeated {
		last, due, err := u.fire(ctx, r)
		if err != nil || !due {
			return refusedTick(r.Executions, last), err
		}
	}
	if repeated {
		return u.receiptsAgain(ctx, r.Executions)
	}
	if r.Flow != nil {
		if err := u.openFlow(*r.Flow); err != nil {
			return nil, err
		}
	}
	if err := u.readHolders(ctx, r.Executions); err != nil {
		return nil, err
	}
	receipts := make([]storage.Receipt, len(r.Executions))
	added := map[storage.ID]*row{}
	for i := range r.Executions {
		e := &r.Executions[i]
		receipts[i].ID = e.ID
		if holder := u.holder(e); holder != nil {
			if r.RefuseDuplicates {
				return nil, &storage.DuplicateError{Name: e.Name, Key: e.UniqueKey, HolderID: holder.ID}
			}
			receipts[i].Duplicate, receipts[i].HolderID = true, holder.ID
			continue
		}
		f, err := u.admitting(ctx, e)
		if err != nil {
			return nil, err
		}
		added[e.ID] = u.newRow(e)
		if err := u.insert(ctx, added[e.ID]); err != nil {
			return nil, err
		}
		if f != nil {
			f.expect(e.Kind)
			u.saveFlow(f)
		}
	}
	if err := u.join(ctx, r.Edges, added); err != nil {
		return nil, err
	}
	if r.Flow != nil {
		if f := u.flows[r.Flow.ID]; f.Open() == 0 && f.UndoOpen() == 0 {
			f.State, f.FinishedAt = f.Verdict(), u.now
		}
	}
	return receipts, nil
}

// refusedTick answers executions that a tick did not bring.
func refusedTick(executions []storage.Execution, last storage.ID) []storage.Receipt {
	receipts := make([]storage.Receipt, len(executions))
	for i := range executions {
		receipts[i] = storage.Receipt{ID: executions[i].ID, Duplicate: true, HolderID: last}
	}
	return receipts
}

// repeats reports whether the request was written before: one call wrote all of it
// but the duplicates, so any part tells.
func (u *unit) repeats(ctx context.Context, r *storage.EnqueueRequest) (bool, error) {
	ids, flows := make([]storage.ID, len(r.Executions)), []storage.ID{}
	for i := range r.Executions {
		ids[i] = r.Executions[i].ID
		flows = append(flows, r.Executions[i].FlowID)
	}
	if r.Flow != nil {
		flows = append(flows, r.Flow.ID)
	}
	if err := u.readFlows(ctx, flows...); err != nil {
		return false, err
	}
	if r.Flow != nil && !r.Flow.ID.IsZero() && u.flows[r.Flow.ID].there {
		return true, u.read(ctx, ids...)
	}
	if err := u.read(ctx, ids...); err != nil {
		return false, err
	}
	for _, id := range ids {
		if u.rows[id].now != nil {
			return true, nil
		}
	}
	return false, nil
}

// receiptsAgain answers a repeat. What was left out the first time is still a
// duplicate, whoever holds the key now.
func (u *unit) receiptsAgain(ctx context.Context, executions []storage.Execution) ([]storage.Receipt, error) {
	if err := u.readHolders(ctx, executions); err != nil {
		return nil, err
	}
	receipts := make([]storage.Receipt, len(executions))
	for i := range executions {
		e := &executions[i]
		receipts[i].ID = e.ID
		if u.rows[e.ID].now == nil && e.UniqueKey != "" {
			receipts[i].Duplicate, receipts[i].HolderID = true, u.holders[e.UniqueKey]
		}
	}
	return receipts, nil
}

// admitting returns the open flow that the execution joins, nil when it joins none.
func (u *unit) admitting(ctx context.Context, e *storage.Execution) (*flow, error) {
	if e.FlowID.IsZero() {
		return nil, nil
	}
	f, err := u.flow(ctx, e.FlowID)
	switch {
	case err != nil:
		return nil, err
	case f == nil:
		return nil, fmt.Errorf("%q: flow %s: %w", e.Name, e.FlowID, storage.ErrNotFound)
	case f.Over():
		return nil, fmt.Errorf("%q: flow %s is over", e.Name, e.FlowID)
	}
	return f, nil
}

// openFlow writes a flow that expects no member yet.
func (u *unit) openFlow(f storage.Flow) error {
	if f.ID.IsZero() {
		return errors.New("a flow needs an id")
	}
	fresh := u.flows[f.ID]
	fresh.there = true
	fresh.Flow = storage.Flow{
		ID: f.ID, Kind: f.Kind, Name: f.Name, Method: f.Method, Policy: f.Policy, Reason: f.Reason, Actor: f.Actor,
		Host: f.Host, Build: f.Build, Options: f.Options, WorkerID: f.WorkerID,
		Phase: storage.PhaseForward, State: storage.Running, CreatedAt: u.now,
	}
	u.saveFlow(fresh)
	return nil
}

// expect counts a member that joins.
func (f *flow) expect(kind storage.Kind) {
	if kind == storage.Undo {
		f.UndoTotal++
	} else {
		f.Total++
	}
}

// join adds edges between rows this unit inserts. One that touches a row which was
// left out as a duplicate holds nobody up and goes with it.
func (u *unit) join(ctx context.Context, edges []storage.Edge, added map[storage.ID]*row) error {
	for _, e := range edges {
		from, to := added[e.From], added[e.To]
		if from == nil || to == nil {
			continue
		}
		f, err := u.flow(ctx, to.FlowID)
		if err != nil {
			return err
		}
		if f == nil || from.FlowID != to.FlowID {
			return fmt.Errorf("the edge from %s to %s is not inside one flow", from.Name, to.Name)
		}
		u.addEdge(f, e)
		to.Waits++
		to.DueAt, to.DeadlineAt = time.Time{}, time.Time{}
	}
	return nil
}

// newRow makes the row of an execution that is enqueued now.
func (u *unit) newRow(e *storage.Execution) *row {
	r := admitted(e)
	r.CreatedAt = u.now
	u.dueAfter(&r, r.Delay)
	deadlineAnew(&r)
	return &r
}

// readHolders reads who holds the unique keys of rows.
func (u *unit) readHolders(ctx context.Context, rows []storage.Execution) error {
	var keys []string
	for i := range rows {
		if key := rows[i].UniqueKey; key != "" {
			if _, read := u.holders[key]; !read {
				u.holders[key] = storage.ID{}
				keys = append(keys, key)
			}
		}
	}
	if len(keys) == 0 {
		return nil
	}
	values, err := u.s.client.HMGet(ctx, u.s.key("holders"), keys...).Result()
	if err != nil {
		return err
	}
	var ids []storage.ID
	for i, value := range values {
		u.check("HGET", u.s.key("holders"), keys[i], text(value), value != nil)
		if value != nil {
			u.holders[keys[i]] = idOf(text(value))
			ids = append(ids, u.holders[keys[i]])
		}
	}
	return u.read(ctx, ids...)
}

// holder returns the live row that keeps e from taking its unique key. A waiting
// holder whose UniqueFor has passed loses the key instead. The holders must be read.
func (u *unit) holder(e *storage.Execution) *row {
	if e.UniqueKey == "" {
		return nil
	}
	r := u.taken[e.UniqueKey]
	if r == nil {
		if c := u.rows[u.holders[e.UniqueKey]]; c != nil {
			r = c.now
		}
	}
	// This unit may have ended it, or taken the key from it.
	if r == nil || r.ID == e.ID || r.State.Over() || r.UniqueKey != e.UniqueKey {
		return nil
	}
	if r.State == storage.Pending && r.UniqueFor > 0 && !u.now.Before(r.CreatedAt.Add(r.UniqueFor)) {
		r.UniqueKey = ""
		return nil
	}
	return r
}

// finishInFlow serves a request that no script can: one with members of flows.
func (s *Store) finishInFlow(ctx context.Context, r storage.FinishRequest) (storage.Finished, error) {
	var done storage.Finished
	claimed, err := s.unit(ctx, r.Now, func(ctx context.Context, u *unit) error {
		if r.Claim != nil {
			if err := u.alive(ctx, r.Worker); err != nil {
				return err
			}
			claim := *r.Claim
			claim.Worker = r.Worker
			u.claim = &claim
		}
		var err error
		done.Applied, done.Flows, err = u.finish(ctx, &r)
		return err
	})
	done.Claimed = claimed
	return done, err
}

func (u *unit) finish(ctx context.Context, r *storage.FinishRequest) (applied []bool, flows []storage.Flow, _ error) {
	ids := make([]storage.ID, len(r.Outcomes))
	for i := range r.Outcomes {
		ids[i] = r.Outcomes[i].ID
	}
	if err := u.read(ctx, ids...); err != nil {
		return nil, nil, err
	}
	applied = make([]bool, len(r.Outcomes))
	var endings []settle.Ending
	for i := range r.Outcomes {
		o := &r.Outcomes[i]
		e := u.rows[o.ID].now
		if e == nil || e.State != storage.Running || e.WorkerID != r.Worker || e.Delivery != o.Delivery {
			continue
		}
		if !e.State.CanBecome(o.State) {
			return nil, nil, &storage.TransitionError{ID: e.ID, Name: e.Name, From: e.State, To: o.State}
		}
		u.apply(e, o)
		applied[i] = true
		if o.State.Over() {
			endings = append(endings, ending(e))
		}
	}
	flows, err := settle.Endings(ctx, u, u.now, endings)
	return applied, flows, err
}

// apply writes one outcome: its attempt, its statistics, and the row.
func (u *unit) apply(r *row, o *storage.Outcome) {
	if o.Failure != nil {
		u.addAttempt(r, o)
		r.LastError, r.ErrorGroup = shortened(o.Failure.Message), o.Failure.Group
	}
	u.count(r, o)
	r.State, r.Reason, r.ForNow, r.Environment = o.State, o.Reason, o.ForNow, o.Env
	r.Errors, r.Losses, r.Parked = o.Errors, o.Losses, false
	if o.Excuse {
		r.Excused++
	}
	if o.Result != nil {
		r.Result = o.Result
	}
	if o.Progress != nil {
		r.Done, r.Total = o.Progress.Done, o.Progress.Total
	}
	if o.State.Over() {
		r.FinishedAt, r.stop = u.now, false
		return
	}
	r.Parked = o.Park
	u.dueAfter(r, o.Delay)
	if o.Rewind {
		deadlineAnew(r)
	}
	if !private(r.Queue) {
		r.WorkerID = storage.ID{}
	}
}

func (u *unit) addAttempt(r *row, o *storage.Outcome) {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, uint32(r.Delivery))
	b = le.AppendUint32(b, uint32(r.Attempts()))
	b = append(b, r.WorkerID[:]...)
	b = le.AppendUint64(b, uint64(micro(u.now.Add(-o.Ran))))
	b = le.AppendUint64(b, uint64(micro(u.now)))
	u.commands.add("RPUSH", u.s.key("a:"+string(r.ID[:])), appendFailure(b, o.Failure))
	r.attempts = true
}

// count adds an outcome to the statistics.
func (u *unit) count(r *row, o *storage.Outcome) {
	to := statisticOf(o, &r.Execution)
	if to == (statistic{}) {
		return
	}
	name := to.String()
	minute := micro(u.now) / time.Minute.Microseconds()
	key := u.s.key(minuteKey(minute))
	u.commands.add("ZADD", u.s.key("minutes"), minute, minute)
	u.commands.count(key, name+"\x00n", 1)
	u.commands.count(key, name+"\x00r", o.Ran.Microseconds())
	if waited := u.now.Add(-o.Ran).Sub(r.DueAt); waited > 0 {
		u.commands.count(key, name+"\x00w", waited.Microseconds())
	}
}
