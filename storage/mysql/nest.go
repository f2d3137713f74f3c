package mysql

import (
	"cmp"
	"context"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// pendingNestedSQL reads a flow's members, which its marks lead to. Lock: those rows,
// so that an old snapshot does not matter.
const pendingNestedSQL = `
SELECT l.id FROM sequencer_marks m STRAIGHT_JOIN sequencer_live l ON l.id = m.execution_id
WHERE m.mark = 'flow' AND m.value = ? AND l.flow_id = ? AND l.state = 'pending' AND l.kind = 'nested'
ORDER BY l.position, l.id FOR UPDATE`

// PendingNested implements [settle.Rows].
func (r *flowRows) PendingNested(ctx context.Context, flow storage.ID) ([]storage.ID, error) {
	var nested []storage.ID
	err := r.q.each(ctx, func(row scanner) error {
		var id storage.ID
		err := row.Scan(idScan{&id})
		nested = append(nested, id)
		return err
	}, pendingNestedSQL, idArg(flow), idArg(flow))
	return nested, err
}

// childrenSQL reads flows by what stands for them. Index: sequencer_flows_parent.
// Lock: these flows, whose outermost one is locked already.
const childrenSQL = `SELECT ` + flowColumns + ` FROM sequencer_flows f WHERE f.parent_id IN (?) ORDER BY f.id FOR UPDATE`

// Children implements [settle.Rows].
func (r *flowRows) Children(ctx context.Context, parents []storage.ID) ([]storage.Flow, error) {
	var flows []storage.Flow
	for _, part := range some(idList(sortedIDs(parents))) {
		r.q.queueScan(scanFlows(&flows), childrenSQL, part)
	}
	err := r.q.flush(ctx)
	return flows, err
}

// interruptedSQL locks a row that is over, by primary key; resolveNestedSQL gives it
// another end in place.
const (
	interruptedSQL = `SELECT ` + endingColumns + ` FROM sequencer_history l FORCE INDEX (PRIMARY)
WHERE l.id = ? AND l.state = 'interrupted' FOR UPDATE`
	resolveNestedSQL = `UPDATE sequencer_history SET state = ?, finished_at = @sequencer_now, reason = ?, for_now = ? WHERE id = ?`
)

// EndNested implements [settle.Rows].
func (r *flowRows) EndNested(ctx context.Context, _ time.Time, end settle.Nested) (settle.Ending, storage.State, error) {
	var waiting, stopped []settle.Ending
	r.q.queueScan(collect(&waiting), pendingSQL, idList{end.ID})
	r.q.queueScan(collect(&stopped), interruptedSQL, idArg(end.ID))
	if err := r.q.flush(ctx); err != nil {
		return settle.Ending{}, "", err
	}
	switch {
	case len(waiting) > 0:
		r.end(waiting, func(storage.ID) settle.Nested { return end })
		return waiting[0], storage.Pending, nil
	case len(stopped) > 0:
		e := stopped[0]
		e.State, e.ForNow = end.State, end.ForNow
		if end.State == storage.Cancelled {
			e.Message = end.Reason
		}
		r.q.queue(resolveNestedSQL, text(string(end.State)), textArg(end.Reason), end.ForNow, idArg(end.ID))
		r.q.queueEndMarks(idList{end.ID})
		return e, storage.Interrupted, nil
	default:
		return settle.Ending{}, "", nil
	}
}

// findLiveSQL and findOverSQL read rows by primary key. Lock: those rows, so that an
// old snapshot does not matter.
const (
	findLiveSQL = `SELECT ` + endingColumns + ` FROM sequencer_live l FORCE INDEX (PRIMARY) WHERE l.id IN (?) LOCK IN SHARE MODE`
	findOverSQL = `SELECT ` + endingColumns + ` FROM sequencer_history l FORCE INDEX (PRIMARY) WHERE l.id IN (?) LOCK IN SHARE MODE`
)

// Find implements [settle.Rows].
func (r *flowRows) Find(ctx context.Context, ids []storage.ID) ([]settle.Ending, error) {
	var found []settle.Ending
	for _, part := range some(idList(sortedIDs(ids))) {
		r.q.queueScan(collect(&found), findLiveSQL, part)
		r.q.queueScan(collect(&found), findOverSQL, part)
	}
	err := r.q.flush(ctx)
	return found, err
}

// Callbacks implements [settle.Rows]. The flow is locked already.
func (r *flowRows) Callbacks(ctx context.Context, flow storage.ID) ([]storage.Callback, error) {
	var stored []byte
	err := r.q.each(ctx, func(row scanner) error { return row.Scan(&stored) }, readCallbacksSQL+` LOCK IN SHARE MODE`, idArg(flow))
	if err != nil {
		return nil, err
	}
	return storage.DecodeCallbacks(stored)
}

// Held implements [settle.Rows].
func (r *flowRows) Held(ctx context.Context, _ time.Time, keys []string) ([]bool, error) {
	holders, err := (&enqueuing{q: r.q, lock: true}).holders(ctx, keys)
	held := make([]bool, len(keys))
	for i, key := range keys {
		h, taken := holders[key]
		held[i] = taken && !h.expired
	}
	return held, err
}

// holdSQL makes pending rows wait for more, by primary key.
const holdSQL = `
UPDATE sequencer_live FORCE INDEX (PRIMARY) SET waits = waits + ?, due_at = NULL, deadline_at = NULL
WHERE id IN (?) AND state = 'pending'`

// Hold implements [settle.Rows].
func (r *flowRows) Hold(_ context.Context, rows []storage.ID) error {
	more := map[storage.ID]int{}
	for _, id := range rows {
		more[id]++
	}
	alike := map[int]idList{}
	for _, id := range sortedIDs(rows) {
		alike[more[id]] = append(alike[more[id]], id)
	}
	for n, list := range alike {
		for _, part := range some(list) {
			r.q.queue(holdSQL, n, part)
		}
	}
	return nil
}

// fallenSQL reads a flow's members, which its marks lead to.
const fallenSQL = `
SELECT ` + endingColumns + ` FROM sequencer_marks m STRAIGHT_JOIN sequencer_history l ON l.id = m.execution_id
WHERE m.mark = 'flow' AND m.value = ? AND l.flow_id = ?
	AND l.state IN ('failed', 'cancelled', 'interrupted') AND l.kind NOT IN ('undo', 'callback')
LOCK IN SHARE MODE`

// Fallen implements [settle.Rows].
func (r *flowRows) Fallen(ctx context.Context, flow storage.ID) ([]settle.Ending, error) {
	var fallen []settle.Ending
	err := r.q.each(ctx, collect(&fallen), fallenSQL, idArg(flow), idArg(flow))
	return fallen, err
}

// retakeSQL moves locked rows back to the live part, keeping their delivery. Index:
// primary keys, and sequencer_live_unique, which refuses a row whose key another one
// holds. dropSQL takes them out of history.
const (
	retakeSQL = `
INSERT INTO sequencer_live (
	id, holder, worker_id, flow_id, undoes, created_at, due_at, started_at, deadline_at, min_build,
	delay_us, retry_for_us, unique_for_us, done, total, priority, position, waits, delivery, excused, errors, losses,
	undoable, allowed_to_fail, for_now, parked, cancel_asked, state, name, kind, method, queue, on_loss, member,
	unique_key, checksum, actor, tags, input, policy, checkpoint, result, last_error, error_group, undo_error)
SELECT
	id, X'00000000000000000000000000000000', IF(LEFT(COALESCE(?, queue), 1) = '@', ?, X'00000000000000000000000000000000'), flow_id, undoes, created_at, @sequencer_now, started_at,
	@sequencer_now + retry_for_us, min_build,
	delay_us, retry_for_us, unique_for_us, done, total, priority, position, 0, delivery, delivery, 0, 0,
	undoable, allowed_to_fail, 0, 0, 0, 'pending', name, kind, method, COALESCE(?, queue), on_loss, member,
	unique_key, checksum, actor, tags, input, policy, checkpoint, result, last_error, error_group, undo_error
FROM sequencer_history FORCE INDEX (PRIMARY) WHERE id IN (?)`
	dropSQL = `DELETE sequencer_history FROM sequencer_history FORCE INDEX (PRIMARY) WHERE id IN (?)`
)

// waitAgainSQL counts what rows that were taken back wait for: edges from members that
// are open, and the flow that they stand for. Other edges are settled for good. Index:
// sequencer_edges_to, sequencer_flows_parent, primary keys.
const waitAgainSQL = `
UPDATE sequencer_live l JOIN (
	SELECT id, COUNT(*) AS n FROM (
		SELECT e.to_id AS id FROM sequencer_edges e JOIN sequencer_live f ON f.id = e.from_id WHERE e.to_id IN (?)
		UNION ALL
		SELECT f.parent_id FROM sequencer_flows f WHERE f.parent_id IN (?) AND f.finished_at IS NULL
	) w GROUP BY id
) e ON e.id = l.id
SET l.waits = e.n, l.due_at = NULL, l.deadline_at = NULL`

// Retake implements [settle.Rows].
func (r *flowRows) Retake(ctx context.Context, _ time.Time, o storage.Order, ids []storage.ID) error {
	var rows []storage.Execution
	parts := some(idList(ids))
	for _, part := range parts {
		r.q.queueScan(scanAll(&rows), orderedHistorySQL, part)
	}
	if err := r.q.flush(ctx); err != nil {
		return err
	}
	if len(rows) != len(ids) {
		return errMoved
	}
	if err := r.keysAreFree(ctx, rows); err != nil {
		return err
	}
	queue := textArg(o.Queue)
	for _, part := range parts {
		r.q.queue(retakeSQL, queue, o.Home[:], queue, part)
		r.q.queue(dropSQL, part)
	}
	for _, part := range parts {
		r.q.queue(waitAgainSQL, part, part)
	}
	for i := range rows {
		r.q.arrivals.In(cmp.Or(o.Queue, rows[i].Queue))
	}
	return nil
}

// keysAreFree returns a *storage.DuplicateError if a live row holds the key of one
// that would come back.
func (r *flowRows) keysAreFree(ctx context.Context, rows []storage.Execution) error {
	var keys textList
	byKey := map[string]*storage.Execution{}
	for i := range rows {
		x := &rows[i]
		if x.UniqueKey == "" {
			continue
		}
		if first := byKey[x.UniqueKey]; first != nil {
			return &storage.DuplicateError{Name: x.Name, Key: x.UniqueKey, HolderID: first.ID}
		}
		byKey[x.UniqueKey] = x
		keys = append(keys, x.UniqueKey)
	}
	if len(keys) == 0 {
		return nil
	}
	holders, err := (&enqueuing{q: r.q}).holders(ctx, keys)
	if err != nil {
		return err
	}
	var expired idList
	for _, key := range keys {
		h, held := holders[key]
		switch {
		case held && h.expired:
			expired = append(expired, h.id)
		case held:
			return &storage.DuplicateError{Name: byKey[key].Name, Key: key, HolderID: h.id}
		}
	}
	if len(expired) > 0 {
		r.q.queue(expireKeySQL, expired)
	}
	return nil
}
