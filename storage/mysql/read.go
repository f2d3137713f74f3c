package mysql

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
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

// A listing joins pages of both parts, in no order between them. Index: a mark where one
// leads there, which has the order of the listing, else the primary key for ids and
// prefixes, sequencer_history_name, or sequencer_history_created. Many rows may have a
// tag, of which few are live: the server chooses which of the two it walks over.
const (
	pageSQL     = `(SELECT %s FROM %s WHERE %s ORDER BY %s LIMIT ?)`
	fromLive    = `sequencer_live l`
	fromHistory = `sequencer_history l`
	fromMarks   = `sequencer_marks m STRAIGHT_JOIN %s ON l.id = m.execution_id`
	fromStates  = fromMarks + ` AND l.state = m.value`
	fromTag     = `sequencer_marks m JOIN %s ON m.created_at = l.created_at AND m.execution_id = l.id`
	ofMark      = `m.mark = ? AND m.value = ? AND `
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

// pages is a listing that is being put together.
type pages struct {
	c     *conditionList
	limit int
	order string // of the way: ASC or DESC
	texts []string
	args  []any
}

func (p *pages) add(columns, from, where, order string, args ...any) {
	p.texts = append(p.texts, fmt.Sprintf(pageSQL, columns, from, where+p.c.String(), strings.ReplaceAll(order, "%", p.order)))
	p.args = slices.Concat(p.args, args, p.c.args, []any{p.limit})
}

// walk adds a page of a part in the order of its own index, or of none.
func (p *pages) walk(columns, from string) { p.add(columns, from, "", `l.created_at %, l.id %`) }

// follow adds a page for each value of a mark.
func (p *pages) follow(columns, marks, from string, by lead, f *storage.Filter) {
	where := ofMark + by.within(f)
	for _, value := range by.values {
		p.add(columns, fmt.Sprintf(marks, from), where, `m.created_at %, m.execution_id %`, slices.Concat([]any{text(by.mark), text(value)}, by.bounds(f))...)
	}
}

// listing is the query for a filter. Only a part that can hold what it selects is read.
func listing(f *storage.Filter) (query string, args []any, limit int, _ error) {
	by, led := leadOf(f)
	rest := *f
	if by.mark == markTag {
		rest.Tag = ""
	}
	c, err := conditions(&rest)
	if err != nil {
		return "", nil, 0, err
	}
	p := pages{c: c, limit: min(cmp.Or(f.Limit, defaultLimit), maxLimit), order: "DESC"}
	if f.Oldest {
		p.order = "ASC"
	}
	live, over := f.Asks()
	switch {
	case !live:
	case by.mark == markTag:
		p.follow(liveColumns, fromTag, fromLive, by, f)
	case led:
		p.follow(liveColumns, fromMarks, fromLive, by, f)
	default:
		p.walk(liveColumns, fromLive)
	}
	state, troubled := stateLead(f)
	switch {
	case !over:
	case led:
		p.follow(historyColumns, fromMarks, fromHistory, by, f)
	case troubled && f.Name == "":
		p.follow(historyColumns, fromStates, fromHistory, state, f)
	default:
		p.walk(historyColumns, fromHistory)
	}
	return strings.Join(p.texts, "\nUNION ALL\n"), p.args, p.limit, nil
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
