package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// The first and the last through the index of members, the flows through their own,
// the others by primary key.
const (
	pendingNested = `SELECT id FROM sequencer_executions WHERE flow_id = ? AND state = 'pending' AND kind = 'nested'`
	flowsInside   = `SELECT` + flowColumns + ` FROM sequencer_flows WHERE parent_id = ? ORDER BY id`
	nestedState   = `SELECT state FROM sequencer_executions WHERE id = ? AND (state = 'pending' OR state = 'interrupted')`
	endNested     = `
UPDATE sequencer_executions
SET state = ?2, finished_at = ?3, reason = ?4, for_now = ?5, holds_key = 0, parked = 0, cancel_asked = 0
WHERE id = ?1
RETURNING ` + endingColumns
	findEnding  = `SELECT ` + endingColumns + ` FROM sequencer_executions WHERE id = ?`
	callbacksOf = `SELECT callbacks FROM sequencer_flows WHERE id = ?`
	holdRow     = `
UPDATE sequencer_executions SET waits = waits + 1, due_at = NULL, deadline_at = NULL WHERE id = ? AND state = 'pending'`
	fallen = `
SELECT ` + endingColumns + ` FROM sequencer_executions
WHERE flow_id = ? AND state IN ('failed', 'cancelled', 'interrupted') AND kind NOT IN ('undo', 'callback')`
)

// PendingNested lists the members that stand for flows.
func (r rows) PendingNested(ctx context.Context, flow storage.ID) ([]storage.ID, error) {
	var nested []storage.ID
	err := r.each(ctx, func(rows *sql.Rows) error {
		nested = append(nested, storage.ID{})
		return rows.Scan((*idColumn)(&nested[len(nested)-1]))
	}, pendingNested, flow[:])
	return nested, err
}

// Children reads the flows that executions stand for.
func (r rows) Children(ctx context.Context, parents []storage.ID) ([]storage.Flow, error) {
	var flows []storage.Flow
	for _, id := range byID(parents) {
		if err := r.each(ctx, collectFlows(&flows), flowsInside, id[:]); err != nil {
			return nil, err
		}
	}
	return flows, nil
}

// EndNested ends the row that stands for a flow.
func (r rows) EndNested(ctx context.Context, now time.Time, end settle.Nested) (settle.Ending, storage.State, error) {
	var was storage.State
	there, err := r.one(ctx, []any{(*string)(&was)}, nestedState, end.ID[:])
	if err != nil || !there {
		return settle.Ending{}, "", err
	}
	var ended []settle.Ending
	err = r.each(ctx, collectEndings(&ended), endNested, end.ID[:], string(end.State), now.UnixMicro(), end.Reason, intOf(end.ForNow))
	if err != nil {
		return settle.Ending{}, "", err
	}
	return ended[0], was, nil
}

// Find reads executions, whatever their state.
func (r rows) Find(ctx context.Context, ids []storage.ID) ([]settle.Ending, error) {
	var found []settle.Ending
	for _, id := range ids {
		if err := r.each(ctx, collectEndings(&found), findEnding, id[:]); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// Callbacks reads those of a flow.
func (r rows) Callbacks(ctx context.Context, flow storage.ID) ([]storage.Callback, error) {
	var stored []byte
	if _, err := r.one(ctx, []any{&stored}, callbacksOf, flow[:]); err != nil {
		return nil, err
	}
	return storage.DecodeCallbacks(stored)
}

// Held asks which keys are taken.
func (r rows) Held(ctx context.Context, now time.Time, keys []string) ([]bool, error) {
	held := make([]bool, len(keys))
	for i, key := range keys {
		var err error
		if _, held[i], err = holderOf(ctx, r.txn, now, key, true); err != nil {
			return nil, err
		}
	}
	return held, nil
}

// Hold makes rows wait for one more.
func (r rows) Hold(ctx context.Context, ids []storage.ID) error {
	for _, id := range ids {
		if _, err := r.exec(ctx, holdRow, id[:]); err != nil {
			return err
		}
	}
	return nil
}

// Fallen lists members that an order may take back.
func (r rows) Fallen(ctx context.Context, flow storage.ID) ([]settle.Ending, error) {
	var found []settle.Ending
	err := r.each(ctx, collectEndings(&found), fallen, flow[:])
	return found, err
}

// Counters start anew: what was delivered so far is excused, which keeps the fence
// rising. By primary key; what a row waits for through the indexes of edges and flows,
// once all rows of the order are pending.
const (
	retakeOne = `
UPDATE sequencer_executions
SET state = 'pending', queue = ?, worker_id = ?, due_at = ?, deadline_at = ?, waits = 0, finished_at = NULL,
	excused = delivery, errors = 0, losses = 0, parked = 0, cancel_asked = 0, holds_key = unique_key IS NOT NULL,
	reason = '', for_now = 0, environment = ''
WHERE id = ?`
	waitsFor = `
SELECT (SELECT count(*) FROM sequencer_edges AS e CROSS JOIN sequencer_executions AS x ON x.id = e.from_id
	WHERE e.to_id = ?1 AND x.finished_at IS NULL)
	+ (SELECT count(*) FROM sequencer_flows WHERE parent_id = ?1 AND finished_at IS NULL)`
	waitAgain = `UPDATE sequencer_executions SET waits = ?, due_at = NULL, deadline_at = NULL WHERE id = ?`
)

// Retake makes rows pending again.
func (r rows) Retake(ctx context.Context, now time.Time, o storage.Order, ids []storage.ID) error {
	found, err := byIDs(ctx, r.txn, ids)
	if err != nil {
		return err
	}
	for i := range found {
		e := &found[i]
		if e.UniqueKey != "" {
			holder, held, err := holderOf(ctx, r.txn, now, e.UniqueKey, true)
			if err != nil {
				return err
			}
			if held {
				return &storage.DuplicateError{Name: e.Name, Key: e.UniqueKey, HolderID: holder}
			}
		}
		queue := cmp.Or(o.Queue, e.Queue)
		var home, deadline any
		if strings.HasPrefix(queue, storage.PrivateQueue) {
			home = blobOf(o.Home)
		}
		if e.RetryFor > 0 {
			deadline = now.Add(e.RetryFor).UnixMicro()
		}
		if _, err := r.exec(ctx, retakeOne, queue, home, now.UnixMicro(), deadline, e.ID[:]); err != nil {
			return err
		}
		r.arrivals.In(queue)
	}
	for i := range found {
		waits := 0
		if _, err := r.one(ctx, []any{(*intColumn)(&waits)}, waitsFor, found[i].ID[:]); err != nil {
			return err
		}
		if waits == 0 {
			continue
		}
		if _, err := r.exec(ctx, waitAgain, waits, found[i].ID[:]); err != nil {
			return err
		}
	}
	return nil
}
