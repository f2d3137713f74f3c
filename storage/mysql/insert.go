package mysql

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/gosequencer/sequencer/storage"
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
const overSQL = `SELECT id FROM sequencer_history WHERE id IN (?) LOCK IN SHARE MODE`

// presentSQL finds rows of either part by primary key, holdersSQL who holds keys, by
// sequencer_live_unique. They take no lock the first time. In a caller's transaction
// they do after a collision, and so see what its snapshot may be too old for.
const (
	presentSQL       = `SELECT id FROM sequencer_live WHERE id IN (?) UNION ALL SELECT id FROM sequencer_history WHERE id IN (?)`
	presentLockedSQL = `SELECT id FROM sequencer_live WHERE id IN (?) LOCK IN SHARE MODE`
	holdersSQL       = `SELECT unique_key, id, state, created_at, unique_for_us FROM sequencer_live WHERE unique_key IN (?)`
	holdersLockedSQL = holdersSQL + ` LOCK IN SHARE MODE`
)

// expireKeySQL takes the key from a waiting holder whose UniqueFor has passed, by
// primary key. Lock: that row, waiting for a claim that is taking it: then it runs
// when the lock is granted, and keeps its key.
const expireKeySQL = `UPDATE sequencer_live SET unique_key = NULL WHERE id IN (?) AND state = 'pending'`

// insert writes rows and edges, and counts the rows into flows, which may be nil. An
// earlier call may have done so: then repeated is set, or any of the rows is there.
func (e *enqueuing) insert(ctx context.Context, rows []storage.Execution, edges []storage.Edge, flows map[storage.ID]*joining, repeated bool) error {
	left, again, err := e.look(ctx, rows, repeated)
	if err != nil || again {
		return err
	}
	if err := e.join(flows, left); err != nil {
		return err
	}
	return e.write(ctx, rows, edges, left)
}

// holder is who has a key.
type holder struct {
	id      storage.ID
	expired bool
}

// look finds out which rows are duplicates and notes it in their receipts. again is
// set when an earlier call wrote the request: then any of its rows is there.
func (e *enqueuing) look(ctx context.Context, rows []storage.Execution, repeated bool) (left map[storage.ID]bool, again bool, _ error) {
	named := make(idList, len(rows))
	var keys textList
	for i := range rows {
		named[i] = rows[i].ID
		if rows[i].UniqueKey != "" {
			keys = append(keys, rows[i].UniqueKey)
		}
	}
	present := map[storage.ID]bool{}
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
	holders, err := e.holders(ctx, keys)
	if err != nil {
		return nil, false, err
	}
	left = map[storage.ID]bool{}
	repeated = repeated || len(present) > 0
	var expired idList
	for i := range rows {
		x := &rows[i]
		if x.UniqueKey == "" || present[x.ID] {
			continue
		}
		h, held := holders[x.UniqueKey]
		switch {
		case repeated && e.receipts == nil:
		case repeated: // whoever holds the key now
			e.receipts[i].Duplicate, e.receipts[i].HolderID = true, h.id
		case held && h.expired:
			expired = append(expired, h.id)
			holders[x.UniqueKey] = holder{id: x.ID}
		case !held:
			holders[x.UniqueKey] = holder{id: x.ID}
		case e.request.RefuseDuplicates:
			return nil, false, &storage.DuplicateError{Name: x.Name, Key: x.UniqueKey, HolderID: h.id}
		default:
			left[x.ID] = true
			if e.receipts == nil {
				return nil, false, errKeyTaken
			}
			e.receipts[i].Duplicate, e.receipts[i].HolderID = true, h.id
		}
	}
	if len(expired) > 0 && !repeated {
		n, err := e.q.exec(ctx, expireKeySQL, expired)
		if err == nil && int(n) != len(expired) {
			err = errKeyTaken
		}
		return left, false, err
	}
	return left, repeated, nil
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

// write writes the rows that are not left out, and what belongs to them.
func (e *enqueuing) write(ctx context.Context, all []storage.Execution, edges []storage.Edge, left map[storage.ID]bool) error {
	kept := all
	if len(left) > 0 {
		kept = nil
		for i := range all {
			if !left[all[i].ID] {
				kept = append(kept, all[i])
			}
		}
	}
	edges, waits, err := between(kept, edges)
	if err != nil {
		return err
	}
	over := false
	for _, chunk := range chunks(kept) {
		e.q.queueRows(chunk, waits)
		written := make(idList, len(chunk))
		for i := range chunk {
			written[i] = chunk[i].ID
		}
		for _, part := range some(written) {
			e.q.queueScan(func(scanner) error { over = true; return nil }, overSQL, part)
		}
	}
	err = e.q.flush(ctx)
	if over || code(err) == duplicateKey {
		return errKeyTaken
	}
	if err != nil {
		return err
	}
	e.q.queueMarks(kept, false)
	e.q.queueEdges(kept, edges)
	return nil
}

// between returns the edges between the given rows, and how many lead to each. One
// that touches a row which was left out goes with it.
func between(rows []storage.Execution, edges []storage.Edge) ([]storage.Edge, map[storage.ID]int, error) {
	if len(edges) == 0 {
		return nil, nil, nil
	}
	place := make(map[storage.ID]int, len(rows))
	for i := range rows {
		place[rows[i].ID] = i
	}
	waits := map[storage.ID]int{}
	kept := make([]storage.Edge, 0, len(edges))
	seen := make(map[[2]storage.ID]bool, len(edges))
	for _, edge := range edges {
		from, known := place[edge.From]
		to, both := place[edge.To]
		if !known || !both {
			continue
		}
		if rows[from].FlowID != rows[to].FlowID || rows[to].FlowID.IsZero() {
			return nil, nil, fmt.Errorf("the edge from %s to %s is not inside one flow", rows[from].Name, rows[to].Name)
		}
		if pair := [2]storage.ID{edge.From, edge.To}; !seen[pair] {
			seen[pair] = true
			waits[edge.To]++
			kept = append(kept, edge)
		}
	}
	return kept, waits, nil
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

const edgesSQL = `INSERT INTO sequencer_edges (from_id, to_id, flow_id, needs) VALUES ?`

func (q *session) queueEdges(rows []storage.Execution, edges []storage.Edge) {
	if len(edges) == 0 {
		return
	}
	flow := make(map[storage.ID]storage.ID, len(rows))
	for i := range rows {
		flow[rows[i].ID] = rows[i].FlowID
	}
	values := make([][]any, len(edges))
	for i, edge := range edges {
		values[i] = []any{idArg(edge.From), idArg(edge.To), idArg(flow[edge.To]), edge.Needs}
	}
	for _, part := range some(values) {
		q.queue(edgesSQL, tuples{`(?, ?, ?, ?)`, part})
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

// stripKeys takes from rows the keys that others hold.
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
	for i := range rows {
		if h, held := holders[rows[i].UniqueKey]; held && !h.expired && h.id != rows[i].ID {
			rows[i].UniqueKey = ""
		}
	}
	return err
}
