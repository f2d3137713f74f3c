package sqlite

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Claim makes due executions running for a worker, see [storage.Queue].
func (s *Store) Claim(ctx context.Context, r storage.ClaimRequest) (storage.Claimed, error) {
	return write(ctx, s, "claim", func(ctx context.Context, t *txn) (storage.Claimed, error) {
		r.Now = clock(r.Now)
		return claim(ctx, t, r)
	})
}

// claim expects r.Now filled.
func claim(ctx context.Context, t *txn, r storage.ClaimRequest) (storage.Claimed, error) {
	out := storage.Claimed{NextDue: -1}
	if err := mustBePresent(ctx, t, r.Worker); err != nil {
		return out, err
	}
	names := ""
	if len(r.Names) > 0 {
		any, err := t.any(ctx, anyParked)
		if err != nil {
			return out, err
		}
		if any {
			names = listOf(r.Names)
		}
	}
	for _, queue := range r.Queues {
		if len(out.Executions) >= r.Limit {
			break
		}
		got, err := claimQueue(ctx, t, r, queue, names, r.Limit-len(out.Executions))
		if err != nil {
			return out, err
		}
		out.Executions = append(out.Executions, got...)
	}
	if len(out.Executions) >= r.Limit {
		out.NextDue = 0
		return out, nil
	}
	for _, queue := range r.Queues {
		next, found, err := nextDue(ctx, t, queue, names)
		if err != nil {
			return out, err
		}
		if wait := max(next.Sub(r.Now), 0); found && (out.NextDue < 0 || wait < out.NextDue) {
			out.NextDue = wait
		}
	}
	return out, nil
}

// By primary key.
const workerPresent = `SELECT 1 FROM sequencer_workers WHERE id = ? AND left_at IS NULL`

// mustBePresent returns ErrLeaseLost for a worker that never joined, has left or
// was declared dead. Asked inside the transaction, so that a rescuer cannot have
// come in between.
func mustBePresent(ctx context.Context, t *txn, worker storage.ID) error {
	present, err := t.any(ctx, workerPresent, worker[:])
	if err == nil && !present {
		err = storage.ErrLeaseLost
	}
	return err
}

// The partial index of parked rows is empty nearly always.
const anyParked = `SELECT 1 FROM sequencer_executions WHERE parked = 1 LIMIT 1`

// The due rows of one queue, level by level through the index of claimable rows,
// so that rows of a high level that are due later are never walked: the arms of
// UNION ALL are read in order, and LIMIT ends the reading.
const claimable = `
SELECT id FROM (SELECT id FROM sequencer_executions WHERE state = 'pending' AND due_at IS NOT NULL AND parked = 0
	AND queue = ?1 AND priority = 1 AND due_at <= ?2 ORDER BY due_at, id LIMIT ?3)
UNION ALL
SELECT id FROM (SELECT id FROM sequencer_executions WHERE state = 'pending' AND due_at IS NOT NULL AND parked = 0
	AND queue = ?1 AND priority = 2 AND due_at <= ?2 ORDER BY due_at, id LIMIT ?3)
UNION ALL
SELECT id FROM (SELECT id FROM sequencer_executions WHERE state = 'pending' AND due_at IS NOT NULL AND parked = 0
	AND queue = ?1 AND priority = 3 AND due_at <= ?2 ORDER BY due_at, id LIMIT ?3)
UNION ALL
SELECT id FROM (SELECT id FROM sequencer_executions WHERE state = 'pending' AND due_at IS NOT NULL AND parked = 0
	AND queue = ?1 AND priority = 4 AND due_at <= ?2 ORDER BY due_at, id LIMIT ?3)
LIMIT ?3`

// With parked rows of known names among them, the order has to be made by sorting.
const claimableOrParked = `
SELECT id FROM sequencer_executions WHERE id IN (
	SELECT id FROM (` + claimable + `)
	UNION ALL
	SELECT id FROM (SELECT id FROM sequencer_executions INDEXED BY sequencer_executions_parked WHERE parked = 1
		AND name IN (SELECT value FROM json_each(?5)) AND queue = ?1
		AND state = 'pending' AND due_at <= ?2 ORDER BY priority, due_at, id LIMIT ?3))
ORDER BY priority, due_at, id LIMIT ?3`

// claimRows takes rows for a worker. It runs under the write lock, so no other
// worker can take them too; delivery + 1 is what fences off whoever had them
// before.
const (
	claimRows = `
UPDATE sequencer_executions
SET state = 'running', worker_id = ?4, delivery = delivery + 1, started_at = coalesce(started_at, ?2), parked = 0
WHERE id IN (`
	claimDue    = claimRows + claimable + `) RETURNING` + claimedColumns
	claimParked = claimRows + claimableOrParked + `) RETURNING` + claimedColumns
)

func claimQueue(ctx context.Context, t *txn, r storage.ClaimRequest, queue, names string, limit int) ([]storage.Execution, error) {
	now := r.Now.UnixMicro()
	args := []any{queue, now, limit, r.Worker[:]}
	statement := claimDue
	if names != "" {
		statement, args = claimParked, append(args, names)
	}
	var got []storage.Execution
	err := t.each(ctx, func(rows *sql.Rows) error {
		got = append(got, storage.Execution{State: storage.Running, WorkerID: r.Worker})
		return scanClaimed(rows, &got[len(got)-1])
	}, statement, args...)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(got, func(a, b storage.Execution) int { // RETURNING has no order
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), a.DueAt.Compare(b.DueAt), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return got, nil
}

// The earliest due row of a queue: four seeks in the index of claimable rows.
const (
	earliest = `
SELECT min(due_at) FROM (
	SELECT min(due_at) AS due_at FROM sequencer_executions
	WHERE state = 'pending' AND due_at IS NOT NULL AND parked = 0 AND queue = ?1 AND priority = 1
	UNION ALL
	SELECT min(due_at) FROM sequencer_executions
	WHERE state = 'pending' AND due_at IS NOT NULL AND parked = 0 AND queue = ?1 AND priority = 2
	UNION ALL
	SELECT min(due_at) FROM sequencer_executions
	WHERE state = 'pending' AND due_at IS NOT NULL AND parked = 0 AND queue = ?1 AND priority = 3
	UNION ALL
	SELECT min(due_at) FROM sequencer_executions
	WHERE state = 'pending' AND due_at IS NOT NULL AND parked = 0 AND queue = ?1 AND priority = 4`
	earliestDue    = earliest + `)`
	earliestParked = earliest + `
	UNION ALL
	SELECT min(due_at) FROM sequencer_executions INDEXED BY sequencer_executions_parked WHERE parked = 1
		AND name IN (SELECT value FROM json_each(?2)) AND queue = ?1 AND state = 'pending')`
)

func nextDue(ctx context.Context, t *txn, queue, names string) (at time.Time, found bool, err error) {
	if names == "" {
		_, err = t.one(ctx, []any{(*instantColumn)(&at)}, earliestDue, queue)
	} else {
		_, err = t.one(ctx, []any{(*instantColumn)(&at)}, earliestParked, queue, names)
	}
	return at, !at.IsZero(), err
}
