package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// orderedSQL reads the rows of an order, of either part, by primary key. What they
// are is checked again by the statement that changes them.
const orderedSQL = `
SELECT ` + allColumns + ` FROM sequencer_live l WHERE l.id = ANY ($1::uuid[])
UNION ALL
SELECT ` + allColumns + ` FROM sequencer_history l WHERE l.id = ANY ($1::uuid[])`

// retakeSQL moves rows back to the live part, keeping their delivery. Index: primary
// keys, and sequencer_live_unique, which refuses a row whose key another one holds.
// Lock: the rows it deletes. Its count tells whether all were as they were read.
const retakeSQL = `
WITH gone AS (
	DELETE FROM sequencer_history WHERE id = ANY ($2::uuid[]) AND state IN ('failed', 'cancelled', 'interrupted')
	RETURNING *, coalesce(nullif($3::text, ''), queue) AS new_queue
)
INSERT INTO sequencer_live (
	id, flow_id, worker_id, undoes, created_at, due_at, started_at, deadline_at, min_build,
	delay_us, retry_for_us, unique_for_us, done, total, priority, position, waits, delivery, excused, errors, losses,
	undoable, allowed_to_fail, for_now, parked, cancel_asked, state, name, kind, method, queue, on_loss, actor, member,
	unique_key, checksum, tags, input, policy, checkpoint, result, last_error, error_group, undo_error)
SELECT
	id, flow_id, CASE WHEN starts_with(new_queue, '@') THEN $4::uuid END, undoes, created_at, $1::timestamptz, started_at,
	$1::timestamptz + retry_for_us * interval '1 microsecond', min_build,
	delay_us, retry_for_us, unique_for_us, done, total, priority, position, 0, delivery, delivery, 0, 0,
	undoable, allowed_to_fail, false, false, false, 'pending', name, kind, method, new_queue, on_loss, actor, member,
	unique_key, checksum, tags, input, policy, checkpoint, result, last_error, error_group, undo_error
FROM gone`

// waitAgainSQL counts what rows that were taken back wait for: edges from members that
// are open, and the flow that they stand for. Other edges are settled for good. Index:
// sequencer_edges_to, sequencer_flows_parent, primary keys.
const waitAgainSQL = `
UPDATE sequencer_live l SET waits = e.n, due_at = NULL, deadline_at = NULL
FROM (
	SELECT id, count(*) AS n FROM (
		SELECT e.to_id AS id FROM sequencer_edges e JOIN sequencer_live f ON f.id = e.from_id WHERE e.to_id = ANY ($1::uuid[])
		UNION ALL
		SELECT f.parent_id FROM sequencer_flows f WHERE f.parent_id = ANY ($1::uuid[]) AND f.finished_at IS NULL
	) w GROUP BY id
) e
WHERE l.id = e.id`

// rescheduleSQL gives pending rows another due time, by primary key.
const rescheduleSQL = `
UPDATE sequencer_live SET
	due_at = $2::timestamptz + $3::bigint * interval '1 microsecond',
	deadline_at = $2::timestamptz + ($3::bigint + retry_for_us) * interval '1 microsecond'
WHERE id = ANY ($1::uuid[]) AND state = 'pending' AND waits = 0`

// askSQL asks running rows to stop, by primary key; in place.
const askSQL = `UPDATE sequencer_live SET cancel_asked = true WHERE id = ANY ($1::uuid[]) AND state = 'running'`

// resolveSQL ends interrupted rows as a person says they ended, by primary key.
const resolveSQL = `
UPDATE sequencer_history SET state = $2::text, finished_at = $3::timestamptz
WHERE id = ANY ($1::uuid[]) AND state = 'interrupted' RETURNING ` + endingColumns

// breakLockSQL frees a lock by primary key.
const breakLockSQL = `DELETE FROM sequencer_locks WHERE name = $1::text`

const auditSQL = `
INSERT INTO sequencer_audit (id, at, actor, action, target, count, reason)
VALUES ($1::uuid, $2::timestamptz, $3::text, $4::text, $5::text, $6::int, nullif($7::text, ''))`

// Operate implements [storage.Operator].
func (s *Store) Operate(ctx context.Context, o storage.Order) ([]storage.Execution, error) {
	var after []storage.Execution
	err := s.tx(ctx, string(o.Action), o.Now, func(ctx context.Context, q *session) error {
		switch o.Action {
		case storage.ActUnlock:
			return breakLock(ctx, q, o)
		case storage.ActPause, storage.ActResume:
			return pause(ctx, q, o)
		default:
		}
		p := operating{q: q, order: o}
		var err error
		if o.Action == storage.ActResumeFlow {
			after, err = p.resume(ctx)
		} else {
			after, err = p.run(ctx)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return after, nil
}

func breakLock(ctx context.Context, q *session, o storage.Order) error {
	n, err := q.exec(ctx, breakLockSQL, o.Lock)
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("lock %q: %w", o.Lock, storage.ErrNotFound)
	}
	queueAudit(q, string(o.Action), o.Lock, o.Actor, o.Reason, 1)
	return nil
}

func queueAudit(q *session, action, target, actor, reason string, count int) {
	q.queue(auditSQL, storage.NewID().String(), q.now, clean(actor), action, clean(target), count, clean(reason))
}

// operating is an Order about executions under way.
type operating struct {
	q     *session
	order storage.Order
	rows  []storage.Execution // as they are before it, in the order's order
	flows map[storage.ID]storage.Flow
}

func (p *operating) run(ctx context.Context) ([]storage.Execution, error) {
	ids, err := p.load(ctx)
	if err != nil {
		return nil, err
	}
	switch p.order.Action {
	case storage.ActRetry:
		err = settle.Retry(ctx, &flowRows{p.q}, p.q.now, p.order, p.rows)
	case storage.ActCancel:
		err = p.cancel(ctx)
	case storage.ActComplete:
		err = p.resolve(ctx, ids, storage.Completed)
	case storage.ActFail:
		err = p.resolve(ctx, ids, storage.Failed)
	case storage.ActReschedule:
		err = p.reschedule(ctx, ids)
	case storage.ActForget:
		err = p.forget(ctx, ids)
	case storage.ActApprove, storage.ActReject:
		err = settle.Answer(ctx, &flowRows{p.q}, p.q.now, p.order, p.rows)
	default:
		err = fmt.Errorf("unknown action %q", p.order.Action)
	}
	if err != nil {
		return nil, err
	}
	named := make([]string, len(ids))
	for i, id := range ids {
		named[i] = id.String()
	}
	queueAudit(p.q, string(p.order.Action), cmp.Or(p.order.Target, strings.Join(named, " ")), p.order.Actor, p.order.Reason, len(ids))
	if p.order.Action == storage.ActForget {
		return p.rows, nil
	}
	return p.read(ctx, ids)
}

func (p *operating) resume(ctx context.Context) ([]storage.Execution, error) {
	if err := p.q.flush(ctx); err != nil { // q.now
		return nil, err
	}
	ids, err := settle.Resume(ctx, &flowRows{p.q}, p.q.now, p.order)
	if err != nil {
		return nil, err
	}
	queueAudit(p.q, string(p.order.Action), cmp.Or(p.order.Target, p.order.Flow.String()), p.order.Actor, p.order.Reason, len(ids))
	return p.read(ctx, ids)
}

// read returns rows in the order of their ids in the order.
func (p *operating) read(ctx context.Context, ids []storage.ID) ([]storage.Execution, error) {
	var rows []storage.Execution
	if err := p.q.each(ctx, scanAll(&rows), orderedSQL, idArray(ids)); err != nil {
		return nil, err
	}
	place := make(map[storage.ID]int, len(ids))
	for i, id := range ids {
		place[id] = i
	}
	slices.SortFunc(rows, func(a, b storage.Execution) int { return cmp.Compare(place[a.ID], place[b.ID]) })
	return rows, nil
}

// load reads the rows, locks their flows, and reads the rows again: the flow's lock
// comes before its members', as in every transaction that settles flows, and what
// is read under it stays true of members.
func (p *operating) load(ctx context.Context) ([]storage.ID, error) {
	ids := settle.Distinct(p.order.IDs)
	rows, err := p.read(ctx, ids)
	if err != nil {
		return nil, err
	}
	p.flows = map[storage.ID]storage.Flow{}
	var flows []storage.ID
	for i := range rows {
		if !rows[i].FlowID.IsZero() {
			flows = append(flows, rows[i].FlowID)
		}
	}
	if len(flows) > 0 {
		locked, err := (&flowRows{p.q}).LockFlows(ctx, sortedIDs(flows))
		if err != nil {
			return nil, err
		}
		for _, f := range locked {
			p.flows[f.ID] = f
		}
		if rows, err = p.read(ctx, ids); err != nil {
			return nil, err
		}
	}
	for i, id := range ids {
		if i >= len(rows) || rows[i].ID != id {
			return nil, fmt.Errorf("execution %s: %w", id, storage.ErrNotFound)
		}
	}
	p.rows = rows
	return ids, nil
}

func (p *operating) cancel(ctx context.Context) error {
	var pending []settle.Cancellation
	var running []storage.ID
	for i := range p.rows {
		switch x := &p.rows[i]; x.State {
		case storage.Pending:
			if x.Kind == storage.Nested { // it ends with its flow
				continue
			}
			pending = append(pending, settle.Cancellation{ID: x.ID, Reason: p.order.Reason})
		case storage.Running:
			running = append(running, x.ID)
		default:
			return &storage.TransitionError{ID: x.ID, Name: x.Name, From: x.State, To: storage.Cancelled}
		}
	}
	if len(running) > 0 {
		n, err := p.q.exec(ctx, askSQL, idArray(running))
		if err != nil {
			return err
		}
		if int(n) != len(running) {
			return errMoved
		}
	}
	rows := &flowRows{p.q}
	endings, err := rows.Cancel(ctx, p.q.now, pending)
	if err != nil {
		return err
	}
	if len(endings) != len(pending) {
		return errMoved
	}
	if err := settle.CancelNested(ctx, rows, p.q.now, p.rows, p.order.Reason); err != nil {
		return err
	}
	_, err = settle.Endings(ctx, rows, p.q.now, endings)
	return err
}

func (p *operating) reschedule(ctx context.Context, ids []storage.ID) error {
	if err := settle.Reschedulable(p.rows); err != nil {
		return err
	}
	n, err := p.q.exec(ctx, rescheduleSQL, idArray(ids), p.q.now, max(p.order.Delay, 0).Microseconds())
	if err == nil && int(n) != len(ids) {
		err = errMoved
	}
	if p.order.Delay <= 0 {
		for i := range p.rows {
			p.q.arrivals.In(p.rows[i].Queue)
		}
	}
	return err
}

// resolve ends interrupted rows. Their flows are settled anew: the interruption is
// uncounted here, the ending counted by the rules.
func (p *operating) resolve(ctx context.Context, ids []storage.ID, to storage.State) error {
	if err := settle.Resolvable(p.rows); err != nil {
		return err
	}
	for i := range p.rows {
		x := &p.rows[i]
		if x.State != storage.Interrupted {
			return &storage.TransitionError{ID: x.ID, Name: x.Name, From: x.State, To: to}
		}
		if f, member := p.flows[x.FlowID]; member {
			f.Resolve(x.Kind, x.AllowedToFail)
			p.flows[f.ID] = f
		}
	}
	p.saveFlows()
	rows := &flowRows{p.q}
	endings, err := rows.ended(ctx, resolveSQL, idArray(ids), string(to), p.q.now)
	if err != nil {
		return err
	}
	if len(endings) != len(ids) {
		return errMoved
	}
	_, err = settle.Resolved(ctx, rows, p.q.now, endings)
	return err
}

func (p *operating) saveFlows() {
	for _, f := range p.flows {
		queueSave(p.q, f)
	}
}

// forgetSQL deletes history by id, with what belongs to it, as far as pruning might.
// Index: primary keys, and mayGo's. Lock: the rows.
const forgetSQL = `
WITH old AS MATERIALIZED (
	SELECT h.id FROM sequencer_history h WHERE h.id = ANY ($1::uuid[]) AND ` + mayGo + `
	FOR UPDATE OF h
), ` + dropOld

// keptSQL finds, by primary key, one that was not deleted.
const keptSQL = `SELECT name, id FROM sequencer_history WHERE id = ANY ($1::uuid[]) LIMIT 1`

func (p *operating) forget(ctx context.Context, ids []storage.ID) error {
	for i := range p.rows {
		if x := &p.rows[i]; !x.State.Over() {
			return &storage.TransitionError{ID: x.ID, Name: x.Name, From: x.State, To: storage.Forgotten}
		}
	}
	n, err := p.q.exec(ctx, forgetSQL, idArray(ids))
	if err != nil || int(n) == len(ids) {
		return err
	}
	var kept storage.Execution
	err = p.q.each(ctx, func(r scanner) error { return r.Scan(&kept.Name, idScan{&kept.ID}) }, keptSQL, idArray(ids))
	switch {
	case err != nil:
		return err
	case kept.ID.IsZero():
		return errMoved
	default:
		return fmt.Errorf("%s (%s) is kept: a migration, an approval, the newest or effective execution of an ordered operation, or a member of an open flow", kept.Name, kept.ID)
	}
}
