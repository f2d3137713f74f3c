package postgres

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// namesLockSQL makes imports wait for each other, so that of two which bring the
// same names the second finds the first one's rows.
const namesLockSQL = `SELECT pg_advisory_xact_lock(hashtext('sequencer record'), hashtext(current_schema()))`

// knownNamesSQL finds which names and ids have rows. Index: sequencer_history_name
// and primary keys; of the live part the names are read in full, once per import.
const knownNamesSQL = `
SELECT DISTINCT name FROM sequencer_live
UNION ALL
SELECT n.name FROM unnest($1::text[], $2::uuid[]) AS n (name, id)
WHERE EXISTS (SELECT FROM sequencer_history h WHERE h.name = n.name)
	OR EXISTS (SELECT FROM sequencer_history h WHERE h.id = n.id)
	OR EXISTS (SELECT FROM sequencer_live l WHERE l.id = n.id)`

// recordSQL writes rows that are over.
const recordSQL = `
INSERT INTO sequencer_history (
	id, flow_id, worker_id, undoes, created_at, due_at, started_at, finished_at, deadline_at, min_build, delay_us, retry_for_us,
	unique_for_us, done, total, priority, position, waits, delivery, excused, errors, losses, undoable, allowed_to_fail, for_now,
	parked, cancel_asked, state, name, kind, method, queue, on_loss, actor, member, unique_key, reason, environment, checksum,
	tags, input, policy, checkpoint, result, last_error, error_group, undo_error)
SELECT
	id, flow_id, worker_id, undoes, created_at, due_at, started_at, finished_at, deadline_at, nullif(min_build, 0), nullif(delay_us, 0), nullif(retry_for_us, 0),
	nullif(unique_for_us, 0), nullif(done, 0), nullif(total, 0), priority, coalesce(position, 0), 0, coalesce(delivery, 0), coalesce(excused, 0),
	coalesce(errors, 0), coalesce(losses, 0), coalesce(undoable, false), coalesce(allowed_to_fail, false), coalesce(for_now, false),
	false, false, state, name, coalesce(kind, ''), coalesce(method, ''), coalesce(queue, ''), coalesce(on_loss, ''), nullif(actor, ''), nullif(member, ''),
	nullif(unique_key, ''), nullif(reason, ''), nullif(environment, ''), nullif(checksum, ''), nullif(tags, '')::text[], input, policy,
	checkpoint, result, nullif(last_error, ''), nullif(error_group, ''), nullif(undo_error, '')
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::timestamptz[], $6::timestamptz[], $7::timestamptz[], $8::timestamptz[], $9::timestamptz[],
	$10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::int[], $17::int[], $18::int[], $19::int[], $20::int[], $21::int[],
	$22::bool[], $23::bool[], $24::bool[], $25::text[], $26::text[], $27::text[], $28::text[], $29::text[], $30::text[], $31::text[], $32::text[],
	$33::text[], $34::text[], $35::text[], $36::text[], $37::text[], $38::bytea[], $39::bytea[], $40::bytea[], $41::bytea[], $42::text[], $43::text[], $44::text[])
	AS e (id, flow_id, worker_id, undoes, created_at, due_at, started_at, finished_at, deadline_at, min_build, delay_us, retry_for_us,
		unique_for_us, done, total, priority, position, delivery, excused, errors, losses, undoable, allowed_to_fail, for_now,
		state, name, kind, method, queue, on_loss, actor, member, unique_key, reason, environment, checksum, tags, input, policy,
		checkpoint, result, last_error, error_group, undo_error)`

// Record implements [storage.Operator].
func (s *Store) Record(ctx context.Context, r storage.RecordRequest) (int, error) {
	n := 0
	err := s.tx(ctx, "record", r.Now, func(ctx context.Context, q *session) error {
		fresh, err := unrecorded(ctx, q, r.Executions)
		if n = len(fresh); err != nil || n == 0 {
			return err
		}
		names := make([]string, n)
		for i := range fresh {
			x := &fresh[i]
			if x.CreatedAt.IsZero() {
				x.CreatedAt = q.now
			}
			if x.FinishedAt.IsZero() {
				x.FinishedAt = x.CreatedAt
			}
			names[i] = x.Name
		}
		for _, chunk := range chunks(fresh) {
			queueRecord(q, chunk)
		}
		(&enqueuing{q: q}).queueTags(fresh, nil)
		queueAudit(q, "record", strings.Join(names, " "), r.Actor, r.Reason, n)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// unrecorded returns the rows whose name is new, the first of each.
func unrecorded(ctx context.Context, q *session, rows []storage.Execution) ([]storage.Execution, error) {
	names := make([]string, len(rows))
	ids := make([]storage.ID, len(rows))
	for i := range rows {
		x := &rows[i]
		if x.ID.IsZero() || !x.State.Known() || !x.State.Over() {
			return nil, fmt.Errorf("%q: only an execution with an id that is over can be recorded, this is %q", x.Name, x.State)
		}
		names[i], ids[i] = x.Name, x.ID
	}
	if len(rows) == 0 {
		return nil, nil
	}
	known := map[string]bool{}
	q.queueScan(func(scanner) error { return nil }, namesLockSQL)
	err := q.each(ctx, func(r scanner) error {
		var name string
		err := r.Scan(&name)
		known[name] = true
		return err
	}, knownNamesSQL, names, idArray(ids))
	var fresh []storage.Execution
	for i := range rows {
		if !known[rows[i].Name] {
			known[rows[i].Name] = true
			fresh = append(fresh, rows[i])
		}
	}
	return fresh, err
}

func queueRecord(q *session, x []storage.Execution) {
	type row = storage.Execution
	q.queue(recordSQL,
		idColumn(x, func(x *row) storage.ID { return x.ID }),
		idColumn(x, func(x *row) storage.ID { return x.FlowID }),
		idColumn(x, func(x *row) storage.ID { return x.WorkerID }),
		idColumn(x, func(x *row) storage.ID { return x.Undoes }),
		timeColumn(x, func(x *row) time.Time { return x.CreatedAt }),
		timeColumn(x, func(x *row) time.Time { return x.DueAt }),
		timeColumn(x, func(x *row) time.Time { return x.StartedAt }),
		timeColumn(x, func(x *row) time.Time { return x.FinishedAt }),
		timeColumn(x, func(x *row) time.Time { return x.DeadlineAt }),
		column(x, func(x *row) int64 { return x.MinBuild }),
		column(x, func(x *row) int64 { return x.Delay.Microseconds() }),
		column(x, func(x *row) int64 { return x.RetryFor.Microseconds() }),
		column(x, func(x *row) int64 { return x.UniqueFor.Microseconds() }),
		column(x, func(x *row) int64 { return x.Done }),
		column(x, func(x *row) int64 { return x.Total }),
		column(x, func(x *row) int32 { return int32(cmp.Or(x.Priority, storage.PriorityDefault)) }),
		column(x, func(x *row) int32 { return int32(x.Position) }),
		column(x, func(x *row) int32 { return int32(x.Delivery) }),
		column(x, func(x *row) int32 { return int32(x.Excused) }),
		column(x, func(x *row) int32 { return int32(x.Errors) }),
		column(x, func(x *row) int32 { return int32(x.Losses) }),
		column(x, func(x *row) bool { return x.Undoable }),
		column(x, func(x *row) bool { return x.AllowedToFail }),
		column(x, func(x *row) bool { return x.ForNow }),
		column(x, func(x *row) string { return string(x.State) }),
		column(x, func(x *row) string { return x.Name }),
		column(x, func(x *row) string { return string(x.Kind) }),
		column(x, func(x *row) string { return x.Method }),
		column(x, func(x *row) string { return x.Queue }),
		column(x, func(x *row) string { return string(x.OnLoss) }),
		column(x, func(x *row) string { return clean(x.Actor) }),
		column(x, func(x *row) string { return x.Member }),
		column(x, func(x *row) string { return x.UniqueKey }),
		column(x, func(x *row) string { return clean(x.Reason) }),
		column(x, func(x *row) string { return x.Environment }),
		column(x, func(x *row) string { return x.Checksum }),
		textsColumn(x, func(x *row) []string { return x.Tags }),
		bytesColumn(x, func(x *row) []byte { return x.Input }),
		bytesColumn(x, func(x *row) []byte { return x.Policy }),
		bytesColumn(x, func(x *row) []byte { return x.Checkpoint }),
		bytesColumn(x, func(x *row) []byte { return x.Result }),
		column(x, func(x *row) string { return clean(x.LastError) }),
		column(x, func(x *row) string { return clean(x.ErrorGroup) }),
		column(x, func(x *row) string { return clean(x.UndoError) }))
}

// pruneSQL deletes the oldest rows that no retention protects, with what belongs
// to them. Index: sequencer_history_created leads to the old end, since nothing ends
// before it was created (a row recorded with such times goes later); for ordered
// operations sequencer_history_newest tells whether a newer row hides the old one
// (S5.6): an operation must not look as if it had never run. Lock: the rows, so
// that two pruners share the work.
const pruneSQL = `
WITH clock AS MATERIALIZED (
	SELECT coalesce($1::timestamptz, now()) AS now
), old AS MATERIALIZED (
	SELECT h.id FROM sequencer_history h
	WHERE h.created_at < (SELECT now FROM clock) - least(nullif($2::bigint, 0), nullif($3::bigint, 0), nullif($4::bigint, 0)) * interval '1 microsecond'
		AND h.finished_at < (SELECT now FROM clock) - CASE h.state
			WHEN 'completed' THEN nullif($2::bigint, 0) WHEN 'failed' THEN nullif($3::bigint, 0) ELSE nullif($4::bigint, 0) END * interval '1 microsecond'
		AND ` + mayGo + `
	ORDER BY h.created_at
	LIMIT nullif($5::bigint, 0)
	FOR UPDATE OF h SKIP LOCKED
), ` + dropOld

// mayGo is false for what retention protects: migrations, approvals, members of open flows,
// and of each ordered operation its newest row and its effective one. Index:
// sequencer_history_newest.
const mayGo = `h.kind NOT IN ('migration', 'approval')
		AND NOT EXISTS (SELECT FROM sequencer_flows f WHERE f.id = h.flow_id AND f.finished_at IS NULL)
		AND (h.kind <> 'ordered' OR (
			EXISTS (
				SELECT FROM sequencer_history n
				WHERE n.kind = 'ordered' AND n.name = h.name AND (n.created_at, n.id) > (h.created_at, h.id))
			AND (h.state = 'cancelled' OR EXISTS (
				SELECT FROM sequencer_history n
				WHERE n.kind = 'ordered' AND n.name = h.name AND (n.created_at, n.id) > (h.created_at, h.id) AND n.state <> 'cancelled'
					AND (n.state <> 'skipped' OR n.environment IS NULL OR h.state = 'skipped' AND n.environment = h.environment)))))`

// dropOld deletes the rows that old names, with what belongs to them.
const dropOld = `attempts AS (
	DELETE FROM sequencer_attempts WHERE execution_id = ANY (ARRAY(SELECT id FROM old))
), tags AS (
	DELETE FROM sequencer_tags WHERE execution_id = ANY (ARRAY(SELECT id FROM old))
), edges AS (
	DELETE FROM sequencer_edges WHERE from_id = ANY (ARRAY(SELECT id FROM old)) OR to_id = ANY (ARRAY(SELECT id FROM old))
)
DELETE FROM sequencer_history WHERE id = ANY (ARRAY(SELECT id FROM old))`

// Prune implements [storage.Operator].
func (s *Store) Prune(ctx context.Context, r storage.PruneRequest) (int, error) {
	var n int64
	err := s.alone(ctx, "prune", r.Now, func(ctx context.Context, q *session) (err error) {
		q.queue(pruneLimitsSQL, at(q.now))
		q.queue(freeOverdueSQL, at(q.now))
		n, err = q.exec(ctx, pruneSQL, at(q.now), r.Completed.Microseconds(), r.Failed.Microseconds(), r.Others.Microseconds(), r.Limit)
		return err
	})
	if err != nil {
		return 0, err
	}
	return int(n), nil
}
