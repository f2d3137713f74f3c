package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"

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
// primary keys of both parts for that, and sequencer_live_unique. Race: of two that
// bring the same key at once one waits for the other's commit and then leaves its
// row out. The answer names the rows that were written; why others were not, the
// caller finds out.
const insertSQL = `
WITH earlier AS MATERIALIZED (
	SELECT FROM sequencer_live WHERE id = ANY ($28::uuid[])
	UNION ALL
	SELECT FROM sequencer_history WHERE id = ANY ($28::uuid[])
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
SELECT from_id, to_id, flow_id, coalesce(needs, false)
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bool[]) AS e (from_id, to_id, flow_id, needs)
ON CONFLICT DO NOTHING`

// unwaitSQL takes back what edges from rows that were left out had counted.
const unwaitSQL = `
UPDATE sequencer_live l SET
	waits = l.waits - e.n,
	due_at = CASE WHEN l.waits = e.n THEN $1::timestamptz + coalesce(l.delay_us, 0) * interval '1 microsecond' END,
	deadline_at = CASE WHEN l.waits = e.n THEN
		$1::timestamptz + (coalesce(l.delay_us, 0) + l.retry_for_us) * interval '1 microsecond' END
FROM unnest($2::uuid[], $3::int[]) AS e (id, n)
WHERE l.id = e.id`

// insert writes rows and edges, fills in receipts where there are any, and returns
// the rows that were left out: repeats and duplicates.
func (e *enqueuing) insert(ctx context.Context, rows []storage.Execution, edges []storage.Edge) (map[storage.ID]bool, error) {
	place := make(map[storage.ID]int, len(rows))
	for i := range rows {
		place[rows[i].ID] = i
	}
	waits, err := counted(rows, edges, place)
	if err != nil {
		return nil, err
	}
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
			e.queueRows(chunk, waits, func(id storage.ID) { delete(left, id) })
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
	e.queueEdges(rows, edges, place, left)
	return left, nil
}

// counted is how many edges lead to each row.
func counted(rows []storage.Execution, edges []storage.Edge, place map[storage.ID]int) (map[storage.ID]int32, error) {
	waits := map[storage.ID]int32{}
	for _, edge := range edges {
		from, known := place[edge.From]
		to, both := place[edge.To]
		if !known || !both {
			continue
		}
		if rows[from].FlowID != rows[to].FlowID || rows[to].FlowID.IsZero() {
			return nil, fmt.Errorf("the edge from %s to %s is not inside one flow", rows[from].Name, rows[to].Name)
		}
		waits[edge.To]++
	}
	return waits, nil
}

// queueRows adds the insertion of rows to the next flush.
func (e *enqueuing) queueRows(x []storage.Execution, waits map[storage.ID]int32, written func(storage.ID)) {
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
		column(x, func(x *row) int32 { return waits[x.ID] }),
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
		e.mayRepeat(x))
}

// mayRepeat returns the ids that tell whether rows were written before. Where none
// can have been left out as a duplicate, the first of a request tells for all.
func (e *enqueuing) mayRepeat(rows []storage.Execution) string {
	if e.plain() && !e.several {
		return idArray([]storage.ID{rows[0].ID})
	}
	ids := make([]storage.ID, len(rows))
	for i := range rows {
		ids[i] = rows[i].ID
	}
	return idArray(ids)
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

// queueEdges adds the edges between rows that were written. One that touches a row
// which was left out goes with it, and a repeat finds its edges in place.
func (e *enqueuing) queueEdges(rows []storage.Execution, edges []storage.Edge, place map[storage.ID]int, left map[storage.ID]bool) {
	kept := make([]storage.Edge, 0, len(edges))
	dropped := map[storage.ID]int32{}
	for _, edge := range edges {
		_, known := place[edge.From]
		_, both := place[edge.To]
		switch {
		case !known || !both || left[edge.To]:
		case left[edge.From]:
			dropped[edge.To]++
			e.q.arrivals.In(rows[place[edge.To]].Queue)
		default:
			kept = append(kept, edge)
		}
	}
	if len(kept) > 0 {
		e.q.queue(edgesSQL,
			idColumn(kept, func(x *storage.Edge) storage.ID { return x.From }),
			idColumn(kept, func(x *storage.Edge) storage.ID { return x.To }),
			idColumn(kept, func(x *storage.Edge) storage.ID { return rows[place[x.To]].FlowID }),
			column(kept, func(x *storage.Edge) bool { return x.Needs }))
	}
	if len(dropped) > 0 {
		var ids []storage.ID
		for id := range dropped {
			ids = append(ids, id)
		}
		e.q.queue(unwaitSQL, e.q.now, idArray(ids), column(ids, func(id *storage.ID) int32 { return dropped[*id] }))
	}
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
