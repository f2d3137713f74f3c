package timeline_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// check compares the notes with the ledger.
func (h *history) check(desk *party, rows []storage.Execution, accepted []string) {
	byID := map[string]storage.Execution{}
	for _, row := range rows {
		byID[row.ID.String()] = row
	}
	for _, id := range accepted {
		if _, there := byID[id]; !there {
			h.t.Errorf("%s was accepted and is not in the ledger", id)
		}
	}
	if len(rows) != len(accepted) {
		h.t.Errorf("%d executions, %d were accepted", len(rows), len(accepted))
	}
	of := map[string][]*call{}
	for _, c := range h.calls {
		of[c.id] = append(of[c.id], c)
	}
	for id, row := range byID {
		h.checkOne(row, of[id])
	}
	h.checkKeys(rows)
	h.checkRate()
	h.checkCircuit()
	if h.with[traitSecret] {
		h.checkSecret(desk, rows)
	}
}

// checkOne is what holds for each execution by itself.
func (h *history) checkOne(row storage.Execution, calls []*call) {
	bad := func(rule, format string, args ...any) {
		h.t.Errorf("%s: %s with %d calls: %s", rule, describe(row), len(calls), fmt.Sprintf(format, args...))
	}
	failures := 0
	for i, c := range calls {
		if c.err != nil && !c.lost {
			failures++
		}
		if c.end.IsZero() {
			bad("I3", "call %d has no end", i+1)
		}
		if i > 0 && c.began.Before(calls[i-1].end) {
			bad("Q2.14", "call %d began at %s, before the one ahead of it had ended", i+1, c.began.Sub(h.began))
		}
		if h.with[traitTimeout] && c.end.Sub(c.began) > pairTimeout {
			bad("Q2.9", "call %d took %s", i+1, c.end.Sub(c.began))
		}
		if i > 0 && h.with[traitRetry] && calls[i-1].err != nil && c.began.Sub(calls[i-1].end) < pairBackoff-exact {
			bad("Q1.23", "call %d began %s after a failure", i+1, c.began.Sub(calls[i-1].end))
		}
		if over, ok := h.over[row.ID.String()]; ok && c.began.After(over) {
			bad("Q10.21", "call %d began after the execution was cancelled", i+1)
		}
	}
	tries := 1
	if h.with[traitRetry] {
		tries = pairTries
	}
	completed := len(calls) > 0 && calls[len(calls)-1].err == nil && !calls[len(calls)-1].lost
	switch row.State {
	case storage.Completed:
		if !completed {
			bad("I3", "its last call did not end well")
		}
	case storage.Failed:
		if completed {
			bad("I3", "its last call ended well")
		}
		if row.Losses == 0 && row.Attempts() < tries { // one may have been lost before its call
			bad("Q1.8", "it had tries left")
		}
	case storage.Cancelled:
		if !h.asked[row.ID.String()] {
			bad("Q0.8", "nobody cancelled it")
		}
	default:
		bad("Q0.8", "it should not end so")
	}
	switch {
	case row.Attempts() < len(calls) || !h.with[traitCrash] && row.State != storage.Cancelled && row.Attempts() != len(calls):
		bad("Q1.3", "attempts that were made and attempts that are counted differ")
	case failures > row.Errors+1 || row.Errors > failures:
		bad("Q1.17", "%d calls failed", failures)
	case h.with[traitRetry] && row.Attempts() > tries, !h.with[traitCrash] && row.Attempts() > tries:
		bad("Q1.8", "%d attempts are more than %d", row.Attempts(), tries)
	}
}

// checkKeys is what holds among those that have a key in common.
func (h *history) checkKeys(rows []storage.Execution) {
	if h.with[traitOverlap] {
		calls := slices.SortedFunc(slices.Values(h.calls), func(a, b *call) int { return a.began.Compare(b.began) })
		last := map[string]*call{}
		for _, c := range calls {
			if before := last[c.key]; before != nil && c.began.Before(before.end) {
				h.t.Errorf("Q3.22: %s began at %s, while %s ran, both with key %s", c.id, c.began.Sub(h.began), before.id, c.key)
			}
			if before := last[c.key]; before == nil || c.end.After(before.end) {
				last[c.key] = c
			}
		}
	}
	if !h.with[traitUnique] {
		return
	}
	keys := map[string]string{}
	for _, c := range h.calls {
		keys[c.id] = c.key
	}
	by := map[string][]storage.Execution{}
	for _, row := range rows {
		if key := keys[row.ID.String()]; key != "" {
			by[key] = append(by[key], row)
		}
	}
	for key, list := range by {
		slices.SortFunc(list, func(a, b storage.Execution) int { return a.CreatedAt.Compare(b.CreatedAt) })
		for i := 1; i < len(list); i++ {
			if list[i].CreatedAt.Before(list[i-1].FinishedAt) {
				h.t.Errorf("Q4.1: %s was accepted while %s lived, both with key %s", list[i].ID, list[i-1].ID, key)
			}
		}
	}
}

// checkRate fails if more were let in than a window has room for. A process that died
// may have taken a place that nobody saw.
func (h *history) checkRate() {
	slices.SortFunc(h.in, time.Time.Compare)
	room := pairRate
	if h.with[traitCrash] {
		room *= 2
	}
	for i := 0; i < len(h.in); {
		n := 1
		for i+n < len(h.in) && h.in[i+n].Sub(h.in[i]) < pairWindow-exact {
			n++
		}
		if n > room {
			h.t.Errorf("Q3.14: %d were let in within %s of %s", n, pairWindow, h.in[i].Sub(h.began))
		}
		i += n
	}
}

// checkCircuit fails if something began while the circuit was open. No two things happen in
// one moment, see stagger.
func (h *history) checkCircuit() {
	if !h.with[traitThrottle] {
		return
	}
	type moment struct {
		at   time.Time
		c    *call
		ends bool
	}
	var moments []moment
	for _, c := range h.calls {
		moments = append(moments, moment{c.began, c, false})
		if !c.lost && !errors.Is(c.err, sequencer.ErrCancelled) {
			moments = append(moments, moment{c.end, c, true})
		}
	}
	slices.SortFunc(moments, func(a, b moment) int { return a.at.Compare(b.at) })
	counted, since := 0, time.Time{}
	forgets := map[*call]bool{} // it found errors, so that its success forgets them
	for _, m := range moments {
		if m.at.Sub(since) >= pairCircuit-exact {
			counted = 0
		}
		switch {
		case !m.ends:
			forgets[m.c] = counted > 0
			if counted == pairErrors {
				h.t.Errorf("Q3.29: %s began at %s: %d errors had been counted since %s", m.c.id, m.at.Sub(h.began), counted, since.Sub(h.began))
			}
		case m.c.err == nil && forgets[m.c]:
			counted = 0
		case m.c.err != nil && counted == 0:
			counted, since = 1, m.at
		case m.c.err != nil && counted < pairErrors:
			counted++
		}
	}
}

func (h *history) checkSecret(desk *party, rows []storage.Execution) {
	for _, row := range rows {
		log, err := desk.s.Store().Attempts(h.t.Context(), row.ID)
		if err != nil {
			h.t.Fatal(err)
		}
		for _, a := range log {
			if bytes.Contains([]byte(a.Message), []byte(errBoom.Error())) {
				h.t.Errorf("S15.4: the ledger shows the error %q", a.Message)
			}
		}
		if bytes.Contains(row.Input, []byte("secret")) {
			h.t.Errorf("S15.1: the input of %s can be read in the store", row.ID)
		}
	}
}
