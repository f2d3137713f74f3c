package timeline_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/middleware"
	"github.com/gosequencer/sequencer/storage"
)

const second = time.Second

// timeline is one of Q13: what is declared, what the handler does, and what is to come of
// it. Times are counted from the dispatch.
type timeline struct {
	cfg      sequencer.Config
	declare  []sequencer.RegisterOption
	op       func(w *world, handle func(context.Context) error) sequencer.Operation // in place of declare
	handle   func(ctx context.Context, n int) error                                 // n counts calls, from 1
	dispatch int                                                                    // how many; 0 = one

	starts   []time.Duration // when the handler is entered
	retrying []time.Duration // when an attempt has failed that is not the last
	failed   []time.Duration // when the last one has
	slack    time.Duration   // how much later a start may be

	state            storage.State // of each execution
	attempts, errors int
	deferrals        int    // of all, at least
	cause            error  // what the failed hook is told, by errors.Is…
	says             string // …or by its text
	warns            string // of New's log
}

var errBoom = errors.New("boom")

func boom(_ context.Context, n int) error { return fmt.Errorf("%w %d", errBoom, n) }

// deaf ignores its context, for this long.
func deaf(d time.Duration) func(context.Context, int) error {
	return func(context.Context, int) error {
		time.Sleep(d) // sleep: in a bubble
		return nil
	}
}

var timelines = map[string]timeline{
	"Q13.1 tries and backoff": {
		declare: []sequencer.RegisterOption{sequencer.Tries(5), sequencer.Backoff(1*second, 5*second, 10*second, 30*second, 60*second)},
		handle:  boom,
		starts:  []time.Duration{0, 1 * second, 6 * second, 16 * second, 46 * second}, retrying: []time.Duration{0, 1 * second, 6 * second, 16 * second}, failed: []time.Duration{46 * second},
		state: storage.Failed, attempts: 5, errors: 5, says: "boom 5",
	},
	"Q13.2 maxExceptions": {
		declare: []sequencer.RegisterOption{sequencer.Tries(3), sequencer.Backoff(10*second, 30*second, 60*second), sequencer.MaxExceptions(2)},
		handle:  boom,
		starts:  []time.Duration{0, 10 * second}, retrying: []time.Duration{0}, failed: []time.Duration{10 * second},
		state: storage.Failed, attempts: 2, errors: 2, says: "boom 2",
	},
	"Q13.3 a limiter without room": {
		cfg:     sequencer.Config{Limiters: map[string]sequencer.Limiter{"api": sequencer.Limit{N: 1, Per: 100 * second}}},
		declare: []sequencer.RegisterOption{sequencer.Tries(3), sequencer.Use(middleware.RateLimited("api"))},
		handle:  func(context.Context, int) error { return nil }, dispatch: 2, // the first takes the room
		starts: []time.Duration{0, 100 * second}, slack: 3 * second,
		state: storage.Completed, attempts: 1, deferrals: 1,
	},
	"Q13.4 a handler that ignores its timeout": {
		cfg:     sequencer.Config{TimeoutGrace: second},
		declare: []sequencer.RegisterOption{sequencer.Timeout(2 * second), sequencer.Tries(2), sequencer.Backoff(5 * second)},
		handle:  deaf(time.Minute),
		starts:  []time.Duration{0, 8 * second}, retrying: []time.Duration{3 * second}, failed: []time.Duration{11 * second},
		state: storage.Failed, attempts: 2, errors: 2, cause: sequencer.ErrTimeout,
	},
	"Q13.4 and holds an overlap key": {
		cfg: sequencer.Config{TimeoutGrace: second},
		declare: []sequencer.RegisterOption{
			sequencer.Timeout(2 * second), sequencer.Tries(2), sequencer.Backoff(5 * second),
			sequencer.Use(middleware.WithoutOverlapping("all").ReleaseAfter(10 * second)),
		},
		handle: deaf(time.Minute),
		starts: []time.Duration{0, 68 * second}, retrying: []time.Duration{3 * second}, failed: []time.Duration{71 * second}, // 8, 18, … 58 find it held
		state: storage.Failed, attempts: 2, errors: 2, deferrals: 6, cause: sequencer.ErrTimeout,
	},
	"Q13.5 failOnTimeout": {
		cfg:     sequencer.Config{TimeoutGrace: second},
		declare: []sequencer.RegisterOption{sequencer.Timeout(2 * second), sequencer.FailOnTimeout(), sequencer.Tries(2), sequencer.Backoff(5 * second)},
		handle:  deaf(time.Minute),
		starts:  []time.Duration{0}, failed: []time.Duration{3 * second},
		state: storage.Failed, attempts: 1, errors: 1, cause: sequencer.ErrTimeout,
	},
	"Q13.6 releases spend tries": {
		declare: []sequencer.RegisterOption{sequencer.Tries(3)},
		handle:  func(context.Context, int) error { return sequencer.Release(20 * second) },
		starts:  []time.Duration{0, 20 * second, 40 * second}, failed: []time.Duration{40 * second},
		state: storage.Failed, attempts: 3, cause: sequencer.ErrMaxAttempts,
	},
	"Q13.7 retryUntil": {
		op: func(w *world, handle func(context.Context) error) sequencer.Operation {
			sequencer.Register(w.reg, "op", func() *until { return &until{handle: handle, world: w} })
			return &until{}
		},
		handle: boom,
		starts: []time.Duration{0, 20 * second}, retrying: []time.Duration{0}, failed: []time.Duration{20 * second},
		state: storage.Failed, attempts: 2, errors: 2, says: "boom 2",
	},
	"Q13.14 a circuit that opens": {
		declare: []sequencer.RegisterOption{sequencer.Tries(3), sequencer.Use(middleware.ThrottleErrors(2, time.Minute).Backoff(5 * second))},
		handle:  boom, // the tenth try is left out: what comes after the window is another one
		starts:  []time.Duration{0, 5 * second, 60 * second}, slack: 3 * second, retrying: []time.Duration{0, 5 * second}, failed: []time.Duration{60 * second},
		state: storage.Failed, attempts: 3, errors: 3, deferrals: 1, says: "boom 3",
	},
	"Q13.15 the combined operation": {
		op: func(w *world, handle func(context.Context) error) sequencer.Operation {
			sequencer.Register(w.reg, "op", func() *combinedGuide { return &combinedGuide{handle: handle, world: w} })
			return &combinedGuide{}
		},
		handle: boom,
		starts: []time.Duration{0, 30 * second, 60 * second}, retrying: []time.Duration{0, 30 * second}, failed: []time.Duration{60 * second},
		state: storage.Failed, attempts: 3, errors: 3, says: "boom 3", warns: "MaxExceptions",
	},
}

// until has a retry deadline of thirty seconds, and no tries.
type until struct {
	handle func(context.Context) error
	world  *world
}

func (u *until) Handle(ctx context.Context) error { return u.handle(ctx) }
func (*until) Backoff() []time.Duration           { return []time.Duration{20 * second} }
func (*until) RetryUntil() time.Time              { return time.Now().Add(30 * second) }
func (u *until) Failed(_ context.Context, cause error) error {
	return u.world.failed(cause)
}

// combinedGuide is the combined operation of the guide.
type combinedGuide struct {
	handle func(context.Context) error
	world  *world
}

func (c *combinedGuide) Handle(ctx context.Context) error { return c.handle(ctx) }
func (*combinedGuide) Tries() int                         { return 3 }
func (*combinedGuide) MaxExceptions() int                 { return 5 }
func (*combinedGuide) RetryUntil() time.Time              { return time.Now().Add(time.Hour) }
func (*combinedGuide) Backoff() []time.Duration {
	return []time.Duration{10 * second, 30 * second, 60 * second}
}

func (*combinedGuide) Middleware() []sequencer.Middleware {
	return []sequencer.Middleware{middleware.ThrottleErrors(5, 5*time.Minute).Backoff(30 * second)}
}

func (c *combinedGuide) Failed(_ context.Context, cause error) error { return c.world.failed(cause) }

func (w *world) failed(cause error) error {
	w.note("hook failed")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cause = cause
	return nil
}

func TestQ13_Timelines(t *testing.T) {
	t.Parallel()
	for name, l := range timelines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everywhere(t, func(w *world) { l.run(w) })
		})
	}
}

func (l timeline) run(w *world) {
	n := 0
	handle := func(ctx context.Context) error {
		w.mu.Lock()
		n++
		call := n
		w.mu.Unlock()
		w.note("start")
		return l.handle(ctx, call)
	}
	var op sequencer.Operation
	if l.op != nil {
		op = l.op(w, handle)
	} else {
		op = sequencer.RegisterFunc(w.reg, "op", handle,
			append(l.declare, sequencer.OnFailed(func(_ context.Context, cause error) error { return w.failed(cause) }))...)
	}
	s := w.seq(w.process(), l.cfg)
	if warned := w.logged.String(); (l.warns != "") != strings.Contains(warned, "WARN") || !strings.Contains(warned, l.warns) {
		w.t.Errorf("New says %q, want a warning of %q", warned, l.warns)
	}
	for range max(l.dispatch, 1) {
		w.dispatch(s, op)
	}
	w.began = time.Now()
	w.work(s, 2*time.Minute)

	w.wantAt("start", l.slack, l.starts...)
	if l.cause == nil || !errors.Is(l.cause, sequencer.ErrMaxAttempts) { // a release is told as another event
		w.wantAt(string(sequencer.EventRetrying), l.slack, l.retrying...)
	}
	w.wantAt(string(sequencer.EventFailed), l.slack, l.failed...)
	w.wantAt("hook failed", l.slack, l.failed...)
	deferrals := 0
	for _, row := range w.rows(s, "op") {
		deferrals += row.Excused
		if row.State != l.state || row.Attempts() != l.attempts || row.Errors != l.errors {
			w.t.Errorf("%s; want %s after %d attempts, %d errors", describe(row), l.state, l.attempts, l.errors)
		}
	}
	if deferrals < l.deferrals {
		w.t.Errorf("%d deferrals, want %d", deferrals, l.deferrals)
	}
	switch {
	case l.cause != nil && !errors.Is(w.cause, l.cause):
		w.t.Errorf("the failed hook was told %v, want %v", w.cause, l.cause)
	case l.says != "" && (w.cause == nil || w.cause.Error() != l.says):
		w.t.Errorf("the failed hook was told %v, want %s", w.cause, l.says)
	}
}

// A worker had no time for it while it might have begun (Q1.12, S12.5).
func TestQ1_12_NothingBeginsAfterItsDeadline(t *testing.T) {
	t.Parallel()
	everywhere(t, func(w *world) {
		op := sequencer.RegisterFunc(w.reg, "op", func(context.Context) error { w.note("start"); return nil },
			sequencer.OnFailed(func(_ context.Context, cause error) error { return w.failed(cause) }))
		s := w.seq(w.process(), sequencer.Config{})
		w.dispatch(s, op, sequencer.RetryFor(10*second))
		w.began = time.Now()
		time.Sleep(11 * second) // sleep: in a bubble
		w.work(s, time.Minute)
		w.wantAt("start", 0)
		w.wantAt("hook failed", 0, 11*second)
		row := w.row(s, "op")
		if row.State != storage.Failed || row.Attempts() != 0 || row.Errors != 0 || !errors.Is(w.cause, sequencer.ErrDeadline) || errors.Is(w.cause, sequencer.ErrMaxAttempts) {
			w.t.Errorf("%s, and the hook was told %v", describe(row), w.cause)
		}
		w.dispatch(s, op, sequencer.RetryFor(20*second)) // control: there is time left
		time.Sleep(11 * second)                          // sleep: in a bubble
		w.work(s, time.Minute)
		if n := len(w.at("start")); n != 1 {
			w.t.Errorf("one that still had time was begun %d times", n)
		}
	})
}

func TestQ13_EveryTimelineIsATest(t *testing.T) {
	t.Parallel()
	have := map[string]bool{"Q13.12": true, "Q13.13": true} // TestQ13_12, TestQ13_13
	for name := range timelines {
		rule, _, _ := strings.Cut(name, " ")
		have[rule] = true
	}
	for name := range flowTimelines {
		rule, _, _ := strings.Cut(name, " ")
		have[rule] = true
	}
	for n := 1; n <= 15; n++ {
		if rule := fmt.Sprintf("Q13.%d", n); !have[rule] {
			t.Errorf("%s is no test", rule)
		}
	}
}

// once is unique by its key.
type once struct {
	Key   string `json:"key"`
	world *world
}

func (o *once) Handle(context.Context) error {
	o.world.note("start")
	return errBoom
}
func (o *once) UniqueID() string       { return o.Key }
func (*once) Tries() int               { return 2 }
func (*once) Backoff() []time.Duration { return []time.Duration{time.Minute} }

func TestQ13_12_AUniqueOperationHasOneHolderUntilItIsOver(t *testing.T) {
	t.Parallel()
	everywhere(t, func(w *world) {
		sequencer.Register(w.reg, "once", func() *once { return &once{world: w} })
		s := w.seq(w.process(), sequencer.Config{})
		first := w.dispatch(s, &once{Key: "a"})
		told := make(chan sequencer.Receipt, 1)
		time.AfterFunc(30*time.Second, func() { told <- w.dispatch(s, &once{Key: "a"}) }) // it waits for its retry
		w.work(s, 2*time.Minute)
		if again := <-told; !again.Duplicate || again.HolderID != first.ID {
			w.t.Errorf("the second is %+v, want a duplicate of %s", again, first.ID)
		}
		w.wantAt("start", 0, 0, time.Minute)
		third := w.dispatch(s, &once{Key: "a"}) // the first has failed
		if third.Duplicate {
			w.t.Errorf("the third is %+v", third)
		}
		if err := s.Cancel(w.t.Context(), third.ID, "cleared"); err != nil {
			w.t.Fatal(err)
		}
		if fourth := w.dispatch(s, &once{Key: "a"}); fourth.Duplicate {
			w.t.Errorf("the fourth is %+v", fourth)
		}
	})
}
