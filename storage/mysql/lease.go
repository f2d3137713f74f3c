package mysql

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// joinSQL writes a worker. The primary key refuses an id twice. A worker without a
// lease lives until it leaves or a rescuer proves it dead.
const joinSQL = `
INSERT INTO sequencer_workers
	(id, joined_at, lease_until, lease_us, build, pid, slots, purpose, actor, hostname, boot, pid_start, version, queues, names)
VALUES (?, @sequencer_now, @sequencer_now + NULLIF(?, 0), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

// Join implements [storage.Leases]. JoinedAt, when set, is the instant of the
// call, as Now is elsewhere.
func (s *Store) Join(ctx context.Context, w storage.Worker) error {
	return s.tx(ctx, "join", w.JoinedAt, func(ctx context.Context, q *session) error {
		if w.ID.IsZero() {
			return errors.New("a worker needs an id")
		}
		lease := max(w.Lease, 0).Microseconds()
		q.queue(joinSQL, idArg(w.ID), lease, lease, w.Build, w.PID, w.Slots, text(w.Purpose), text(w.Actor), text(w.Hostname),
			textArg(w.Boot), textArg(w.PIDStart), textArg(w.Version), listArg(w.Queues), listArg(w.Names))
		err := q.flush(ctx)
		if code(err) == duplicateKey {
			return fmt.Errorf("worker %s is already known", w.ID)
		}
		return err
	})
}

// leasedSQL locks a worker whose lease is not over, by primary key; renewSQL then
// extends it, by what it has just set: assignments are made from left to right. Race:
// a rescuer that declares it dead takes the same lock, so one of the two sees what the
// other wrote.
const (
	leasedSQL = aliveSQL + ` FOR UPDATE`
	renewSQL  = `
UPDATE sequencer_workers SET
	lease_us = COALESCE(NULLIF(?, 0), lease_us),
	lease_until = IF(lease_us > 0, @sequencer_now + lease_us, NULL)
WHERE id = ?`
)

// progressSQL writes how far an attempt is. Index: primary key, with the fence. No
// indexed column changes, so the row is updated in place.
const progressSQL = `UPDATE sequencer_live FORCE INDEX (PRIMARY) SET done = ?, total = ? WHERE id = ? AND holder = ? AND delivery = ?`

// askedSQL finds what a worker should stop. Index: what it holds.
const askedSQL = `SELECT id FROM sequencer_live FORCE INDEX (sequencer_live_holder) WHERE holder = ? AND cancel_asked ORDER BY id`

// Renew implements [storage.Leases].
func (s *Store) Renew(ctx context.Context, r storage.RenewRequest) (storage.Renewed, error) {
	var renewed storage.Renewed
	err := s.tx(ctx, "renew", r.Now, func(ctx context.Context, q *session) error {
		renewed = storage.Renewed{}
		alive := false
		q.queueScan(func(scanner) error { alive = true; return nil }, leasedSQL, idArg(r.Worker))
		if err := q.flush(ctx); err != nil {
			return err
		}
		if !alive {
			return leaseLost(r.Worker)
		}
		q.queue(renewSQL, r.Lease.Microseconds(), idArg(r.Worker))
		for _, p := range r.Progress {
			q.queue(progressSQL, p.Done, p.Total, idArg(p.ID), r.Worker[:], p.Delivery)
		}
		q.queueScan(func(row scanner) error {
			var id storage.ID
			err := row.Scan(idScan{&id})
			renewed.Cancelled = append(renewed.Cancelled, id)
			return err
		}, askedSQL, r.Worker[:])
		return nil
	})
	if err != nil {
		return storage.Renewed{}, err
	}
	return renewed, nil
}

// leaveSQL ends a worker, freeSQL its locks; by primary key and
// sequencer_locks_worker. What it held as running stays, for the next rescue.
const (
	leaveSQL = `UPDATE sequencer_workers SET left_at = @sequencer_now WHERE id = ? AND left_at IS NULL`
	freeSQL  = `DELETE FROM sequencer_locks WHERE worker_id IN (?)`
)

// Leave implements [storage.Leases].
func (s *Store) Leave(ctx context.Context, worker storage.ID) error {
	return s.tx(ctx, "leave", time.Time{}, func(_ context.Context, q *session) error {
		q.queue(leaveSQL, idArg(worker))
		q.queue(freeSQL, idList{worker})
		return nil
	})
}

// deadSQL finds workers whose lease is over, or whom the caller has proved dead;
// burySQL marks them. Index: sequencer_workers_present. Lock: those workers, skipping
// any that another rescuer or its own renewal has in hand: the one has done it, the
// other shows that it is not dead.
const (
	deadSQL = `
SELECT id FROM sequencer_workers
WHERE left_at IS NULL AND id <> ? AND (lease_until <= @sequencer_now OR id IN (?)) FOR UPDATE SKIP LOCKED`
	burySQL = `UPDATE sequencer_workers SET left_at = @sequencer_now, dead = 1 WHERE id IN (?)`
)

// leftBehindSQL finds what workers left behind, oldest first, without a lock. Index:
// of sequencer_live_holder the running rows, and those of private queues with their
// parked ones, where alone a pending row has a worker, which is its home.
const leftBehindSQL = `
SELECT l.id, l.created_at FROM sequencer_live l FORCE INDEX (sequencer_live_holder) JOIN sequencer_workers w ON w.id = l.worker_id
WHERE l.holder > X'00000000000000000000000000000000' AND l.holder < X'FE000000000000000000000000000000' AND w.left_at IS NOT NULL
UNION ALL
SELECT l.id, l.created_at FROM sequencer_live l FORCE INDEX (sequencer_live_holder) JOIN sequencer_workers w ON w.id = l.worker_id
WHERE l.holder = X'00000000000000000000000000000000' AND l.queue >= '@' AND l.queue < 'A' AND l.flow_id IS NULL AND w.left_at IS NOT NULL
UNION ALL
SELECT l.id, l.created_at FROM sequencer_live l FORCE INDEX (sequencer_live_holder) JOIN sequencer_workers w ON w.id = l.worker_id
WHERE l.holder >= X'FE000000000000000000000000000000' AND l.holder < X'FF000000000000000000000000000000' AND l.flow_id IS NULL AND w.left_at IS NOT NULL
ORDER BY created_at, id LIMIT ?`

// orphansSQL locks rows that were found, by primary key, skipping those of another
// rescuer, and leaves out what has a worker again that is present; takeOverSQL makes
// them running for the rescuer. Race: the raised delivery fences out whatever the
// former worker still sends.
const (
	orphansSQL = `
SELECT ` + liveColumns + ` FROM sequencer_live l FORCE INDEX (PRIMARY)
WHERE l.id IN (?) AND EXISTS (SELECT 1 FROM sequencer_workers w WHERE w.id = l.worker_id AND w.left_at IS NOT NULL)
FOR UPDATE SKIP LOCKED`
	takeOverSQL = `
UPDATE sequencer_live FORCE INDEX (PRIMARY)
SET holder = ?, state = 'running', worker_id = ?, parked = 0, delivery = delivery + 1, excused = excused + 1
WHERE id IN (?)`
)

// Rescue implements [storage.Leases].
func (s *Store) Rescue(ctx context.Context, r storage.RescueRequest) ([]storage.Execution, error) {
	var taken []storage.Execution
	err := s.tx(ctx, "rescue", r.Now, func(ctx context.Context, q *session) error {
		taken = []storage.Execution{}
		if err := bury(ctx, q, r); err != nil {
			return err
		}
		var found idList
		q.queueScan(func(row scanner) error {
			var id storage.ID
			var created time.Time
			err := row.Scan(idScan{&id}, instant{&created})
			found = append(found, id)
			return err
		}, leftBehindSQL, r.Limit)
		if err := q.flush(ctx); err != nil {
			return err
		}
		for _, part := range some(found) {
			q.queueScan(scanAll(&taken), orphansSQL, part)
		}
		if err := q.flush(ctx); err != nil {
			return err
		}
		takeOver(q, r.Worker, taken)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return taken, nil
}

// bury marks the dead and frees their locks, for a worker that is alive.
func bury(ctx context.Context, q *session, r storage.RescueRequest) error {
	alive := false
	q.queueAlive(r.Worker, &alive)
	var dead idList
	q.queueScan(func(row scanner) error {
		var id storage.ID
		err := row.Scan(idScan{&id})
		dead = append(dead, id)
		return err
	}, deadSQL, idArg(r.Worker), idList(r.Dead))
	if err := q.flush(ctx); err != nil {
		return err
	}
	if !alive {
		return leaseLost(r.Worker)
	}
	if len(dead) > 0 {
		q.queue(burySQL, dead)
		q.queue(freeSQL, dead)
	}
	return nil
}

// takeOver queues the taking of locked rows, and makes them what they will be, but
// for the state they were found in.
func takeOver(q *session, worker storage.ID, rows []storage.Execution) {
	slices.SortFunc(rows, func(a, b storage.Execution) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), bytes.Compare(a.ID[:], b.ID[:]))
	})
	taken := make(idList, len(rows))
	for i := range rows {
		e := &rows[i]
		taken[i] = e.ID
		e.WorkerID, e.Parked = worker, false
		e.Delivery++
		e.Excused++
	}
	for _, part := range some(taken) {
		q.queue(takeOverSQL, worker[:], worker[:], part)
	}
}

// queueAlive adds to the next flush the question whether a worker is alive, which
// begins as no.
func (q *session) queueAlive(worker storage.ID, alive *bool) {
	*alive = false
	q.queueScan(func(scanner) error { *alive = true; return nil }, aliveSQL, idArg(worker))
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
	WHERE w.left_at IS NULL OR w.id IN (?) ORDER BY w.joined_at, w.id`

// Workers implements [storage.Reader].
func (s *Store) Workers(ctx context.Context, named ...storage.ID) ([]storage.Worker, error) {
	workers := []storage.Worker{}
	err := s.read(ctx, "read workers", workersSQL, func(r scanner) error {
		w, err := scanWorker(r)
		workers = append(workers, w)
		return err
	}, idList(named))
	return workers, err
}
