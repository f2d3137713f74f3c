package postgres

import (
	"context"
	"fmt"

	"github.com/gosequencer/sequencer/storage"
)

// announceSQL writes a definition by primary key. One of a newer build stays, and
// an equal one is not written again. Lock: the schedule, so that of two builds that
// announce at once the newer one stays.
const announceSQL = `
INSERT INTO sequencer_schedules AS s (name, spec, zone, operation, queue, missed, build, announced_at, last_tick_at)
SELECT $1::text, $2::text, $3::text, $4::text, $5::text, $6::text, $7::bigint, c.now, c.now
FROM (SELECT coalesce($8::timestamptz, now()) AS now) c
ON CONFLICT (name) DO UPDATE SET
	last_tick_at = CASE WHEN s.spec <> excluded.spec OR s.zone <> excluded.zone THEN excluded.last_tick_at ELSE s.last_tick_at END,
	spec = excluded.spec, zone = excluded.zone, operation = excluded.operation, queue = excluded.queue,
	missed = excluded.missed, build = excluded.build, announced_at = excluded.announced_at
WHERE s.build <= excluded.build AND (s.spec, s.zone, s.operation, s.queue, s.missed, s.build)
	IS DISTINCT FROM (excluded.spec, excluded.zone, excluded.operation, excluded.queue, excluded.missed, excluded.build)`

// Announce implements [storage.Operator].
func (s *Store) Announce(ctx context.Context, r storage.AnnounceRequest) error {
	return s.tx(ctx, "announce", r.Now, func(_ context.Context, q *session) error {
		if err := r.Validate(); err != nil {
			return err
		}
		for i := range r.Schedules {
			c := &r.Schedules[i]
			q.queue(announceSQL, c.Name, c.Spec, c.Zone, c.Operation, c.Queue, c.Missed, c.Build, at(q.now))
		}
		return nil
	})
}

// moveOnSQL moves a schedule on to a tick, unless an earlier call wrote the
// request. Index: primary keys. Lock: the schedule. Race: of two that bring one tick
// the second waits for the first one's commit, and then finds LastTick moved.
const moveOnSQL = `
UPDATE sequencer_schedules SET last_tick_at = $2::timestamptz, last_id = coalesce($3::uuid, last_id)
WHERE name = $1::text AND last_tick_at < $2::timestamptz
	AND NOT EXISTS (SELECT FROM sequencer_pauses p WHERE p.kind = 'schedule' AND p.name = $1::text)
	AND NOT EXISTS (SELECT FROM sequencer_live e WHERE e.id = ANY ($4::uuid[]))
	AND NOT EXISTS (SELECT FROM sequencer_history e WHERE e.id = ANY ($4::uuid[]))
	AND NOT EXISTS (SELECT FROM sequencer_flows f WHERE f.id = $5::uuid)`

// lastFiredSQL says, by primary keys, what a tick that was not written met: the
// latest execution of its schedule, and whether an earlier call wrote the request.
const lastFiredSQL = `
SELECT last_id, EXISTS (SELECT FROM sequencer_live e WHERE e.id = ANY ($2::uuid[]))
	OR EXISTS (SELECT FROM sequencer_history e WHERE e.id = ANY ($2::uuid[]))
	OR EXISTS (SELECT FROM sequencer_flows f WHERE f.id = $3::uuid)
FROM sequencer_schedules WHERE name = $1::text`

// fire moves a schedule on to the request's tick, and reports one that is not due,
// having made its receipts.
func (e *enqueuing) fire(ctx context.Context) (refused bool, err error) {
	tick, rows := e.request.Tick, e.request.Executions
	var first, flow storage.ID
	if len(rows) > 0 {
		first = rows[0].ID
	}
	if len(e.request.Flows) > 0 {
		flow = e.request.Flows[0].ID
	}
	ids := make([]storage.ID, len(rows))
	for i := range rows {
		ids[i] = rows[i].ID
	}
	n, err := e.q.exec(ctx, moveOnSQL, tick.Schedule, micro(tick.At), idArg(first), idArray(ids), idArg(flow))
	if err != nil || n > 0 {
		return false, err
	}
	var last storage.ID
	known, wrote := false, false
	err = e.q.each(ctx, func(r scanner) error {
		known = true
		return r.Scan(idScan{&last}, &wrote)
	}, lastFiredSQL, tick.Schedule, idArray(ids), idArg(flow))
	if err == nil && !known {
		err = fmt.Errorf("schedule %q: %w", tick.Schedule, storage.ErrNotFound)
	}
	if err != nil || wrote { // the rows tell what became of them
		return false, err
	}
	for i := range e.receipts {
		e.receipts[i].Duplicate, e.receipts[i].HolderID = true, last
	}
	return true, nil
}

// schedulesSQL reads the whole table, and pauses by primary key.
const schedulesSQL = `
SELECT name, spec, zone, operation, queue, missed, build, announced_at, last_tick_at, last_id,
	EXISTS (SELECT FROM sequencer_pauses p WHERE p.kind = 'schedule' AND p.name = s.name)
FROM sequencer_schedules s ORDER BY name COLLATE "C"`

// Schedules implements [storage.Reader].
func (s *Store) Schedules(ctx context.Context) ([]storage.Schedule, error) {
	schedules := []storage.Schedule{}
	err := s.read(ctx, "read schedules", schedulesSQL, func(r scanner) error {
		var c storage.Schedule
		err := r.Scan(&c.Name, &c.Spec, &c.Zone, &c.Operation, &c.Queue, &c.Missed, &c.Build,
			&c.AnnouncedAt, &c.LastTick, idScan{&c.LastID}, &c.Paused)
		c.AnnouncedAt, c.LastTick = c.AnnouncedAt.UTC(), c.LastTick.UTC()
		schedules = append(schedules, c)
		return err
	})
	return schedules, err
}
