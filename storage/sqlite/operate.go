package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// Operate carries out an operator's order, see [storage.Operator].
func (s *Store) Operate(ctx context.Context, o storage.Order) ([]storage.Execution, error) {
	return write(ctx, s, string(o.Action), func(ctx context.Context, t *txn) ([]storage.Execution, error) {
		return operate(ctx, t, clock(o.Now), o)
	})
}

func operate(ctx context.Context, t *txn, now time.Time, o storage.Order) ([]storage.Execution, error) {
	if o.Action == storage.ActUnlock {
		n, err := t.exec(ctx, breakLock, o.Lock)
		if err == nil && n == 0 {
			err = fmt.Errorf("lock %q: %w", o.Lock, storage.ErrNotFound)
		}
		if err != nil {
			return nil, err
		}
		return []storage.Execution{}, audit(ctx, t, now, o.Actor, string(o.Action), o.Lock, 1, o.Reason)
	}
	if o.Action == storage.ActPause || o.Action == storage.ActResume {
		return []storage.Execution{}, pause(ctx, t, now, o)
	}
	if o.Action == storage.ActResumeFlow {
		ids, err := settle.Resume(ctx, rows{txn: t}, now, o)
		if err != nil {
			return nil, err
		}
		if err := audit(ctx, t, now, o.Actor, string(o.Action), cmp.Or(o.Target, o.Flow.String()), len(ids), o.Reason); err != nil {
			return nil, err
		}
		return byIDs(ctx, t, ids)
	}
	ids := settle.Distinct(o.IDs)
	found, err := byIDs(ctx, t, ids)
	if err != nil {
		return nil, err
	}
	switch o.Action {
	case storage.ActRetry:
		err = settle.Retry(ctx, rows{txn: t}, now, o, found)
	case storage.ActCancel:
		err = cancel(ctx, t, now, o, found)
	case storage.ActComplete:
		err = resolve(ctx, t, now, o, found, storage.Completed)
	case storage.ActFail:
		err = resolve(ctx, t, now, o, found, storage.Failed)
	case storage.ActReschedule:
		err = reschedule(ctx, t, now, o, found)
	case storage.ActForget:
		err = forget(ctx, t, found)
	case storage.ActApprove, storage.ActReject:
		err = settle.Answer(ctx, rows{txn: t}, now, o, found)
	default:
		err = fmt.Errorf("unknown action %q", o.Action)
	}
	if err != nil {
		return nil, err
	}
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = id.String()
	}
	target := cmp.Or(o.Target, strings.Join(texts, " "))
	if err := audit(ctx, t, now, o.Actor, string(o.Action), target, len(ids), o.Reason); err != nil {
		return nil, err
	}
	if o.Action == storage.ActForget {
		return found, nil
	}
	return byIDs(ctx, t, ids)
}

// By primary key.
const breakLock = `DELETE FROM sequencer_locks WHERE name = ?`

const executionByID = `SELECT` + executionColumns + ` FROM sequencer_executions WHERE id = ?`

// byIDs reads executions in the order of ids; one that is missing is an error.
func byIDs(ctx context.Context, t *txn, ids []storage.ID) ([]storage.Execution, error) {
	list := make([]storage.Execution, 0, len(ids))
	for i, id := range ids {
		if err := t.each(ctx, collect(&list), executionByID, id[:]); err != nil {
			return nil, err
		}
		if len(list) == i {
			return nil, fmt.Errorf("execution %s: %w", id, storage.ErrNotFound)
		}
	}
	return list, nil
}

// mayBecome returns a *storage.TransitionError unless all executions are in one
// of the states that the action starts from.
func mayBecome(found []storage.Execution, to storage.State, from ...storage.State) error {
	for i := range found {
		e := &found[i]
		allowed := false
		for _, state := range from {
			allowed = allowed || e.State == state
		}
		if !allowed {
			return &storage.TransitionError{ID: e.ID, Name: e.Name, From: e.State, To: to}
		}
	}
	return nil
}

// changeFlows locks the flows of executions, lets change take its members back,
// and saves each.
func changeFlows(ctx context.Context, t *txn, found []storage.Execution, change func(*storage.Flow, []*storage.Execution) error) error {
	members := map[storage.ID][]*storage.Execution{}
	var ids []storage.ID
	for i := range found {
		e := &found[i]
		if e.FlowID.IsZero() {
			continue
		}
		if members[e.FlowID] == nil {
			ids = append(ids, e.FlowID)
		}
		members[e.FlowID] = append(members[e.FlowID], e)
	}
	flows, err := rows{txn: t}.LockFlows(ctx, ids)
	if err != nil {
		return err
	}
	for i := range flows {
		f := &flows[i]
		if err := change(f, members[f.ID]); err != nil {
			return err
		}
		if err := (rows{txn: t}).SaveFlow(ctx, *f); err != nil {
			return err
		}
	}
	return nil
}

// By primary key. The worker that runs it reads cancel_asked when it renews.
const askToStop = `UPDATE sequencer_executions SET cancel_asked = 1 WHERE id = ? AND state = 'running'`

// cancel ends what is pending and asks what is running to stop.
func cancel(ctx context.Context, t *txn, now time.Time, o storage.Order, found []storage.Execution) error {
	if err := mayBecome(found, storage.Cancelled, storage.Pending, storage.Running); err != nil {
		return err
	}
	var pending []settle.Cancellation
	for i := range found {
		e := &found[i]
		if e.State == storage.Pending && e.Kind == storage.Nested { // it ends with its flow
			continue
		}
		if e.State == storage.Pending {
			pending = append(pending, settle.Cancellation{ID: e.ID, Reason: o.Reason})
			continue
		}
		if _, err := t.exec(ctx, askToStop, e.ID[:]); err != nil {
			return err
		}
	}
	endings, err := rows{txn: t}.Cancel(ctx, now, pending)
	if err != nil {
		return err
	}
	if err := settle.CancelNested(ctx, rows{txn: t}, now, found, o.Reason); err != nil {
		return err
	}
	_, err = settle.Endings(ctx, rows{txn: t}, now, endings)
	return err
}

// By primary key.
const rescheduleOne = `
UPDATE sequencer_executions SET due_at = ?1, deadline_at = iif(retry_for_us > 0, ?1 + retry_for_us, NULL) WHERE id = ?2`

// reschedule gives what is pending another due time.
func reschedule(ctx context.Context, t *txn, now time.Time, o storage.Order, found []storage.Execution) error {
	if err := settle.Reschedulable(found); err != nil {
		return err
	}
	due := now.Add(max(o.Delay, 0)).UnixMicro()
	for i := range found {
		if _, err := t.exec(ctx, rescheduleOne, due, found[i].ID[:]); err != nil {
			return err
		}
		if o.Delay <= 0 {
			t.arrivals.In(found[i].Queue)
		}
	}
	return nil
}

// By primary key.
const resolveOne = `UPDATE sequencer_executions SET state = ?, finished_at = ? WHERE id = ?`

// resolve gives interrupted executions the end that a person vouches for. Their
// flows count them anew, as if the worker had lived to say so.
func resolve(ctx context.Context, t *txn, now time.Time, _ storage.Order, found []storage.Execution, to storage.State) error {
	if err := mayBecome(found, to, storage.Interrupted); err != nil {
		return err
	}
	if err := settle.Resolvable(found); err != nil {
		return err
	}
	err := changeFlows(ctx, t, found, func(f *storage.Flow, members []*storage.Execution) error {
		for _, e := range members {
			f.Resolve(e.Kind, e.AllowedToFail)
		}
		return nil
	})
	if err != nil {
		return err
	}
	endings := make([]settle.Ending, len(found))
	for i := range found {
		e := &found[i]
		if _, err := t.exec(ctx, resolveOne, string(to), now.UnixMicro(), e.ID[:]); err != nil {
			return err
		}
		endings[i] = settle.Ending{
			ID: e.ID, FlowID: e.FlowID, Name: e.Name, Kind: e.Kind, Method: e.Method, State: to,
			AllowedToFail: e.AllowedToFail, Undoes: e.Undoes, Message: e.LastError,
		}
	}
	_, err = settle.Resolved(ctx, rows{txn: t}, now, endings)
	return err
}

const insertAudit = `INSERT INTO sequencer_audit (id, at, actor, action, target, count, reason) VALUES (?, ?, ?, ?, ?, ?, ?)`

func audit(ctx context.Context, t *txn, now time.Time, actor, action, target string, count int, reason string) error {
	id := storage.NewID()
	_, err := t.exec(ctx, insertAudit, id[:], now.UnixMicro(), actor, action, target, count, reason)
	return err
}
