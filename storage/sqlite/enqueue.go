package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// Enqueue creates executions, see [storage.Queue].
func (s *Store) Enqueue(ctx context.Context, r storage.EnqueueRequest) (storage.Enqueued, error) {
	return write(ctx, s, "enqueue", func(ctx context.Context, t *txn) (storage.Enqueued, error) { return enqueue(ctx, t, r) })
}

func enqueue(ctx context.Context, t *txn, r storage.EnqueueRequest) (storage.Enqueued, error) {
	now := clock(r.Now)
	if r.Claim != nil {
		if err := mustBePresent(ctx, t, r.Claim.Worker); err != nil {
			return storage.Enqueued{}, err
		}
	}
	receipts, err := enqueueRows(ctx, t, now, r)
	if err != nil {
		return storage.Enqueued{}, err
	}
	out := storage.Enqueued{Receipts: receipts}
	if r.Claim != nil {
		t.shared.want(path)
		c := *r.Claim
		c.Now = now
		out.Claimed, err = takeWork(ctx, t, c)
	}
	return out, err
}

func enqueueRows(ctx context.Context, t *txn, now time.Time, r storage.EnqueueRequest) ([]storage.Receipt, error) {
	for i := range r.Executions {
		if e := &r.Executions[i]; e.ID.IsZero() || e.Name == "" {
			return nil, fmt.Errorf("execution %q needs an id and a name", e.Name)
		}
	}
	if r.Tick != nil {
		if refused, err := fire(ctx, t, r); refused != nil || err != nil {
			return refused, err
		}
	}
	receipts, repeated, err := admit(ctx, t, now, r)
	if err != nil || repeated {
		return receipts, err
	}
	if err := writeAdmitted(ctx, t, now, r, receipts); err != nil {
		return nil, err
	}
	if n := storage.Written(receipts); r.Audit != nil && n > 0 {
		return receipts, audit(ctx, t, now, r.Audit.Actor, r.Audit.Action, r.Audit.Target, n, r.Audit.Reason)
	}
	return receipts, nil
}

// writeAdmitted writes the admitted executions, with the flows and edges of the request.
func writeAdmitted(ctx context.Context, t *txn, now time.Time, r storage.EnqueueRequest, receipts []storage.Receipt) error {
	steps := rows{txn: t}
	var into *storage.Flow
	if !r.Into.IsZero() {
		f, err := settle.Admit(ctx, steps, r.Into)
		if err != nil {
			return err
		}
		into = &f
	}
	admitted := make([]storage.Execution, 0, len(r.Executions))
	for i := range r.Executions {
		if !receipts[i].Duplicate {
			admitted = append(admitted, r.Executions[i])
		}
	}
	p, err := settle.Plan(now, r.Flows, admitted, r.Edges, into)
	if err != nil {
		return err
	}
	if err := insertAll(ctx, t, now, p.Insertion); err != nil {
		return err
	}
	if into != nil {
		p.Grow(into)
		if err := steps.SaveFlow(ctx, *into); err != nil {
			return err
		}
	}
	return settle.Opened(ctx, steps, now, &p)
}

// admit decides what becomes of each execution before anything is written. A
// request is a repeat when its flow or any of its rows is there already: one
// transaction wrote all of it but the duplicates.
func admit(ctx context.Context, t *txn, now time.Time, r storage.EnqueueRequest) (receipts []storage.Receipt, repeated bool, err error) {
	receipts = make([]storage.Receipt, len(r.Executions))
	traced := !r.Into.IsZero() || r.Audit != nil // a look before the insert tells what becomes of it
	for i := range r.Executions {
		e := &r.Executions[i]
		receipts[i].ID = e.ID
		traced = traced || e.UniqueKey != ""
	}
	if len(r.Flows) > 0 { // one transaction wrote all of them
		if repeated, err = t.any(ctx, flowExists, r.Flows[0].ID[:]); err != nil {
			return nil, false, err
		}
	}
	if !traced {
		return receipts, repeated, nil // rows that are there are left alone by insertExecution
	}
	if !repeated {
		if repeated, err = anyExists(ctx, t, r.Executions); err != nil {
			return nil, false, err
		}
	}
	taken := map[string]storage.ID{}
	for i := range r.Executions {
		e := &r.Executions[i]
		if e.UniqueKey == "" {
			continue
		}
		if repeated {
			there, err := t.any(ctx, executionExists, e.ID[:])
			if err != nil {
				return nil, false, err
			}
			if there {
				continue
			}
		}
		holder, held := taken[e.UniqueKey]
		if !held {
			if holder, held, err = holderOf(ctx, t, now, e.UniqueKey, !repeated); err != nil {
				return nil, false, err
			}
		}
		if held || repeated {
			receipts[i].Duplicate, receipts[i].HolderID = true, holder
		} else {
			taken[e.UniqueKey] = e.ID
		}
		if held && r.RefuseDuplicates && !repeated {
			return nil, false, &storage.DuplicateError{Name: e.Name, Key: e.UniqueKey, HolderID: holder}
		}
	}
	return receipts, repeated, nil
}

// Both by primary key.
const (
	flowExists      = `SELECT 1 FROM sequencer_flows WHERE id = ?`
	executionExists = `SELECT 1 FROM sequencer_executions WHERE id = ?`
)

func anyExists(ctx context.Context, t *txn, executions []storage.Execution) (bool, error) {
	for i := range executions {
		there, err := t.any(ctx, executionExists, executions[i].ID[:])
		if there || err != nil {
			return there, err
		}
	}
	return false, nil
}

// The holder of a key, by the partial unique index. Under the write lock nobody
// can take the key before the insert; a caller's transaction that does not have
// the lock yet fails at the insert if anybody wrote since it read this.
const keyHolder = `
SELECT id, state = 'pending' AND unique_for_us > 0 AND created_at + unique_for_us <= ?
FROM sequencer_executions WHERE unique_key = ? AND holds_key = 1`

const loseKey = `UPDATE sequencer_executions SET holds_key = 0, unique_key = NULL WHERE id = ?`

// holderOf finds who holds a key. One that only waits and whose UniqueFor has
// passed loses it, if expire says so; otherwise it holds the key until somebody
// takes it.
func holderOf(ctx context.Context, t *txn, now time.Time, key string, expire bool) (holder storage.ID, held bool, err error) {
	lapsed := false
	dest := []any{(*idColumn)(&holder), (*truthColumn)(&lapsed)}
	held, err = t.one(ctx, dest, keyHolder, now.UnixMicro(), key)
	if err != nil || !held || !lapsed || !expire {
		return holder, held, err
	}
	_, err = t.exec(ctx, loseKey, holder[:])
	return storage.ID{}, false, err
}

// insertAll writes what was decided.
func insertAll(ctx context.Context, t *txn, now time.Time, add settle.Insertion) error {
	for i := range add.Flows {
		if err := insertFlow(ctx, t, &add.Flows[i]); err != nil {
			return err
		}
	}
	for i := range add.Members {
		if err := insertExecution(ctx, t, now, &add.Members[i], add.Waits[add.Members[i].ID]); err != nil {
			return err
		}
	}
	return insertEdges(ctx, t, add.Edges)
}

// A row that is there already (a repeat) is left alone. created_at, delay and
// state are the same for all rows of a request, the rest is the caller's.
const insertOne = `
INSERT INTO sequencer_executions (
	id, name, kind, method, actor, queue, priority, state, due_at, created_at, deadline_at, waits, worker_id,
	flow_id, member, position, undoes, delay_us, retry_for_us, unique_key, unique_for_us, holds_key, on_loss,
	min_build, undoable, allowed_to_fail, checksum, tags, policy, input, result)
VALUES (?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING`

// insertPlain is insertOne for most rows of a queue, which have only what is bound: to
// bind an argument takes as long as to write its column.
const insertPlain = `
INSERT INTO sequencer_executions (
	id, name, kind, method, actor, queue, priority, state, due_at, created_at, member, position, delay_us, retry_for_us,
	unique_for_us, holds_key, on_loss, min_build, undoable, allowed_to_fail, checksum, tags, policy, input)
VALUES (?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?8, '', 0, 0, 0, 0, 0, ?, 0, ?, 0, '', '', ?, ?)
ON CONFLICT (id) DO NOTHING`

// isPlain reports a row that insertPlain writes in full.
func isPlain(e *storage.Execution, waits int) bool {
	return waits == 0 && e.Delay <= 0 && e.RetryFor == 0 && e.UniqueKey == "" && e.UniqueFor == 0 && e.FlowID.IsZero() &&
		e.WorkerID.IsZero() && e.Undoes.IsZero() && e.Kind != storage.Undo && e.Member == "" && e.Position == 0 && e.MinBuild == 0 &&
		!e.AllowedToFail && e.Checksum == "" && len(e.Tags) == 0
}

const insertTag = `INSERT INTO sequencer_tags (tag, at, execution_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`

func insertExecution(ctx context.Context, t *txn, now time.Time, e *storage.Execution, waits int) error {
	if isPlain(e, waits) {
		n, err := t.exec(ctx, insertPlain, e.ID[:], e.Name, string(e.Kind), e.Method, e.Actor, e.Queue, level(e.Priority), now.UnixMicro(),
			string(e.OnLoss), intOf(e.Undoable), bytesOf(e.Policy), bytesOf(e.Input))
		if err == nil && n > 0 {
			t.arrivals.In(e.Queue)
		}
		return err
	}
	var due, deadline any
	if waits == 0 {
		at := now.Add(e.Delay)
		due = at.UnixMicro()
		if e.RetryFor > 0 {
			deadline = at.Add(e.RetryFor).UnixMicro()
		}
	}
	var key, result any
	if e.UniqueKey != "" {
		key = e.UniqueKey
	}
	if e.Kind == storage.Undo {
		result = bytesOf(e.Result)
	}
	n, err := t.exec(ctx, insertOne,
		e.ID[:], e.Name, string(e.Kind), e.Method, e.Actor, e.Queue, level(e.Priority), due, now.UnixMicro(), deadline, waits, blobOf(e.WorkerID),
		blobOf(e.FlowID), e.Member, e.Position, blobOf(e.Undoes), e.Delay.Microseconds(), e.RetryFor.Microseconds(), key, e.UniqueFor.Microseconds(), intOf(key != nil), string(e.OnLoss),
		e.MinBuild, intOf(e.Undoable), intOf(e.AllowedToFail), e.Checksum, listOf(e.Tags), bytesOf(e.Policy), bytesOf(e.Input), result)
	if err != nil || n == 0 {
		return err
	}
	if waits == 0 && e.Delay <= 0 {
		t.arrivals.In(e.Queue)
	}
	return insertTags(ctx, t, e, now)
}

func insertTags(ctx context.Context, t *txn, e *storage.Execution, created time.Time) error {
	for _, tag := range e.Tags {
		if _, err := t.exec(ctx, insertTag, tag, created.UnixMicro(), e.ID[:]); err != nil {
			return err
		}
	}
	return nil
}

// level brings a priority into the four levels that a claim looks at.
func level(priority int) int {
	return min(max(cmp.Or(priority, storage.PriorityDefault), storage.PriorityHighest), storage.PriorityLowest)
}

const insertEdge = `INSERT INTO sequencer_edges (from_id, to_id, needs) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`

func insertEdges(ctx context.Context, t *txn, edges []storage.Edge) error {
	for _, e := range edges {
		if _, err := t.exec(ctx, insertEdge, e.From[:], e.To[:], intOf(e.Needs)); err != nil {
			return err
		}
	}
	return nil
}

const insertFlowRow = `
INSERT INTO sequencer_flows (callbacks, ` + flowColumns + `)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', ?, NULL, ?, 0, 0, 0, 0, 0, 0, ?, 0, 0, ?, ?, 1, ?, 0, 0, NULL, ?, 0)`

// insertFlow writes a flow that begins.
func insertFlow(ctx context.Context, t *txn, f *storage.Flow) error {
	callbacks, err := storage.EncodeCallbacks(f.Callbacks)
	if err != nil {
		return err
	}
	_, err = t.exec(ctx, insertFlowRow, bytesOf(callbacks),
		f.ID[:], string(f.Kind), f.Name, f.Method, string(f.Policy), string(f.Phase), string(f.State), f.Reason, f.Actor, f.Host, f.Build, bytesOf(f.Options),
		blobOf(f.WorkerID), f.CreatedAt.UnixMicro(), f.Total, f.UndoTotal,
		blobOf(f.ParentID), f.RootID[:], int(f.Roles), blobOf(f.LastID))
	return err
}
