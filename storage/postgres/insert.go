package postgres

import (
	"cmp"
	"context"
	"errors"

	"github.com/gosequencer/sequencer/storage"
)

// expireKeysSQL takes the key from waiting holders whose UniqueFor has passed.
// Index: sequencer_live_unique. Lock: those rows, waiting for a claim that is
// taking one: then it runs when the lock is granted, and keeps its key. A request
// that an earlier call wrote, recognised by its ids, changes nothing.
const expireKeysSQL = `
UPDATE sequencer_live SET unique_key = NULL
WHERE unique_key = ANY ($2::text[]) AND state = 'pending'
	AND NOT EXISTS (SELECT FROM sequencer_live e WHERE e.id = ANY ($3::uuid[]))
	AND NOT EXISTS (SELECT FROM sequencer_history e WHERE e.id = ANY ($3::uuid[]))
	AND created_at + unique_for_us * interval '1 microsecond' <= coalesce($1::timestamptz, now())`

// insertSQL writes rows in the order given, or none if any of the ids asked about
// is there already: then an earlier call wrote what there was to write. Index: the
// primary keys of both parts for that, one look an id, which also a plan that was
// made while the tables were empty does not turn into reading all of them; and
// sequencer_live_unique. Race: of two that
// bring the same key at once one waits for the other's commit and then leaves its
// row out. The answer names the rows that were written; why others were not, the
// caller finds out.
const insertSQL = `
WITH earlier AS MATERIALIZED (
	SELECT FROM unnest($28::uuid[]) AS known (id)
	CROSS JOIN LATERAL (SELECT FROM sequencer_live l WHERE l.id = known.id LIMIT 1) l
	UNION ALL
	SELECT FROM unnest($28::uuid[]) AS known (id)
	CROSS JOIN LATERAL (SELECT FROM sequencer_history h WHERE h.id = known.id LIMIT 1) h
)
INSERT INTO sequencer_live (
	id, flow_id, worker_id, undoes, created_at, due_at, deadline_at, min_build, delay_us, retry_for_us, unique_for_us,
	priority, position, waits, delivery, excused, errors, losses, undoable, allowed_to_fail, for_now, parked, cancel_asked,
	state, name, kind, method, queue, on_loss, actor, member, unique_key, checksum, tags, input, policy, result)
SELECT id, flow_id, worker_id, undoes, c.now,
	CASE WHEN coalesce(waits, 0) = 0 THEN c.now + coalesce(delay_us, 0) * interval '1 microsecond' END,
	CASE WHEN coalesce(waits, 0) = 0 THEN c.now + (coalesce(delay_us, 0) + nullif(retry_for_us, 0)) * interval '1 microsecond' END,
	nullif(min_build, 0), nullif(delay_us, 0), nullif(retry_for_us, 0), nullif(unique_for_us, 0),
	priority, coalesce(position, 0), coalesce(waits, 0), 0, 0, 0, 0, coalesce(undoable, false), coalesce(allowed_to_fail, false),
	false, false, false, 'pending', name, coalesce(kind, ''), coalesce(method, ''), coalesce(queue, ''), coalesce(on_loss, ''),
	nullif(actor, ''), nullif(member, ''), nullif(unique_key, ''), nullif(checksum, ''), nullif(tags, '')::text[], input, policy, result
FROM (SELECT coalesce($1::timestamptz, now()) AS now) c, unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::bigint[],
	$7::bigint[], $8::bigint[], $9::bigint[], $10::int[], $11::int[], $12::int[], $13::bool[], $14::bool[], $15::text[], $16::text[],
	$17::text[], $18::text[], $19::text[], $20::text[], $21::text[], $22::text[], $23::text[], $24::text[],
	$25::bytea[], $26::bytea[], $27::bytea[])
	AS e (id, flow_id, worker_id, undoes, min_build, delay_us, retry_for_us, unique_for_us, priority, position, waits,
		undoable, allowed_to_fail, name, kind, method, queue, on_loss, actor, member, unique_key, checksum, tags,
		input, policy, result)
WHERE NOT EXISTS (SELECT FROM earlier)
ON CONFLICT DO NOTHING
RETURNING id`

// presentIDsSQL finds rows of either part by primary key.
const presentIDsSQL = `
SELECT id FROM sequencer_live WHERE id = ANY ($1::uuid[])
UNION ALL
SELECT id FROM sequencer_history WHERE id = ANY ($1::uuid[])`

// holdersSQL finds who holds keys. Index: sequencer_live_unique.
const holdersSQL = `SELECT unique_key, id FROM sequencer_live WHERE unique_key = ANY ($1::text[])`

// tagsSQL is harmless for rows that are there already.
const tagsSQL = `INSERT INTO sequencer_tags (tag, execution_id) SELECT * FROM unnest($1::text[], $2::uuid[]) ON CONFLICT DO NOTHING`

const edgesSQL = `
INSERT INTO sequencer_edges (from_id, to_id, flow_id, needs)
SELECT from_id, to_id, coalesce(flow_id, (SELECT l.flow_id FROM sequencer_live l WHERE l.id = to_id)), coalesce(needs, false)
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bool[]) AS e (from_id, to_id, flow_id, needs)
ON CONFLICT DO NOTHING`

// unwaitSQL takes back what edges from rows that were left out, and flows without
// members, had counted.
const unwaitSQL = `
UPDATE sequencer_live l SET
	waits = l.waits - e.n,
	due_at = CASE WHEN l.waits = e.n THEN $1::timestamptz + coalesce(l.delay_us, 0) * interval '1 microsecond' END,
	deadline_at = CASE WHEN l.waits = e.n THEN
		$1::timestamptz + (coalesce(l.delay_us, 0) + l.retry_for_us) * interval '1 microsecond' END
FROM unnest($2::uuid[], $3::int[]) AS e (id, n)
WHERE l.id = e.id`

// insert writes rows, fills in receipts where there are any, and returns those that
// were left out: repeats and duplicates.
func (e *enqueuing) insert(ctx context.Context, rows []storage.Execution, waits map[storage.ID]int) (map[storage.ID]bool, error) {
	var err error
	left := make(map[storage.ID]bool)
	for i := range rows {
		left[rows[i].ID] = true
	}
	var keys []string
	for i := range rows {
		if rows[i].UniqueKey != "" {
			keys = append(keys, rows[i].UniqueKey)
		}
	}
	if len(keys) > 0 {
		e.q.queue(expireKeysSQL, at(e.q.now), keys, idColumn(rows, func(x *storage.Execution) storage.ID { return x.ID }))
	}
	todo := rows
	for try := 0; len(todo) > 0; try++ {
		for _, chunk := range chunks(todo) {
			e.queueRows(chunk, waits, idsOf(chunk), func(id storage.ID) { delete(left, id) })
		}
		if err := e.q.flush(ctx); err != nil {
			return nil, err
		}
		if len(left) == 0 {
			break
		}
		if todo, err = e.explain(ctx, rows, left); err != nil || e.repeated {
			return left, err
		}
		if try == maxTries {
			return nil, errors.New("unique keys changed hands too often")
		}
	}
	if err := e.q.flush(ctx); err != nil { // of a request without rows
		return nil, err
	}
	e.queueTags(rows, left)
	return left, nil
}

// queueRows adds the insertion of rows to the next flush. known are the ids that
// tell whether rows were written before.
func (e *enqueuing) queueRows(x []storage.Execution, waits map[storage.ID]int, known []storage.ID, written func(storage.ID)) {
	type row = storage.Execution
	for i := range x {
		if waits[x[i].ID] == 0 && x[i].Delay <= 0 {
			e.q.arrivals.In(x[i].Queue)
		}
	}
	var id storage.ID
	dest := idScan{&id}
	e.q.queueScan(func(r scanner) error {
		err := r.Scan(dest)
		written(id)
		return err
	}, insertSQL, at(e.q.now),
		idColumn(x, func(x *row) storage.ID { return x.ID }),
		idColumn(x, func(x *row) storage.ID { return x.FlowID }),
		idColumn(x, func(x *row) storage.ID { return x.WorkerID }),
		idColumn(x, func(x *row) storage.ID { return x.Undoes }),
		column(x, func(x *row) int64 { return x.MinBuild }),
		column(x, func(x *row) int64 { return x.Delay.Microseconds() }),
		column(x, func(x *row) int64 { return x.RetryFor.Microseconds() }),
		column(x, func(x *row) int64 { return x.UniqueFor.Microseconds() }),
		column(x, func(x *row) int32 { return int32(cmp.Or(x.Priority, storage.PriorityDefault)) }),
		column(x, func(x *row) int32 { return int32(x.Position) }),
		column(x, func(x *row) int32 { return int32(waits[x.ID]) }),
		column(x, func(x *row) bool { return x.Undoable }),
		column(x, func(x *row) bool { return x.AllowedToFail }),
		column(x, func(x *row) string { return x.Name }),
		column(x, func(x *row) string { return string(x.Kind) }),
		column(x, func(x *row) string { return x.Method }),
		column(x, func(x *row) string { return x.Queue }),
		column(x, func(x *row) string { return string(x.OnLoss) }),
		column(x, func(x *row) string { return x.Actor }),
		column(x, func(x *row) string { return x.Member }),
		column(x, func(x *row) string { return x.UniqueKey }),
		column(x, func(x *row) string { return x.Checksum }),
		textsColumn(x, func(x *row) []string { return x.Tags }),
		bytesColumn(x, func(x *row) []byte { return x.Input }),
		bytesColumn(x, func(x *row) []byte { return x.Policy }),
		bytesColumn(x, func(x *row) []byte {
			if x.Kind != storage.Undo {
				return nil
			}
			return x.Result
		}),
		idArray(known))
}

func idsOf(rows []storage.Execution) []storage.ID {
	all := make([]storage.ID, len(rows))
	for i := range rows {
		all[i] = rows[i].ID
	}
	return all
}

// explain finds out why rows were left out and notes it in their receipts. It
// returns those whose reason is gone already: the holder ended in between.
func (e *enqueuing) explain(ctx context.Context, rows []storage.Execution, left map[storage.ID]bool) ([]storage.Execution, error) {
	ids := make([]storage.ID, 0, len(left))
	var keys []string
	for i := range rows {
		if x := &rows[i]; left[x.ID] {
			ids = append(ids, x.ID)
			if x.UniqueKey != "" {
				keys = append(keys, x.UniqueKey)
			}
		}
	}
	present := map[storage.ID]bool{}
	holders := map[string]storage.ID{}
	if len(keys) > 0 {
		e.q.queueScan(func(r scanner) error {
			var key string
			var id storage.ID
			err := r.Scan(&key, idScan{&id})
			holders[key] = id
			return err
		}, holdersSQL, keys)
	}
	err := e.q.each(ctx, func(r scanner) error {
		var id storage.ID
		err := r.Scan(idScan{&id})
		present[id] = true
		return err
	}, presentIDsSQL, idArray(ids))
	if err != nil {
		return nil, err
	}
	e.repeated = e.repeated || len(present) > 0
	var again []storage.Execution
	for i := range rows {
		x := &rows[i]
		if !left[x.ID] || present[x.ID] {
			continue
		}
		holder, held := holders[x.UniqueKey]
		switch {
		case e.repeated && x.UniqueKey == "":
		case !e.repeated && !held:
			again = append(again, *x)
		case !e.repeated && e.request.RefuseDuplicates:
			return nil, &storage.DuplicateError{Name: x.Name, Key: x.UniqueKey, HolderID: holder}
		case e.receipts == nil:
			return nil, errKeyTaken
		default: // also in a repeat, whoever holds the key now
			e.receipts[i].Duplicate, e.receipts[i].HolderID = true, holder
		}
	}
	return again, nil
}

// stripKeys takes from rows the keys that others hold.
func (e *enqueuing) stripKeys(ctx context.Context, rows []storage.Execution) error {
	var keys []string
	for i := range rows {
		if rows[i].UniqueKey != "" {
			keys = append(keys, rows[i].UniqueKey)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	e.q.queue(expireKeysSQL, at(e.q.now), keys, idColumn(rows, func(x *storage.Execution) storage.ID { return x.ID }))
	return e.q.each(ctx, func(r scanner) error {
		var key string
		var holder storage.ID
		err := r.Scan(&key, idScan{&holder})
		for i := range rows {
			if rows[i].UniqueKey == key && rows[i].ID != holder {
				rows[i].UniqueKey = ""
			}
		}
		return err
	}, holdersSQL, keys)
}

func (e *enqueuing) queueTags(rows []storage.Execution, left map[storage.ID]bool) {
	var tags []string
	var ids []storage.ID
	for i := range rows {
		if left[rows[i].ID] {
			continue
		}
		for _, tag := range rows[i].Tags {
			tags, ids = append(tags, tag), append(ids, rows[i].ID)
		}
	}
	if len(tags) > 0 {
		e.q.queue(tagsSQL, tags, idArray(ids))
	}
}

// queueEdges adds edges. One that leads to a row which is there already learns its
// flow from that row.
func queueEdges(q *session, rows []storage.Execution, edges []storage.Edge) {
	if len(edges) == 0 {
		return
	}
	flowOf := make(map[storage.ID]storage.ID, len(rows))
	for i := range rows {
		flowOf[rows[i].ID] = rows[i].FlowID
	}
	q.queue(edgesSQL,
		idColumn(edges, func(x *storage.Edge) storage.ID { return x.From }),
		idColumn(edges, func(x *storage.Edge) storage.ID { return x.To }),
		idColumn(edges, func(x *storage.Edge) storage.ID { return flowOf[x.To] }),
		column(edges, func(x *storage.Edge) bool { return x.Needs }))
}

// chunks parts rows so that no statement grows beyond reason.
func chunks(rows []storage.Execution) [][]storage.Execution {
	const mostRows, mostBytes = 5_000, 16 << 20
	var parts [][]storage.Execution
	start, size := 0, 0
	for i := range rows {
		n := len(rows[i].Input) + len(rows[i].Policy) + len(rows[i].Result)
		if i > start && (i-start == mostRows || size+n > mostBytes) {
			parts = append(parts, rows[start:i])
			start, size = i, 0
		}
		size += n
	}
	if start < len(rows) {
		parts = append(parts, rows[start:])
	}
	return parts
}
