package mysql

import (
	"context"
	"fmt"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// lockHolderSQL reads a lock and its holder by primary keys. Lock: both rows, waiting
// for a renewal under way: if it comes in time, the holder lives. Of several takers
// of a free lock one writes it, and the others fail on its primary key and look again.
const lockHolderSQL = `SELECT k.name, k.execution_id, k.delivery, k.flow_id, k.acquired_at, k.free_at, ` + holderColumns + `
FROM sequencer_locks k LEFT JOIN sequencer_workers w ON w.id = k.worker_id WHERE k.name = ? FOR UPDATE`

const (
	takeLockSQL = `
INSERT INTO sequencer_locks (name, worker_id, execution_id, delivery, flow_id, acquired_at, free_at) VALUES (?, ?, ?, ?, ?, @sequencer_now, @sequencer_now + ?)`
	expiredSQL = `DELETE FROM sequencer_locks WHERE name = ?`
	// By sequencer_locks_worker.
	freeOverdueSQL = `DELETE FROM sequencer_locks WHERE worker_id = ? AND free_at <= @sequencer_now`
)

// holderColumns is a whole worker, without a face where no worker holds the lock.
const holderColumns = `
	COALESCE(w.id, k.worker_id), COALESCE(w.purpose, ''), COALESCE(w.actor, ''), COALESCE(w.hostname, ''), w.boot, COALESCE(w.pid, 0),
	w.pid_start, COALESCE(w.build, 0), w.version, w.queues, COALESCE(w.slots, 0),
	w.lease_us, COALESCE(w.joined_at, k.acquired_at), w.lease_until, w.left_at, COALESCE(w.dead, 0), w.names`

// locksSQL reads locks and their holders by primary keys.
const locksSQL = `SELECT k.name, k.execution_id, k.delivery, k.flow_id, k.acquired_at, k.free_at, ` + holderColumns + `
FROM sequencer_locks k LEFT JOIN sequencer_workers w ON w.id = k.worker_id ORDER BY k.name`

// Lock implements [storage.Leases]. Only a worker that has left loses a lock, so a
// renewal and a takeover can never both succeed.
func (s *Store) Lock(ctx context.Context, r storage.LockRequest) error {
	if err := r.Validate(); err != nil {
		return err
	}
	return s.tx(ctx, fmt.Sprintf("lock %q", r.Name), r.Now, func(ctx context.Context, q *session) error {
		var held []storage.LockState
		q.queueScan(scanLocks(&held), lockHolderSQL, text(r.Name))
		if r.Worker.IsZero() {
			if err := q.flush(ctx); err != nil {
				return err
			}
		} else if err := q.requireAlive(ctx, r.Worker); err != nil {
			return err
		}
		if len(held) > 0 {
			w := held[0].Worker
			switch l := held[0]; {
			case !l.FreeAt.IsZero() && !q.now.Before(l.FreeAt):
				q.queue(expiredSQL, text(r.Name))
			case w.ID == r.Worker && l.Execution == r.Execution && l.Delivery == r.Delivery:
				return nil
			case w.ID == r.Worker, w.LeftAt.IsZero() && (w.LeaseUntil.IsZero() || q.now.Before(w.LeaseUntil)):
				return &storage.LockedError{Lock: l}
			case w.LeftAt.IsZero():
				q.queue(burySQL, idList{w.ID})
			}
			if !w.ID.IsZero() {
				q.queue(freeSQL, idList{w.ID})
			}
		}
		q.queue(takeLockSQL, text(r.Name), r.Worker[:], idArg(r.Execution), r.Delivery, idArg(r.Flow), numberArg(r.For.Microseconds()))
		return nil
	})
}

func scanLocks(locks *[]storage.LockState) func(scanner) error {
	return func(r scanner) error {
		var l storage.LockState
		var err error
		l.Worker, err = scanWorker(r, &l.Name, idScan{&l.Execution}, &l.Delivery, idScan{&l.Flow}, instant{&l.AcquiredAt}, instant{&l.FreeAt})
		*locks = append(*locks, l)
		return err
	}
}

// unlockSQL frees a lock by primary key, if it is the worker's for this delivery.
const unlockSQL = `DELETE FROM sequencer_locks WHERE name = ? AND worker_id = ? AND execution_id <=> ? AND delivery = ?`

// Unlock implements [storage.Leases].
func (s *Store) Unlock(ctx context.Context, r storage.UnlockRequest) error {
	return s.tx(ctx, fmt.Sprintf("unlock %q", r.Name), time.Time{}, func(_ context.Context, q *session) error {
		q.queue(unlockSQL, text(r.Name), r.Worker[:], idArg(r.Execution), r.Delivery)
		return nil
	})
}

// Locks implements [storage.Reader].
func (s *Store) Locks(ctx context.Context) ([]storage.LockState, error) {
	locks := []storage.LockState{}
	err := s.read(ctx, "read locks", locksSQL, scanLocks(&locks))
	return locks, err
}
