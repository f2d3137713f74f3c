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

// Take implements [storage.Leases]. Those who take at the same time share a
// transaction.
func (s *Store) Take(ctx context.Context, r storage.TakeRequest) (storage.Taken, error) {
	if err := r.Validate(); err != nil {
		return storage.Taken{}, explained("take", err)
	}
	if r.Now.IsZero() {
		return s.takers.Take(ctx, r)
	}
	all, err := s.takeAll(ctx, []storage.TakeRequest{r})
	if err != nil {
		return storage.Taken{}, err
	}
	return all[0], nil
}

// takeAll serves requests of one instant, see [gather.TakeAll].
func (s *Store) takeAll(ctx context.Context, requests []storage.TakeRequest) (all []storage.Taken, _ error) {
	err := s.tx(ctx, "take", requests[0].Now, func(ctx context.Context, q *session) (err error) {
		all, err = take(ctx, q, requests)
		return err
	})
	return all, err
}

func take(ctx context.Context, q *session, requests []storage.TakeRequest) ([]storage.Taken, error) {
	limits, changes := window.Limits(requests)
	slices.SortFunc(limits, compareLimits)
	counters := make(map[storage.Limit]window.Counter, len(limits))
	for _, l := range limits {
		query, key := limitSQL, limitKey(l)
		if changes {
			q.queue(makeLimitSQL, key...)
			query = lockLimitSQL
		}
		q.queueScan(func(from scanner) error {
			var c window.Counter
			err := from.Scan(instant{&c.EndsAt}, &c.Used)
			counters[l] = c
			return err
		}, query, key...)
	}
	if err := q.flush(ctx); err != nil {
		return nil, err
	}
	all, changed := window.TakeAll(q.now, requests, counters)
	for _, l := range changed {
		var ends int64
		if c := counters[l]; c.Used > 0 {
			ends = c.EndsAt.UnixMicro()
		}
		q.queue(saveLimitSQL, append([]any{ends, counters[l].Used}, limitKey(l)...)...)
	}
	return all, nil
}

func limitKey(l storage.Limit) []any {
	return []any{text(l.Name), text(l.By), l.N, l.Window.Microseconds()}
}

func compareLimits(a, b storage.Limit) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.By, b.By), cmp.Compare(a.N, b.N), cmp.Compare(a.Window/time.Microsecond, b.Window/time.Microsecond))
}
