package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/middleware"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
)

// call is a piece of work with an input.
type call struct {
	Customer string `json:"customer"`
}

// lab is a sequencer with one operation, "call", in a bubble.
type lab struct {
	*sequencer.Sequencer
	t     *testing.T
	began time.Time
	op    func(call) sequencer.Operation

	mu      sync.Mutex // guards the rest
	starts  []time.Duration
	running int
	most    int
}

// open makes a lab whose handler is fn; what it notes is kept.
func open(t *testing.T, cfg sequencer.Config, fn func(ctx context.Context, in call) error, opts ...sequencer.RegisterOption) *lab {
	t.Helper()
	l := &lab{t: t, began: time.Now()}
	reg := sequencer.NewRegistry()
	l.op = sequencer.RegisterFuncOf(reg, "call", func(ctx context.Context, in call) error {
		l.mu.Lock()
		l.starts = append(l.starts, time.Since(l.began))
		l.running++
		l.most = max(l.most, l.running)
		l.mu.Unlock()
		defer func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.running--
		}()
		return fn(ctx, in)
	}, opts...)
	cfg.Logger = slog.New(slog.DiscardHandler)
	var err error
	if l.Sequencer, err = sequencer.New(memory.New(), reg, cfg); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *lab) dispatch(inputs ...call) {
	l.t.Helper()
	ops := make([]sequencer.Operation, len(inputs))
	for i, in := range inputs {
		ops[i] = l.op(in)
	}
	if _, err := l.DispatchAll(l.t.Context(), ops...); err != nil {
		l.t.Fatal(err)
	}
}

// work serves the queue until nothing has been runnable for an hour.
func (l *lab) work() {
	l.t.Helper()
	if err := l.Work(l.t.Context(), sequencer.WorkerConfig{Slots: 8, StopWhenEmptyFor: time.Hour}); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) rows() []storage.Execution {
	l.t.Helper()
	rows, err := l.Store().Executions(l.t.Context(), storage.Filter{Limit: 1000, Oldest: true})
	if err != nil {
		l.t.Fatal(err)
	}
	return rows
}

func (l *lab) wantStates(want map[storage.State]int) {
	l.t.Helper()
	got := map[storage.State]int{}
	for _, row := range l.rows() {
		got[row.State]++
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		l.t.Errorf("states %v, want %v", got, want)
	}
}

// startedIn counts the starts from one instant up to before another.
func (l *lab) startedIn(from, to time.Duration) int {
	n := 0
	for _, at := range l.starts {
		if at >= from && at < to {
			n++
		}
	}
	return n
}

func fine(context.Context, call) error { return nil }

func TestQ3_17_WithoutRoomAnExecutionWaitsForTheWindowToEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // Q13.3: no attempt is spent by waiting
		l := open(t, sequencer.Config{Limiters: map[string]sequencer.Limiter{"api": sequencer.PerMinute(2)}}, fine,
			sequencer.Use(middleware.RateLimited("api")))
		l.dispatch(make([]call, 5)...)
		l.work()
		l.wantStates(map[storage.State]int{storage.Completed: 5})
		for window, want := range []int{2, 2, 1} {
			from := time.Duration(window) * time.Minute
			if got := l.startedIn(from, from+time.Minute); got != want {
				t.Errorf("minute %d: %d starts, want %d (all: %v)", window, got, want, l.starts)
			}
		}
		for _, row := range l.rows() {
			if row.Attempts() != 1 || row.Errors != 0 {
				t.Errorf("Q1.3: %d attempts and %d errors, want 1 and 0", row.Attempts(), row.Errors)
			}
		}
	})
}

func TestQ3_8_ALimiterDecidesByTheOperationsInput(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiter := sequencer.LimiterFunc(func(a *sequencer.Attempt) []sequencer.Limit {
			in, _ := sequencer.InputOf[call](a)
			customer := in.Customer
			if customer == "free" {
				return nil // not limited
			}
			return []sequencer.Limit{sequencer.PerHour(1).By(func(*sequencer.Attempt) string { return customer })}
		})
		l := open(t, sequencer.Config{Limiters: map[string]sequencer.Limiter{"api": limiter}}, fine, sequencer.Use(middleware.RateLimited("api").DontRelease()))
		l.dispatch(call{"ada"}, call{"ada"}, call{"grace"}, call{"free"}, call{"free"}, call{"free"})
		l.work()
		l.wantStates(map[storage.State]int{storage.Completed: 5, storage.Skipped: 1})
		for _, row := range l.rows() {
			if row.State == storage.Skipped && row.Reason != "rate_limited" {
				t.Errorf("Q3.19: skipped because of %q, want rate_limited", row.Reason)
			}
		}
	})
}

func TestQ3_7_AnUnknownLimiterIsFoundByNew(t *testing.T) {
	t.Parallel()
	reg := sequencer.NewRegistry()
	sequencer.RegisterFunc(reg, "call", func(context.Context) error { return nil },
		sequencer.Use(middleware.RateLimited("apj"), middleware.ThrottleErrors(0, time.Minute), middleware.WithoutOverlapping("k").ExpireAfter(-1)))
	_, err := sequencer.New(memory.New(), reg, sequencer.Config{Limiters: map[string]sequencer.Limiter{
		"api": sequencer.PerMinute(1), "bad": sequencer.PerMinute(-1), "none": nil, "sp ace": sequencer.PerDay(1),
	}})
	for _, want := range []string{
		`call: RateLimited: limiter "apj" is not defined: there is api, bad`, "ThrottleErrors(0, 1m0s): want at least one error",
		`WithoutOverlapping("k").ExpireAfter(-1ns)`, "Limiters[bad]", "Limiters[none] is nil", `"sp ace"`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New does not say %q:\n%v", want, err)
		}
	}
}

func TestQ3_22_OneKeyOneExecutionAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := open(t, sequencer.Config{}, func(context.Context, call) error {
			time.Sleep(10 * time.Second) // sleep: inside a bubble
			return nil
		}, sequencer.Use(middleware.WithoutOverlapping("one")))
		l.dispatch(make([]call, 4)...)
		l.work()
		l.wantStates(map[storage.State]int{storage.Completed: 4})
		if l.most != 1 {
			t.Errorf("%d ran at a time, want 1", l.most)
		}
		for _, row := range l.rows() {
			if row.Attempts() != 1 {
				t.Errorf("Q3.27: %d attempts, want 1: waiting costs none", row.Attempts())
			}
		}
	})
}

// The control: without the middleware they do overlap.
func TestWithoutItTheyOverlap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := open(t, sequencer.Config{}, func(context.Context, call) error {
			time.Sleep(10 * time.Second) // sleep: inside a bubble
			return nil
		})
		l.dispatch(make([]call, 4)...)
		l.work()
		if l.most != 4 {
			t.Errorf("%d ran at a time, want 4", l.most)
		}
	})
}

func TestQ3_24_OverlappingMayBeDroppedAndSaysWhoHeldTheKeyOtherwise(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := func(context.Context, call) error {
			time.Sleep(time.Minute) // sleep: inside a bubble
			return nil
		}
		l := open(t, sequencer.Config{}, slow, sequencer.Use(middleware.WithoutOverlapping(7).DontRelease()))
		l.dispatch(call{}, call{})
		l.work()
		l.wantStates(map[storage.State]int{storage.Completed: 1, storage.Skipped: 1})

		l = open(t, sequencer.Config{}, slow, sequencer.Use(middleware.WithoutOverlapping(7).ReleaseAfter(25*time.Second)))
		l.dispatch(call{}, call{})
		seen := make(chan struct{})
		go func() {
			defer close(seen)
			time.Sleep(10 * time.Second) // sleep: inside a bubble
			var holder, waits storage.Execution
			for _, row := range l.rows() {
				if row.State == storage.Running {
					holder = row
				} else {
					waits = row
				}
			}
			why, err := l.Why(t.Context(), waits.ID.String())
			if err != nil || len(why.Reasons) == 0 || why.Reasons[0].Kind != sequencer.ReasonHeld || !strings.Contains(why.Reasons[0].Text, holder.ID.String()) {
				t.Errorf("why does it wait? %+v, %v; want the holder of its key", why, err)
			}
			if want := `key "call/7" is held by execution ` + holder.ID.String(); waits.State != storage.Pending || !strings.Contains(waits.Reason, want) {
				t.Errorf("the one that waits is %s because %q, want pending because %s", waits.State, waits.Reason, want)
			}
		}()
		l.work()
		<-seen
		if len(l.starts) != 2 || l.starts[1] != 75*time.Second {
			t.Errorf("starts %v, want the second after three times 25 s", l.starts)
		}
		for _, row := range l.rows() {
			if row.Reason != "" {
				t.Errorf("once it is completed its reason is %q, want none", row.Reason)
			}
		}
	})
}

func TestQ2_11_AnAbandonedHandlerKeepsItsKeyUntilItReturns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // Q13.4
		l := open(t, sequencer.Config{TimeoutGrace: time.Second}, func(context.Context, call) error {
			time.Sleep(30 * time.Second) // sleep: inside a bubble; it ignores its context
			return nil
		}, sequencer.Use(middleware.WithoutOverlapping("k").ReleaseAfter(time.Second)),
			sequencer.Tries(2), sequencer.Backoff(5*time.Second), sequencer.Timeout(2*time.Second))
		l.dispatch(call{})
		l.work()
		l.wantStates(map[storage.State]int{storage.Failed: 1})
		if l.most != 1 || len(l.starts) != 2 || l.starts[1] < 30*time.Second || l.starts[1] > 32*time.Second {
			t.Errorf("starts %v, %d at a time; want the second once the first has returned", l.starts, l.most)
		}
	})
}

func TestQ3_29_EnoughErrorsOpenTheCircuit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // Q13.14
		l := open(t, sequencer.Config{}, func(context.Context, call) error { return errors.New("boom") },
			sequencer.Tries(3), sequencer.Use(middleware.ThrottleErrors(2, time.Minute).Backoff(5*time.Second)))
		l.dispatch(call{})
		l.work()
		if len(l.starts) != 3 || l.starts[0] != 0 || l.starts[1] != 5*time.Second || l.starts[2] < time.Minute || l.starts[2] > 63*time.Second {
			t.Errorf("starts %v, want 0, 5 s and the third in the three seconds after a minute", l.starts)
		}
		row := l.rows()[0]
		if row.State != storage.Failed || row.Attempts() != 3 || row.Errors != 3 || row.LastError != "boom" {
			t.Errorf("Q3.34: %s after %d attempts with %d errors, %q; want failed after 3 with 3, boom", row.State, row.Attempts(), row.Errors, row.LastError)
		}
	})
}

func TestQ3_30_ASuccessClosesTheCircuitAndOtherErrorsPassBy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		counted, other := errors.New("counted"), errors.New("other")
		answers := []error{counted, nil, counted, other, other, counted, nil}
		l := open(t, sequencer.Config{}, func(context.Context, call) error {
			err := answers[0]
			answers = answers[1:]
			return err
		}, sequencer.Tries(1), sequencer.Use(middleware.ThrottleErrors(2, time.Hour).When(func(err error) bool { return errors.Is(err, counted) })))
		for range 7 {
			l.dispatch(call{})
			if err := l.Work(t.Context(), sequencer.WorkerConfig{Once: true}); err != nil {
				t.Fatal(err)
			}
		}
		if got := len(l.starts); got != 6 {
			t.Errorf("%d started, want 6: the second error since the success opens the circuit", got)
		}
		if last := l.rows()[6]; last.State != storage.Pending || last.Attempts() != 0 || last.Reason != "circuit op:call is open after 2 errors" {
			t.Errorf("the last is %s after %d attempts because %q", last.State, last.Attempts(), last.Reason)
		}
	})
}

// A worker that stops, or a person who cancels, says nothing about what attempts call.
func TestQ3_29_AnAttemptThatIsStoppedDoesNotCountInTheCircuit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := make(chan struct{}, 2)
		l := open(t, sequencer.Config{ShutdownGrace: time.Second}, func(ctx context.Context, in call) error {
			if in.Customer == "slow" {
				began <- struct{}{}
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}, sequencer.Use(middleware.ThrottleErrors(1, time.Hour)))
		l.dispatch(call{Customer: "slow"})
		ctx, stop := context.WithCancel(t.Context())
		worked := make(chan error)
		go func() { worked <- l.Work(ctx, sequencer.WorkerConfig{}) }()
		<-began
		stop()
		if err := <-worked; err != nil {
			t.Fatal(err)
		}
		row := l.rows()[0]
		if row.State != storage.Pending || row.Attempts() != 0 {
			t.Fatalf("%s after %d attempts", row.State, row.Attempts())
		}
		if err := l.Cancel(t.Context(), row.ID.String(), ""); err != nil {
			t.Fatal(err)
		}
		l.dispatch(call{Customer: "quick"})
		at := time.Since(l.began)
		l.work()
		if got := l.starts[len(l.starts)-1]; got != at {
			t.Errorf("the next began at %s, want %s: the circuit is open", got, at)
		}
	})
}

func TestQ3_37_Q3_38_Q3_40_ConditionsDecideForEachAttempt(t *testing.T) {
	t.Parallel()
	permanent := errors.New("permanent")
	for name, c := range map[string]struct {
		use     sequencer.Middleware
		returns error
		want    storage.State
		starts  int
		reason  string
	}{
		"skip":           {middleware.SkipWhen("closed", func(context.Context, *sequencer.Attempt) bool { return true }), nil, storage.Skipped, 0, "closed"},
		"no reason":      {middleware.SkipWhen("closed", func(context.Context, *sequencer.Attempt) bool { return false }), nil, storage.Completed, 1, ""},
		"fail on":        {middleware.FailOn(permanent), fmt.Errorf("wrapped: %w", permanent), storage.Failed, 1, ""},
		"fail on others": {middleware.FailOn(errors.New("others")), permanent, storage.Failed, 3, ""},
		"release": {middleware.ReleaseWhen(time.Minute, "night", func(_ context.Context, a *sequencer.Attempt) bool {
			return time.Now().Second() == 0 && a.Number == 1
		}), nil, storage.Completed, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := open(t, sequencer.Config{}, func(context.Context, call) error { return c.returns }, sequencer.Tries(3), sequencer.Use(c.use))
				l.dispatch(call{})
				if name == "release" {
					time.Sleep(time.Second) // sleep: inside a bubble
				}
				l.work()
				row := l.rows()[0]
				if row.State != c.want || len(l.starts) != c.starts || row.Reason != c.reason {
					t.Errorf("%s after %d starts because %q; want %s after %d because %q", row.State, len(l.starts), row.Reason, c.want, c.starts, c.reason)
				}
			})
		})
	}
}

// A circuit around a limiter: what waits for the limiter neither fails nor succeeds.
func TestQ3_30_OnlyARealSuccessClosesTheCircuit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		results := []error{errors.New("boom")}
		l := open(t, sequencer.Config{Limiters: map[string]sequencer.Limiter{"api": sequencer.PerMinute(1)}}, func(context.Context, call) error {
			if len(results) == 0 {
				return nil
			}
			err := results[0]
			results = results[1:]
			return err
		}, sequencer.Tries(2), sequencer.Use(middleware.ThrottleErrors(5, time.Hour), middleware.RateLimited("api").ReleaseAfter(10*time.Second)))
		l.dispatch(call{})
		l.work()
		if !slices.Equal(l.starts, []time.Duration{0, time.Minute}) {
			t.Errorf("starts %v, want 0 and 1 minute", l.starts)
		}
		if row := l.rows()[0]; row.State != storage.Completed || row.Attempts() != 2 || row.Errors != 1 {
			t.Errorf("%s after %d attempts with %d errors, want completed after 2 with 1", row.State, row.Attempts(), row.Errors)
		}
	})
}

func TestQ3_13_SeveralLimitsOfOneLimiterHoldTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiter := sequencer.AllOf(sequencer.PerSecond(1), sequencer.PerMinute(3))
		l := open(t, sequencer.Config{Limiters: map[string]sequencer.Limiter{"api": limiter}}, fine, sequencer.Use(middleware.RateLimited("api")))
		l.dispatch(make([]call, 5)...)
		l.work()
		l.wantStates(map[storage.State]int{storage.Completed: 5})
		if got := l.startedIn(0, time.Minute); got != 3 {
			t.Errorf("%d starts in the first minute, want 3 (all: %v)", got, l.starts)
		}
		for i, at := range l.starts[1:] {
			if gap := at - l.starts[i]; gap < time.Second {
				t.Errorf("starts %s apart, want a second at least (all: %v)", gap, l.starts)
			}
		}
	})
}
