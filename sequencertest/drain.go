package sequencertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// Drain does what waits in the queues until nothing is left that time alone brings,
// what is delayed and what is to be retried included, and returns how many attempts were
// made. One execution runs at a time, queues by name, and within them by priority, due
// time and age, so that a test runs the same way every time.
//
// It sleeps where there is something to wait for, so a test in which there may be is
// wrapped in synctest.Test, where that takes no time; outside of it Drain fails the test
// instead. What no time helps stays: what is paused, what this registry does not know,
// what waits for an approval. A schedule never ends: it fires if a tick is due while something runs.
func Drain(tb testing.TB, seq *sequencer.Sequencer) int {
	tb.Helper()
	return drained(tb, seq, true)
}

// DrainDue does what is due now, and what that dispatches, and waits for nothing.
func DrainDue(tb testing.TB, seq *sequencer.Sequencer) int {
	tb.Helper()
	return drained(tb, seq, false)
}

func drained(tb testing.TB, seq *sequencer.Sequencer, wait bool) int {
	tb.Helper()
	n, err := drain(tb.Context(), seq, wait)
	if err != nil {
		tb.Fatalf("sequencertest: draining: %v", err)
	}
	return n
}

// errTime says that only time helps, and that it would really have to pass.
var errTime = errors.New("wrap the test in synctest.Test, where waiting takes no time, or use DrainDue")

func drain(ctx context.Context, seq *sequencer.Sequencer, wait bool) (int, error) {
	var attempts atomic.Int64
	ctx = sequencer.WithObserver(ctx, func(_ context.Context, e sequencer.Event) {
		if e.Kind == sequencer.EventStarted {
			attempts.Add(1)
		}
	})
	for {
		before := attempts.Load()
		rows, err := waiting(ctx, seq, storage.Pending, storage.Running) // a worker may have died with these
		if err != nil {
			return 0, err
		}
		if queues := queuesOf(rows); len(queues) > 0 {
			if err := seq.Work(ctx, sequencer.WorkerConfig{Queues: queues, Slots: 1, StopWhenEmpty: true}); err != nil {
				return 0, err
			}
			if rows, err = waiting(ctx, seq, storage.Pending); err != nil {
				return 0, err
			}
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		next := earliest(rows)
		pause := time.Until(next.DueAt)
		switch {
		case next.ID.IsZero(), pause > 0 && !wait:
			return int(attempts.Load()), nil
		case pause <= 0 && attempts.Load() == before: // due, and nobody takes it: by a worker's word it cannot be run here
			return int(attempts.Load()), nil
		case pause > 0 && !inBubble():
			return 0, fmt.Errorf("%s is due in %s: %w", next.Name, pause.Round(time.Millisecond), errTime)
		case pause > 0:
			// sleep: in a bubble
			time.Sleep(pause) //nolint:forbidigo // a bubble's clock goes on when all in it wait
		}
	}
}

// waiting are the rows of public queues that a worker may have to do with, now or later.
func waiting(ctx context.Context, seq *sequencer.Sequencer, states ...storage.State) ([]storage.Execution, error) {
	paused := map[string]bool{}
	all, err := seq.Store().Queues(ctx, time.Time{})
	if err != nil {
		return nil, err
	}
	for _, q := range all {
		paused[q.Queue] = q.Paused
	}
	asked := map[string]bool{}
	approvals, err := seq.Approvals(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range approvals {
		asked[a.Execution] = true
	}
	rows, err := seq.Store().Executions(ctx, storage.Filter{States: states, Limit: 10_000})
	return slices.DeleteFunc(rows, func(e storage.Execution) bool {
		return e.DueAt.IsZero() || asked[e.ID.String()] || e.Parked || paused[e.Queue] || strings.HasPrefix(e.Queue, storage.PrivateQueue)
	}), err
}

func queuesOf(rows []storage.Execution) []string {
	queues := map[string]bool{}
	for _, e := range rows {
		queues[e.Queue] = true
	}
	return slices.Sorted(maps.Keys(queues))
}

// earliest is the row that is due first, zero if there is none.
func earliest(rows []storage.Execution) storage.Execution {
	var first storage.Execution
	for _, e := range rows {
		if first.ID.IsZero() || e.DueAt.Before(first.DueAt) {
			first = e
		}
	}
	return first
}

// inBubble reports whether time is synctest's, which begins with the year 2000.
func inBubble() (in bool) {
	if time.Now().Year() < 2020 {
		return true
	}
	defer func() { in = recover() == nil }()
	synctest.Wait() // panics outside of a bubble
	return true
}
