package sqlite

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Claim makes due executions running for a worker, see [storage.Queue]. While
// others hold the writer there is nothing to claim for the moment: it returns at
// once, with a NextDue that says when to ask again.
func (s *Store) Claim(ctx context.Context, r storage.ClaimRequest) (storage.Claimed, error) {
	out, err := writeAs(ctx, s, passes, "claim", func(ctx context.Context, t *txn) (storage.Claimed, error) {
		r.Now = clock(r.Now)
		t.shared.want(path)
		return claim(ctx, t, r)
	})
	if errors.Is(err, errHeld) {
		return storage.Claimed{NextDue: askAgain}, nil
	}
	return out, err
}

// claim expects r.Now filled. A worker that gets what it asks for is present, by
// claimNext; any other is looked at.
func claim(ctx context.Context, t *txn, r storage.ClaimRequest) (storage.Claimed, error) {
	if r.Limit > fewClaims || len(r.Queues) != 1 || len(r.Names) > 0 {
		if err := mustBePresent(ctx, t, r.Worker); err != nil {
			return storage.Claimed{}, err
		}
		return takeWork(ctx, t, r)
	}
	out, err := takeWork(ctx, t, r)
	if err == nil && len(out.Executions) == 0 {
		err = mustBePresent(ctx, t, r.Worker)
	}
	return out, err
}

// takeWork is claim for a worker that was found present in this transaction.
func takeWork(ctx context.Context, t *txn, r storage.ClaimRequest) (storage.Claimed, error) {
	out := storage.Claimed{NextDue: -1}
	if storage.AsksPauses(r.Queues) {
		var err error
		if out.PausedNames, err = heed(ctx, t, &r); err != nil {
			return out, err
		}
	}
	names := ""
	if len(r.Names) > 0 {
		parked, err := t.any(ctx, anyParked)
		if err != nil {
			return out, err
		}
		if parked {
			known := listOf(r.Names)
			if parked, err = t.any(ctx, anyParkedOf, known, r.Build); err != nil {
				return out, err
			}
			if parked {
				names = known
			}
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
		next, found, err := nextDue(ctx, t, queue, names, r.Build)
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
const (
	workerPresentIs = `SELECT 1 FROM sequencer_workers WHERE id = `
	workerPresent   = workerPresentIs + `? AND left_at IS NULL`
)

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

// The partial index of parked rows is empty nearly always, and where it is not, most
// often has none that the claimant may run: a seek a name.
const (
	anyParked   = `SELECT 1 FROM sequencer_executions WHERE parked = 1 LIMIT 1`
	anyParkedOf = `
SELECT 1 FROM json_each(?) AS known CROSS JOIN sequencer_executions AS x INDEXED BY sequencer_executions_parked_build ON x.name = known.value
WHERE x.parked = 1 AND x.min_build <= ? LIMIT 1`
)

// The due rows of one queue through the index of claimable rows. The levels are
// named, so that it is walked level by level and rows of a high level that are due
// later are never met; what comes out is in order, and LIMIT ends the walk.
const (
	dueRows = ` FROM sequencer_executions
WHERE state = 'pending' AND parked = 0 AND queue = ?1 AND priority IN (1, 2, 3, 4) AND due_at <= ?2`
	inOrder   = ` ORDER BY priority, due_at, id LIMIT ?3`
	claimable = `SELECT id` + dueRows + inOrder
)

// With parked rows of known names among them, the order has to be made by sorting.
const claimableOrParked = `
SELECT id FROM sequencer_executions WHERE id IN (
	SELECT id FROM (` + claimable + `)
	UNION ALL
	SELECT id FROM (SELECT id FROM sequencer_executions INDEXED BY sequencer_executions_parked WHERE parked = 1
		AND name IN (SELECT value FROM json_each(?5)) AND queue = ?1 AND min_build <= ?6
		AND state = 'pending' AND due_at <= ?2 ORDER BY priority, due_at, id LIMIT ?3))
ORDER BY priority, due_at, id LIMIT ?3`

// Each takes rows for a worker. It runs under the write lock, so no other worker can
// take them too; delivery + 1 is what fences off whoever had them before. Due rows
// are read first, by claimNext, and taken by the same walk through the index, which
// is cheaper than RETURNING: that keeps all of them aside until the last is written.
const (
	take = `
UPDATE sequencer_executions
SET state = 'running', worker_id = ?4, delivery = delivery + 1, started_at = coalesce(started_at, ?2), parked = 0
WHERE `
	takeDue     = take + `rowid IN (SELECT rowid` + dueRows + inOrder + `)`
	claimParked = take + `id IN (` + claimableOrParked + `) RETURNING` + claimedColumns
)

// fewClaims is up to how many rows it is cheaper to take each by itself. A line of
// a flow claims one after the other, and where its members change the schema,
// SQLite compiles claimNext and takeOne anew in little time.
const fewClaims = 4

// The first through the index of claimable rows, for a worker that is present; the
// second by primary key.
const (
	claimNext = `SELECT` + claimedColumns + dueRows + ` AND EXISTS (` + workerPresentIs + `?4 AND left_at IS NULL)` + inOrder
	takeOne   = `
UPDATE sequencer_executions
SET state = 'running', worker_id = ?, delivery = delivery + 1, started_at = coalesce(started_at, ?) WHERE id = ?`
)

func claimDue(ctx context.Context, t *txn, r storage.ClaimRequest, queue string, limit int) ([]storage.Execution, error) {
	var got []storage.Execution
	err := t.each(ctx, func(rows *sql.Rows) error {
		got = append(got, storage.Execution{State: storage.Running, WorkerID: r.Worker})
		return scanClaimed(rows, &got[len(got)-1])
	}, claimNext, queue, r.Now.UnixMicro(), limit, r.Worker[:])
	if err != nil {
		return nil, err
	}
	if len(got) > fewClaims {
		n, err := t.exec(ctx, takeDue, queue, r.Now.UnixMicro(), len(got), r.Worker[:])
		if err == nil && n != len(got) {
			err = fmt.Errorf("%d rows were due and %d were taken", len(got), n)
		}
		if err != nil {
			return nil, err
		}
	}
	for i := range got {
		e := &got[i]
		if len(got) <= fewClaims {
			if _, err := t.exec(ctx, takeOne, r.Worker[:], r.Now.UnixMicro(), e.ID[:]); err != nil {
				return nil, err
			}
		}
		e.Delivery++
		if e.StartedAt.IsZero() {
			e.StartedAt = r.Now
		}
	}
	return got, nil
}

func claimQueue(ctx context.Context, t *txn, r storage.ClaimRequest, queue, names string, limit int) ([]storage.Execution, error) {
	if names == "" {
		return claimDue(ctx, t, r, queue, limit)
	}
	var got []storage.Execution
	err := t.each(ctx, func(rows *sql.Rows) error {
		got = append(got, storage.Execution{State: storage.Running, WorkerID: r.Worker})
		return scanClaimed(rows, &got[len(got)-1])
	}, claimParked, queue, r.Now.UnixMicro(), limit, r.Worker[:], names, r.Build)
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
	WHERE state = 'pending' AND parked = 0 AND queue = ?1 AND priority = 1
	UNION ALL
	SELECT min(due_at) FROM sequencer_executions
	WHERE state = 'pending' AND parked = 0 AND queue = ?1 AND priority = 2
	UNION ALL
	SELECT min(due_at) FROM sequencer_executions
	WHERE state = 'pending' AND parked = 0 AND queue = ?1 AND priority = 3
	UNION ALL
	SELECT min(due_at) FROM sequencer_executions
	WHERE state = 'pending' AND parked = 0 AND queue = ?1 AND priority = 4`
	earliestDue    = earliest + `)`
	earliestParked = earliest + `
	UNION ALL
	SELECT min(due_at) FROM sequencer_executions INDEXED BY sequencer_executions_parked WHERE parked = 1
		AND name IN (SELECT value FROM json_each(?2)) AND queue = ?1 AND min_build <= ?3 AND state = 'pending')`
)

func nextDue(ctx context.Context, t *txn, queue, names string, build int64) (at time.Time, found bool, err error) {
	if names == "" {
		_, err = t.one(ctx, []any{(*instantColumn)(&at)}, earliestDue, queue)
	} else {
		_, err = t.one(ctx, []any{(*instantColumn)(&at)}, earliestParked, queue, names, build)
	}
	return at, !at.IsZero(), err
}
