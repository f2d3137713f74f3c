package mysql

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/window"
)

// All by primary key, and all who take come in its order. makeLimitSQL sees to it that
// a counter has a row, and locks it, also one that was there: INSERT IGNORE would take
// a shared lock, and two of those who then want the other kind are a deadlock. Race: of
// two who take the last one, the second waits for the first to commit.
const (
	makeLimitSQL = `
INSERT INTO sequencer_limits (name, by_key, n, window_us, ends_at, used) VALUES (?, ?, ?, ?, 0, 0) ON DUPLICATE KEY UPDATE used = used`
	limitSQL     = `SELECT ends_at, used FROM sequencer_limits WHERE name = ? AND by_key = ? AND n = ? AND window_us = ?`
	lockLimitSQL = limitSQL + ` FOR UPDATE`
	saveLimitSQL = `UPDATE sequencer_limits SET ends_at = ?, used = ? WHERE name = ? AND by_key = ? AND n = ? AND window_us = ?`
)

// pruneLimitsSQL deletes counters that count nothing any more, along
// sequencer_limits_ends.
const pruneLimitsSQL = `DELETE FROM sequencer_limits WHERE ends_at <= @sequencer_now ORDER BY ends_at LIMIT 1000`

// Take implements [storage.Leases].
func (s *Store) Take(ctx context.Context, r storage.TakeRequest) (storage.Taken, error) {
	var taken storage.Taken
	if err := r.Validate(); err != nil {
		return taken, explained("take", err)
	}
	err := s.tx(ctx, "take", r.Now, func(ctx context.Context, q *session) (err error) {
		taken, err = take(ctx, q, r)
		return err
	})
	return taken, err
}

func take(ctx context.Context, q *session, r storage.TakeRequest) (storage.Taken, error) {
	order := make([]int, len(r.Limits))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return compareLimits(r.Limits[a], r.Limits[b]) })
	counters := make([]window.Counter, len(r.Limits))
	for _, i := range order {
		query, key := limitSQL, limitKey(r.Limits[i])
		if r.Action != storage.TakeLook {
			q.queue(makeLimitSQL, key...)
			query = lockLimitSQL
		}
		q.queueScan(func(from scanner) error { return from.Scan(instant{&counters[i].EndsAt}, &counters[i].Used) }, query, key...)
	}
	if err := q.flush(ctx); err != nil {
		return storage.Taken{}, err
	}
	taken, changed := window.Take(q.now, r, counters)
	for _, i := range order {
		if c := counters[i]; changed {
			var ends int64
			if c.Used > 0 {
				ends = c.EndsAt.UnixMicro()
			}
			q.queue(saveLimitSQL, append([]any{ends, c.Used}, limitKey(r.Limits[i])...)...)
		}
	}
	return taken, nil
}

func limitKey(l storage.Limit) []any {
	return []any{text(l.Name), text(l.By), l.N, l.Window.Microseconds()}
}

func compareLimits(a, b storage.Limit) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.By, b.By), cmp.Compare(a.N, b.N), cmp.Compare(a.Window/time.Microsecond, b.Window/time.Microsecond))
}
