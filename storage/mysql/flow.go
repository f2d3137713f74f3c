package mysql

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// flowRows are the steps of the flow rules. Each holds the lock of its flow, which
// makes a member's step whole: counters, edges and cancellations of one flow are
// never worked on by two at once.
type flowRows struct{ q *session }

var _ settle.Rows = (*flowRows)(nil)

// lockRootsSQL reads the outermost flows of some, lockFlowsSQL flows themselves, by
// primary key. Lock: the flows, the outermost first and each in the order of their
// ids, so that two transactions which settle the same ones cannot deadlock.
const (
	lockRootsSQL = `
SELECT ` + flowColumns + ` FROM (SELECT DISTINCT root_id FROM sequencer_flows FORCE INDEX (PRIMARY) WHERE id IN (?)) r STRAIGHT_JOIN sequencer_flows f ON f.id = r.root_id
ORDER BY f.id FOR UPDATE`
	lockFlowsSQL = `SELECT ` + flowColumns + ` FROM sequencer_flows f WHERE f.id IN (?) ORDER BY f.id FOR UPDATE`
)

// LockFlows implements [settle.Rows].
func (r *flowRows) LockFlows(ctx context.Context, named []storage.ID) ([]storage.Flow, error) {
	var flows []storage.Flow
	parts := some(idList(sortedIDs(named)))
	for _, part := range parts {
		r.q.queueScan(scanFlows(&flows), lockRootsSQL, part)
	}
	for _, part := range parts {
		r.q.queueScan(scanFlows(&flows), lockFlowsSQL, part)
	}
	err := r.q.flush(ctx)
	// A caller's snapshot may be too old to tell the outermost flow of a new one.
	if missing := outermost(flows); err == nil && len(missing) > 0 {
		for _, part := range some(missing) {
			r.q.queueScan(scanFlows(&flows), lockFlowsSQL, part)
		}
		err = r.q.flush(ctx)
	}
	slices.SortStableFunc(flows, func(a, b storage.Flow) int { return compareIDs(a.ID, b.ID) })
	return slices.CompactFunc(flows, func(a, b storage.Flow) bool { return a.ID == b.ID }), err
}

// outermost are the ids of outermost flows that are not among flows.
func outermost(flows []storage.Flow) idList {
	have := make(map[storage.ID]bool, len(flows))
	for i := range flows {
		have[flows[i].ID] = true
	}
	var missing idList
	for i := range flows {
		if root := flows[i].RootID; !have[root] {
			have[root] = true
			missing = append(missing, root)
		}
	}
	return missing
}

// saveFlowSQL writes what the rules change, on a row that is locked already.
const saveFlowSQL = `
UPDATE sequencer_flows SET
	phase = ?, state = ?, reason = ?, stop_state = ?, finished_at = ?, worker_id = ?,
	completed = ?, failed = ?, failed_allowed = ?, skipped = ?, cancelled = ?,
	interrupted = ?, undo_total = ?, undo_completed = ?, undo_failed = ?,
	total = ?, generation = ?, fired = ?, callbacks_open = ?, failed_id = ?, last_id = ?, stop_for_now = ?
WHERE id = ?`

// SaveFlow implements [settle.Rows].
func (r *flowRows) SaveFlow(_ context.Context, f storage.Flow) error {
	queueSave(r.q, f)
	return nil
}

func queueSave(q *session, f storage.Flow) {
	q.queue(saveFlowSQL, text(string(f.Phase)), text(string(f.State)), textArg(f.Reason), textArg(string(f.StopState)),
		at(micro(f.FinishedAt)), idArg(f.WorkerID), f.Completed, f.Failed, f.FailedAllowed, f.Skipped, f.Cancelled,
		f.Interrupted, f.UndoTotal, f.UndoCompleted, f.UndoFailed,
		f.Total, f.Generation, int(f.Fired), f.CallbacksOpen, idArg(f.FailedID), idArg(f.LastID), f.StopForNow, idArg(f.ID))
}

// waitingSQL finds what waits behind edges, and how many of them. Index: edges and
// live rows by primary key. Lock: both, so that an old snapshot does not matter.
// releaseSQL then lets rows go that wait for no more, stepSQL counts for the others.
const (
	waitingSQL = `
SELECT l.id, l.waits, l.queue, COALESCE(l.delay_us, 0) FROM sequencer_edges e JOIN sequencer_live l ON l.id = e.to_id
WHERE e.from_id IN (?) AND (? OR NOT e.needs) AND l.state = 'pending' AND l.waits > 0 FOR UPDATE`
	releaseSQL = `
UPDATE sequencer_live FORCE INDEX (PRIMARY) SET
	waits = 0, due_at = @sequencer_now + COALESCE(delay_us, 0), deadline_at = @sequencer_now + COALESCE(delay_us, 0) + retry_for_us
WHERE id IN (?)`
	stepSQL = `UPDATE sequencer_live FORCE INDEX (PRIMARY) SET waits = waits - ? WHERE id IN (?)`
)

// Release implements [settle.Rows].
func (r *flowRows) Release(ctx context.Context, _ time.Time, from []storage.ID, needs bool) error {
	left := map[storage.ID]int{} // for how many each waits still
	fewer := map[storage.ID]int{}
	for _, part := range some(idList(from)) {
		r.q.queueScan(func(row scanner) error {
			var id storage.ID
			var waits int
			var queue string
			var delay int64
			err := row.Scan(idScan{&id}, &waits, &queue, &delay)
			fewer[id]++
			left[id] = waits - fewer[id]
			if left[id] <= 0 && delay <= 0 {
				r.q.arrivals.In(queue)
			}
			return err
		}, waitingSQL, part, needs)
	}
	if err := r.q.flush(ctx); err != nil {
		return err
	}
	var free idList
	waiting := map[int]idList{}
	for id, n := range left {
		if n <= 0 {
			free = append(free, id)
		} else {
			waiting[fewer[id]] = append(waiting[fewer[id]], id)
		}
	}
	for _, part := range some(free) {
		r.q.queue(releaseSQL, part)
	}
	for n, rows := range waiting {
		for _, part := range some(rows) {
			r.q.queue(stepSQL, n, part)
		}
	}
	return nil
}

// leavingSQL reads edges and what they lead to by primary key.
const leavingSQL = `
SELECT e.from_id, e.to_id, e.needs, l.kind FROM sequencer_edges e JOIN sequencer_live l ON l.id = e.to_id
WHERE e.from_id IN (?) AND l.state = 'pending'
ORDER BY l.position, l.id FOR UPDATE`

// Leaving implements [settle.Rows].
func (r *flowRows) Leaving(ctx context.Context, from []storage.ID) ([]settle.Behind, error) {
	var edges []settle.Behind
	for _, part := range some(idList(from)) {
		r.q.queueScan(func(row scanner) error {
			var e settle.Behind
			err := row.Scan(idScan{&e.From}, idScan{&e.To}, &e.Needs, (*string)(&e.Kind))
			edges = append(edges, e)
			return err
		}, leavingSQL, part)
	}
	err := r.q.flush(ctx)
	return edges, err
}

// blockedSQL reads a flow's edges, by sequencer_edges_flow, and what they lead to, by
// primary key. Lock: those rows.
const blockedSQL = `
SELECT e.from_id, e.to_id, e.needs, l.kind, l.name FROM sequencer_edges e JOIN sequencer_live l ON l.id = e.to_id
WHERE e.flow_id = ? AND l.state = 'pending' AND l.waits > 0 FOR UPDATE`

// Blocked implements [settle.Surveyor].
func (r *flowRows) Blocked(ctx context.Context, flow storage.ID) ([]settle.Behind, error) {
	var edges []settle.Behind
	err := r.q.each(ctx, func(row scanner) error {
		var e settle.Behind
		err := row.Scan(idScan{&e.From}, idScan{&e.To}, &e.Needs, (*string)(&e.Kind), &e.Name)
		edges = append(edges, e)
		return err
	}, blockedSQL, idArg(flow))
	return edges, err
}

// endingColumns is what the rules ask of a member.
const endingColumns = `l.id, l.flow_id, l.name, l.kind, l.method, l.state, l.for_now, l.allowed_to_fail, l.undoes,
	IF(l.state IN ('skipped', 'cancelled'), l.reason, l.last_error)`

func scanEnding(r scanner) (settle.Ending, error) {
	var e settle.Ending
	err := r.Scan(idScan{&e.ID}, idScan{&e.FlowID}, &e.Name, (*string)(&e.Kind), &e.Method, (*string)(&e.State), &e.ForNow, &e.AllowedToFail,
		idScan{&e.Undoes}, optional{&e.Message})
	return e, err
}

// pendingSQL locks rows that are pending, by primary key; one that a claim has taken
// meanwhile is running when the lock is granted, and stays. pendingMembersSQL does
// the same for a flow, which its marks lead to.
const (
	pendingSQL = `SELECT ` + endingColumns + ` FROM sequencer_live l FORCE INDEX (PRIMARY)
WHERE l.id IN (?) AND l.state = 'pending' ORDER BY l.position, l.id FOR UPDATE`
	pendingMembersSQL = `
SELECT ` + endingColumns + ` FROM sequencer_marks m STRAIGHT_JOIN sequencer_live l ON l.id = m.execution_id
WHERE m.mark = 'flow' AND m.value = ? AND l.flow_id = ? AND l.state = 'pending' AND l.kind NOT IN ('undo', 'nested', 'callback')
ORDER BY l.position, l.id FOR UPDATE`
)

// endPendingSQL puts locked rows into history as they are.
const endPendingSQL = `
INSERT INTO sequencer_history (
	id, flow_id, worker_id, undoes, created_at, due_at, started_at, finished_at, deadline_at, min_build,
	delay_us, retry_for_us, unique_for_us, done, total, priority, position, waits, delivery, excused, errors, losses,
	undoable, allowed_to_fail, for_now, state, name, kind, method, queue, on_loss, member,
	unique_key, checksum, environment, actor, reason, tags, input, policy, checkpoint, result, last_error, error_group, undo_error)
SELECT
	id, flow_id, worker_id, undoes, created_at, due_at, started_at, @sequencer_now, deadline_at, min_build,
	delay_us, retry_for_us, unique_for_us, done, total, priority, position, waits, delivery, excused, errors, losses,
	undoable, allowed_to_fail, ?, ?, name, kind, method, queue, on_loss, member,
	unique_key, checksum, NULL, actor, ?, tags, input, policy, checkpoint, result, last_error, error_group, undo_error
FROM sequencer_live FORCE INDEX (PRIMARY) WHERE id IN (?)`

// Cancel implements [settle.Rows].
func (r *flowRows) Cancel(ctx context.Context, _ time.Time, members []settle.Cancellation) ([]settle.Ending, error) {
	named := make(idList, len(members))
	ends := make(map[storage.ID]settle.Nested, len(members))
	for i, c := range members {
		named[i] = c.ID
		ends[c.ID] = settle.Nested{State: storage.Cancelled, Reason: c.Reason, ForNow: c.ForNow}
	}
	var endings []settle.Ending
	for _, part := range some(named) {
		r.q.queueScan(collect(&endings), pendingSQL, part)
	}
	if err := r.q.flush(ctx); err != nil {
		return nil, err
	}
	r.end(endings, func(id storage.ID) settle.Nested { return ends[id] })
	return settle.InOrder(endings, members), nil
}

// CancelPending implements [settle.Rows].
func (r *flowRows) CancelPending(ctx context.Context, _ time.Time, flow storage.ID, reason string, forNow bool) ([]settle.Ending, error) {
	var endings []settle.Ending
	if err := r.q.each(ctx, collect(&endings), pendingMembersSQL, idArg(flow), idArg(flow)); err != nil {
		return nil, err
	}
	end := settle.Nested{State: storage.Cancelled, Reason: reason, ForNow: forNow}
	r.end(endings, func(storage.ID) settle.Nested { return end })
	return endings, nil
}

func collect(endings *[]settle.Ending) func(scanner) error {
	return func(row scanner) error {
		e, err := scanEnding(row)
		*endings = append(*endings, e)
		return err
	}
}

// end queues the move of locked rows that are pending, alike ones together, and makes
// the endings what they are then.
func (r *flowRows) end(endings []settle.Ending, how func(storage.ID) settle.Nested) {
	alike := map[settle.Nested]idList{}
	var gone idList
	for i := range endings {
		e := &endings[i]
		end := how(e.ID)
		e.State, e.ForNow = end.State, end.ForNow
		if end.State == storage.Cancelled {
			e.Message = end.Reason
		}
		end.ID = storage.ID{}
		alike[end] = append(alike[end], e.ID)
		gone = append(gone, e.ID)
	}
	for end, members := range alike {
		for _, part := range some(members) {
			r.q.queue(endPendingSQL, end.ForNow, text(string(end.State)), textArg(end.Reason), part)
		}
	}
	r.q.queueGone(gone)
	r.q.queueEndMarks(gone)
}

// undoableSQL reads a flow's members, which its marks lead to.
const undoableSQL = `
SELECT ` + historyColumns + ` FROM sequencer_marks m STRAIGHT_JOIN sequencer_history l ON l.id = m.execution_id
WHERE m.mark = 'flow' AND m.value = ? AND l.flow_id = ? AND l.state = 'completed' AND l.undoable AND l.kind NOT IN ('undo', 'callback')
ORDER BY l.finished_at DESC, l.position DESC LOCK IN SHARE MODE`

// Undoable implements [settle.Rows].
func (r *flowRows) Undoable(ctx context.Context, flow storage.ID) ([]storage.Execution, error) {
	var rows []storage.Execution
	err := r.q.each(ctx, scanAll(&rows), undoableSQL, idArg(flow), idArg(flow))
	return rows, err
}

// Insert implements [settle.Rows]. A member whose unique key is taken goes in
// without it: a step that is due cannot wait for a stranger.
func (r *flowRows) Insert(ctx context.Context, _ time.Time, add settle.Insertion) error {
	e := enqueuing{q: r.q, lock: true}
	present, err := e.present(ctx, add.Members)
	if err != nil {
		return err
	}
	add.Members = slices.DeleteFunc(slices.Clone(add.Members), func(x storage.Execution) bool { return present[x.ID] })
	if err := e.stripKeys(ctx, add.Members); err != nil {
		return err
	}
	return e.write(ctx, &add)
}

// undoneSQL and undoFailedSQL change a history row in place, by primary key.
const (
	undoneSQL = `UPDATE sequencer_history SET state = 'rolled_back', undo_error = NULL
	WHERE id = ? AND state IN ('completed', 'failed')`
	undoFailedSQL = `UPDATE sequencer_history SET undo_error = ? WHERE id = ?`
)

// MarkUndone implements [settle.Rows].
func (r *flowRows) MarkUndone(_ context.Context, _ time.Time, target storage.ID) error {
	r.q.queue(undoneSQL, idArg(target))
	r.q.queueEndMarks(idList{target})
	return nil
}

// MarkUndoFailed implements [settle.Rows].
func (r *flowRows) MarkUndoFailed(_ context.Context, target storage.ID, message string) error {
	r.q.queue(undoFailedSQL, textArg(message), idArg(target))
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
		}, flowSQL, idArg(r.ID))
		return nil
	})
	return f, err
}

// flowSQL reads one flow by primary key.
const flowSQL = `SELECT ` + flowColumns + ` FROM sequencer_flows f WHERE f.id = ?`

func compareIDs(a, b storage.ID) int { return bytes.Compare(a[:], b[:]) }

func sortedIDs(ids []storage.ID) []storage.ID {
	ids = slices.Clone(ids)
	slices.SortFunc(ids, compareIDs)
	return slices.Compact(ids)
}
