package storage_test

import (
	"slices"
	"testing"

	"github.com/gosequencer/sequencer/storage"
)

func TestTransitionsAreTheUnionOfTheLegalMoves(t *testing.T) { // S5.5, Q0.8
	t.Parallel()
	const p, r, c, f, s, x, i, b = storage.Pending, storage.Running, storage.Completed, storage.Failed,
		storage.Skipped, storage.Cancelled, storage.Interrupted, storage.RolledBack
	legal := map[storage.State][]storage.State{
		p: {r, s, x, f}, r: {p, c, f, s, x, i}, c: {b}, f: {p, b}, i: {p, f, c}, x: {p}, s: {}, b: {},
	}
	for _, from := range storage.States {
		for _, to := range storage.States {
			if got, want := from.CanBecome(to), slices.Contains(legal[from], to); got != want {
				t.Errorf("%s to %s: legal %v, want %v", from, to, got, want)
			}
		}
	}
}

func TestTransitionsCoverEveryStateAndLeadToKnownOnes(t *testing.T) { // S5.5
	t.Parallel()
	for _, s := range storage.States {
		targets, listed := storage.Transitions[s]
		if !listed {
			t.Errorf("%s has no line in the table", s)
		}
		for _, to := range targets {
			if !to.Known() {
				t.Errorf("%s may become %q, which is no state", s, to)
			}
		}
	}
	if len(storage.Transitions) != len(storage.States) {
		t.Errorf("the table has %d states, the list %d", len(storage.Transitions), len(storage.States))
	}
}

func TestStatePredicates(t *testing.T) { // S5.1
	t.Parallel()
	for s, want := range map[storage.State]struct{ over, successful, known bool }{
		storage.Pending:     {false, false, true},
		storage.Running:     {false, false, true},
		storage.Completed:   {true, true, true},
		storage.Failed:      {true, false, true},
		storage.Skipped:     {true, true, true},
		storage.Cancelled:   {true, false, true},
		storage.Interrupted: {true, false, true},
		storage.RolledBack:  {true, false, true},
		"retrying":          {true, false, false},
	} {
		if s.Over() != want.over || s.Successful() != want.successful || s.Known() != want.known {
			t.Errorf("%s: over %v, successful %v, known %v; want %+v", s, s.Over(), s.Successful(), s.Known(), want)
		}
	}
}
