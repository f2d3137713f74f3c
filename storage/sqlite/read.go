package sqlite

import (
	"context"
	"database/sql"

	"github.com/gosequencer/sequencer/storage"
)

// read runs a query on the readers' pool, or on the connection that will write.
func (s *Store) read(ctx context.Context, row func(*sql.Rows) error, query string, args ...any) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	db, done := s.asks()
	defer done()
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	return eachRow(rows, row)
}

// asks is the handle for a question. Until the writer is first used, it answers
// one question at a time: each connection begins by reading the whole schema, which
// in a database of a thousand tables takes longer than all that a process with
// nothing to do wants to know.
func (s *Store) asks() (db *sql.DB, done func()) {
	if !s.loc.memory && !s.writer.used() && s.alone.TryLock() {
		return s.writer.db, s.alone.Unlock
	}
	return s.reader, func() {}
}

// Executions lists what a filter selects, a page at a time.
func (s *Store) Executions(ctx context.Context, f storage.Filter) ([]storage.Execution, error) {
	list := []storage.Execution{}
	where, err := listing(f)
	if err != nil {
		return nil, err
	}
	err = s.read(ctx, collect(&list), where.text(executionColumns), where.args...)
	return list, s.fail("list executions", err)
}

// Through the primary key.
const attemptsOf = `
SELECT execution_id, delivery, number, worker_id, started_at, finished_at, outcome, type, message, trace, context, error_group
FROM sequencer_attempts WHERE execution_id IN (SELECT unhex(value) FROM json_each(?))
ORDER BY finished_at, execution_id, delivery`

// Attempts lists the recorded attempts of executions, oldest first.
func (s *Store) Attempts(ctx context.Context, executions ...storage.ID) ([]storage.Attempt, error) {
	list := []storage.Attempt{}
	err := s.read(ctx, func(rows *sql.Rows) error {
		var a storage.Attempt
		err := rows.Scan((*idColumn)(&a.ExecutionID), (*intColumn)(&a.Delivery), (*intColumn)(&a.Number), (*idColumn)(&a.WorkerID),
			(*instantColumn)(&a.StartedAt), (*instantColumn)(&a.FinishedAt), &a.Outcome, &a.Type, &a.Message, &a.Trace, &a.Context, &a.Group)
		list = append(list, a)
		return err
	}, attemptsOf, idsOf(executions))
	return list, s.fail("list attempts", err)
}

// Flows lists flows, newest first.
func (s *Store) Flows(ctx context.Context, f storage.FlowFilter) ([]storage.Flow, error) {
	where := &selection{from: `sequencer_flows`, order: ` ORDER BY created_at DESC, id DESC`, limit: page(f.Limit)}
	if len(f.IDs) > 0 {
		where.and(`id IN (SELECT unhex(value) FROM json_each(?))`, idsOf(f.IDs))
	}
	if len(f.Kinds) > 0 {
		where.and(`kind IN (SELECT value FROM json_each(?))`, listOf(texts(f.Kinds)))
	}
	if f.Open {
		where.and(`finished_at IS NULL`)
	}
	if !f.Root.IsZero() {
		where.and(`(id = ? OR root_id = ? AND parent_id IS NOT NULL)`, f.Root[:], f.Root[:])
	}
	list := []storage.Flow{}
	err := s.read(ctx, func(rows *sql.Rows) error {
		list = append(list, storage.Flow{})
		return scanFlow(rows, &list[len(list)-1])
	}, where.text(flowColumns), where.args...)
	return list, s.fail("list flows", err)
}

// Members and edges through their indexes.
const edgesOfFlow = `
SELECT e.from_id, e.to_id, e.needs FROM sequencer_executions AS x CROSS JOIN sequencer_edges AS e ON e.to_id = x.id
WHERE x.flow_id = ? ORDER BY e.from_id, e.to_id, e.needs`

// Edges lists the edges of a flow.
func (s *Store) Edges(ctx context.Context, flow storage.ID) ([]storage.Edge, error) {
	list := []storage.Edge{}
	err := s.read(ctx, func(rows *sql.Rows) error {
		var e storage.Edge
		err := rows.Scan((*idColumn)(&e.From), (*idColumn)(&e.To), (*truthColumn)(&e.Needs))
		list = append(list, e)
		return err
	}, edgesOfFlow, flow[:])
	return list, s.fail("list edges", err)
}

// The first through the index of those present, the second by primary key.
const workersPresent = `
SELECT` + workerColumns + ` FROM sequencer_workers AS w WHERE w.left_at IS NULL
UNION
SELECT` + workerColumns + ` FROM sequencer_workers AS w WHERE w.id IN (SELECT unhex(value) FROM json_each(?))
ORDER BY 12, 1`

// Workers lists those that have not left, and those asked for.
func (s *Store) Workers(ctx context.Context, ids ...storage.ID) ([]storage.Worker, error) {
	list := []storage.Worker{}
	err := s.read(ctx, func(rows *sql.Rows) error {
		list = append(list, storage.Worker{})
		return rows.Scan(workerDest(&list[len(list)-1])...)
	}, workersPresent, idsOf(ids))
	return list, s.fail("list workers", err)
}

const countAll = `SELECT queue, state, count(*) FROM sequencer_executions GROUP BY queue, state ORDER BY queue, state`

// Counts counts all executions, live and over. It reads the whole table.
func (s *Store) Counts(ctx context.Context) ([]storage.Count, error) {
	list := []storage.Count{}
	err := s.read(ctx, func(rows *sql.Rows) error {
		var c storage.Count
		err := rows.Scan(&c.Queue, (*string)(&c.State), &c.N)
		list = append(list, c)
		return err
	}, countAll)
	return list, s.fail("count executions", err)
}

// By primary key, which begins with the minute.
const statsBetween = `
SELECT minute_at - minute_at % ? AS step, queue, name, ending, sum(n), sum(ran_us), sum(waited_us) FROM sequencer_stats
WHERE minute_at >= ? AND minute_at < ? GROUP BY step, queue, name, ending ORDER BY step, queue, name, ending`

// Stats lists statistics by the minute.
func (s *Store) Stats(ctx context.Context, f storage.StatsFilter) ([]storage.Stat, error) {
	since, until := int64(0), int64(1<<62)
	if !f.Since.IsZero() {
		since = f.Since.UnixMicro()
	}
	if !f.Until.IsZero() {
		until = f.Until.UnixMicro()
	}
	list := []storage.Stat{}
	err := s.read(ctx, func(rows *sql.Rows) error {
		var st storage.Stat
		var under string
		err := rows.Scan((*instantColumn)(&st.Minute), &under, &st.Name, &st.Ending, &st.N, (*durationColumn)(&st.Ran), (*durationColumn)(&st.Waited))
		if f.Wants(&st, under) {
			list = append(list, st)
		}
		return err
	}, statsBetween, f.Seconds()*1_000_000, since, until)
	return list, s.fail("read statistics", err)
}

// Through the index of audit entries by time.
const auditEntries = `
SELECT id, at, actor, action, target, count, reason FROM sequencer_audit
WHERE instr(target, ?) > 0 ORDER BY at DESC, id DESC LIMIT ?`

// Audit lists what people did, newest first.
func (s *Store) Audit(ctx context.Context, f storage.AuditFilter) ([]storage.AuditEntry, error) {
	list := []storage.AuditEntry{}
	err := s.read(ctx, func(rows *sql.Rows) error {
		var e storage.AuditEntry
		err := rows.Scan((*idColumn)(&e.ID), (*instantColumn)(&e.At), &e.Actor, &e.Action, &e.Target, (*intColumn)(&e.Count), &e.Reason)
		list = append(list, e)
		return err
	}, auditEntries, f.Target, page(f.Limit))
	return list, s.fail("read the audit", err)
}

// texts are the values of a list of named strings.
func texts[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}

// page is the length of a listing.
func page(limit int) int {
	if limit <= 0 {
		return 100
	}
	return min(limit, 10_000)
}

// Callbacks reads those that a flow was enqueued with.
func (s *Store) Callbacks(ctx context.Context, flow storage.ID) ([]storage.Callback, error) {
	var stored []byte
	err := s.read(ctx, func(rows *sql.Rows) error { return rows.Scan(&stored) }, callbacksOf, flow[:])
	if err != nil {
		return nil, s.fail("read callbacks", err)
	}
	return storage.DecodeCallbacks(stored)
}
