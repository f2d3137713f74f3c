package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// The first through the index of names.
const (
	nameKnown = `SELECT 1 FROM sequencer_executions WHERE name = ? LIMIT 1`

	recordOne = `
INSERT INTO sequencer_executions (
	id, name, kind, method, actor, queue, priority, state, due_at, created_at, started_at, finished_at, deadline_at,
	delivery, excused, errors, losses, worker_id, flow_id, member, position, undoes, delay_us, retry_for_us,
	unique_key, unique_for_us, holds_key, on_loss, min_build, undoable, allowed_to_fail, for_now, done, total,
	checksum, tags, reason, environment, last_error, error_group, undo_error, policy, input, checkpoint, result)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING`
)

// Record writes executions that are over, see [storage.Operator].
func (s *Store) Record(ctx context.Context, r storage.RecordRequest) (int, error) {
	return write(ctx, s, "record", func(ctx context.Context, t *txn) (int, error) {
		now := clock(r.Now)
		var written []string
		for i := range r.Executions {
			e := &r.Executions[i]
			if !e.State.Over() || e.ID.IsZero() {
				return 0, fmt.Errorf("execution %q: only one that has an id and is over can be recorded, this is %q", e.Name, e.State)
			}
			known, err := t.any(ctx, nameKnown, e.Name)
			if err != nil {
				return 0, err
			}
			if known {
				continue
			}
			n, err := record(ctx, t, now, e)
			if err != nil {
				return 0, err
			}
			if n > 0 {
				written = append(written, e.Name)
			}
		}
		if len(written) == 0 {
			return 0, nil
		}
		return len(written), audit(ctx, t, now, r.Actor, "record", strings.Join(written, " "), len(written), r.Reason)
	})
}

func record(ctx context.Context, t *txn, now time.Time, e *storage.Execution) (int, error) {
	created := orElse(e.CreatedAt, now)
	finished := orElse(e.FinishedAt, created)
	var key any
	if e.UniqueKey != "" {
		key = e.UniqueKey
	}
	n, err := t.exec(ctx, recordOne,
		e.ID[:], e.Name, string(e.Kind), e.Method, e.Actor, e.Queue, level(e.Priority), string(e.State), microsOf(e.DueAt), created.UnixMicro(), microsOf(e.StartedAt), finished.UnixMicro(), microsOf(e.DeadlineAt),
		e.Delivery, e.Excused, e.Errors, e.Losses, blobOf(e.WorkerID), blobOf(e.FlowID), e.Member, e.Position, blobOf(e.Undoes), e.Delay.Microseconds(), e.RetryFor.Microseconds(),
		key, e.UniqueFor.Microseconds(), string(e.OnLoss), e.MinBuild, intOf(e.Undoable), intOf(e.AllowedToFail), intOf(e.ForNow), e.Done, e.Total,
		e.Checksum, listOf(e.Tags), e.Reason, e.Environment, e.LastError, e.ErrorGroup, e.UndoError, bytesOf(e.Policy), bytesOf(e.Input), bytesOf(e.Checkpoint), bytesOf(e.Result))
	if err != nil || n == 0 {
		return n, err
	}
	return n, insertTags(ctx, t, e, created)
}

func orElse(t, otherwise time.Time) time.Time {
	if t.IsZero() {
		return otherwise
	}
	return t
}

// Rows to prune, oldest first through the index of history; an age that is NULL
// keeps its rows.
const prunable = `
SELECT x.id FROM sequencer_executions AS x
WHERE x.finished_at IS NOT NULL AND x.finished_at < ?1
	AND x.finished_at < CASE x.state WHEN 'completed' THEN ?2 WHEN 'failed' THEN ?3 ELSE ?4 END
	AND ` + mayGo + `
ORDER BY x.finished_at, x.id LIMIT ?5`

// What must stay: migrations, approvals, members of open flows, and of each ordered operation
// its newest row and its effective one, which a newer row replaces only if it is
// neither cancelled nor skipped for one environment.
const mayGo = `x.kind NOT IN ('migration', 'approval')
	AND (x.flow_id IS NULL OR NOT EXISTS (SELECT 1 FROM sequencer_flows AS f WHERE f.id = x.flow_id AND f.finished_at IS NULL))
	AND (x.kind <> 'ordered' OR EXISTS (
		SELECT 1 FROM sequencer_executions AS n
		WHERE n.kind = 'ordered' AND n.name = x.name AND (n.created_at, n.id) > (x.created_at, x.id) AND n.finished_at IS NOT NULL
			AND (x.state = 'cancelled' OR n.state <> 'cancelled' AND (n.environment = '' OR n.environment = x.environment))))`

// All by primary key or by the index on what they look for. Flows stay, with
// their counts.
const (
	dropAttempts  = `DELETE FROM sequencer_attempts WHERE execution_id = ?`
	dropTags      = `DELETE FROM sequencer_tags WHERE (tag, at, execution_id) IN (SELECT value, x.created_at, x.id FROM sequencer_executions AS x, json_each(x.tags) WHERE x.id = ? AND x.tags <> '')`
	dropEdgesFrom = `DELETE FROM sequencer_edges WHERE from_id = ?`
	dropEdgesTo   = `DELETE FROM sequencer_edges WHERE to_id = ?`
	dropExecution = `DELETE FROM sequencer_executions WHERE id = ?`
)

// Prune deletes old history, see [storage.Operator]. A Limit of 0 is none.
func (s *Store) Prune(ctx context.Context, r storage.PruneRequest) (int, error) {
	return write(ctx, s, "prune", func(ctx context.Context, t *txn) (int, error) {
		now := clock(r.Now)
		var latest int64 // the latest instant before which anything may go
		before := func(age time.Duration) any {
			if age <= 0 {
				return nil
			}
			at := now.Add(-age).UnixMicro()
			latest = max(latest, at)
			return at
		}
		completed, failed, others := before(r.Completed), before(r.Failed), before(r.Others)
		limit := r.Limit
		if limit <= 0 {
			limit = -1
		}
		for _, over := range []string{pruneLimits, freeOverdue} {
			if _, err := t.exec(ctx, over, now.UnixMicro()); err != nil {
				return 0, err
			}
		}
		return prune(ctx, t, latest, completed, failed, others, limit)
	})
}

func prune(ctx context.Context, t *txn, args ...any) (int, error) {
	var ids []storage.ID
	err := t.each(ctx, func(rows *sql.Rows) error {
		ids = append(ids, storage.ID{})
		return rows.Scan((*idColumn)(&ids[len(ids)-1]))
	}, prunable, args...)
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		if err := drop(ctx, t, id); err != nil {
			return 0, err
		}
	}
	return len(ids), nil
}

// drop deletes an execution with all that belongs to it.
func drop(ctx context.Context, t *txn, id storage.ID) error {
	for _, statement := range []string{dropAttempts, dropTags, dropEdgesFrom, dropEdgesTo, dropExecution} {
		if _, err := t.exec(ctx, statement, id[:]); err != nil {
			return err
		}
	}
	return nil
}

// By primary key.
const mayForget = `SELECT 1 FROM sequencer_executions AS x WHERE x.id = ? AND ` + mayGo

// forget deletes executions that are over. All are looked at before the first one
// goes, because what hides one may be another of them.
func forget(ctx context.Context, t *txn, found []storage.Execution) error {
	for i := range found {
		e := &found[i]
		if !e.State.Over() {
			return &storage.TransitionError{ID: e.ID, Name: e.Name, From: e.State, To: storage.Forgotten}
		}
		may, err := t.any(ctx, mayForget, e.ID[:])
		if err != nil {
			return err
		}
		if !may {
			return fmt.Errorf("%s (%s) is kept: a migration, an approval, the newest or effective execution of an ordered operation, or a member of an open flow", e.Name, e.ID)
		}
	}
	for i := range found {
		if err := drop(ctx, t, found[i].ID); err != nil {
			return err
		}
	}
	return nil
}
