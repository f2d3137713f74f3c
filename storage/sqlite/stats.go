package sqlite

import (
	"context"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// retried is the ending that statistics give an attempt after which the row waits.
const retried = "retried"

// statistics gathers what a transaction adds, so that each row of
// sequencer_stats is raised once however many outcomes it counts.
type statistics map[statistic]*delta

type (
	statistic struct{ queue, name, ending string }
	delta     struct {
		n           int64
		ran, waited time.Duration
	}
)

func (s statistics) add(kind storage.Kind, queue, name, ending string, o *storage.Outcome, waited time.Duration) {
	for under := range storage.CountedUnder(kind, queue, o) {
		key := statistic{under, name, ending}
		d := s[key]
		if d == nil {
			d = &delta{}
			s[key] = d
		}
		d.n++
		d.ran += o.Ran
		d.waited += max(waited, 0)
	}
}

// By primary key.
const raiseStat = `
INSERT INTO sequencer_stats (minute_at, queue, name, ending, n, ran_us, waited_us) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (minute_at, queue, name, ending) DO UPDATE
SET n = n + excluded.n, ran_us = ran_us + excluded.ran_us, waited_us = waited_us + excluded.waited_us`

func (s statistics) save(ctx context.Context, t *txn, now time.Time) error {
	minute := now.Truncate(time.Minute).UnixMicro()
	for key, d := range s {
		if _, err := t.exec(ctx, raiseStat, minute, key.queue, key.name, key.ending, d.n, d.ran.Microseconds(), d.waited.Microseconds()); err != nil {
			return err
		}
	}
	return nil
}
