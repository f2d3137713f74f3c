package dashboard

import (
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

// lookBack reads a page. further is from where a next look goes on, nil if nothing is
// left, or if the page is full.
func (p *request) lookBack(f storage.Filter) (rows []storage.Execution, further *storage.Cursor, err error) {
	store := p.by.Store()
	if !unindexed(&f) {
		rows, err = store.Executions(p.ctx, f)
		return rows, nil, err
	}
	oldest, err := store.Executions(p.ctx, storage.Filter{Oldest: true, Limit: 1})
	if err != nil || len(oldest) == 0 {
		return nil, nil, err
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
		f.Limit = most - len(rows)
		found, err := store.Executions(p.ctx, f)
		if err != nil {
			return nil, nil, err
		}
		rows = append(rows, found...)
		switch {
		case len(rows) >= most, last:
			return rows, nil, nil
		case time.Since(began) > patience:
			return rows, &storage.Cursor{At: f.Since}, nil
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
