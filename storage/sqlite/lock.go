package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// All by primary key.
const (
	lockByName = `SELECT` + lockColumns + ` WHERE l.name = ?`
	takeLock   = `
INSERT INTO sequencer_locks (name, worker_id, execution_id, delivery, flow_id, acquired_at, free_at) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET worker_id = excluded.worker_id, execution_id = excluded.execution_id, delivery = excluded.delivery, flow_id = excluded.flow_id,
	acquired_at = excluded.acquired_at, free_at = excluded.free_at`
	freeLock = `DELETE FROM sequencer_locks WHERE name = ? AND worker_id = ? AND execution_id IS ? AND delivery = ?`

	freeOverdue = `DELETE FROM sequencer_locks WHERE worker_id = zeroblob(16) AND free_at <= ?` // through the index of locks by worker

	// Where no worker holds it, and where it outlives its worker's row because somebody
	// meddled, it shows one without a face, who has left.
	lockColumns = ` l.name, l.execution_id, l.delivery, l.flow_id, l.acquired_at, l.free_at, l.worker_id, w.id IS NOT NULL AND w.left_at IS NULL,
	coalesce(w.purpose, ''), coalesce(w.actor, ''), coalesce(w.hostname, ''), coalesce(w.boot, ''), coalesce(w.pid, 0),
	coalesce(w.pid_start, ''), coalesce(w.build, 0), coalesce(w.version, ''), coalesce(w.queues, ''), coalesce(w.slots, 0),
	w.joined_at, w.left_at, coalesce(w.dead, 0), coalesce(w.names, '')
FROM sequencer_locks AS l LEFT JOIN sequencer_workers AS w ON w.id = l.worker_id`
)

func lockDest(l *storage.LockState, present *bool) []any {
	w := &l.Worker
	return []any{
		&l.Name, (*idColumn)(&l.Execution), (*intColumn)(&l.Delivery), (*idColumn)(&l.Flow), (*instantColumn)(&l.AcquiredAt), (*instantColumn)(&l.FreeAt), (*idColumn)(&w.ID), (*truthColumn)(present),
		&w.Purpose, &w.Actor, &w.Hostname, &w.Boot, (*intColumn)(&w.PID),
		&w.PIDStart, &w.Build, &w.Version, (*listColumn)(&w.Queues), (*intColumn)(&w.Slots),
		(*instantColumn)(&w.JoinedAt), (*instantColumn)(&w.LeftAt), (*truthColumn)(&w.Dead), (*listColumn)(&w.Names),
	}
}

// Lock takes a named lock, see [storage.Leases]. Everything happens under the
// write lock, so two takers cannot both find it free.
func (s *Store) Lock(ctx context.Context, r storage.LockRequest) error {
	if err := r.Validate(); err != nil {
		return err
	}
	_, err := write(ctx, s, "lock "+r.Name, func(ctx context.Context, t *txn) (nothing, error) {
		if !r.Worker.IsZero() {
			if err := mustBePresent(ctx, t, r.Worker); err != nil {
				return nothing{}, err
			}
		}
		now := clock(r.Now)
		var held storage.LockState
		var present bool
		found, err := t.one(ctx, lockDest(&held, &present), lockByName, r.Name)
		switch {
		case err != nil:
			return nothing{}, err
		case !found || !held.FreeAt.IsZero() && !held.FreeAt.After(now):
		case held.Worker.ID == r.Worker && held.Execution == r.Execution && held.Delivery == r.Delivery:
			return nothing{}, nil
		case held.Worker.ID == r.Worker, held.Worker.ID.IsZero(), present && !s.alive.provesDead(held.Worker.ID):
			return nothing{}, &storage.LockedError{Lock: held}
		}
		var free time.Time
		if r.For > 0 {
			free = now.Add(r.For)
		}
		_, err = t.exec(ctx, takeLock, r.Name, r.Worker[:], blobOf(r.Execution), r.Delivery, blobOf(r.Flow), now.UnixMicro(), microsOf(free))
		return nothing{}, err
	})
	return err
}

// Unlock frees a lock that the worker holds, see [storage.Leases].
func (s *Store) Unlock(ctx context.Context, r storage.UnlockRequest) error {
	_, err := write(ctx, s, "unlock "+r.Name, func(ctx context.Context, t *txn) (nothing, error) {
		return nothing{}, unlock(ctx, t, r)
	})
	return err
}

func unlock(ctx context.Context, t *txn, r storage.UnlockRequest) error {
	_, err := t.exec(ctx, freeLock, r.Name, r.Worker[:], blobOf(r.Execution), r.Delivery)
	return err
}

const allLocks = `SELECT` + lockColumns + ` ORDER BY l.name`

// Locks lists the locks that are held.
func (s *Store) Locks(ctx context.Context) ([]storage.LockState, error) {
	list := []storage.LockState{}
	err := s.read(ctx, func(rows *sql.Rows) error {
		var l storage.LockState
		var present bool
		err := rows.Scan(lockDest(&l, &present)...)
		list = append(list, l)
		return err
	}, allLocks)
	return list, s.fail("list locks", err)
}
