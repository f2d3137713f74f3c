package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/gosequencer/sequencer/storage"
)

// By primary key. A definition of a newer build stays, and an equal one is not
// written again.
const announceOne = `
INSERT INTO sequencer_schedules (name, spec, zone, operation, queue, missed, build, announced_at, last_tick_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)
ON CONFLICT (name) DO UPDATE SET
	last_tick_at = iif(spec <> excluded.spec OR zone <> excluded.zone, excluded.last_tick_at, last_tick_at),
	spec = excluded.spec, zone = excluded.zone, operation = excluded.operation, queue = excluded.queue,
	missed = excluded.missed, build = excluded.build, announced_at = excluded.announced_at
WHERE build <= excluded.build AND (spec, zone, operation, queue, missed, build)
	IS NOT (excluded.spec, excluded.zone, excluded.operation, excluded.queue, excluded.missed, excluded.build)`

// Announce brings the definitions of schedules up to date, see [storage.Operator].
func (s *Store) Announce(ctx context.Context, r storage.AnnounceRequest) error {
	if err := r.Validate(); err != nil {
		return s.fail("announce", err)
	}
	_, err := write(ctx, s, "announce", func(ctx context.Context, t *txn) (nothing, error) {
		now := clock(r.Now).UnixMicro()
		for i := range r.Schedules {
			c := &r.Schedules[i]
			if _, err := t.exec(ctx, announceOne, c.Name, c.Spec, c.Zone, c.Operation, c.Queue, c.Missed, c.Build, now); err != nil {
				return nothing{}, err
			}
		}
		return nothing{}, nil
	})
	return err
}

// Both by primary key.
const (
	moveOn = `
UPDATE sequencer_schedules SET last_tick_at = ?2, last_id = coalesce(?3, last_id)
WHERE name = ?1 AND last_tick_at < ?2
	AND NOT EXISTS (SELECT 1 FROM sequencer_pauses AS p WHERE p.kind = 'schedule' AND p.name = ?1)`
	lastFired = `SELECT last_id FROM sequencer_schedules WHERE name = ?`
)

// fire moves a schedule on to the request's tick. For one that is not due it
// returns the receipts that say so. A request that was written before is let pass,
// to be recognised again by its ids.
func fire(ctx context.Context, t *txn, r storage.EnqueueRequest) (refused []storage.Receipt, err error) {
	if again, err := wroteBefore(ctx, t, r); again || err != nil {
		return nil, err
	}
	var first storage.ID
	if len(r.Executions) > 0 {
		first = r.Executions[0].ID
	}
	n, err := t.exec(ctx, moveOn, r.Tick.Schedule, clock(r.Tick.At).UnixMicro(), blobOf(first))
	if err != nil || n > 0 {
		return nil, err
	}
	var last storage.ID
	known, err := t.one(ctx, []any{(*idColumn)(&last)}, lastFired, r.Tick.Schedule)
	if err == nil && !known {
		err = fmt.Errorf("schedule %q: %w", r.Tick.Schedule, storage.ErrNotFound)
	}
	refused = make([]storage.Receipt, len(r.Executions))
	for i := range refused {
		refused[i] = storage.Receipt{ID: r.Executions[i].ID, Duplicate: true, HolderID: last}
	}
	return refused, err
}

func wroteBefore(ctx context.Context, t *txn, r storage.EnqueueRequest) (bool, error) {
	if len(r.Flows) > 0 {
		if there, err := t.any(ctx, flowExists, r.Flows[0].ID[:]); there || err != nil {
			return there, err
		}
	}
	return anyExists(ctx, t, r.Executions)
}

// The whole table, in the order of its key; pauses by theirs.
const allSchedules = `
SELECT name, spec, zone, operation, queue, missed, build, announced_at, last_tick_at, last_id,
	EXISTS (SELECT 1 FROM sequencer_pauses AS p WHERE p.kind = 'schedule' AND p.name = s.name)
FROM sequencer_schedules AS s ORDER BY name`

// Schedules lists what was announced, by name.
func (s *Store) Schedules(ctx context.Context) ([]storage.Schedule, error) {
	list := []storage.Schedule{}
	err := s.read(ctx, func(rows *sql.Rows) error {
		var c storage.Schedule
		err := rows.Scan(&c.Name, &c.Spec, &c.Zone, &c.Operation, &c.Queue, &c.Missed, (*int64Column)(&c.Build),
			(*instantColumn)(&c.AnnouncedAt), (*instantColumn)(&c.LastTick), (*idColumn)(&c.LastID), (*truthColumn)(&c.Paused))
		list = append(list, c)
		return err
	}, allSchedules)
	return list, s.fail("list schedules", err)
}
