package postgres

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/gosequencer/sequencer/storage"
)

const (
	defaultLimit = 100
	maxLimit     = 10_000
)

// newestSQL reads the effective row of each ordered operation and migration. Index:
// sequencer_live_newest and sequencer_history_newest, which hold only these kinds
// and are walked in their order, backwards.
const newestSQL = `
WITH live AS MATERIALIZED (
	SELECT DISTINCT ON (l.kind, l.name) ` + leanColumns + ` FROM sequencer_live l
	WHERE l.kind IN ('ordered', 'migration')
	ORDER BY l.kind DESC, l.name DESC, l.created_at DESC, l.id DESC
), ended AS MATERIALIZED (
	SELECT DISTINCT ON (l.kind, l.name) ` + leanColumns + ` FROM sequencer_history l
	WHERE l.kind IN ('ordered', 'migration') AND l.state <> 'cancelled'
		AND (l.state <> 'skipped' OR l.environment IS NULL OR l.environment = $1::text)
	ORDER BY l.kind DESC, l.name DESC, l.created_at DESC, l.id DESC
)
SELECT * FROM (
	SELECT * FROM live
	UNION ALL
	SELECT * FROM ended WHERE NOT EXISTS (SELECT FROM live WHERE live.kind = ended.kind AND live.name = ended.name)
) l ORDER BY l.name COLLATE "C", l.kind`

// Newest implements [storage.Reader].
func (s *Store) Newest(ctx context.Context, r storage.NewestRequest) ([]storage.Effective, error) {
	newest := []storage.Effective{}
	err := s.read(ctx, "read the newest executions", newestSQL, scanLean(&newest), r.Environment)
	return newest, err
}

// The conditions of a filter. Each is added with its argument only when it is asked
// for, so that the planner sees no more than is meant; no text of a caller becomes
// SQL. Index: primary key for ids and prefixes; sequencer_history_name, _state,
// _flow, _undoes, _group and _unique; sequencer_tags; else _created, newest first.
const (
	byIDs       = `l.id = ANY (%s::uuid[])`
	byIDFrom    = `l.id >= %s::uuid`
	byIDTo      = `l.id <= %s::uuid`
	byStates    = `l.state = ANY (%s::text[])`
	byKinds     = `l.kind = ANY (%s::text[])`
	byName      = `l.name = %s::text`
	byNameLike  = `l.name LIKE %s::text`
	byQueue     = `l.queue = %s::text`
	byTag       = `l.id IN (SELECT execution_id FROM sequencer_tags WHERE tag = %s::text)`
	byFlow      = `l.flow_id = %s::uuid`
	byMember    = `l.member = %s::text`
	byMethod    = `l.method = %s::text`
	byUndoes    = `l.undoes = %s::uuid`
	byWorker    = `l.worker_id = %s::uuid`
	byGroup     = `l.error_group = %s::text`
	byUniqueKey = `l.unique_key = %s::text`
	bySince     = `l.created_at >= %s::timestamptz`
	byUntil     = `l.created_at < %s::timestamptz`
	byAfter     = `(l.created_at, l.id) > (%s::timestamptz, %s::uuid)`
	byBefore    = `(l.created_at, l.id) < (%s::timestamptz, %s::uuid)`
)

// What a page is read from.
//
// After a backlog the live table stays as large as it ever was, however few rows are left
// in it. Where no index serves a question, it is then asked of the rows that the primary
// key still has: that shrinks. The limits that the planner cannot see keep it there.
const (
	fromLive = `(
		SELECT * FROM sequencer_live WHERE NOT ` + few + `
		UNION ALL
		SELECT * FROM sequencer_live WHERE ` + few + ` AND id = ANY (ARRAY(SELECT id FROM sequencer_live ORDER BY id LIMIT (SELECT 100000)))
	) l`
	few = `((SELECT relpages > 1000 AND relpages > reltuples FROM pg_class WHERE oid = 'sequencer_live'::regclass)
			AND (SELECT count(*) < 100000 FROM (SELECT FROM sequencer_live ORDER BY id LIMIT (SELECT 100000)) l))`
	fromIndexed = `sequencer_live l`
	fromTagged  = `(SELECT * FROM sequencer_live WHERE id = ANY (ARRAY(
		SELECT t.execution_id FROM sequencer_tags t JOIN sequencer_live x ON x.id = t.execution_id WHERE t.tag = %s::text))
	) l`
	fromHistory = `sequencer_history l`
)

// pageSQL is a page of one part. %[1]s is what it is read from, %[2]s the condition,
// %[3]s the order, %[4]s the limit.
const pageSQL = `SELECT ` + allColumns + ` FROM %[1]s WHERE %[2]s ORDER BY l.created_at %[3]s, l.id %[3]s LIMIT %[4]s::bigint`

// executionsSQL joins two of them.
const executionsSQL = `SELECT * FROM ((%[1]s) UNION ALL (%[2]s)) l ORDER BY l.created_at %[3]s, l.id %[3]s LIMIT %[4]s::bigint`

// listing is the query for a filter. Only a part that can hold what it selects is read.
func listing(f *storage.Filter) (query string, args []any, _ error) {
	c, err := conditions(f)
	if err != nil {
		return "", nil, err
	}
	order := "DESC"
	if f.Oldest {
		order = "ASC"
	}
	limit := c.arg(min(cmp.Or(f.Limit, defaultLimit), maxLimit))
	page := func(from string) string { return fmt.Sprintf(pageSQL, from, c, order, limit) }
	switch live, over := f.Asks(); {
	case !over:
		return page(liveOf(f, c)), c.args, nil
	case !live:
		return page(fromHistory), c.args, nil
	}
	return fmt.Sprintf(executionsSQL, page(liveOf(f, c)), page(fromHistory), order, limit), c.args, nil
}

// liveOf is what the live part of a listing is read from.
func liveOf(f *storage.Filter, c *conditionList) string {
	switch {
	case f.Tag != "":
		return fmt.Sprintf(fromTagged, c.arg(f.Tag))
	case len(f.IDs) > 0 || f.IDPrefix != "" || f.UniqueKey != "" || !f.FlowID.IsZero() || !f.WorkerID.IsZero():
		return fromIndexed
	default:
		return fromLive
	}
}

// Executions implements [storage.Reader].
func (s *Store) Executions(ctx context.Context, f storage.Filter) ([]storage.Execution, error) {
	rows := []storage.Execution{}
	query, args, err := listing(&f)
	if err != nil {
		return rows, explained("read executions", err)
	}
	err = s.read(ctx, "read executions", query, scanAll(&rows), args...)
	return rows, err
}

// conditionList collects conditions and their arguments.
type conditionList struct {
	all  []string
	args []any
}

func (c *conditionList) arg(v any) string {
	c.args = append(c.args, v)
	return fmt.Sprintf("$%d", len(c.args))
}

func (c *conditionList) add(condition string, args ...any) {
	places := make([]any, len(args))
	for i, a := range args {
		places[i] = c.arg(a)
	}
	c.all = append(c.all, fmt.Sprintf(condition, places...))
}

func (c *conditionList) text(condition, value string) {
	if value != "" {
		c.add(condition, value)
	}
}

func (c *conditionList) id(condition string, value storage.ID) {
	if !value.IsZero() {
		c.add(condition, value.String())
	}
}

func (c *conditionList) String() string {
	if len(c.all) == 0 {
		return "true"
	}
	return strings.Join(c.all, " AND ")
}

func conditions(f *storage.Filter) (*conditionList, error) {
	c := &conditionList{}
	if len(f.IDs) > 0 {
		c.add(byIDs, idArray(f.IDs))
	}
	if f.IDPrefix != "" {
		from, to, err := prefixRange(f.IDPrefix)
		if err != nil {
			return nil, err
		}
		c.add(byIDFrom, from)
		c.add(byIDTo, to)
	}
	if len(f.States) > 0 {
		c.add(byStates, texts(f.States))
	}
	if len(f.Kinds) > 0 {
		c.add(byKinds, texts(f.Kinds))
	}
	if strings.Contains(f.Name, "*") {
		c.add(byNameLike, likePattern.Replace(f.Name))
	} else {
		c.text(byName, f.Name)
	}
	c.text(byQueue, f.Queue)
	c.text(byTag, f.Tag)
	c.id(byFlow, f.FlowID)
	c.text(byMember, f.Member)
	c.text(byMethod, f.Method)
	c.id(byUndoes, f.Undoes)
	c.id(byWorker, f.WorkerID)
	c.text(byGroup, f.Group)
	c.text(byUniqueKey, f.UniqueKey)
	if !f.Since.IsZero() {
		c.add(bySince, f.Since)
	}
	if !f.Until.IsZero() {
		c.add(byUntil, f.Until)
	}
	if f.After != nil && f.Oldest {
		c.add(byAfter, micro(f.After.At), zeroedID(f.After.ID))
	} else if f.After != nil {
		c.add(byBefore, micro(f.After.At), zeroedID(f.After.ID))
	}
	return c, nil
}

// zeroedID is the text of an id, also of the zero one, which is a place in a
// listing too.
func zeroedID(id storage.ID) string { return hex.EncodeToString(id[:]) }

// likePattern turns * into the only wildcard (S32.5).
var likePattern = strings.NewReplacer("*", "%", "%", `\%`, "_", `\_`, `\`, `\\`)

// prefixRange is the range of ids whose text begins with prefix.
func prefixRange(prefix string) (from, to string, err error) {
	if len(prefix) < 8 {
		return "", "", errors.New("an id prefix needs at least 8 characters")
	}
	digits := strings.ReplaceAll(prefix, "-", "")
	if len(digits) > 32 || strings.Trim(digits, "0123456789abcdefABCDEF") != "" {
		return "", "", fmt.Errorf("%q is not the beginning of an id", prefix)
	}
	rest := 32 - len(digits)
	return digits + strings.Repeat("0", rest), digits + strings.Repeat("f", rest), nil
}

// readAttemptsSQL reads by the primary key.
const readAttemptsSQL = `
SELECT execution_id, delivery, number, worker_id, started_at, finished_at, outcome, type, message, trace, context, error_group
FROM sequencer_attempts WHERE execution_id = ANY ($1::uuid[]) ORDER BY finished_at, execution_id, delivery`

// Attempts implements [storage.Reader].
func (s *Store) Attempts(ctx context.Context, executions ...storage.ID) ([]storage.Attempt, error) {
	attempts := []storage.Attempt{}
	err := s.read(ctx, "read attempts", readAttemptsSQL, func(r scanner) error {
		var a storage.Attempt
		var trace, context, group pgtype.Text
		err := r.Scan(idScan{&a.ExecutionID}, &a.Delivery, &a.Number, idScan{&a.WorkerID}, &a.StartedAt, &a.FinishedAt,
			&a.Outcome, &a.Type, &a.Message, &trace, &context, &group)
		a.StartedAt, a.FinishedAt = a.StartedAt.UTC(), a.FinishedAt.UTC()
		a.Trace, a.Context, a.Group = trace.String, context.String, group.String
		attempts = append(attempts, a)
		return err
	}, idArray(executions))
	return attempts, err
}

// flowsSQL lists flows. Index: sequencer_flows_created, or _open when only open ones
// are asked for, which the condition spells as the index does.
const flowsSQL = `SELECT ` + flowColumns + ` FROM sequencer_flows f WHERE %s ORDER BY f.created_at DESC, f.id DESC LIMIT %s::bigint`

// Flows implements [storage.Reader].
func (s *Store) Flows(ctx context.Context, f storage.FlowFilter) ([]storage.Flow, error) {
	flows := []storage.Flow{}
	c := &conditionList{}
	if len(f.IDs) > 0 {
		c.add(`f.id = ANY (%s::uuid[])`, idArray(f.IDs))
	}
	if len(f.Kinds) > 0 {
		c.add(`f.kind = ANY (%s::text[])`, texts(f.Kinds))
	}
	if f.Open {
		c.add(`f.finished_at IS NULL`)
	}
	if !f.Root.IsZero() {
		c.add(`(f.id = %[1]s::uuid OR f.root_id = %[1]s::uuid AND f.parent_id IS NOT NULL)`, f.Root.String())
	}
	limit := c.arg(cmp.Or(f.Limit, defaultLimit))
	err := s.read(ctx, "read flows", fmt.Sprintf(flowsSQL, c.String(), limit), scanFlows(&flows), c.args...)
	return flows, err
}

// readEdgesSQL uses sequencer_edges_flow.
const readEdgesSQL = `SELECT from_id, to_id, needs FROM sequencer_edges WHERE flow_id = $1::uuid ORDER BY from_id, to_id`

// Edges implements [storage.Reader].
func (s *Store) Edges(ctx context.Context, flow storage.ID) ([]storage.Edge, error) {
	edges := []storage.Edge{}
	err := s.read(ctx, "read edges", readEdgesSQL, func(r scanner) error {
		var e storage.Edge
		err := r.Scan(idScan{&e.From}, idScan{&e.To}, &e.Needs)
		edges = append(edges, e)
		return err
	}, zeroedID(flow))
	return edges, err
}

// countsSQL reads both parts in full: it counts them.
const countsSQL = `
SELECT queue, state, count(*) FROM sequencer_live GROUP BY queue, state
UNION ALL
SELECT queue, state, count(*) FROM sequencer_history GROUP BY queue, state
ORDER BY queue, state`

// Counts implements [storage.Reader].
func (s *Store) Counts(ctx context.Context) ([]storage.Count, error) {
	counts := []storage.Count{}
	err := s.read(ctx, "count executions", countsSQL, func(r scanner) error {
		var c storage.Count
		var state string
		err := r.Scan(&c.Queue, &state, &c.N)
		c.State = storage.State(state)
		counts = append(counts, c)
		return err
	})
	return counts, err
}

// readStatsSQL sums over workers and over the minutes of a step, by the primary key.
const readStatsSQL = `
SELECT to_timestamp(floor(extract(epoch FROM minute) / $3::bigint) * $3::bigint), queue, name, ending,
	sum(n)::bigint, sum(ran_us)::bigint, sum(waited_us)::bigint FROM sequencer_stats
WHERE minute >= coalesce($1::timestamptz, '-infinity') AND minute < coalesce($2::timestamptz, 'infinity')
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4`

// Stats implements [storage.Reader].
func (s *Store) Stats(ctx context.Context, f storage.StatsFilter) ([]storage.Stat, error) {
	stats := []storage.Stat{}
	err := s.read(ctx, "read statistics", readStatsSQL, func(r scanner) error {
		var st storage.Stat
		var under string
		var ran, waited int64
		err := r.Scan(&st.Minute, &under, &st.Name, &st.Ending, &st.N, &ran, &waited)
		st.Minute = st.Minute.UTC()
		st.Ran, st.Waited = time.Duration(ran)*time.Microsecond, time.Duration(waited)*time.Microsecond
		if f.Wants(&st, under) {
			stats = append(stats, st)
		}
		return err
	}, at(f.Since), at(f.Until), f.Seconds())
	return stats, err
}

// readAuditSQL uses sequencer_audit_at.
const readAuditSQL = `
SELECT id, at, actor, action, target, count, reason FROM sequencer_audit
WHERE strpos(target, $1::text) > 0 ORDER BY at DESC, id DESC LIMIT $2::bigint`

// Audit implements [storage.Reader].
func (s *Store) Audit(ctx context.Context, f storage.AuditFilter) ([]storage.AuditEntry, error) {
	entries := []storage.AuditEntry{}
	err := s.read(ctx, "read the audit", readAuditSQL, func(r scanner) error {
		var a storage.AuditEntry
		var reason pgtype.Text
		err := r.Scan(idScan{&a.ID}, &a.At, &a.Actor, &a.Action, &a.Target, &a.Count, &reason)
		a.At, a.Reason = a.At.UTC(), reason.String
		entries = append(entries, a)
		return err
	}, f.Target, cmp.Or(f.Limit, defaultLimit))
	return entries, err
}

// Callbacks implements [storage.Reader].
func (s *Store) Callbacks(ctx context.Context, flow storage.ID) ([]storage.Callback, error) {
	var stored []byte
	if err := s.read(ctx, "read callbacks", callbacksSQL, func(r scanner) error { return r.Scan(&stored) }, zeroedID(flow)); err != nil {
		return nil, err
	}
	return storage.DecodeCallbacks(stored)
}
