package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// StopFlow ends a flow early, see [storage.Queue].
func (s *Store) StopFlow(ctx context.Context, r storage.StopFlowRequest) (storage.Flow, error) {
	return write(ctx, s, "stop flow "+r.ID.String(), func(ctx context.Context, t *txn) (storage.Flow, error) {
		now := clock(r.Now)
		f, audited, err := settle.Stop(ctx, rows{txn: t}, now, r)
		if err == nil && audited {
			err = audit(ctx, t, now, r.Actor, storage.AuditStopFlow, r.ID.String(), 1, r.Reason)
		}
		return f, err
	})
}

// rows are the steps that package settle drives, in one transaction. SQLite has
// one writer, so having written anything, or having begun immediately, is the
// lock on every flow.
type rows struct {
	*txn
	handover *handover // nil: nothing is taken
}

var (
	_ settle.Rows     = rows{}
	_ settle.Advancer = rows{}
)

const flowByID = `SELECT` + flowColumns + ` FROM sequencer_flows WHERE id = ?`

// LockFlows reads flows and those they are nested in, in id order.
func (r rows) LockFlows(ctx context.Context, ids []storage.ID) ([]storage.Flow, error) {
	flows := make([]storage.Flow, 0, len(ids))
	have := make(map[storage.ID]bool, len(ids))
	read := func(id storage.ID) error {
		if have[id] || id.IsZero() {
			return nil
		}
		have[id] = true
		return r.each(ctx, collectFlows(&flows), flowByID, id[:])
	}
	for _, id := range ids {
		if err := read(id); err != nil {
			return nil, err
		}
	}
	for i := range flows {
		if err := read(flows[i].RootID); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(flows, func(a, b storage.Flow) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return flows, nil
}

func collectFlows(flows *[]storage.Flow) func(*sql.Rows) error {
	return func(rows *sql.Rows) error {
		*flows = append(*flows, storage.Flow{})
		return scanFlow(rows, &(*flows)[len(*flows)-1])
	}
}

const saveFlow = `
UPDATE sequencer_flows
SET phase = ?, state = ?, reason = ?, stop_state = ?, finished_at = ?, worker_id = ?, total = ?, completed = ?, failed = ?,
	failed_allowed = ?, skipped = ?, cancelled = ?, interrupted = ?, undo_total = ?, undo_completed = ?, undo_failed = ?,
	generation = ?, fired = ?, callbacks_open = ?, failed_id = ?, last_id = ?, stop_for_now = ?
WHERE id = ?`

// By primary key. Of a flow that is over no member is open. Bit 8 is the progress
// callback, which every member may be due for.
const advanceFlow = `
UPDATE sequencer_flows SET completed = completed + ?1
WHERE id = ?2 AND phase = 'forward' AND roles & 8 = 0
	AND total - completed - failed - failed_allowed - skipped - cancelled - interrupted > ?1`

// Advance is what nearly every step of a flow comes to.
func (r rows) Advance(ctx context.Context, steps []settle.Step) ([]bool, error) {
	did := make([]bool, len(steps))
	for i, step := range steps {
		changed, err := r.exec(ctx, advanceFlow, step.N, step.Flow[:])
		if err != nil {
			return nil, err
		}
		did[i] = changed > 0
	}
	if r.handover != nil {
		r.handover.due = did[0]
	}
	return did, nil
}

// SaveFlow writes what changes in a flow.
func (r rows) SaveFlow(ctx context.Context, f storage.Flow) error {
	_, err := r.exec(ctx, saveFlow,
		string(f.Phase), string(f.State), f.Reason, string(f.StopState), microsOf(f.FinishedAt), blobOf(f.WorkerID), f.Total, f.Completed, f.Failed,
		f.FailedAllowed, f.Skipped, f.Cancelled, f.Interrupted, f.UndoTotal, f.UndoCompleted, f.UndoFailed,
		f.Generation, int(f.Fired), f.CallbacksOpen, blobOf(f.FailedID), blobOf(f.LastID), intOf(f.StopForNow), f.ID[:])
	return err
}

// The first through the primary key of edges, the second by that of executions. A
// member at zero gets its due time, and with it a place in the index of claimable
// rows. (As one statement, with IN, SQLite would build a table of its own each time.)
const (
	leaving = `SELECT to_id FROM sequencer_edges WHERE from_id = ? AND needs <= ?`
	release = `
UPDATE sequencer_executions
SET waits = waits - 1,
	due_at = iif(waits > 1, NULL, ?1 + delay_us),
	deadline_at = iif(waits > 1 OR retry_for_us = 0, NULL, ?1 + delay_us + retry_for_us)
WHERE id = ?2 AND state = 'pending' AND waits > 0`
)

// Release settles the edges that leave from.
func (r rows) Release(ctx context.Context, now time.Time, from []storage.ID, needs bool) error {
	if h := r.handover; h != nil && h.due {
		if err := h.take(ctx, r.txn, now, from[0]); err != nil || h.taken {
			return err
		}
	}
	var behind []storage.ID
	for _, id := range from {
		err := r.each(ctx, func(rows *sql.Rows) error {
			behind = append(behind, storage.ID{})
			return rows.Scan((*idColumn)(&behind[len(behind)-1]))
		}, leaving, id[:], intOf(needs))
		if err != nil {
			return err
		}
	}
	for _, id := range behind {
		n, err := r.exec(ctx, release, now.UnixMicro(), id[:])
		if err != nil {
			return err
		}
		if n > 0 { // its queue is not worth reading: the statement is compiled anew after each migration
			r.arrivals.Anywhere()
		}
	}
	return nil
}

// Both ends by primary key.
const behind = `
SELECT e.to_id, e.needs, x.kind FROM sequencer_edges AS e CROSS JOIN sequencer_executions AS x ON x.id = e.to_id
WHERE e.from_id = ? AND x.state = 'pending'`

// Leaving finds who waits for from.
func (r rows) Leaving(ctx context.Context, from []storage.ID) ([]settle.Behind, error) {
	var edges []settle.Behind
	for _, id := range from {
		err := r.each(ctx, func(rows *sql.Rows) error {
			edges = append(edges, settle.Behind{Edge: storage.Edge{From: id}})
			e := &edges[len(edges)-1]
			return rows.Scan((*idColumn)(&e.To), (*truthColumn)(&e.Needs), (*string)(&e.Kind))
		}, behind, id[:])
		if err != nil {
			return nil, err
		}
	}
	return edges, nil
}

// Cancelling takes pending rows alone: one that a worker has claimed meanwhile is
// its worker's to end. One by primary key, many through the index of members.
const (
	cancelPending = `
UPDATE sequencer_executions
SET state = 'cancelled', finished_at = ?1, reason = ?2, for_now = ?3, holds_key = 0, parked = 0, cancel_asked = 0
WHERE state = 'pending' AND `
	cancelled = `
RETURNING ` + endingColumns

	cancelOne     = cancelPending + `id = ?4` + cancelled
	cancelForward = cancelPending + `flow_id = ?4 AND kind NOT IN ('undo', 'nested', 'callback')` + cancelled
)

// endingColumns is what the rules ask of a row that is over.
const endingColumns = `id, flow_id, name, kind, method, state, for_now, allowed_to_fail, undoes,
	iif(state = 'skipped' OR state = 'cancelled', reason, last_error)`

func collectEndings(endings *[]settle.Ending) func(*sql.Rows) error {
	return func(rows *sql.Rows) error {
		var e settle.Ending
		err := rows.Scan((*idColumn)(&e.ID), (*idColumn)(&e.FlowID), &e.Name, (*string)(&e.Kind), &e.Method, (*string)(&e.State),
			(*truthColumn)(&e.ForNow), (*truthColumn)(&e.AllowedToFail), (*idColumn)(&e.Undoes), &e.Message)
		*endings = append(*endings, e)
		return err
	}
}

// Cancel ends pending members.
func (r rows) Cancel(ctx context.Context, now time.Time, members []settle.Cancellation) ([]settle.Ending, error) {
	var endings []settle.Ending
	for _, m := range members {
		if err := r.each(ctx, collectEndings(&endings), cancelOne, now.UnixMicro(), m.Reason, intOf(m.ForNow), m.ID[:]); err != nil {
			return nil, err
		}
	}
	return endings, nil
}

// CancelPending ends all pending forward members of a flow.
func (r rows) CancelPending(ctx context.Context, now time.Time, flow storage.ID, reason string, forNow bool) ([]settle.Ending, error) {
	var endings []settle.Ending
	err := r.each(ctx, collectEndings(&endings), cancelForward, now.UnixMicro(), reason, intOf(forNow), flow[:])
	return endings, err
}

// Through the index of members.
const undoable = `SELECT` + executionColumns + ` FROM sequencer_executions
WHERE flow_id = ? AND state = 'completed' AND undoable = 1 AND kind NOT IN ('undo', 'callback')
ORDER BY finished_at DESC, position DESC`

// Undoable lists what compensation undoes, in its order.
func (r rows) Undoable(ctx context.Context, flow storage.ID) ([]storage.Execution, error) {
	var targets []storage.Execution
	err := r.each(ctx, collect(&targets), undoable, flow[:])
	return targets, err
}

// Insert adds what was decided. Unlike Enqueue it has nobody to refuse a duplicate
// to: a row whose key somebody else holds goes in without it.
func (r rows) Insert(ctx context.Context, now time.Time, add settle.Insertion) error {
	for i := range add.Members {
		m := &add.Members[i]
		if m.UniqueKey == "" {
			continue
		}
		_, held, err := holderOf(ctx, r.txn, now, m.UniqueKey, true)
		if err != nil {
			return err
		}
		if held {
			m.UniqueKey = ""
		}
	}
	return insertAll(ctx, r.txn, now, add)
}

// Both by primary key.
const (
	markUndone = `
UPDATE sequencer_executions SET state = 'rolled_back', undo_error = '' WHERE id = ? AND state IN ('completed', 'failed')`
	markUndoFailed = `UPDATE sequencer_executions SET undo_error = ? WHERE id = ?`
)

// MarkUndone makes what was undone rolled back.
func (r rows) MarkUndone(ctx context.Context, _ time.Time, target storage.ID) error {
	_, err := r.exec(ctx, markUndone, target[:])
	return err
}

// MarkUndoFailed says why it was not.
func (r rows) MarkUndoFailed(ctx context.Context, target storage.ID, message string) error {
	_, err := r.exec(ctx, markUndoFailed, message, target[:])
	return err
}
