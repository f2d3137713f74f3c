package dashboard

import (
	"context"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// What is over is found by state, name, tag or cause through indexes. A queue, or a
// pattern, is looked for row by row, and where few rows have it that is the whole ledger.
// So such a list is read backwards in stretches of time, each four times as long as the
// one before, until the page is full or patience is over; then it says how far it looked.

// patience is how long a page looks back before it shows what it has.
const patience = 60 * time.Millisecond

// firstStretch is the stretch that is looked at first.
const firstStretch = 15 * time.Minute

// unindexed reports a filter that a store answers row by row.
func unindexed(f *storage.Filter) bool {
	if f.Tag != "" || f.Group != "" || f.IDPrefix != "" || len(f.States) > 0 && f.States[0] != storage.Completed {
		return false
	}
	return f.Queue != "" && f.Name == "" || strings.Contains(f.Name, "*")
}

// found is a page of executions. further is from where a next look goes on, nil if
// nothing is left, or if the page is full.
type found struct {
	rows    []storage.Execution
	further *storage.Cursor
}

// lookBack reads a page.
func (s *server) lookBack(ctx context.Context, f storage.Filter) (page found, _ error) {
	store := s.seq.Store()
	if !unindexed(&f) {
		rows, err := store.Executions(ctx, f)
		return found{rows: rows}, err
	}
	oldest, err := store.Executions(ctx, storage.Filter{Oldest: true, Limit: 1})
	if err != nil || len(oldest) == 0 {
		return page, err
	}
	first := oldest[0].CreatedAt
	if f.Since.After(first) {
		first = f.Since
	}
	began := time.Now()
	end := began.Add(time.Hour) // clocks differ
	if f.After != nil {
		end = f.After.At.Add(time.Microsecond)
	}
	most := f.Limit
	for stretch := firstStretch; ; stretch *= 4 {
		f.Until = end
		f.Since = minTime(end, began).Add(-stretch)
		last := !f.Since.After(first)
		if last {
			f.Since = first
		}
		f.Limit = most - len(page.rows)
		rows, err := store.Executions(ctx, f)
		if err != nil {
			return found{}, err
		}
		page.rows = append(page.rows, rows...)
		switch {
		case len(page.rows) >= most, last:
			return page, nil
		case time.Since(began) > patience:
			page.further = &storage.Cursor{At: f.Since}
			return page, nil
		}
		end, f.After = f.Since, nil
	}
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
