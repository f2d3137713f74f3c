// Package window is the rule of limits, once for all stores that decide in Go: fixed
// windows, and several limits charged together or not at all (Q3.12 to Q3.15). A
// store reads the counters under a lock, asks [Take], and writes what changed.
package window

import (
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Counter is one limit's window. Over, or zero, it counts as empty.
type Counter struct {
	EndsAt time.Time
	Used   int
}

// Take decides about a request whose limits have these counters, in the same order.
// It changes the counters to what they are afterwards and reports whether they have
// to be written.
func Take(now time.Time, r storage.TakeRequest, counters []Counter) (taken storage.Taken, changed bool) {
	for i := range counters {
		if c := &counters[i]; !c.EndsAt.After(now) {
			*c = Counter{}
		}
	}
	switch r.Action {
	case storage.TakeReset:
		clear(counters)
		changed = true
	default:
		taken.Wait = wait(now, r.Limits, counters)
		if r.Action == storage.TakeOne && taken.Wait == 0 {
			count(now, r.Limits, counters)
			changed = true
		}
	}
	taken.Used = make([]int, len(counters))
	for i, c := range counters {
		taken.Used[i] = c.Used
	}
	return taken, changed
}

// wait is how long until all limits may have room: 0 = they have, negative = never.
func wait(now time.Time, limits []storage.Limit, counters []Counter) time.Duration {
	var longest time.Duration
	for i, l := range limits {
		switch {
		case l.N == 0:
			return -1
		case counters[i].Used >= l.N:
			longest = max(longest, counters[i].EndsAt.Sub(now))
		}
	}
	return longest
}

func count(now time.Time, limits []storage.Limit, counters []Counter) {
	for i, l := range limits {
		if counters[i].Used == 0 {
			counters[i].EndsAt = now.Add(l.Window)
		}
		counters[i].Used++
	}
}
