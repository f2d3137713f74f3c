package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// buryHolderSQL declares the holder of a lock dead if its lease is over. Lock: that
// worker, waiting for a renewal under way: if it comes in time, the holder lives.
// Only a worker that has left loses a lock, so a renewal and a takeover can never
// both succeed.
const buryHolderSQL = `
WITH dead AS (
	UPDATE sequencer_workers w SET left_at = coalesce($1::timestamptz, now()), dead = true
	FROM sequencer_locks k
	WHERE k.name = $2::text AND w.id = k.worker_id AND w.id <> $3::uuid
		AND w.left_at IS NULL AND w.lease_until <= coalesce($1::timestamptz, now())
	RETURNING w.id
)
DELETE FROM sequencer_locks WHERE worker_id IN (SELECT id FROM dead)`

// takeLockSQL takes a lock that is free, that has been held for long enough, or whose
// holder has left. Lock: the lock's
// row, by primary key, so that of several takers one wins and the others see it.
// One's own stays as it is.
const takeLockSQL = `
INSERT INTO sequencer_locks AS k (name, worker_id, execution_id, flow_id, acquired_at, free_at, delivery)
VALUES ($2::text, $3::uuid, $4::uuid, $5::uuid, coalesce($1::timestamptz, now()),
	coalesce($1::timestamptz, now()) + nullif($6::bigint, 0) * interval '1 microsecond', $7::int)
ON CONFLICT (name) DO UPDATE SET worker_id = excluded.worker_id, execution_id = excluded.execution_id, flow_id = excluded.flow_id,
	acquired_at = excluded.acquired_at, free_at = excluded.free_at, delivery = excluded.delivery
WHERE k.free_at <= excluded.acquired_at
	OR k.worker_id <> '` + nobody + `' AND NOT EXISTS (SELECT FROM sequencer_workers w WHERE w.id = k.worker_id AND w.left_at IS NULL)`

// nobody stands for the worker of a lock that has none.
const nobody = "00000000-0000-0000-0000-000000000000"

// freeOverdueSQL forgets locks without a worker whose time is over, by sequencer_locks_worker.
const freeOverdueSQL = `DELETE FROM sequencer_locks WHERE worker_id = '` + nobody + `' AND free_at <= coalesce($1::timestamptz, now())`

// holderColumns is a whole worker, without a face where nobody is.
const holderColumns = `
	coalesce(w.id, k.worker_id), coalesce(w.purpose, ''), coalesce(w.actor, ''), coalesce(w.hostname, ''), w.boot, coalesce(w.pid, 0),
	w.pid_start, w.build, w.version, coalesce(w.queues, '{}'), coalesce(w.slots, 0),
	w.lease_us, coalesce(w.joined_at, k.acquired_at), w.lease_until, w.left_at, coalesce(w.dead, false), coalesce(w.names, '{}')`

// ownerArg passes the worker of a lock.
func ownerArg(worker storage.ID) string {
	if worker.IsZero() {
		return nobody
	}
	return worker.String()
}

// locksSQL and lockSQL read locks and their holders by primary keys.
const (
	locksFrom = ` FROM sequencer_locks k LEFT JOIN sequencer_workers w ON w.id = k.worker_id`
	locksSQL  = `SELECT k.name, k.execution_id, k.delivery, k.flow_id, k.acquired_at, k.free_at, ` + holderColumns + locksFrom + ` ORDER BY k.name`
	lockSQL   = `SELECT k.name, k.execution_id, k.delivery, k.flow_id, k.acquired_at, k.free_at, ` + holderColumns + locksFrom + ` WHERE k.name = $1::text`
)

// Lock implements [storage.Leases].
func (s *Store) Lock(ctx context.Context, r storage.LockRequest) error {
	if err := r.Validate(); err != nil {
		return err
	}
	return s.tx(ctx, fmt.Sprintf("lock %q", r.Name), r.Now, func(ctx context.Context, q *session) error {
		if !r.Worker.IsZero() {
			if err := q.requireAlive(ctx, r.Worker); err != nil {
				return err
			}
		}
		for range maxTries {
			q.queue(buryHolderSQL, at(q.now), r.Name, ownerArg(r.Worker))
			n, err := q.exec(ctx, takeLockSQL, at(q.now), r.Name, ownerArg(r.Worker), idArg(r.Execution), idArg(r.Flow), r.For.Microseconds(), r.Delivery)
			if err != nil || n == 1 {
				return err
			}
			var held []storage.LockState
			if err := q.each(ctx, scanLocks(&held), lockSQL, r.Name); err != nil {
				return err
			}
			switch {
			case len(held) == 0: // freed in between
			case held[0].Worker.ID == r.Worker && held[0].Execution == r.Execution && held[0].Delivery == r.Delivery:
				return nil
			default:
				return &storage.LockedError{Lock: held[0]}
			}
		}
		return errors.New("the lock changed hands too often")
	})
}

func scanLocks(list *[]storage.LockState) func(scanner) error {
	return func(r scanner) error {
		var l storage.LockState
		var err error
		var free *time.Time
		l.Worker, err = scanWorker(r, &l.Name, idScan{&l.Execution}, &l.Delivery, idScan{&l.Flow}, &l.AcquiredAt, &free)
		l.AcquiredAt = l.AcquiredAt.UTC()
		if free != nil {
			l.FreeAt = free.UTC()
		}
		*list = append(*list, l)
		return err
	}
}

// unlockSQL frees locks by primary key, if they are the worker's for these deliveries.
const unlockSQL = `
DELETE FROM sequencer_locks k USING unnest($2::text[], $3::uuid[], $4::int[]) AS u (name, execution_id, delivery)
WHERE k.name = u.name AND k.worker_id = $1::uuid AND k.execution_id IS NOT DISTINCT FROM u.execution_id AND k.delivery = u.delivery`

// Unlock implements [storage.Leases].
func (s *Store) Unlock(ctx context.Context, r storage.UnlockRequest) error {
	return s.alone(ctx, fmt.Sprintf("unlock %q", r.Name), time.Time{}, func(_ context.Context, q *session) error {
		q.queue(unlockSQL, ownerArg(r.Worker), []string{r.Name}, idArray([]storage.ID{r.Execution}), []int32{int32(r.Delivery)})
		return nil
	})
}

// Locks implements [storage.Reader].
func (s *Store) Locks(ctx context.Context) ([]storage.LockState, error) {
	locks := []storage.LockState{}
	err := s.read(ctx, "read locks", locksSQL, scanLocks(&locks))
	return locks, err
}
