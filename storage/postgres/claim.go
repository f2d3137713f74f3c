package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/gosequencer/sequencer/storage"
)

// claimSQL claims in one statement.
//
// Index: each (queue, level) reads the head of sequencer_live_claim, in its order,
// and stops when the batch is full, so future rows, other queues and lower levels
// are never walked. Parked rows are looked for only when there are any, by name, in
// sequencer_live_parked, and only of names that sequencer_live_parked_build says have
// some for this build: however many others there are, nobody walks over them. Pauses are a handful of rows, read once, and only if a
// queue is asked for that is not private. The update finds its rows by primary key; = ANY of an
// array, unlike a join, is never taken for one with most of the table.
//
// Locks: the rows, skipping what another claim has locked, and waiting for nobody.
// A level with parked rows may lock a few that it then does not take.
//
// Race: a worker that is declared dead while this runs keeps what it got until the
// next rescue, which takes rows of every worker that has left.
const claimSQL = `
WITH clock AS MATERIALIZED (
	SELECT coalesce($1::timestamptz, now()) AS now
), paused AS MATERIALIZED (
	SELECT kind, name FROM sequencer_pauses WHERE $6::bool AND kind IN ('queue', 'operation')
), level AS MATERIALIZED (
	SELECT queue, priority
	FROM unnest($3::text[]) WITH ORDINALITY AS q(queue, n), generate_series(1, 4) AS priority
	WHERE EXISTS (
		SELECT FROM sequencer_workers
		WHERE id = $2::uuid AND left_at IS NULL AND (lease_until IS NULL OR lease_until > (SELECT now FROM clock)))
		AND NOT EXISTS (SELECT FROM paused p WHERE p.kind = 'queue' AND p.name = q.queue)
	ORDER BY n, priority
), known AS MATERIALIZED (
	SELECT name FROM unnest($5::text[]) AS name CROSS JOIN LATERAL (
		SELECT min_build FROM sequencer_live l
		WHERE l.state = 'pending' AND l.due_at IS NOT NULL AND l.parked AND l.name = name.name
		ORDER BY min_build NULLS FIRST
		LIMIT 1) least
	WHERE EXISTS (SELECT FROM sequencer_live WHERE state = 'pending' AND due_at IS NOT NULL AND parked)
		AND coalesce(least.min_build, 0) <= $7::bigint
		AND NOT EXISTS (SELECT FROM paused p WHERE p.kind = 'operation' AND p.name = name.name)
), picked AS MATERIALIZED (
	SELECT r.id FROM level CROSS JOIN LATERAL (
		SELECT e.id FROM (
			SELECT * FROM (
				SELECT l.id, l.due_at FROM sequencer_live l
				WHERE l.state = 'pending' AND l.due_at IS NOT NULL AND NOT l.parked
					AND l.queue = level.queue AND l.priority = level.priority AND l.due_at <= (SELECT now FROM clock)
				ORDER BY l.due_at, l.id
				LIMIT $4::bigint
				FOR UPDATE SKIP LOCKED) o
			UNION ALL
			SELECT p.id, p.due_at FROM known CROSS JOIN LATERAL (
				SELECT l.id, l.due_at FROM sequencer_live l
				WHERE l.state = 'pending' AND l.due_at IS NOT NULL AND l.parked AND l.name = known.name
					AND l.queue = level.queue AND l.priority = level.priority AND l.due_at <= (SELECT now FROM clock)
					AND coalesce(l.min_build, 0) <= $7::bigint
				ORDER BY l.due_at, l.id
				LIMIT $4::bigint
				FOR UPDATE SKIP LOCKED) p
		) e
		ORDER BY e.due_at, e.id
		LIMIT $4::bigint
	) r
	LIMIT $4::bigint
)
UPDATE sequencer_live l
SET state = 'running', worker_id = $2::uuid, delivery = l.delivery + 1, parked = false,
	started_at = coalesce(l.started_at, (SELECT now FROM clock))
WHERE l.id = ANY (ARRAY(SELECT id FROM picked))
RETURNING ` + claimedColumns

// nextDueSQL follows a claim, and tells an empty queue from a worker that is dead.
// A row that is due still, after a claim that was not filled, is one that another
// transaction holds: a claim, or an operator's write. Index: the two entries around now
// of each level in sequencer_live_claim, and of each known name in
// sequencer_live_parked. The one before now is looked for backwards: where there is
// more to claim, it is at once met, and what was claimed lately, and is dead, is not.
const nextDueSQL = `
WITH paused AS MATERIALIZED (
	SELECT kind, name FROM sequencer_pauses WHERE $5::bool AND kind IN ('queue', 'operation')
), known AS MATERIALIZED (
	SELECT name FROM unnest($4::text[]) AS name CROSS JOIN LATERAL (
		SELECT min_build FROM sequencer_live l
		WHERE l.state = 'pending' AND l.due_at IS NOT NULL AND l.parked AND l.name = name.name
		ORDER BY min_build NULLS FIRST
		LIMIT 1) least
	WHERE EXISTS (SELECT FROM sequencer_live WHERE state = 'pending' AND due_at IS NOT NULL AND parked)
		AND coalesce(least.min_build, 0) <= $6::bigint
		AND NOT EXISTS (SELECT FROM paused p WHERE p.kind = 'operation' AND p.name = name.name)
)
SELECT EXISTS (
	SELECT FROM sequencer_workers
	WHERE id = $2::uuid AND left_at IS NULL AND (lease_until IS NULL OR lease_until > coalesce($1::timestamptz, now()))
), (
	SELECT least(
		(extract(epoch FROM least(min(r.due_at), min(p.due_at)) - coalesce($1::timestamptz, now())) * 1000000)::bigint,
		CASE WHEN bool_or(h.held OR p.held) THEN $7::bigint END)
	FROM unnest($3::text[]) AS queue CROSS JOIN generate_series(1, 4) AS priority
	LEFT JOIN LATERAL (
		SELECT l.due_at FROM sequencer_live l
		WHERE l.state = 'pending' AND l.due_at IS NOT NULL AND NOT l.parked
			AND l.queue = queue.queue AND l.priority = priority.priority AND l.due_at > coalesce($1::timestamptz, now())
		ORDER BY l.due_at
		LIMIT 1) r ON true
	LEFT JOIN LATERAL (
		SELECT true AS held FROM sequencer_live l
		WHERE l.state = 'pending' AND l.due_at IS NOT NULL AND NOT l.parked
			AND l.queue = queue.queue AND l.priority = priority.priority AND l.due_at <= coalesce($1::timestamptz, now())
		ORDER BY l.due_at DESC
		LIMIT 1) h ON true
	LEFT JOIN LATERAL (
		SELECT min(n.due_at) AS due_at, bool_or(n.held) AS held FROM known CROSS JOIN LATERAL (
			(SELECT l.due_at, NULL::bool AS held FROM sequencer_live l
			WHERE l.state = 'pending' AND l.due_at IS NOT NULL AND l.parked AND l.name = known.name
				AND l.queue = queue.queue AND l.priority = priority.priority AND l.due_at > coalesce($1::timestamptz, now())
				AND coalesce(l.min_build, 0) <= $6::bigint
			ORDER BY l.due_at
			LIMIT 1)
			UNION ALL
			(SELECT NULL, true FROM sequencer_live l
			WHERE l.state = 'pending' AND l.due_at IS NOT NULL AND l.parked AND l.name = known.name
				AND l.queue = queue.queue AND l.priority = priority.priority AND l.due_at <= coalesce($1::timestamptz, now())
				AND coalesce(l.min_build, 0) <= $6::bigint
			ORDER BY l.due_at DESC
			LIMIT 1)) n) p ON true
	WHERE NOT EXISTS (SELECT FROM paused p WHERE p.kind = 'queue' AND p.name = queue.queue)
), (SELECT array_agg(name ORDER BY name COLLATE "C") FROM paused WHERE kind = 'operation')`

// Claim implements [storage.Queue]. It is one trip.
func (s *Store) Claim(ctx context.Context, r storage.ClaimRequest) (storage.Claimed, error) {
	var c claiming
	err := s.alone(ctx, "claim", r.Now, func(_ context.Context, q *session) error {
		c.queue(q, r)
		return nil
	})
	if err == nil && !c.alive {
		err = explained("claim", leaseLost(r.Worker))
	}
	if err != nil {
		return storage.Claimed{}, err
	}
	return c.result(), nil
}

// claiming is a claim under way.
type claiming struct {
	request storage.ClaimRequest
	alive   bool
	nextDue pgtype.Int8
	paused  []string // operations
	rows    []storage.Execution
}

// queue makes the claim part of q's next flush.
func (c *claiming) queue(q *session, r storage.ClaimRequest) {
	*c = claiming{request: r}
	asks := storage.AsksPauses(r.Queues)
	row := newExecutionRow()
	row.e.State = storage.Running
	q.queueScan(func(from scanner) error {
		if err := from.Scan(row.claimed...); err != nil {
			return err
		}
		if len(c.rows) == 16 { // more than a few: make room for the whole batch at once
			c.rows = slices.Grow(c.rows, max(r.Limit-16, 0))
		}
		e := row.execution()
		e.WorkerID = r.Worker
		c.rows = append(c.rows, e)
		return nil
	}, claimSQL, at(q.now), r.Worker.String(), r.Queues, r.Limit, r.Names, asks, r.Build)
	q.queueScan(func(from scanner) error {
		if len(c.rows) < r.Limit {
			q.arrivals.Taken(r.Queues...)
		}
		return from.Scan(&c.alive, &c.nextDue, &c.paused)
	},
		nextDueSQL, at(q.now), r.Worker.String(), r.Queues, r.Names, asks, r.Build, storage.LockedFor.Microseconds())
}

// result is what was claimed, in the order of claims.
func (c *claiming) result() storage.Claimed {
	got := storage.Claimed{Executions: c.rows, NextDue: -1, PausedNames: c.paused}
	place := make(map[string]int, len(c.request.Queues))
	for i, queue := range slices.Backward(c.request.Queues) {
		place[queue] = i
	}
	slices.SortFunc(got.Executions, func(a, b storage.Execution) int {
		return cmp.Or(cmp.Compare(place[a.Queue], place[b.Queue]), cmp.Compare(a.Priority, b.Priority),
			a.DueAt.Compare(b.DueAt), slices.Compare(a.ID[:], b.ID[:]))
	})
	switch {
	case len(c.rows) >= c.request.Limit:
		got.NextDue = 0
	case c.nextDue.Valid:
		got.NextDue = time.Duration(c.nextDue.Int64) * time.Microsecond
	}
	return got
}

func leaseLost(worker storage.ID) error {
	return fmt.Errorf("worker %s: %w", worker, storage.ErrLeaseLost)
}
