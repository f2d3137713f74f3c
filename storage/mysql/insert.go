package mysql

import (
	"cmp"
	"context"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// insertSQL writes rows, each spelled as insertRow, or fails on a primary or unique
// key and writes none. Whether a row has an id or a key that is there was looked up
// before, so it is there since.
const (
	insertSQL = `
INSERT INTO sequencer_live (
	id, holder, worker_id, flow_id, undoes, created_at, due_at, started_at, deadline_at, min_build, delay_us, retry_for_us, unique_for_us,
	priority, position, waits, delivery, excused, errors, losses, undoable, allowed_to_fail, for_now, parked, cancel_asked,
	state, name, kind, method, queue, on_loss, actor, member, unique_key, checksum, tags, input, policy, result)
VALUES ?`
	insertRow = `(?, X'00000000000000000000000000000000', ?, ?, ?, @sequencer_now, @sequencer_now + ?, 0, @sequencer_now + ?, ?, ?, ?, ?,
	?, ?, ?, 0, 0, 0, 0, ?, ?, 0, 0, 0, 'pending', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
)

// overSQL finds rows in history by primary key. It follows the insertion: an id that
// was live before, and is over now, cannot have slipped through between two looks,
// because the insertion waited for whoever moved it.
const overSQL = `SELECT id FROM sequencer_history FORCE INDEX (PRIMARY) WHERE id IN (?) LOCK IN SHARE MODE`

// presentSQL finds rows of either part by primary key, holdersSQL who holds keys, by
// sequencer_live_unique. They take no lock the first time. In a caller's transaction
// they do after a collision, and so see what its snapshot may be too old for.
const (
	presentSQL       = `SELECT id FROM sequencer_live WHERE id IN (?) UNION ALL SELECT id FROM sequencer_history WHERE id IN (?)`
	presentLockedSQL = `SELECT id FROM sequencer_live FORCE INDEX (PRIMARY) WHERE id IN (?) LOCK IN SHARE MODE`
	holdersSQL       = `SELECT unique_key, id, state, created_at, unique_for_us FROM sequencer_live WHERE unique_key IN (?)`
	holdersLockedSQL = holdersSQL + ` LOCK IN SHARE MODE`
)

// expireKeySQL takes the key from a waiting holder whose UniqueFor has passed, by
// primary key. Lock: that row, waiting for a claim that is taking it: then it runs
// when the lock is granted, and keeps its key.
const expireKeySQL = `UPDATE sequencer_live FORCE INDEX (PRIMARY) SET unique_key = NULL WHERE id IN (?) AND state = 'pending'`

// holder is who has a key.
type holder struct {
	id      storage.ID
	expired bool
}

// queuePresent asks with the next flush which rows are there, in either part.
func (e *enqueuing) queuePresent(rows []storage.Execution, present map[storage.ID]bool) {
	named := make(idList, len(rows))
	for i := range rows {
		named[i] = rows[i].ID
	}
	note := func(r scanner) error {
		var id storage.ID
		err := r.Scan(idScan{&id})
		present[id] = true
		return err
	}
	for _, part := range some(named) {
		if e.lock {
			e.q.queueScan(note, presentLockedSQL, part)
			e.q.queueScan(note, overSQL, part)
		} else {
			e.q.queueScan(note, presentSQL, part, part)
		}
	}
}

func (e *enqueuing) present(ctx context.Context, rows []storage.Execution) (map[storage.ID]bool, error) {
	present := map[storage.ID]bool{}
	e.queuePresent(rows, present)
	err := e.q.flush(ctx)
	return present, err
}

// look finds out which rows are duplicates and notes it in their receipts. repeated is
// set when an earlier call wrote the request: one transaction wrote all of it, so any
// of its rows or flows tells.
func (e *enqueuing) look(ctx context.Context) (left map[storage.ID]bool, repeated bool, _ error) {
	rows := e.request.Executions
	var keys textList
	for i := range rows {
		if rows[i].UniqueKey != "" {
			keys = append(keys, rows[i].UniqueKey)
		}
	}
	present := map[storage.ID]bool{}
	e.queuePresent(rows, present)
	there := flowThereSQL
	if e.lock {
		there += ` LOCK IN SHARE MODE`
	}
	for _, part := range some(e.flowIDs()) {
		e.q.queueScan(func(scanner) error { repeated = true; return nil }, there, part)
	}
	holders, err := e.holders(ctx, keys)
	if err != nil {
		return nil, false, err
	}
	repeated = repeated || len(present) > 0
	left = map[storage.ID]bool{}
	var expired idList
	for i := range rows {
		x := &rows[i]
		if x.UniqueKey == "" || present[x.ID] {
			continue
		}
		h, held := holders[x.UniqueKey]
		switch {
		case repeated: // whoever holds the key now
			e.receipts[i].Duplicate, e.receipts[i].HolderID = true, h.id
		case !held || h.expired:
			if held {
				expired = append(expired, h.id)
			}
			holders[x.UniqueKey] = holder{id: x.ID}
		case e.request.RefuseDuplicates:
			return nil, false, &storage.DuplicateError{Name: x.Name, Key: x.UniqueKey, HolderID: h.id}
		default:
			left[x.ID] = true
			e.receipts[i].Duplicate, e.receipts[i].HolderID = true, h.id
		}
	}
	if repeated {
		return nil, true, nil
	}
	return left, false, e.expire(ctx, expired)
}

// expire takes the keys from waiting holders.
func (e *enqueuing) expire(ctx context.Context, holders idList) error {
	if len(holders) == 0 {
		return nil
	}
	n, err := e.q.exec(ctx, expireKeySQL, holders)
	if err == nil && int(n) != len(holders) {
		err = errKeyTaken
	}
	return err
}

// holders sends what is queued and tells who holds keys.
func (e *enqueuing) holders(ctx context.Context, keys textList) (map[string]holder, error) {
	holders := map[string]holder{}
	query := holdersSQL
	if e.lock {
		query = holdersLockedSQL
	}
	for _, part := range some(keys) {
		e.q.queueScan(func(r scanner) error {
			var key, state string
			var h holder
			var created time.Time
			var unique time.Duration
			err := r.Scan(&key, idScan{&h.id}, &state, instant{&created}, duration{&unique})
			h.expired = state == string(storage.Pending) && unique > 0 && !e.q.now.Before(created.Add(unique))
			holders[key] = h
			return err
		}, query, part)
	}
	return holders, e.q.flush(ctx)
}

// write writes flows, rows, and what belongs to them.
func (e *enqueuing) write(ctx context.Context, add *settle.Insertion) error {
	if err := e.q.queueOpen(add.Flows); err != nil {
		return err
	}
	over := false
	for _, chunk := range chunks(add.Members) {
		e.q.queueRows(chunk, add.Waits)
		written := make(idList, len(chunk))
		for i := range chunk {
			written[i] = chunk[i].ID
		}
		for _, part := range some(written) {
			e.q.queueScan(func(scanner) error { over = true; return nil }, overSQL, part)
		}
	}
	err := e.q.flush(ctx)
	if over || code(err) == duplicateKey {
		return errKeyTaken
	}
	if err != nil {
		return err
	}
	e.q.queueMarks(add.Members, false)
	e.q.queueEdges(add.Members, add.Edges)
	return nil
}

// queueRows adds the insertion of rows to the next flush.
func (q *session) queueRows(list []storage.Execution, waits map[storage.ID]int) {
	values := make([][]any, len(list))
	for i := range list {
		x := &list[i]
		waiting := waits[x.ID]
		if waiting == 0 && x.Delay <= 0 {
			q.arrivals.In(x.Queue)
		}
		var due, deadline, result any
		if waiting == 0 {
			due = x.Delay.Microseconds()
			if x.RetryFor > 0 {
				deadline = (x.Delay + x.RetryFor).Microseconds()
			}
		}
		if x.Kind == storage.Undo {
			result = bytesArg(x.Result)
		}
		values[i] = []any{
			idArg(x.ID), x.WorkerID[:], idArg(x.FlowID), idArg(x.Undoes), due, deadline,
			numberArg(x.MinBuild), numberArg(x.Delay.Microseconds()), numberArg(x.RetryFor.Microseconds()), numberArg(x.UniqueFor.Microseconds()),
			cmp.Or(x.Priority, storage.PriorityDefault), x.Position, waiting, x.Undoable, x.AllowedToFail,
			text(x.Name), text(string(x.Kind)), text(x.Method), text(x.Queue), text(string(x.OnLoss)),
			textArg(x.Actor), textArg(x.Member), textArg(x.UniqueKey), textArg(x.Checksum), listArg(x.Tags),
			bytesArg(x.Input), bytesArg(x.Policy), result,
		}
	}
	q.queue(insertSQL, tuples{insertRow, values})
}

// edgesSQL writes edges, each spelled as edgeRow, or as outerEdgeRow when it leads to a
// row that is there already and knows its flow. An edge that is there stays.
const (
	edgesSQL     = `INSERT INTO sequencer_edges (from_id, to_id, flow_id, needs) VALUES ? ON DUPLICATE KEY UPDATE needs = needs`
	edgeRow      = `(?, ?, ?, ?)`
	outerEdgeRow = `(?, ?, (SELECT l.flow_id FROM sequencer_live l WHERE l.id = ?), ?)`
)

func (q *session) queueEdges(rows []storage.Execution, edges []storage.Edge) {
	if len(edges) == 0 {
		return
	}
	flow := make(map[storage.ID]storage.ID, len(rows))
	for i := range rows {
		flow[rows[i].ID] = rows[i].FlowID
	}
	var inner, outer [][]any
	for _, edge := range edges {
		if in, known := flow[edge.To]; known {
			inner = append(inner, []any{idArg(edge.From), idArg(edge.To), idArg(in), edge.Needs})
		} else {
			outer = append(outer, []any{idArg(edge.From), idArg(edge.To), idArg(edge.To), edge.Needs})
		}
	}
	for _, part := range some(inner) {
		q.queue(edgesSQL, tuples{edgeRow, part})
	}
	for _, part := range some(outer) {
		q.queue(edgesSQL, tuples{outerEdgeRow, part})
	}
}

// chunks parts rows so that no statement grows beyond reason: a value of which every
// byte needs a backslash takes twice its room in a message, and the server takes 16 MiB.
func chunks(rows []storage.Execution) [][]storage.Execution {
	const mostRows, mostBytes = 1_000, 4 << 20
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

// insertPlain writes the rows of plain requests for [gather.Gather], in a transaction
// that is one message: insertion, a question that fails if any of the requests is over
// already, and commit.
func (s *Store) insertPlain(ctx context.Context, rows []storage.Execution, first []int) (written int, _ error) {
	firsts := make(idList, len(first)) // each tells for its request
	for i, place := range first {
		firsts[i] = rows[place].ID
	}
	err := s.guarded(ctx, "enqueue", func(ctx context.Context) error {
		written = len(rows)
		err := s.attempt(ctx, time.Time{}, func(_ context.Context, q *session) error {
			q.queueRows(rows, nil)
			for _, part := range some(firsts) {
				q.queue(overFailsSQL, part)
			}
			return nil
		})
		if c := code(err); c == duplicateKey || c == tooManyRows {
			written, err = 0, nil
		}
		return err
	})
	return written, err
}

// overFailsSQL is an error if a row is over. As [overSQL] it follows the insertion.
const overFailsSQL = `SET @sequencer_over = (SELECT 1 UNION ALL SELECT 1 FROM sequencer_history WHERE id IN (?))`

// stripKeys takes from rows the keys that others hold, or one before them takes.
func (e *enqueuing) stripKeys(ctx context.Context, rows []storage.Execution) error {
	var keys textList
	for i := range rows {
		if rows[i].UniqueKey != "" {
			keys = append(keys, rows[i].UniqueKey)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	holders, err := e.holders(ctx, keys)
	if err != nil {
		return err
	}
	var expired idList
	for i := range rows {
		x := &rows[i]
		if x.UniqueKey == "" {
			continue
		}
		h, held := holders[x.UniqueKey]
		if held && !h.expired {
			x.UniqueKey = ""
			continue
		}
		if held {
			expired = append(expired, h.id)
		}
		holders[x.UniqueKey] = holder{id: x.ID}
	}
	return e.expire(ctx, expired)
}
