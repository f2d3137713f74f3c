package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/window"
)

// asked are the limits of a call, as arrays; a text that is empty everywhere and a
// number that is 0 everywhere arrive as null.
const asked = `(
	SELECT name, coalesce(key, '') AS key, coalesce(n, 0) AS n, window_us
	FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS a (name, key, n, window_us)) a`

// makeLimitsSQL sees to it that every counter has a row that can be locked. Lock:
// in the order of the primary key, as all who take do.
const makeLimitsSQL = `
INSERT INTO sequencer_limits (name, key, n, window_us, ends_at, used)
SELECT name, key, n, window_us, '-infinity', 0 FROM ` + asked + `
ORDER BY name, key, n, window_us
ON CONFLICT DO NOTHING`

// limitsSQL reads counters by primary key; lockLimitsSQL locks them, in its order.
// Race: of two who take the last one, the second waits for the first to commit.
const (
	limitsSQL = `
SELECT l.name, l.key, l.n, l.window_us, nullif(l.ends_at, '-infinity'), l.used
FROM sequencer_limits l JOIN ` + asked + ` USING (name, key, n, window_us)`
	lockLimitsSQL = limitsSQL + `
ORDER BY l.name, l.key, l.n, l.window_us FOR UPDATE OF l`
)

// saveLimitsSQL writes counters that are locked, by primary key.
const saveLimitsSQL = `
UPDATE sequencer_limits l SET ends_at = coalesce(c.ends_at, '-infinity'), used = c.used
FROM (SELECT name, coalesce(key, '') AS key, coalesce(n, 0) AS n, window_us, ends_at, coalesce(used, 0) AS used
	FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::timestamptz[], $6::int[])
		AS c (name, key, n, window_us, ends_at, used)) c
WHERE (l.name, l.key, l.n, l.window_us) = (c.name, c.key, c.n, c.window_us)`

// pruneLimitsSQL deletes counters that count nothing any more, along
// sequencer_limits_ends, but for those that somebody takes from just now.
const pruneLimitsSQL = `
DELETE FROM sequencer_limits WHERE (name, key, n, window_us) IN (
	SELECT name, key, n, window_us FROM sequencer_limits WHERE ends_at <= coalesce($1::timestamptz, now()) LIMIT 1000 FOR UPDATE SKIP LOCKED)`

// Take implements [storage.Leases]. Its commit does not wait for the disk: what a
// crash of the server can take from a counter is the last fraction of a second.
func (s *Store) Take(ctx context.Context, r storage.TakeRequest) (storage.Taken, error) {
	var taken storage.Taken
	if err := r.Validate(); err != nil {
		return taken, explained("take", err)
	}
	err := s.tx(ctx, "take", r.Now, func(ctx context.Context, q *session) (err error) {
		q.queue("SET LOCAL synchronous_commit = off")
		taken, err = take(ctx, q, r)
		return err
	})
	return taken, err
}

func take(ctx context.Context, q *session, r storage.TakeRequest) (storage.Taken, error) {
	var found map[storage.Limit]window.Counter
	for range maxTries {
		query := limitsSQL
		if r.Action != storage.TakeLook {
			q.queue(makeLimitsSQL, limitColumns(r.Limits)...)
			query = lockLimitsSQL
		}
		found = make(map[storage.Limit]window.Counter, len(r.Limits))
		if err := q.each(ctx, scanLimits(found), query, limitColumns(r.Limits)...); err != nil {
			return storage.Taken{}, err
		}
		if len(found) == len(r.Limits) || r.Action == storage.TakeLook {
			return settleLimits(q, r, found), nil
		}
		// Pruned between the two statements: nothing is locked then.
	}
	return storage.Taken{}, errors.New("the counters went away too often")
}

func settleLimits(q *session, r storage.TakeRequest, found map[storage.Limit]window.Counter) storage.Taken {
	counters := make([]window.Counter, len(r.Limits))
	for i, l := range r.Limits {
		counters[i] = found[l]
	}
	taken, changed := window.Take(q.now, r, counters)
	if changed {
		q.queue(saveLimitsSQL, append(limitColumns(r.Limits),
			timeColumn(counters, func(c *window.Counter) time.Time { return c.EndsAt }),
			column(counters, func(c *window.Counter) int32 { return int32(c.Used) }))...)
	}
	return taken
}

func limitColumns(limits []storage.Limit) []any {
	return []any{
		column(limits, func(l *storage.Limit) string { return clean(l.Name) }),
		column(limits, func(l *storage.Limit) string { return clean(l.By) }),
		column(limits, func(l *storage.Limit) int64 { return int64(l.N) }),
		column(limits, func(l *storage.Limit) int64 { return l.Window.Microseconds() }),
	}
}

func scanLimits(found map[storage.Limit]window.Counter) func(scanner) error {
	return func(r scanner) error {
		var l storage.Limit
		var us int64
		var ends *time.Time
		var c window.Counter
		err := r.Scan(&l.Name, &l.By, &l.N, &us, &ends, &c.Used)
		if ends != nil {
			c.EndsAt = ends.UTC()
		}
		l.Window = time.Duration(us) * time.Microsecond
		found[l] = c
		return err
	}
}
