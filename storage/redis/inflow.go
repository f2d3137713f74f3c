package redis

import (
	"context"
	"encoding/binary"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// enqueueInFlow serves a request that no script can: one with a flow, edges, a
// tick, or an audit entry, and one that was written before.
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
	var into *storage.Flow
	if !r.Into.IsZero() {
		f, err := settle.Admit(ctx, u, r.Into)
		if err != nil {
			return nil, err
		}
		into = &f
	}
	receipts, admitted, err := u.admit(ctx, r)
	if err != nil {
		return nil, err
	}
	p, err := settle.Plan(u.now, r.Flows, admitted, r.Edges, into)
	if err != nil {
		return nil, err
	}
	if err := u.Insert(ctx, u.now, p.Insertion); err != nil {
		return nil, err
	}
	if n := len(admitted); r.Audit != nil && n > 0 {
		u.addAudit(r.Audit.Action, r.Audit.Target, r.Audit.Actor, r.Audit.Reason, n)
	}
	if into != nil {
		p.Grow(into)
		if err := u.SaveFlow(ctx, *into); err != nil {
			return nil, err
		}
	}
	return receipts, settle.Opened(ctx, u, u.now, &p)
}

// admit leaves out the executions whose unique key is held.
func (u *unit) admit(ctx context.Context, r *storage.EnqueueRequest) ([]storage.Receipt, []storage.Execution, error) {
	if err := u.readHolders(ctx, r.Executions); err != nil {
		return nil, nil, err
	}
	receipts := make([]storage.Receipt, len(r.Executions))
	admitted := make([]storage.Execution, 0, len(r.Executions))
	taken := map[string]storage.ID{}
	for i := range r.Executions {
		e := &r.Executions[i]
		receipts[i].ID = e.ID
		holder, held := taken[e.UniqueKey]
		if h := u.holder(e); h != nil {
			holder, held = h.ID, true
		}
		switch {
		case held && r.RefuseDuplicates:
			return nil, nil, &storage.DuplicateError{Name: e.Name, Key: e.UniqueKey, HolderID: holder}
		case held:
			receipts[i].Duplicate, receipts[i].HolderID = true, holder
		default:
			if e.UniqueKey != "" {
				taken[e.UniqueKey] = e.ID
			}
			admitted = append(admitted, *e)
		}
	}
	return receipts, admitted, nil
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
	ids, flows := make([]storage.ID, len(r.Executions)), make([]storage.ID, len(r.Flows))
	for i := range r.Executions {
		ids[i] = r.Executions[i].ID
	}
	for i := range r.Flows {
		flows[i] = r.Flows[i].ID
	}
	if err := u.readFlows(ctx, flows...); err != nil {
		return false, err
	}
	if err := u.read(ctx, ids...); err != nil {
		return false, err
	}
	return slices.ContainsFunc(flows, func(id storage.ID) bool { return u.flowRead(id) != nil }) ||
		slices.ContainsFunc(ids, func(id storage.ID) bool { return u.rows[id].now != nil }), nil
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
		if done, err = u.finish(ctx, &r); err != nil {
			return err
		}
		for i := range r.Outcomes {
			o := &r.Outcomes[i]
			for _, name := range o.Unlock {
				if err := u.unlock(ctx, name, lockOwner{r.Worker, o.ID, o.Delivery}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	done.Claimed = claimed
	return done, err
}

func (u *unit) finish(ctx context.Context, r *storage.FinishRequest) (done storage.Finished, err error) {
	ids := make([]storage.ID, len(r.Outcomes))
	for i := range r.Outcomes {
		ids[i] = r.Outcomes[i].ID
	}
	if err := u.read(ctx, ids...); err != nil {
		return done, err
	}
	done.Applied = make([]bool, len(r.Outcomes))
	var endings []settle.Ending
	for i := range r.Outcomes {
		o := &r.Outcomes[i]
		e := u.rows[o.ID].now
		if e == nil || e.State != storage.Running || e.WorkerID != r.Worker || e.Delivery != o.Delivery {
			continue
		}
		if !e.State.CanBecome(o.State) {
			return done, &storage.TransitionError{ID: e.ID, Name: e.Name, From: e.State, To: o.State}
		}
		done.Applied[i] = true
		if o.State == storage.Pending && e.stop && e.Kind != storage.Hook {
			stopped := o.Stopped()
			o = &stopped
			done.Stop(i, len(r.Outcomes))
		}
		if o.Drops() {
			if err := u.drop(ctx, e, o); err != nil {
				return done, err
			}
			continue
		}
		u.apply(e, o)
		if o.State.Over() {
			end := ending(e)
			end.Adds = o.Added()
			endings = append(endings, end)
		}
	}
	if done.Flows, err = settle.Endings(ctx, u, u.now, endings); err != nil {
		return done, err
	}
	return done, u.insertHooks(ctx, r.Hooks(done.Applied))
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
	u.log(&storage.Attempt{ExecutionID: r.ID, Delivery: r.Delivery, Number: r.Attempts(), WorkerID: r.WorkerID, Failure: *o.Failure}, o)
	r.attempts = true
}

// log adds to the log of attempts what an outcome says, now.
func (u *unit) log(a *storage.Attempt, o *storage.Outcome) {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, uint32(int32(a.Delivery)))
	b = le.AppendUint32(b, uint32(a.Number))
	b = append(b, a.WorkerID[:]...)
	b = le.AppendUint64(b, uint64(micro(u.now.Add(-o.Ran))))
	b = le.AppendUint64(b, uint64(micro(u.now)))
	u.commands.add("RPUSH", u.s.key("a:"+string(a.ExecutionID[:])), appendFailure(b, &a.Failure))
}

// count adds an outcome to the statistics.
func (u *unit) count(r *row, o *storage.Outcome) {
	to := statisticOf(o, &r.Execution)
	if to == "" {
		return
	}
	minute := micro(u.now) / time.Minute.Microseconds()
	key := u.s.key(minuteKey(minute))
	u.commands.add("ZADD", u.s.key("minutes"), minute, minute)
	for _, field := range to.fields() {
		u.commands.count(key, field+"\x00n", 1)
		u.commands.count(key, field+"\x00r", o.Ran.Microseconds())
		if waited := u.now.Add(-o.Ran).Sub(r.DueAt); waited > 0 {
			u.commands.count(key, field+"\x00w", waited.Microseconds())
		}
	}
}
