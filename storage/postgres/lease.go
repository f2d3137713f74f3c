package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// joinSQL writes a worker. Index: the primary key, which refuses an id twice. A
// worker without a lease lives until it leaves or a rescuer proves it dead.
const joinSQL = `
INSERT INTO sequencer_workers
	(id, joined_at, lease_until, lease_us, build, pid, slots, purpose, actor, hostname, boot, pid_start, version, queues, names)
SELECT $1::uuid, c.now, CASE WHEN $3::bigint > 0 THEN c.now + $3::bigint * interval '1 microsecond' END, $3::bigint,
	nullif($4::bigint, 0), $5::int, $6::int, $7::text, $8::text, $9::text, nullif($10::text, ''), nullif($11::text, ''), nullif($12::text, ''), $13::text[], $14::text[]
FROM (SELECT coalesce($2::timestamptz, now()) AS now) c
ON CONFLICT DO NOTHING`

// Join implements [storage.Leases]. JoinedAt, when set, is the instant of the
// call, as Now is elsewhere.
func (s *Store) Join(ctx context.Context, w storage.Worker) error {
	return s.alone(ctx, "join", w.JoinedAt, func(ctx context.Context, q *session) error {
		if w.ID.IsZero() {
			return errors.New("a worker needs an id")
		}
		n, err := q.exec(ctx, joinSQL, w.ID.String(), at(q.now), w.Lease.Microseconds(), w.Build, w.PID, w.Slots,
			clean(w.Purpose), clean(w.Actor), clean(w.Hostname), w.Boot, w.PIDStart, w.Version, w.Queues, w.Names)
		if err == nil && n == 0 {
			return fmt.Errorf("worker %s is already known", w.ID)
		}
		return err
	})
}

// renewSQL extends a lease that is not over. Lock: the worker. Race: a rescuer that
// declares it dead takes the same lock, so one of the two sees what the other wrote.
const renewSQL = `
UPDATE sequencer_workers SET
	lease_us = coalesce(nullif($3::bigint, 0), lease_us),
	lease_until = CASE WHEN coalesce(nullif($3::bigint, 0), lease_us) > 0 THEN
		coalesce($2::timestamptz, now()) + coalesce(nullif($3::bigint, 0), lease_us) * interval '1 microsecond' END
WHERE id = $1::uuid AND left_at IS NULL AND (lease_until IS NULL OR lease_until > coalesce($2::timestamptz, now()))`

// progressSQL writes how far attempts are, of a worker that was just renewed. Index:
// primary key, with the fence. No indexed column changes, so rows are updated in place.
const progressSQL = `
UPDATE sequencer_live l SET done = p.done, total = p.total
FROM unnest($2::uuid[], $3::int[], $4::bigint[], $5::bigint[]) AS p (id, delivery, done, total)
WHERE l.id = p.id AND l.state = 'running' AND l.worker_id = $1::uuid AND l.delivery = p.delivery AND EXISTS (
	SELECT FROM sequencer_workers
	WHERE id = $1::uuid AND left_at IS NULL AND (lease_until IS NULL OR lease_until > coalesce($6::timestamptz, now())))`

// askedSQL finds what a worker should stop. Index: sequencer_live_worker.
const askedSQL = `SELECT id FROM sequencer_live WHERE worker_id = $1::uuid AND state = 'running' AND cancel_asked ORDER BY id`

// Renew implements [storage.Leases]. It is one trip: a process that is stopped in the
// middle of it would keep its worker locked, and nobody could take over.
func (s *Store) Renew(ctx context.Context, r storage.RenewRequest) (storage.Renewed, error) {
	var renewed storage.Renewed
	var alive int64
	err := s.alone(ctx, "renew", r.Now, func(_ context.Context, q *session) error {
		renewed, alive = storage.Renewed{}, 0
		q.queued = append(q.queued, statement{sql: renewSQL, affected: &alive, args: []any{r.Worker.String(), at(q.now), r.Lease.Microseconds()}})
		if p := r.Progress; len(p) > 0 {
			q.queue(progressSQL, r.Worker.String(),
				idColumn(p, func(p *storage.Progress) storage.ID { return p.ID }),
				column(p, func(p *storage.Progress) int32 { return int32(p.Delivery) }),
				column(p, func(p *storage.Progress) int64 { return p.Done }),
				column(p, func(p *storage.Progress) int64 { return p.Total }), at(q.now))
		}
		q.queueScan(func(row scanner) error {
			var id storage.ID
			err := row.Scan(idScan{&id})
			renewed.Cancelled = append(renewed.Cancelled, id)
			return err
		}, askedSQL, r.Worker.String())
		return nil
	})
	if err == nil && alive == 0 {
		err = explained("renew", leaseLost(r.Worker))
	}
	if err != nil {
		return storage.Renewed{}, err
	}
	return renewed, nil
}

// leaveSQL ends a worker and frees its locks, by primary key and
// sequencer_locks_worker. What it held as running stays, for the next rescue.
const leaveSQL = `
WITH gone AS (
	UPDATE sequencer_workers SET left_at = now() WHERE id = $1::uuid AND left_at IS NULL
)
DELETE FROM sequencer_locks WHERE worker_id = $1::uuid`

// Leave implements [storage.Leases].
func (s *Store) Leave(ctx context.Context, worker storage.ID) error {
	return s.alone(ctx, "leave", time.Time{}, func(_ context.Context, q *session) error {
		q.queue(leaveSQL, worker.String())
		return nil
	})
}

// buryDeadSQL marks workers dead whose lease is over, or whom the caller has proved
// dead, and frees the locks of all that are dead. Index: sequencer_workers_present.
// Lock: those workers, skipping any that another rescuer or its own renewal has in
// hand: the one has done it, the other shows that it is not dead.
const buryDeadSQL = `
WITH dead AS MATERIALIZED (
	SELECT id FROM sequencer_workers
	WHERE left_at IS NULL AND id <> $2::uuid AND (lease_until <= coalesce($1::timestamptz, now()) OR id = ANY ($3::uuid[]))
	FOR UPDATE SKIP LOCKED
), buried AS (
	UPDATE sequencer_workers SET left_at = coalesce($1::timestamptz, now()), dead = true WHERE id = ANY (ARRAY(SELECT id FROM dead))
)
DELETE FROM sequencer_locks WHERE worker_id = ANY (ARRAY(SELECT id FROM dead))`

// takeOverSQL makes what workers left behind running for the rescuer. Index:
// sequencer_live_worker, which holds only rows that some worker has, and the
// workers' primary key. Lock: the rows, skipping those of another rescuer. Race: the
// raised delivery fences out whatever the former worker still sends.
const takeOverSQL = `
WITH picked AS MATERIALIZED (
	SELECT l.id, l.state FROM sequencer_live l JOIN sequencer_workers w ON w.id = l.worker_id
	WHERE l.worker_id IS NOT NULL AND w.left_at IS NOT NULL AND (l.state = 'running' OR l.flow_id IS NULL)
	ORDER BY l.created_at, l.id
	LIMIT $2::bigint
	FOR UPDATE OF l SKIP LOCKED
), taken AS (
	UPDATE sequencer_live l SET
		state = 'running', worker_id = $1::uuid, parked = false, delivery = l.delivery + 1, excused = l.excused + 1
	WHERE l.id = ANY (ARRAY(SELECT id FROM picked))
	RETURNING l.*
)
SELECT p.state, ` + allColumns + ` FROM taken l JOIN picked p ON p.id = l.id ORDER BY l.created_at, l.id`

// Rescue implements [storage.Leases].
func (s *Store) Rescue(ctx context.Context, r storage.RescueRequest) ([]storage.Execution, error) {
	var taken []storage.Execution
	err := s.tx(ctx, "rescue", r.Now, func(ctx context.Context, q *session) error {
		taken = []storage.Execution{}
		if err := q.requireAlive(ctx, r.Worker); err != nil {
			return err
		}
		q.queue(buryDeadSQL, at(q.now), r.Worker.String(), idArray(r.Dead))
		row := newExecutionRow()
		var found string
		dest := append([]any{&found}, row.all...)
		q.queueScan(func(from scanner) error {
			if err := from.Scan(dest...); err != nil {
				return err
			}
			e := row.execution()
			e.State = storage.State(found)
			taken = append(taken, e)
			return nil
		}, takeOverSQL, r.Worker.String(), r.Limit)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return taken, nil
}

// queueAlive adds the question to the next flush.
func (q *session) queueAlive(worker storage.ID, alive *bool) {
	q.queueScan(func(r scanner) error { return r.Scan(alive) }, aliveSQL, at(q.now), worker.String())
}

// requireAlive sends what is queued and returns ErrLeaseLost unless the worker is
// alive.
func (q *session) requireAlive(ctx context.Context, worker storage.ID) error {
	alive := false
	q.queueAlive(worker, &alive)
	err := q.flush(ctx)
	if err == nil && !alive {
		return leaseLost(worker)
	}
	return err
}

// workersSQL reads workers that are present, and those asked for by name. Index:
// sequencer_workers_present and the primary key.
const workersSQL = `SELECT ` + workerColumns + ` FROM sequencer_workers w
	WHERE w.left_at IS NULL OR w.id = ANY ($1::uuid[]) ORDER BY w.joined_at, w.id`

// Workers implements [storage.Reader].
func (s *Store) Workers(ctx context.Context, ids ...storage.ID) ([]storage.Worker, error) {
	workers := []storage.Worker{}
	err := s.read(ctx, "read workers", workersSQL, func(r scanner) error {
		w, err := scanWorker(r)
		workers = append(workers, w)
		return err
	}, idArray(ids))
	return workers, err
}
