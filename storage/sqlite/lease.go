package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// nothing is the answer of verbs that have none.
type nothing struct{}

const insertWorker = `
INSERT INTO sequencer_workers (id, purpose, actor, hostname, boot, pid, pid_start, build, version, queues, slots, joined_at, names)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`

// Join registers a worker, see [storage.Leases]. Its lease is the file lock that
// this process holds from here on, so LeaseUntil stays zero.
func (s *Store) Join(ctx context.Context, w storage.Worker) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if w.ID.IsZero() {
		return errors.New("join: a worker needs an id")
	}
	if err := s.alive.hold(w.ID); err != nil {
		return s.fail("join", err)
	}
	_, err := write(ctx, s, "join", func(ctx context.Context, t *txn) (nothing, error) {
		n, err := t.exec(ctx, insertWorker, w.ID[:], w.Purpose, w.Actor, w.Hostname, w.Boot, w.PID, w.PIDStart, w.Build, w.Version,
			listOf(w.Queues), w.Slots, clock(w.JoinedAt).UnixMicro(), listOf(w.Names))
		if err == nil && n == 0 {
			err = fmt.Errorf("worker %s has joined before", w.ID)
		}
		return nothing{}, err
	})
	if err != nil {
		s.alive.letGo(w.ID)
	}
	return err
}

// Renew says that a worker is there, see [storage.Leases]. The file lock is the
// lease, so without progress to save nothing is written, and while others hold the
// writer nothing waits for it: progress is then left out, until there is some more
// or the outcome says how far it came.
func (s *Store) Renew(ctx context.Context, r storage.RenewRequest) (storage.Renewed, error) {
	if err := s.ready(ctx); err != nil {
		return storage.Renewed{}, err
	}
	if len(r.Progress) > 0 {
		out, err := writeAs(ctx, s, passes, "renew", func(ctx context.Context, t *txn) (storage.Renewed, error) { return renew(ctx, t, r) })
		if !errors.Is(err, errHeld) {
			return out, err
		}
		r.Progress = nil
	}
	tx, err := s.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return storage.Renewed{}, s.fail("renew", err)
	}
	defer tx.Rollback()
	out, err := renew(ctx, newTxn(tx, nil), r)
	return out, s.fail("renew", err)
}

// The first by primary key, the second through the index of what a worker holds.
const (
	saveProgress = `
UPDATE sequencer_executions SET done = ?, total = ?` + fenced
	askedToStop = `
SELECT id FROM sequencer_executions
WHERE worker_id = ? AND finished_at IS NULL AND state = 'running' AND cancel_asked = 1`
)

func renew(ctx context.Context, t *txn, r storage.RenewRequest) (storage.Renewed, error) {
	var out storage.Renewed
	if err := mustBePresent(ctx, t, r.Worker); err != nil {
		return out, err
	}
	for _, p := range r.Progress {
		if _, err := t.exec(ctx, saveProgress, p.Done, p.Total, p.ID[:], r.Worker[:], p.Delivery); err != nil {
			return out, err
		}
	}
	err := t.each(ctx, func(rows *sql.Rows) error {
		out.Cancelled = append(out.Cancelled, storage.ID{})
		return rows.Scan((*idColumn)(&out.Cancelled[len(out.Cancelled)-1]))
	}, askedToStop, r.Worker[:])
	return out, err
}

// By primary key, and through the index of locks by worker.
const (
	endWorker   = `UPDATE sequencer_workers SET left_at = ?, dead = ? WHERE id = ? AND left_at IS NULL`
	freeItsLock = `DELETE FROM sequencer_locks WHERE worker_id = ?`
)

// Leave ends a worker, see [storage.Leases]. The file lock goes last, so that
// nobody declares dead who is leaving.
func (s *Store) Leave(ctx context.Context, worker storage.ID) error {
	_, err := write(ctx, s, "leave", func(ctx context.Context, t *txn) (nothing, error) {
		return nothing{}, end(ctx, t, clock(time.Time{}), worker, false)
	})
	if err == nil {
		s.alive.letGo(worker)
	}
	return err
}

func end(ctx context.Context, t *txn, now time.Time, worker storage.ID, dead bool) error {
	if _, err := t.exec(ctx, endWorker, now.UnixMicro(), intOf(dead), worker[:]); err != nil {
		return err
	}
	_, err := t.exec(ctx, freeItsLock, worker[:])
	return err
}

// Who may have to be rescued from: workers that have not left, and everybody who
// holds something. The holders are found by skipping through the index from one
// worker to the next, however many rows each holds.
const (
	present = `SELECT id FROM sequencer_workers WHERE left_at IS NULL`
	holders = `
WITH RECURSIVE holder (id) AS (
	SELECT min(worker_id) FROM sequencer_executions WHERE worker_id IS NOT NULL AND finished_at IS NULL
	UNION ALL
	SELECT (SELECT min(worker_id) FROM sequencer_executions WHERE worker_id > holder.id AND finished_at IS NULL)
	FROM holder WHERE holder.id IS NOT NULL)
SELECT id FROM holder
WHERE id IN (SELECT w.id FROM sequencer_workers AS w WHERE w.id = holder.id AND w.left_at IS NOT NULL)`
)

// Rescue takes over what dead workers held, see [storage.Leases]. It looks
// first, outside the writer: nearly always nobody has died.
func (s *Store) Rescue(ctx context.Context, r storage.RescueRequest) ([]storage.Execution, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	dying, gone, err := s.dead(ctx, r)
	if err != nil {
		return nil, s.fail("rescue", err)
	}
	if len(dying)+len(gone) == 0 {
		return nil, nil
	}
	return write(ctx, s, "rescue", func(ctx context.Context, t *txn) ([]storage.Execution, error) {
		return rescue(ctx, t, r, dying, gone)
	})
}

// dead lists the workers that are dead but not marked so, and those that are
// gone and still hold something.
func (s *Store) dead(ctx context.Context, r storage.RescueRequest) (dying, gone []storage.ID, err error) {
	around, err := s.ids(ctx, present)
	if err != nil {
		return nil, nil, err
	}
	if !slices.Contains(around, r.Worker) {
		return nil, nil, storage.ErrLeaseLost
	}
	for _, id := range around {
		if id != r.Worker && (slices.Contains(r.Dead, id) || s.alive.provesDead(id)) {
			dying = append(dying, id)
		}
	}
	gone, err = s.ids(ctx, holders)
	return dying, gone, err
}

func (s *Store) ids(ctx context.Context, query string, args ...any) ([]storage.ID, error) {
	var list []storage.ID
	err := s.read(ctx, func(rows *sql.Rows) error {
		list = append(list, storage.ID{})
		return rows.Scan((*idColumn)(&list[len(list)-1]))
	}, query, args...)
	return list, err
}

// The first through the index of what a worker holds, the second by primary key.
const (
	heldBy = `SELECT` + executionColumns + ` FROM sequencer_executions
WHERE worker_id IN (SELECT unhex(value) FROM json_each(?)) AND finished_at IS NULL AND (state = 'running' OR flow_id IS NULL)
ORDER BY created_at, id LIMIT ?`
	takeOver = `
UPDATE sequencer_executions
SET state = 'running', worker_id = ?, delivery = delivery + 1, excused = excused + 1, parked = 0
WHERE id = ?`
)

// rescue marks the dying and hands rows over. That they are dead was proved
// before; that they still hold these rows is read here, under the write lock.
func rescue(ctx context.Context, t *txn, r storage.RescueRequest, dying, gone []storage.ID) ([]storage.Execution, error) {
	now := clock(r.Now)
	if err := mustBePresent(ctx, t, r.Worker); err != nil {
		return nil, err
	}
	for _, id := range dying {
		if err := end(ctx, t, now, id, true); err != nil {
			return nil, err
		}
	}
	var taken []storage.Execution
	if err := t.each(ctx, collect(&taken), heldBy, idsOf(slices.Concat(dying, gone)), max(r.Limit, 0)); err != nil {
		return nil, err
	}
	for i := range taken {
		e := &taken[i] // keeps the state it was found in
		e.Delivery++
		e.Excused++
		e.WorkerID, e.Parked = r.Worker, false
		if _, err := t.exec(ctx, takeOver, r.Worker[:], e.ID[:]); err != nil {
			return nil, err
		}
	}
	return taken, nil
}
