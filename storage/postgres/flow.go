package postgres

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// flowRows are the steps of the flow rules. Writes are queued: the common flow, in
// which nothing fails, asks one question (its own row) and sends the rest with the
// commit.
type flowRows struct{ q *session }

var (
	_ settle.Rows     = (*flowRows)(nil)
	_ settle.Advancer = (*flowRows)(nil)
	_ settle.Surveyor = (*flowRows)(nil)
)

// lockRootsSQL reads the outermost flows of some, lockFlowsSQL flows themselves, by
// primary key. Lock: the flows, the outermost first and each in the order of their
// ids, so that two transactions which settle the same ones cannot deadlock. The lock
// is what makes a member's step whole: counters, edges and cancellations of one nest
// are never worked on by two at once. Only advanceSQL locks a nested flow alone, and
// whoever waits for it then with the outermost one in hand may have to try again.
const (
	lockRootsSQL = `SELECT ` + flowColumns + ` FROM sequencer_flows f
	WHERE f.id IN (SELECT c.root_id FROM sequencer_flows c WHERE c.id = ANY ($1::uuid[])) ORDER BY f.id FOR UPDATE`
	lockFlowsSQL = `SELECT ` + flowColumns + ` FROM sequencer_flows f WHERE f.id = ANY ($1::uuid[]) ORDER BY f.id FOR UPDATE`
)

// LockFlows implements [settle.Rows].
func (r *flowRows) LockFlows(ctx context.Context, ids []storage.ID) ([]storage.Flow, error) {
	var flows []storage.Flow
	if err := r.q.each(ctx, scanFlows(&flows), lockRootsSQL, idArray(ids)); err != nil {
		return nil, err
	}
	have := make(map[storage.ID]bool, len(flows))
	for i := range flows {
		have[flows[i].ID] = true
	}
	nested := slices.DeleteFunc(slices.Clone(ids), func(id storage.ID) bool { return have[id] })
	if len(nested) == 0 || len(flows) == 0 {
		return flows, nil
	}
	err := r.q.each(ctx, scanFlows(&flows), lockFlowsSQL, idArray(nested))
	slices.SortFunc(flows, func(a, b storage.Flow) int { return compareIDs(a.ID, b.ID) })
	return flows, err
}

// advanceSQL counts completed members of flows that go on all the same: of those that
// are over none is open, and bit 8 is the progress callback, which every member may be
// due for. Index: the primary key. Lock: these flows, in the order of their ids.
const advanceSQL = `
WITH locked AS MATERIALIZED (
	SELECT f.id, s.n FROM unnest($1::uuid[], $2::int[]) AS s (id, n) JOIN sequencer_flows f ON f.id = s.id
	WHERE f.phase = 'forward' AND f.roles & 8 = 0
		AND f.total - f.completed - f.failed - f.failed_allowed - f.skipped - f.cancelled - f.interrupted > s.n
	ORDER BY f.id FOR UPDATE OF f
)
UPDATE sequencer_flows f SET completed = f.completed + l.n FROM locked l WHERE f.id = l.id RETURNING f.id`

// Advance implements [settle.Advancer].
func (r *flowRows) Advance(ctx context.Context, steps []settle.Step) ([]bool, error) {
	place := make(map[storage.ID]int, len(steps))
	numbers := make([]int32, len(steps))
	for i, s := range steps {
		place[s.Flow] = i
		numbers[i] = int32(s.N)
	}
	did := make([]bool, len(steps))
	err := r.q.each(ctx, func(row scanner) error {
		var id storage.ID
		err := row.Scan(idScan{&id})
		did[place[id]] = true
		return err
	}, advanceSQL, idColumn(steps, func(s *settle.Step) storage.ID { return s.Flow }), numbers)
	return did, err
}

// saveFlowSQL writes what the rules change, on a row that is locked already.
const saveFlowSQL = `
UPDATE sequencer_flows SET
	phase = $2::text, state = $3::text, reason = $4::text, stop_state = $5::text, finished_at = $6::timestamptz, worker_id = $7::uuid,
	completed = $8::int, failed = $9::int, failed_allowed = $10::int, skipped = $11::int, cancelled = $12::int,
	interrupted = $13::int, undo_total = $14::int, undo_completed = $15::int, undo_failed = $16::int,
	total = $17::int, generation = $18::int, fired = $19::int, callbacks_open = $20::int, failed_id = $21::uuid, last_id = $22::uuid,
	stop_for_now = $23::bool
WHERE id = $1::uuid`

// SaveFlow implements [settle.Rows].
func (r *flowRows) SaveFlow(_ context.Context, f storage.Flow) error {
	queueSave(r.q, f)
	return nil
}

func queueSave(q *session, f storage.Flow) {
	q.queue(saveFlowSQL, f.ID.String(), string(f.Phase), string(f.State), textArg(clean(f.Reason)), textArg(string(f.StopState)),
		at(micro(f.FinishedAt)), idArg(f.WorkerID), f.Completed, f.Failed, f.FailedAllowed, f.Skipped, f.Cancelled,
		f.Interrupted, f.UndoTotal, f.UndoCompleted, f.UndoFailed, f.Total, f.Generation, int(f.Fired), f.CallbacksOpen,
		idArg(f.FailedID), idArg(f.LastID), f.StopForNow)
}

// releaseSQL settles edges. Index: edges and live rows by primary key. Lock: the
// rows released, which nothing claims while they wait.
const releaseSQL = `
UPDATE sequencer_live l SET
	waits = greatest(l.waits - e.n, 0),
	due_at = CASE WHEN l.waits <= e.n THEN $1::timestamptz + coalesce(l.delay_us, 0) * interval '1 microsecond' END,
	deadline_at = CASE WHEN l.waits <= e.n THEN
		$1::timestamptz + (coalesce(l.delay_us, 0) + l.retry_for_us) * interval '1 microsecond' END
FROM (
	SELECT to_id, count(*) AS n FROM sequencer_edges
	WHERE from_id = ANY ($2::uuid[]) AND ($3::bool OR NOT needs)
	GROUP BY to_id
) e
WHERE l.id = e.to_id AND l.state = 'pending' AND l.waits > 0
RETURNING CASE WHEN l.due_at <= $1::timestamptz THEN l.queue END`

// Release implements [settle.Rows].
func (r *flowRows) Release(_ context.Context, now time.Time, from []storage.ID, needs bool) error {
	r.q.queueScan(func(row scanner) error {
		var queue pgtype.Text
		err := row.Scan(&queue)
		if queue.Valid {
			r.q.arrivals.In(queue.String)
		}
		return err
	}, releaseSQL, now, idArray(from), needs)
	return nil
}

// leavingSQL reads edges and what they lead to by primary key.
const leavingSQL = `
SELECT e.from_id, e.to_id, e.needs, l.kind FROM sequencer_edges e JOIN sequencer_live l ON l.id = e.to_id
WHERE e.from_id = ANY ($1::uuid[]) AND l.state = 'pending'
ORDER BY l.position, l.id`

// Leaving implements [settle.Rows].
func (r *flowRows) Leaving(ctx context.Context, from []storage.ID) ([]settle.Behind, error) {
	var edges []settle.Behind
	err := r.q.each(ctx, func(row scanner) error {
		var e settle.Behind
		var kind string
		err := row.Scan(idScan{&e.From}, idScan{&e.To}, &e.Needs, &kind)
		e.Kind = storage.Kind(kind)
		edges = append(edges, e)
		return err
	}, leavingSQL, idArray(from))
	return edges, err
}

// blockedSQL reads a flow's edges and what they lead to. Index: sequencer_edges_flow, and
// live rows by primary key.
const blockedSQL = `
SELECT e.from_id, e.to_id, e.needs, l.kind, l.name FROM sequencer_edges e JOIN sequencer_live l ON l.id = e.to_id
WHERE e.flow_id = $1::uuid AND l.state = 'pending' AND l.waits > 0`

// Blocked implements [settle.Surveyor].
func (r *flowRows) Blocked(ctx context.Context, flow storage.ID) ([]settle.Behind, error) {
	var edges []settle.Behind
	err := r.q.each(ctx, func(row scanner) error {
		var e settle.Behind
		err := row.Scan(idScan{&e.From}, idScan{&e.To}, &e.Needs, (*string)(&e.Kind), &e.Name)
		edges = append(edges, e)
		return err
	}, blockedSQL, flow.String())
	return edges, err
}

// endingColumns is what the rules ask of a member that is over; endedRow receives it.
const endingColumns = `id, flow_id, name, kind, method, state, for_now, allowed_to_fail, undoes,
	CASE WHEN state IN ('skipped', 'cancelled') THEN reason ELSE last_error END`

func scanEnding(r scanner, more ...any) (settle.Ending, error) {
	var e settle.Ending
	var kind, state string
	var message pgtype.Text
	err := r.Scan(append([]any{
		idScan{&e.ID}, idScan{&e.FlowID}, &e.Name, &kind, &e.Method, &state, &e.ForNow, &e.AllowedToFail, idScan{&e.Undoes}, &message,
	}, more...)...)
	e.Kind, e.State, e.Message = storage.Kind(kind), storage.State(state), message.String
	return e, err
}

// intoHistory is the target of every move; its values come in this order.
const intoHistory = `INSERT INTO sequencer_history (
		id, flow_id, worker_id, undoes, created_at, due_at, started_at, deadline_at, min_build,
		delay_us, retry_for_us, unique_for_us, done, total, priority, position, waits, delivery, excused, errors, losses,
		undoable, allowed_to_fail, for_now, parked, cancel_asked, name, kind, method, queue, on_loss, actor, member,
		unique_key, environment, checksum, tags, input, policy, checkpoint, result, last_error, error_group, undo_error,
		state, finished_at, reason)`

// cancelled are the values of a pending row that ends as it is.
const cancelled = `
		id, flow_id, worker_id, undoes, created_at, due_at, started_at, deadline_at, min_build,
		delay_us, retry_for_us, unique_for_us, done, total, priority, position, waits, delivery, excused, errors, losses,
		undoable, allowed_to_fail, c_for_now, false, false, name, kind, method, queue, on_loss, actor, member,
		unique_key, NULL, checksum, tags, input, policy, checkpoint, result, last_error, error_group, undo_error,
		'cancelled', $1::timestamptz`

// cancelSQL ends pending rows by primary key. Lock: the rows it deletes; one that a
// claim has taken meanwhile is running when the lock is granted, and stays.
const cancelSQL = `
WITH c AS (
	SELECT c_id, c_reason, coalesce(c_for_now, false) AS c_for_now
	FROM unnest($2::uuid[], $3::text[], $4::bool[]) AS c (c_id, c_reason, c_for_now)
), gone AS (
	DELETE FROM sequencer_live l USING c WHERE l.id = c.c_id AND l.state = 'pending' RETURNING l.*, c.c_reason, c.c_for_now
), kept AS (
	` + intoHistory + `
	SELECT ` + cancelled + `, nullif(c_reason, '') FROM gone
	RETURNING *
)
SELECT ` + endingColumns + ` FROM kept`

// Cancel implements [settle.Rows].
func (r *flowRows) Cancel(ctx context.Context, now time.Time, members []settle.Cancellation) ([]settle.Ending, error) {
	endings, err := r.ended(ctx, cancelSQL, now,
		idColumn(members, func(c *settle.Cancellation) storage.ID { return c.ID }),
		column(members, func(c *settle.Cancellation) string { return clean(c.Reason) }),
		column(members, func(c *settle.Cancellation) bool { return c.ForNow }))
	return settle.InOrder(endings, members), err
}

// cancelPendingSQL does the same for a flow. Index: sequencer_live_flow.
const cancelPendingSQL = `
WITH gone AS (
	DELETE FROM sequencer_live WHERE flow_id = $2::uuid AND state = 'pending' AND kind NOT IN ('undo', 'nested', 'callback')
	RETURNING *, $4::bool AS c_for_now
), kept AS (
	` + intoHistory + `
	SELECT ` + cancelled + `, $3::text FROM gone
	RETURNING *
)
SELECT ` + endingColumns + ` FROM kept ORDER BY position, id`

// CancelPending implements [settle.Rows].
func (r *flowRows) CancelPending(ctx context.Context, now time.Time, flow storage.ID, reason string, forNow bool) ([]settle.Ending, error) {
	return r.ended(ctx, cancelPendingSQL, now, flow.String(), textArg(clean(reason)), forNow)
}

func (r *flowRows) ended(ctx context.Context, sql string, args ...any) ([]settle.Ending, error) {
	var endings []settle.Ending
	err := r.q.each(ctx, func(row scanner) error {
		e, err := scanEnding(row)
		endings = append(endings, e)
		return err
	}, sql, args...)
	return endings, err
}

// undoableSQL reads a flow's members. Index: sequencer_history_flow.
const undoableSQL = `SELECT ` + allColumns + ` FROM sequencer_history l
	WHERE l.flow_id = $1::uuid AND l.state = 'completed' AND l.undoable AND l.kind NOT IN ('undo', 'callback')
	ORDER BY l.finished_at DESC, l.position DESC`

// Undoable implements [settle.Rows].
func (r *flowRows) Undoable(ctx context.Context, flow storage.ID) ([]storage.Execution, error) {
	var rows []storage.Execution
	err := r.q.each(ctx, scanAll(&rows), undoableSQL, flow.String())
	return rows, err
}

// Insert implements [settle.Rows]. A member whose unique key is taken goes in
// without it: a step that is due cannot wait for a stranger.
func (r *flowRows) Insert(ctx context.Context, now time.Time, add settle.Insertion) error {
	r.q.now = now
	e := enqueuing{q: r.q}
	for i := range add.Flows {
		if err := queueOpen(r.q, &add.Flows[i], nil); err != nil {
			return err
		}
	}
	members := slices.Clone(add.Members)
	if err := e.stripKeys(ctx, members); err != nil {
		return err
	}
	if _, err := e.insert(ctx, members, add.Waits); err != nil {
		return err
	}
	queueEdges(r.q, add.Members, add.Edges)
	return nil
}

// undoneSQL and undoFailedSQL change a history row in place, by primary key.
const (
	undoneSQL = `UPDATE sequencer_history SET state = 'rolled_back', undo_error = NULL
	WHERE id = $1::uuid AND state IN ('completed', 'failed')`
	undoFailedSQL = `UPDATE sequencer_history SET undo_error = $2::text WHERE id = $1::uuid`
)

// MarkUndone implements [settle.Rows].
func (r *flowRows) MarkUndone(_ context.Context, _ time.Time, target storage.ID) error {
	r.q.queue(undoneSQL, target.String())
	return nil
}

// MarkUndoFailed implements [settle.Rows].
func (r *flowRows) MarkUndoFailed(_ context.Context, target storage.ID, message string) error {
	r.q.queue(undoFailedSQL, target.String(), textArg(clean(message)))
	return nil
}

// StopFlow implements [storage.Queue].
func (s *Store) StopFlow(ctx context.Context, r storage.StopFlowRequest) (storage.Flow, error) {
	var f storage.Flow
	err := s.tx(ctx, "stop flow "+r.ID.String(), r.Now, func(ctx context.Context, q *session) error {
		if err := q.flush(ctx); err != nil {
			return err
		}
		_, audited, err := settle.Stop(ctx, &flowRows{q}, q.now, r)
		if err != nil {
			return err
		}
		if audited {
			queueAudit(q, storage.AuditStopFlow, r.ID.String(), r.Actor, r.Reason, 1)
		}
		q.queueScan(func(row scanner) (err error) {
			f, err = scanFlow(row)
			return err
		}, flowSQL, r.ID.String())
		return nil
	})
	return f, err
}

// flowSQL reads one flow by primary key.
const flowSQL = `SELECT ` + flowColumns + ` FROM sequencer_flows f WHERE f.id = $1::uuid`

func compareIDs(a, b storage.ID) int { return bytes.Compare(a[:], b[:]) }

func sortedIDs(ids []storage.ID) []storage.ID {
	ids = slices.Clone(ids)
	slices.SortFunc(ids, compareIDs)
	return slices.Compact(ids)
}
