package sqlite

import (
	"context"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/window"
)

// All by primary key, but for the last, which walks the index of windows by their
// end.
const (
	readLimit = `SELECT ends_at, used FROM sequencer_limits WHERE name = ? AND key = ? AND n = ? AND window_us = ?`
	saveLimit = `
INSERT INTO sequencer_limits (name, key, n, window_us, ends_at, used) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (name, key, n, window_us) DO UPDATE SET ends_at = excluded.ends_at, used = excluded.used`
	dropLimit   = `DELETE FROM sequencer_limits WHERE name = ? AND key = ? AND n = ? AND window_us = ?`
	pruneLimits = `DELETE FROM sequencer_limits WHERE ends_at <= ?`
)

// Take charges limits, see [storage.Leases]. It runs under the write lock, so nobody
// counts in between.
func (s *Store) Take(ctx context.Context, r storage.TakeRequest) (storage.Taken, error) {
	if err := r.Validate(); err != nil {
		return storage.Taken{}, err
	}
	return write(ctx, s, "take", func(ctx context.Context, t *txn) (storage.Taken, error) { return takeLimits(ctx, t, r) })
}

func takeLimits(ctx context.Context, t *txn, r storage.TakeRequest) (storage.Taken, error) {
	counters := make([]window.Counter, len(r.Limits))
	for i, l := range r.Limits {
		c := &counters[i]
		if _, err := t.one(ctx, []any{(*instantColumn)(&c.EndsAt), (*intColumn)(&c.Used)}, readLimit, limitKey(l)...); err != nil {
			return storage.Taken{}, err
		}
	}
	taken, changed := window.Take(clock(r.Now), r, counters)
	if !changed {
		return taken, nil
	}
	for i, l := range r.Limits {
		statement, args := dropLimit, limitKey(l)
		if c := counters[i]; c.Used > 0 {
			statement, args = saveLimit, append(args, c.EndsAt.UnixMicro(), c.Used)
		}
		if _, err := t.exec(ctx, statement, args...); err != nil {
			return storage.Taken{}, err
		}
	}
	return taken, nil
}

func limitKey(l storage.Limit) []any { return []any{l.Name, l.By, l.N, l.Window.Microseconds()} }
