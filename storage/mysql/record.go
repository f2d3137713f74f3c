package mysql

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/gosequencer/sequencer/storage"
)

// namesLockSQL makes imports wait for each other, so that of two which bring the
// same names the second finds the first one's rows.
const namesLockSQL = `SELECT version FROM sequencer_meta FOR UPDATE`

// What has rows already. Of the live part the names are read in full, once per
// import; those in history by sequencer_history_name, ids by primary key.
const (
	liveNamesSQL    = `SELECT DISTINCT name FROM sequencer_live`
	historyNamesSQL = `SELECT DISTINCT name FROM sequencer_history WHERE name IN (?)`
)

// recordSQL writes rows that are over.
const (
	recordSQL = `
INSERT INTO sequencer_history (
	id, flow_id, worker_id, undoes, created_at, due_at, started_at, finished_at, deadline_at, min_build,
	delay_us, retry_for_us, unique_for_us, done, total, priority, position, waits, delivery, excused, errors, losses,
	undoable, allowed_to_fail, for_now, state, name, kind, method, queue, on_loss, member,
	unique_key, checksum, environment, actor, reason, tags, input, policy, checkpoint, result, last_error, error_group, undo_error)
VALUES ?`
	recordRow = `(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
	?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
)

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
			x.CreatedAt, x.FinishedAt = micro(x.CreatedAt), micro(x.FinishedAt)
			names[i] = x.Name
		}
		for _, chunk := range chunks(fresh) {
			queueRecord(q, chunk)
		}
		q.queueMarks(fresh, true)
		queueAudit(q, "record", strings.Join(names, " "), r.Actor, r.Reason, n)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// unrecorded returns the rows whose name and id are new, the first of each name.
func unrecorded(ctx context.Context, q *session, rows []storage.Execution) ([]storage.Execution, error) {
	names := make(textList, len(rows))
	named := make(idList, len(rows))
	for i := range rows {
		x := &rows[i]
		if x.ID.IsZero() || !x.State.Known() || !x.State.Over() {
			return nil, fmt.Errorf("%q: only an execution with an id that is over can be recorded, this is %q", x.Name, x.State)
		}
		names[i], named[i] = x.Name, x.ID
	}
	if len(rows) == 0 {
		return nil, nil
	}
	known := map[string]bool{}
	knownID := map[storage.ID]bool{}
	noteName := func(r scanner) error {
		var name string
		err := r.Scan(&name)
		known[name] = true
		return err
	}
	q.queueScan(func(scanner) error { return nil }, namesLockSQL)
	q.queueScan(noteName, liveNamesSQL)
	for _, part := range some(names) {
		q.queueScan(noteName, historyNamesSQL, part)
	}
	for _, part := range some(named) {
		q.queueScan(func(r scanner) error {
			var id storage.ID
			err := r.Scan(idScan{&id})
			knownID[id] = true
			return err
		}, presentSQL, part, part)
	}
	err := q.flush(ctx)
	var fresh []storage.Execution
	for i := range rows {
		if !known[rows[i].Name] && !knownID[rows[i].ID] {
			known[rows[i].Name] = true
			fresh = append(fresh, rows[i])
		}
	}
	return fresh, err
}

func queueRecord(q *session, list []storage.Execution) {
	values := make([][]any, len(list))
	for i := range list {
		x := &list[i]
		started := any(0)
		if !x.StartedAt.IsZero() {
			started = at(x.StartedAt)
		}
		values[i] = []any{
			idArg(x.ID), idArg(x.FlowID), x.WorkerID[:], idArg(x.Undoes), at(x.CreatedAt), at(x.DueAt), started, at(x.FinishedAt), at(x.DeadlineAt),
			numberArg(x.MinBuild), numberArg(x.Delay.Microseconds()), numberArg(x.RetryFor.Microseconds()), numberArg(x.UniqueFor.Microseconds()),
			numberArg(x.Done), numberArg(x.Total), cmp.Or(x.Priority, storage.PriorityDefault), x.Position,
			x.Delivery, x.Excused, x.Errors, x.Losses, x.Undoable, x.AllowedToFail, x.ForNow,
			text(string(x.State)), text(x.Name), text(string(x.Kind)), text(x.Method), text(x.Queue), text(string(x.OnLoss)),
			textArg(x.Member), textArg(x.UniqueKey), textArg(x.Checksum), textArg(x.Environment), textArg(x.Actor), textArg(x.Reason),
			listArg(x.Tags), bytesArg(x.Input), bytesArg(x.Policy), bytesArg(x.Checkpoint), bytesArg(x.Result),
			textArg(x.LastError), textArg(x.ErrorGroup), textArg(x.UndoError),
		}
	}
	q.queue(recordSQL, tuples{recordRow, values})
}
