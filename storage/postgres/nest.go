package postgres

import (
	"cmp"
	"context"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// pendingNestedSQL reads a flow's members. Index: sequencer_live_flow.
const pendingNestedSQL = `SELECT id FROM sequencer_live WHERE flow_id = $1::uuid AND state = 'pending' AND kind = 'nested' ORDER BY position, id`

// PendingNested implements [settle.Rows].
func (r *flowRows) PendingNested(ctx context.Context, flow storage.ID) ([]storage.ID, error) {
	var nested []storage.ID
	err := r.q.each(ctx, func(row scanner) error {
		var id storage.ID
		err := row.Scan(idScan{&id})
		nested = append(nested, id)
		return err
	}, pendingNestedSQL, flow.String())
	return nested, err
}

// childrenSQL reads flows by what stands for them. Index: sequencer_flows_parent.
// Lock: these flows, whose outermost one is locked already.
const childrenSQL = `SELECT ` + flowColumns + ` FROM sequencer_flows f WHERE f.parent_id = ANY ($1::uuid[]) ORDER BY f.id FOR UPDATE`

// Children implements [settle.Rows].
func (r *flowRows) Children(ctx context.Context, parents []storage.ID) ([]storage.Flow, error) {
	var flows []storage.Flow
	err := r.q.each(ctx, scanFlows(&flows), childrenSQL, idArray(parents))
	return flows, err
}

// endNestedSQL ends a row that stands for a flow: one that waits for it goes into
// history, one that is there as interrupted is changed in place. Index: primary keys.
// Lock: the row; whoever would end it holds its flow's lock.
const endNestedSQL = `
WITH gone AS (
	DELETE FROM sequencer_live WHERE id = $2::uuid AND state = 'pending' RETURNING *, $5::bool AS c_for_now
), kept AS (
	INSERT INTO sequencer_history (
		id, flow_id, worker_id, undoes, created_at, due_at, started_at, deadline_at, min_build,
		delay_us, retry_for_us, unique_for_us, done, total, priority, position, waits, delivery, excused, errors, losses,
		undoable, allowed_to_fail, for_now, parked, cancel_asked, name, kind, method, queue, on_loss, actor, member,
		unique_key, environment, checksum, tags, input, policy, checkpoint, result, last_error, error_group, undo_error,
		state, finished_at, reason)
	SELECT
		id, flow_id, worker_id, undoes, created_at, due_at, started_at, deadline_at, min_build,
		delay_us, retry_for_us, unique_for_us, done, total, priority, position, waits, delivery, excused, errors, losses,
		undoable, allowed_to_fail, c_for_now, false, false, name, kind, method, queue, on_loss, actor, member,
		unique_key, NULL, checksum, tags, input, policy, checkpoint, result, last_error, error_group, undo_error,
		$3::text, $1::timestamptz, $4::text FROM gone
	RETURNING *
), resolved AS (
	UPDATE sequencer_history SET state = $3::text, finished_at = $1::timestamptz, reason = $4::text, for_now = $5::bool
	WHERE id = $2::uuid AND state = 'interrupted' RETURNING *
)
SELECT ` + endingColumns + `, 'pending' FROM kept
UNION ALL
SELECT ` + endingColumns + `, 'interrupted' FROM resolved`

// EndNested implements [settle.Rows].
func (r *flowRows) EndNested(ctx context.Context, now time.Time, end settle.Nested) (ended settle.Ending, was storage.State, _ error) {
	err := r.q.each(ctx, func(row scanner) (err error) {
		ended, err = scanEnding(row, (*string)(&was))
		return err
	}, endNestedSQL, now, end.ID.String(), string(end.State), textArg(clean(end.Reason)), end.ForNow)
	return ended, was, err
}

// findSQL reads rows of either part by primary key.
const findSQL = `
SELECT ` + endingColumns + ` FROM sequencer_live WHERE id = ANY ($1::uuid[])
UNION ALL
SELECT ` + endingColumns + ` FROM sequencer_history WHERE id = ANY ($1::uuid[])`

// Find implements [settle.Rows].
func (r *flowRows) Find(ctx context.Context, ids []storage.ID) ([]settle.Ending, error) {
	return r.ended(ctx, findSQL, idArray(ids))
}

// callbacksSQL reads one flow by primary key.
const callbacksSQL = `SELECT callbacks FROM sequencer_flows WHERE id = $1::uuid`

// Callbacks implements [settle.Rows].
func (r *flowRows) Callbacks(ctx context.Context, flow storage.ID) ([]storage.Callback, error) {
	var stored []byte
	if err := r.q.each(ctx, func(row scanner) error { return row.Scan(&stored) }, callbacksSQL, flow.String()); err != nil {
		return nil, err
	}
	return storage.DecodeCallbacks(stored)
}

// Held implements [settle.Rows].
func (r *flowRows) Held(ctx context.Context, now time.Time, keys []string) ([]bool, error) {
	held := make([]bool, len(keys))
	r.q.queue(expireKeysSQL, now, keys, idArray(nil))
	err := r.q.each(ctx, func(row scanner) error {
		var key string
		var holder storage.ID
		err := row.Scan(&key, idScan{&holder})
		for i := range keys {
			held[i] = held[i] || keys[i] == key
		}
		return err
	}, holdersSQL, keys)
	return held, err
}

// holdSQL makes pending rows wait for more, by primary key.
const holdSQL = `
UPDATE sequencer_live l SET waits = l.waits + h.n, due_at = NULL, deadline_at = NULL
FROM (SELECT id, count(*) AS n FROM unnest($1::uuid[]) AS h (id) GROUP BY id) h
WHERE l.id = h.id AND l.state = 'pending'`

// Hold implements [settle.Rows].
func (r *flowRows) Hold(_ context.Context, rows []storage.ID) error {
	r.q.queue(holdSQL, idArray(rows))
	return nil
}

// fallenSQL reads a flow's members. Index: sequencer_history_flow.
const fallenSQL = `
SELECT ` + endingColumns + ` FROM sequencer_history
WHERE flow_id = $1::uuid AND state IN ('failed', 'cancelled', 'interrupted') AND kind NOT IN ('undo', 'callback')`

// Fallen implements [settle.Rows].
func (r *flowRows) Fallen(ctx context.Context, flow storage.ID) ([]settle.Ending, error) {
	return r.ended(ctx, fallenSQL, flow.String())
}

// Retake implements [settle.Rows].
func (r *flowRows) Retake(ctx context.Context, now time.Time, o storage.Order, ids []storage.ID) error {
	var rows []storage.Execution
	if err := r.q.each(ctx, scanAll(&rows), orderedSQL, idArray(ids)); err != nil {
		return err
	}
	if err := r.keysAreFree(ctx, now, rows); err != nil {
		return err
	}
	n, err := r.q.exec(ctx, retakeSQL, now, idArray(ids), o.Queue, idArg(o.Home))
	if err != nil {
		return err
	}
	if int(n) != len(ids) {
		return errMoved
	}
	r.q.queue(waitAgainSQL, idArray(ids))
	for i := range rows {
		r.q.arrivals.In(cmp.Or(o.Queue, rows[i].Queue))
	}
	return nil
}

// keysAreFree returns a *storage.DuplicateError if a live row holds the key of one
// that would come back.
func (r *flowRows) keysAreFree(ctx context.Context, now time.Time, rows []storage.Execution) error {
	var keys []string
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
	holders := map[string]storage.ID{}
	r.q.queue(expireKeysSQL, now, keys, idArray(nil))
	err := r.q.each(ctx, func(row scanner) error {
		var key string
		var holder storage.ID
		err := row.Scan(&key, idScan{&holder})
		holders[key] = holder
		return err
	}, holdersSQL, keys)
	if err != nil {
		return err
	}
	for _, key := range keys { // the first of them is told of, on each store
		if holder, held := holders[key]; held {
			return &storage.DuplicateError{Name: byKey[key].Name, Key: key, HolderID: holder}
		}
	}
	return nil
}
