package cron

import (
	"slices"
	"time"
)

// calendar answers for a clock without a zone: the next match after a time, zero
// for none.
type calendar interface {
	Next(after time.Time) time.Time
}

// Expression is one that has been parsed. It is safe for concurrent use.
type Expression struct {
	text     string
	zone     *time.Location
	every    time.Duration // of an interval; else zero
	calendar calendar
	paced    bool // it names no time of day, see the package's comment
}

// String is the expression with single blanks.
func (e *Expression) String() string { return e.text }

// Zone is the name of the time zone it is read in, empty for an interval.
func (e *Expression) Zone() string {
	if e.every > 0 {
		return ""
	}
	return e.zone.String()
}

// Next is the first instant after t at which e is due, in UTC; zero if there is
// none.
func (e *Expression) Next(t time.Time) time.Time {
	if e.every > 0 {
		return t.UTC().Truncate(e.every).Add(e.every)
	}
	for {
		p := e.period(t)
		due := e.within(p, t)
		if due.IsZero() || p.end.IsZero() || due.Before(p.end) {
			return due.UTC()
		}
		// The calendar is empty up to due, so what is far from both can be passed over.
		near := t.After(p.end.Add(-change))
		t = p.end.Add(-time.Nanosecond) // the end belongs to the next period
		if far := due.Add(-change); !near && far.After(t) {
			t = far
		}
	}
}

// change is longer than any a zone ever made to its clocks.
const change = 48 * time.Hour

// Latest are the newest n instants in (after, until] at which e is due, oldest
// first. It looks backwards in windows that double, so that a schedule that was
// silent for a year costs no more than its last ticks.
func (e *Expression) Latest(after, until time.Time, n int) []time.Time {
	if n < 1 || !until.After(after) {
		return nil
	}
	for window := time.Minute; ; window *= 2 {
		from := until.Add(-window)
		whole := !from.After(after)
		if whole {
			from = after
		}
		var found []time.Time
		for t := e.Next(from); !t.IsZero() && !t.After(until); t = e.Next(t) {
			if found = append(found, t); len(found) > 2*n { // what is older is of no interest
				found = slices.Delete(found, 0, len(found)-n)
			}
		}
		if len(found) >= n || whole {
			return found[max(len(found)-n, 0):]
		}
	}
}

// period is a time during which a zone's offset from UTC stays the same.
type period struct {
	start, end time.Time     // zero = without one
	offset     time.Duration // of the wall clock, ahead of UTC
	before     time.Duration // the offset until start
}

// period finds the one that the instants right after t are in.
func (e *Expression) period(t time.Time) period {
	t = t.Add(time.Nanosecond).In(e.zone)
	start, end := t.ZoneBounds()
	for !end.IsZero() && !end.After(t) { // Go 1.26, by rules without a table: a leap year's last day is behind the end it is said to have
		_, end = end.Add(25 * time.Hour).ZoneBounds()
	}
	p := period{start: start, end: end, offset: offset(t)}
	p.before = p.offset
	if !start.IsZero() {
		p.before = offset(start.Add(-time.Nanosecond))
	}
	return p
}

func offset(t time.Time) time.Duration {
	_, seconds := t.Zone()
	return time.Duration(seconds) * time.Second
}

// within is the first instant after t that is due by the clock of one period,
// which may lie beyond its end; zero for never.
func (e *Expression) within(p period, t time.Time) time.Time {
	from := wall(t, p.offset)
	if !e.paced && p.offset < p.before { // set back: what comes twice has been
		if again := wall(p.start, p.before).Add(-time.Nanosecond); from.Before(again) {
			from = again
		}
	}
	due := instant(e.calendar.Next(from), p.offset)
	if p.offset <= p.before {
		return due
	}
	// Set forward: times that the clock jumped over keep the offset they were meant in.
	from = wall(t, p.before)
	if first := wall(p.start, p.before).Add(-time.Nanosecond); from.Before(first) {
		from = first
	}
	jumped := e.calendar.Next(from)
	if moved := instant(jumped, p.before); !jumped.IsZero() && jumped.Before(wall(p.start, p.offset)) && (due.IsZero() || moved.Before(due)) {
		return moved
	}
	return due
}

// wall is what a clock with this offset shows at t, as if it were UTC.
func wall(t time.Time, offset time.Duration) time.Time { return t.UTC().Add(offset) }

// instant is when a clock with this offset shows w. Zero stays zero.
func instant(w time.Time, offset time.Duration) time.Time {
	if w.IsZero() {
		return w
	}
	return w.Add(-offset)
}
