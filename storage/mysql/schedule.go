package mysql

import (
	"context"
	"fmt"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// announcedSQL reads a definition by primary key. Lock: the schedule, so that of two
// builds that announce at once the newer one stays. The others write it: one that is
// new, or one that replaces an older build's, and brings LastTick to now where the
// instants changed.
const (
	announcedSQL = `SELECT build, spec, zone, operation, queue, missed FROM sequencer_schedules WHERE name = ? FOR UPDATE`
	announceSQL  = `
INSERT INTO sequencer_schedules (name, announced_at, last_tick_at, build, spec, zone, operation, queue, missed)
VALUES (?, @sequencer_now, @sequencer_now, ?, ?, ?, ?, ?, ?)`
	redefineSQL = `
UPDATE sequencer_schedules SET announced_at = @sequencer_now, last_tick_at = IF(?, @sequencer_now, last_tick_at),
	build = ?, spec = ?, zone = ?, operation = ?, queue = ?, missed = ? WHERE name = ?`
)

// Announce implements [storage.Operator].
func (s *Store) Announce(ctx context.Context, r storage.AnnounceRequest) error {
	return s.tx(ctx, "announce", r.Now, func(ctx context.Context, q *session) error {
		if err := r.Validate(); err != nil {
			return err
		}
		for i := range r.Schedules {
			if err := announce(ctx, q, &r.Schedules[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

func announce(ctx context.Context, q *session, c *storage.Schedule) error {
	var had storage.Schedule
	known := false
	err := q.each(ctx, func(r scanner) error {
		known = true
		return r.Scan(&had.Build, &had.Spec, &had.Zone, &had.Operation, &had.Queue, &had.Missed)
	}, announcedSQL, text(c.Name))
	if err != nil {
		return err
	}
	defined := []any{c.Build, text(c.Spec), text(c.Zone), text(c.Operation), text(c.Queue), text(c.Missed)}
	had.Name = c.Name
	same := storage.Schedule{
		Name: c.Name, Build: c.Build, Spec: c.Spec, Zone: c.Zone, Operation: c.Operation, Queue: c.Queue, Missed: c.Missed,
	}
	switch {
	case !known:
		q.queue(announceSQL, append([]any{text(c.Name)}, defined...)...)
	case had.Build <= c.Build && had != same:
		anew := had.Spec != c.Spec || had.Zone != c.Zone
		q.queue(redefineSQL, append(append([]any{anew}, defined...), text(c.Name))...)
	}
	return nil
}

// lockScheduleSQL reads a schedule by primary key, and its pause. Lock: the schedule.
// Race: of two that bring one tick the second waits for the first one's commit, and
// then finds LastTick moved.
const (
	lockScheduleSQL = `SELECT last_tick_at, last_id FROM sequencer_schedules WHERE name = ? FOR UPDATE`
	pausedTickSQL   = `SELECT 1 FROM sequencer_pauses WHERE kind = 'schedule' AND name = ?`
	flowThereSQL    = `SELECT 1 FROM sequencer_flows WHERE id IN (?)`
	moveOnSQL       = `UPDATE sequencer_schedules SET last_tick_at = ?, last_id = COALESCE(?, last_id) WHERE name = ?`
)

// fire moves a schedule on to the request's tick, and reports one that is not due,
// having made its receipts. What an earlier call wrote is told by its ids: then the
// rows tell what became of them.
func (e *enqueuing) fire(ctx context.Context) (refused bool, err error) {
	tick, rows := e.request.Tick, e.request.Executions
	var first, last storage.ID
	var lastTick time.Time
	known, paused, wrote := false, false, false
	e.q.queueScan(func(r scanner) error {
		known = true
		return r.Scan(instant{&lastTick}, idScan{&last})
	}, lockScheduleSQL, text(tick.Schedule))
	e.q.queueScan(func(scanner) error { paused = true; return nil }, pausedTickSQL, text(tick.Schedule))
	named := make(idList, len(rows))
	for i := range rows {
		named[i] = rows[i].ID
	}
	there := func(scanner) error { wrote = true; return nil }
	for _, part := range some(named) {
		e.q.queueScan(there, presentSQL, part, part)
	}
	for _, part := range some(e.flowIDs()) {
		e.q.queueScan(there, flowThereSQL, part)
	}
	err = e.q.flush(ctx)
	if err == nil && !known && !wrote {
		err = fmt.Errorf("schedule %q: %w", tick.Schedule, storage.ErrNotFound)
	}
	if err != nil || wrote {
		return false, err
	}
	if paused || !micro(tick.At).After(lastTick) {
		for i := range e.receipts {
			e.receipts[i].Duplicate, e.receipts[i].HolderID = true, last
		}
		return true, nil
	}
	if len(rows) > 0 {
		first = rows[0].ID
	}
	e.q.queue(moveOnSQL, at(micro(tick.At)), idArg(first), text(tick.Schedule))
	return false, nil
}

// schedulesSQL reads the whole table, and pauses by primary key.
const schedulesSQL = `
SELECT name, spec, zone, operation, queue, missed, build, announced_at, last_tick_at, last_id,
	EXISTS (SELECT 1 FROM sequencer_pauses p WHERE p.kind = 'schedule' AND p.name = s.name)
FROM sequencer_schedules s ORDER BY name`

// Schedules implements [storage.Reader].
func (s *Store) Schedules(ctx context.Context) ([]storage.Schedule, error) {
	schedules := []storage.Schedule{}
	err := s.read(ctx, "read schedules", schedulesSQL, func(r scanner) error {
		var c storage.Schedule
		err := r.Scan(&c.Name, &c.Spec, &c.Zone, &c.Operation, &c.Queue, &c.Missed, &c.Build,
			instant{&c.AnnouncedAt}, instant{&c.LastTick}, idScan{&c.LastID}, &c.Paused)
		schedules = append(schedules, c)
		return err
	})
	return schedules, err
}
