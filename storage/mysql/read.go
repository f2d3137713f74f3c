package mysql

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

const (
	defaultLimit = 100
	maxLimit     = 10_000
)

// newestSQL reads the effective row of each ordered operation and migration. Index:
// the marks of these two kinds lead to their rows.
const newestSQL = `
SELECT id, name, kind, state, for_now, created_at, finished_at, checksum FROM (
	SELECT e.*, ROW_NUMBER() OVER (PARTITION BY kind, name ORDER BY live DESC, created_at DESC, id DESC) AS place FROM (
		SELECT l.id, l.name, l.kind, l.state, l.for_now, l.created_at, NULL AS finished_at, l.checksum, 1 AS live
		FROM sequencer_marks m STRAIGHT_JOIN sequencer_live l ON l.id = m.execution_id
		WHERE m.mark IN ('ordered', 'migration')
		UNION ALL
		SELECT l.id, l.name, l.kind, l.state, l.for_now, l.created_at, l.finished_at, l.checksum, 0
		FROM sequencer_marks m STRAIGHT_JOIN sequencer_history l ON l.id = m.execution_id
		WHERE m.mark IN ('ordered', 'migration') AND l.state <> 'cancelled'
			AND (l.state <> 'skipped' OR l.environment IS NULL OR l.environment = ?)
	) e
) e WHERE place = 1 ORDER BY name, kind`

// Newest implements [storage.Reader].
func (s *Store) Newest(ctx context.Context, r storage.NewestRequest) ([]storage.Effective, error) {
	newest := []storage.Effective{}
	err := s.read(ctx, "read the newest executions", newestSQL, func(row scanner) error {
		var e storage.Effective
		err := row.Scan(idScan{&e.ID}, &e.Name, (*string)(&e.Kind), (*string)(&e.State), &e.ForNow,
			instant{&e.CreatedAt}, instant{&e.FinishedAt}, optional{&e.Checksum})
		newest = append(newest, e)
		return err
	}, text(r.Environment))
	return newest, err
}

// executionsSQL joins a page of each part, in no order between them. %[1]s and %[2]s
// are where the two are read from, %[3]s is the condition, %[4]s the order.
//
// Index: a mark where one leads there, else the primary key for ids and prefixes,
// sequencer_history_name, or sequencer_history_created, newest first.
const (
	executionsSQL = `
(SELECT ` + liveColumns + ` FROM %[1]s WHERE %[3]s ORDER BY l.created_at %[4]s, l.id %[4]s LIMIT ?)
UNION ALL
(SELECT ` + historyColumns + ` FROM %[2]s WHERE %[3]s ORDER BY l.created_at %[4]s, l.id %[4]s LIMIT ?)`
	fromLive    = `sequencer_live l`
	fromHistory = `sequencer_history l`
	fromMarks   = `(SELECT value, execution_id FROM sequencer_marks WHERE mark = ? AND value IN (?)) m STRAIGHT_JOIN `
	onMark      = ` ON l.id = m.execution_id`
	ledLive     = fromMarks + fromLive + onMark
	ledHistory  = fromMarks + fromHistory + onMark
	ledByState  = ledHistory + ` AND l.state = m.value`
)

// Executions implements [storage.Reader].
func (s *Store) Executions(ctx context.Context, f storage.Filter) ([]storage.Execution, error) {
	found := []storage.Execution{}
	query, args, limit, err := listing(&f)
	if err != nil {
		return found, explained("read executions", err)
	}
	err = s.read(ctx, "read executions", query, scanAll(&found), args...)
	slices.SortFunc(found, func(a, b storage.Execution) int {
		n := cmp.Or(a.CreatedAt.Compare(b.CreatedAt), bytes.Compare(a.ID[:], b.ID[:]))
		if !f.Oldest {
			n = -n
		}
		return n
	})
	return found[:min(len(found), limit)], err
}

// listing is the query for a filter, of which half the arguments are for each part.
func listing(f *storage.Filter) (query string, args []any, limit int, _ error) {
	c, err := conditions(f)
	if err != nil {
		return "", nil, 0, err
	}
	limit = min(cmp.Or(f.Limit, defaultLimit), maxLimit)
	live, history, order := fromLive, fromHistory, "DESC"
	var liveArgs, historyArgs []any
	if by, ok := leadOf(f); ok {
		live, history = ledLive, ledHistory
		liveArgs = []any{text(by.mark), by.values}
		historyArgs = liveArgs
	} else if by, ok := stateLead(f); ok && f.Name == "" {
		history, historyArgs = ledByState, []any{text(by.mark), by.values}
	}
	if f.Oldest {
		order = "ASC"
	}
	args = slices.Concat(liveArgs, c.args, []any{limit}, historyArgs, c.args, []any{limit})
	return fmt.Sprintf(executionsSQL, live, history, c.String(), order), args, limit, nil
}

// readAttemptsSQL reads by the primary key.
const readAttemptsSQL = `
SELECT execution_id, delivery, number, worker_id, started_at, finished_at, outcome, type, message, trace, context, error_group
FROM sequencer_attempts WHERE execution_id IN (?) ORDER BY finished_at, execution_id, delivery`

// Attempts implements [storage.Reader].
func (s *Store) Attempts(ctx context.Context, executions ...storage.ID) ([]storage.Attempt, error) {
	attempts := []storage.Attempt{}
	err := s.read(ctx, "read attempts", readAttemptsSQL, func(r scanner) error {
		var a storage.Attempt
		err := r.Scan(idScan{&a.ExecutionID}, &a.Delivery, &a.Number, idScan{&a.WorkerID}, instant{&a.StartedAt}, instant{&a.FinishedAt},
			&a.Outcome, &a.Type, &a.Message, optional{&a.Trace}, optional{&a.Context}, optional{&a.Group})
		attempts = append(attempts, a)
		return err
	}, idList(executions))
	return attempts, err
}

// flowsSQL lists flows. Index: sequencer_flows_created, _open when only open ones are
// asked for, or _root.
const flowsSQL = `SELECT ` + flowColumns + ` FROM sequencer_flows f WHERE %s ORDER BY f.created_at DESC, f.id DESC LIMIT ?`

// Flows implements [storage.Reader].
func (s *Store) Flows(ctx context.Context, f storage.FlowFilter) ([]storage.Flow, error) {
	flows := []storage.Flow{}
	c := &conditionList{}
	if len(f.IDs) > 0 {
		c.add(`f.id IN (?)`, idList(f.IDs))
	}
	if len(f.Kinds) > 0 {
		c.add(`f.kind IN (?)`, spelled(f.Kinds))
	}
	if f.Open {
		c.add(`f.finished_at IS NULL`)
	}
	c.id(`f.root_id = ?`, f.Root)
	args := append(slices.Clone(c.args), cmp.Or(f.Limit, defaultLimit))
	err := s.read(ctx, "read flows", fmt.Sprintf(flowsSQL, c.String()), scanFlows(&flows), args...)
	return flows, err
}

// readEdgesSQL uses sequencer_edges_flow.
const readEdgesSQL = `SELECT from_id, to_id, needs FROM sequencer_edges WHERE flow_id = ? ORDER BY from_id, to_id`

// Edges implements [storage.Reader].
func (s *Store) Edges(ctx context.Context, flow storage.ID) ([]storage.Edge, error) {
	edges := []storage.Edge{}
	err := s.read(ctx, "read edges", readEdgesSQL, func(r scanner) error {
		var e storage.Edge
		err := r.Scan(idScan{&e.From}, idScan{&e.To}, &e.Needs)
		edges = append(edges, e)
		return err
	}, flow[:])
	return edges, err
}

// countsSQL reads both parts in full: it counts them.
const countsSQL = `
SELECT queue, state, COUNT(*) FROM sequencer_live GROUP BY queue, state
UNION ALL
SELECT queue, state, COUNT(*) FROM sequencer_history GROUP BY queue, state
ORDER BY queue, state`

// Counts implements [storage.Reader].
func (s *Store) Counts(ctx context.Context) ([]storage.Count, error) {
	counts := []storage.Count{}
	err := s.read(ctx, "count executions", countsSQL, func(r scanner) error {
		var c storage.Count
		err := r.Scan(&c.Queue, (*string)(&c.State), &c.N)
		counts = append(counts, c)
		return err
	})
	return counts, err
}

// readStatsSQL sums over workers and over the minutes of a step, by the primary key.
const readStatsSQL = `
SELECT minute - minute % ? AS step, queue, name, ending, SUM(n), SUM(ran_us), SUM(waited_us) FROM sequencer_stats
WHERE minute >= ? AND minute < ? GROUP BY step, queue, name, ending ORDER BY step, queue, name, ending`

// Stats implements [storage.Reader].
func (s *Store) Stats(ctx context.Context, f storage.StatsFilter) ([]storage.Stat, error) {
	stats := []storage.Stat{}
	since, until := f.Since, f.Until
	if until.IsZero() {
		until = time.UnixMicro(1<<62 - 1)
	}
	if since.IsZero() {
		since = time.UnixMicro(-1 << 62)
	}
	err := s.read(ctx, "read statistics", readStatsSQL, func(r scanner) error {
		var st storage.Stat
		var under string
		err := r.Scan(instant{&st.Minute}, &under, &st.Name, &st.Ending, &st.N, duration{&st.Ran}, duration{&st.Waited})
		if f.Wants(&st, under) {
			stats = append(stats, st)
		}
		return err
	}, f.Seconds()*1_000_000, since.UnixMicro(), until.UnixMicro())
	return stats, err
}

// readAuditSQL uses sequencer_audit_at.
const readAuditSQL = `
SELECT id, at, actor, action, target, count, reason FROM sequencer_audit
WHERE LOCATE(?, target) > 0 ORDER BY at DESC, id DESC LIMIT ?`

// Audit implements [storage.Reader].
func (s *Store) Audit(ctx context.Context, f storage.AuditFilter) ([]storage.AuditEntry, error) {
	entries := []storage.AuditEntry{}
	err := s.read(ctx, "read the audit", readAuditSQL, func(r scanner) error {
		var a storage.AuditEntry
		err := r.Scan(idScan{&a.ID}, instant{&a.At}, &a.Actor, &a.Action, &a.Target, &a.Count, optional{&a.Reason})
		entries = append(entries, a)
		return err
	}, text(f.Target), cmp.Or(f.Limit, defaultLimit))
	return entries, err
}

// readCallbacksSQL reads one flow by primary key.
const readCallbacksSQL = `SELECT callbacks FROM sequencer_flows WHERE id = ?`

// Callbacks implements [storage.Reader].
func (s *Store) Callbacks(ctx context.Context, flow storage.ID) ([]storage.Callback, error) {
	var stored []byte
	if err := s.read(ctx, "read callbacks", readCallbacksSQL, func(r scanner) error { return r.Scan(&stored) }, flow[:]); err != nil {
		return nil, err
	}
	return storage.DecodeCallbacks(stored)
}
