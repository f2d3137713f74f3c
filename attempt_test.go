package sequencer_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// execute runs an unlisted operation in a bubble's fake time and returns when its
// attempts started, in seconds, and the error it ended with.
func execute(t *testing.T, fn func(ctx context.Context, n int) error, opts ...sequencer.RegisterOption) (starts []int, l *lab, err error) {
	t.Helper()
	l = newLab(t)
	began := time.Now()
	var mu sync.Mutex // an abandoned attempt has a goroutine of its own
	sequencer.RegisterFunc(l.reg, "work", func(ctx context.Context) error {
		mu.Lock()
		starts = append(starts, int(time.Since(began).Round(time.Second)/time.Second))
		n := len(starts)
		mu.Unlock()
		return fn(ctx, n)
	}, opts...)
	l.open()
	err = l.ExecuteSync(t.Context(), sequencer.Named("work", nil))
	mu.Lock()
	defer mu.Unlock()
	return starts, l, err
}

var errBoom = errors.New("boom")

func always(err error) func(context.Context, int) error {
	return func(context.Context, int) error { return err }
}

func secs(n ...int) []time.Duration {
	steps := make([]time.Duration, len(n))
	for i := range n {
		steps[i] = time.Duration(n[i]) * time.Second
	}
	return steps
}

func TestWorkedTimelines(t *testing.T) {
	t.Parallel()
	tries, backoff := sequencer.Tries, sequencer.Backoff
	for _, c := range []struct {
		name   string
		fn     func(context.Context, int) error
		opts   []sequencer.RegisterOption
		starts []int
		want   error
	}{
		{"Q13.1 tries and a backoff list", always(errBoom), []sequencer.RegisterOption{tries(5), backoff(secs(1, 5, 10, 30, 60)...)}, []int{0, 1, 6, 16, 46}, errBoom},
		{"Q13.2 the error limit ends it first", always(errBoom), []sequencer.RegisterOption{tries(3), backoff(secs(10, 30, 60)...), sequencer.MaxExceptions(2)}, []int{0, 10}, errBoom},
		{"Q13.6 releasing spends attempts", always(sequencer.Release(20 * time.Second)), []sequencer.RegisterOption{tries(3)}, []int{0, 20, 40}, sequencer.ErrMaxAttempts},
		{"Q13.7 a deadline with no tries declared", always(errBoom), []sequencer.RegisterOption{sequencer.RetryFor(30 * time.Second), backoff(secs(20)...)}, []int{0, 20}, errBoom},
		{"Q1.10 tries and deadline both bind", always(errBoom), []sequencer.RegisterOption{tries(5), sequencer.RetryFor(time.Hour), backoff(secs(1)...)}, []int{0, 1, 2, 3, 4}, errBoom},
		{"Q1.9 nothing declared is one attempt", always(errBoom), nil, []int{0}, errBoom},
		{"S12.8 Fail ends it at once", always(sequencer.Fail(errBoom)), []sequencer.RegisterOption{tries(5)}, []int{0}, errBoom},
		{"S12.8 RetryAfter replaces the delay", func(_ context.Context, n int) error {
			if n == 1 {
				return sequencer.RetryAfter(errBoom, 7*time.Second)
			}
			return nil
		}, []sequencer.RegisterOption{tries(2), backoff(secs(60)...)}, []int{0, 7}, nil},
		{"S1.4 a panic is a failed attempt", func(context.Context, int) error { panic(errBoom) }, []sequencer.RegisterOption{tries(2)}, []int{0, 0}, errBoom},
		{"Q2.13 Goexit is a failed attempt", func(context.Context, int) error { runtime.Goexit(); return nil }, nil, []int{0}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				starts, _, err := execute(t, c.fn, c.opts...)
				if !slices.Equal(starts, c.starts) {
					t.Errorf("attempts started at %v, want %v", starts, c.starts)
				}
				switch {
				case strings.Contains(c.name, "Goexit"):
					if err == nil || !strings.Contains(err.Error(), "Goexit") {
						t.Errorf("err = %v", err)
					}
				case !errors.Is(err, c.want) || (err == nil) != (c.want == nil):
					t.Errorf("err = %v, want %v", err, c.want)
				}
			})
		})
	}
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	ignores := func(ctx context.Context, _ int) error { time.Sleep(10 * time.Second); return nil } // sleep: inside a bubble
	obeys := func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }
	opts := func(more ...sequencer.RegisterOption) []sequencer.RegisterOption {
		return append([]sequencer.RegisterOption{sequencer.Timeout(2 * time.Second), sequencer.Tries(2), sequencer.Backoff(5 * time.Second)}, more...)
	}
	for _, c := range []struct {
		name   string
		fn     func(context.Context, int) error
		opts   []sequencer.RegisterOption
		starts []int
	}{
		{"Q2.4 retried by policy", obeys, opts(), []int{0, 7}},
		{"Q13.5 final when it says so", obeys, opts(sequencer.FailOnTimeout()), []int{0}},
		{"Q2.9 a handler that ignores its context is abandoned after the grace period", ignores, opts(sequencer.Tries(1)), []int{0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				starts, l, err := execute(t, c.fn, c.opts[:len(c.opts):len(c.opts)]...)
				if !slices.Equal(starts, c.starts) {
					t.Errorf("attempts started at %v, want %v", starts, c.starts)
				}
				if !errors.Is(err, sequencer.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("S12.12: err = %v, want ErrTimeout and DeadlineExceeded", err)
				}
				attempts, _ := l.Errors(t.Context(), "work")
				if len(attempts) != len(starts) || attempts[0].Outcome != "timeout" {
					t.Errorf("Q2.5: attempts = %+v", attempts)
				}
				time.Sleep(20 * time.Second) // sleep: inside a bubble, lets the abandoned handler end
			})
		})
	}
}

func TestATimeoutDoesNotCoverWhatReturnsInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, _, err := execute(t, func(ctx context.Context, _ int) error {
			<-ctx.Done()
			return nil // Q2.10: a late nil within the grace period is a success if it can still commit
		}, sequencer.Timeout(time.Second))
		if err != nil {
			t.Errorf("err = %v", err)
		}
	})
}

func TestPanicsLeaveTheirStack(t *testing.T) {
	t.Parallel()
	_, l, err := execute(t, func(context.Context, int) error { panic("at the disco") })
	var p *sequencer.PanicError
	if !errors.As(err, &p) || p.Value != "at the disco" {
		t.Errorf("err = %v", err)
	}
	attempts, _ := l.Errors(t.Context(), "work")
	if len(attempts) != 1 || attempts[0].Outcome != "panic" || !strings.Contains(attempts[0].Trace, "attempt_test.go") || attempts[0].Group == "" {
		t.Errorf("S30.4: attempts = %+v, want the stack with this file", attempts)
	}
}

func TestOutcomesOfJoinedErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		err  error
		want storage.State
	}{
		{"a skip joined with an error is a failure", errors.Join(sequencer.Skip("x"), errBoom), storage.Failed},
		{"whatever the order", errors.Join(errBoom, sequencer.Skip("x")), storage.Failed},
		{"two %w", fmt.Errorf("%w and %w", sequencer.Skip("x"), errBoom), storage.Failed},
		{"a wrapped skip is a skip", fmt.Errorf("well: %w", sequencer.Skip("x")), storage.Skipped},
		{"Fail of nothing is nothing", sequencer.Fail(nil), storage.Completed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, l, _ := execute(t, always(c.err))
			if got := l.state("work"); got != c.want {
				t.Errorf("state = %s, want %s", got, c.want)
			}
		})
	}
}

func TestIsFailureTellsMiddlewareWhatCounts(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{
		nil: false, errBoom: true, sequencer.Skip("x"): false, sequencer.SkipForNow("x"): false, sequencer.Release(0): false,
		sequencer.Fail(errBoom): true, sequencer.RetryAfter(errBoom, 0): true, errors.Join(sequencer.Skip("x"), errBoom): true,
	} {
		if got := sequencer.IsFailure(err); got != want {
			t.Errorf("IsFailure(%v) = %v, want %v", err, got, want)
		}
	}
}

func TestAnInnersOutcomeDoesNotTravel(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	sequencer.RegisterFunc(l.reg, "inner", func(context.Context) error { return sequencer.Skip("inner") })
	sequencer.RegisterFunc(l.reg, "outer", func(ctx context.Context) error {
		return l.ExecuteSync(ctx, sequencer.Named("inner", nil))
	})
	l.open()
	err := l.ExecuteSync(t.Context(), sequencer.Named("outer", nil))
	var e *sequencer.ExecutionError
	if !errors.As(err, &e) || e.State != storage.Failed || !errors.Is(err, sequencer.ErrSkipped) {
		t.Errorf("err = %v, want a failure caused by ErrSkipped", err)
	}
}

func TestHooksRunInOrderAndCannotChangeTheOutcome(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		fail  bool
		wants []string
		state storage.State
	}{
		{"S17.1 success", false, []string{"before", "handle", "after"}, storage.Completed},
		{"S17.7 failed runs once, on the last failure", true, []string{"before", "handle", "before", "handle", "failed: boom"}, storage.Failed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			note := func(what string, err error) func(context.Context) error {
				return func(context.Context) error { l.note(what); return err }
			}
			handled := error(nil)
			if c.fail {
				handled = errBoom
			}
			sequencer.RegisterFunc(l.reg, "work", note("handle", handled), sequencer.Tries(2),
				sequencer.OnBefore(note("before", nil)), sequencer.OnAfter(note("after", errors.New("after fails"))),
				sequencer.OnFailed(func(_ context.Context, cause error) error { l.note("failed: " + cause.Error()); panic("failed panics") }))
			l.open()
			err := l.ExecuteSync(t.Context(), sequencer.Named("work", nil))
			l.expect(c.wants...)
			if got := l.state("work"); got != c.state || c.fail != errors.Is(err, errBoom) {
				t.Errorf("S17.4, S17.5: state %s, err %v", got, err)
			}
		})
	}
}

func TestMiddlewareWrapsInOrderAndDefersForFree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		wrap := func(name string) sequencer.Middleware {
			return sequencer.MiddlewareFunc(func(next sequencer.Handler) sequencer.Handler {
				return func(ctx context.Context, a *sequencer.Attempt) error {
					l.note(name + " in")
					defer l.note(name + " out")
					return next(ctx, a)
				}
			})
		}
		deferrals := 0
		busy := sequencer.MiddlewareFunc(func(next sequencer.Handler) sequencer.Handler {
			return func(ctx context.Context, a *sequencer.Attempt) error {
				if deferrals < 3 {
					deferrals++
					return sequencer.Release(time.Minute)
				}
				return next(ctx, a)
			}
		})
		sequencer.RegisterFunc(l.reg, "work", func(ctx context.Context) error {
			l.note(fmt.Sprint("attempt ", sequencer.Current(ctx).Number))
			return nil
		}, sequencer.Use(busy, wrap("outer"), wrap("inner")))
		l.open()
		began := time.Now()
		if err := l.ExecuteSync(t.Context(), sequencer.Named("work", nil)); err != nil {
			t.Fatal(err) // Q1.3: three deferrals with one try do not kill it
		}
		l.expect("outer in", "inner in", "attempt 1", "inner out", "outer out") // S13.1
		if waited := time.Since(began); waited < 3*time.Minute {
			t.Errorf("waited %s, want three minutes", waited)
		}
	})
}

func TestShutdownGivesAttemptsTheirGraceAndGoesOnNextTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		ctx, stop := context.WithCancelCause(t.Context())
		l.op(first, nil)
		l.op(second, func(ctx context.Context) error {
			if stop != nil {
				stop(errors.New("ctrl-c"))
				stop = nil
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return nil
		}, sequencer.Mark[sequencer.Idempotent]())
		l.op(third, nil)
		l.open()
		r, err := l.Process(ctx, sequencer.RunOptions{})
		if !errors.Is(err, sequencer.ErrShutdown) || r == nil || r.State != storage.Interrupted {
			t.Fatalf("report %+v, err %v; want an interrupted run", r, err)
		}
		l.expect(first, second) // no rollback: Ctrl-C is no failure
		if got := l.state(third); got != storage.Cancelled {
			t.Errorf("third is %s, want cancelled and offered again", got)
		}
		l.mustProcess()
		l.expect(second, third)
	})
}

func TestAShutdownInTheMiddleOfWhatMustNotBeRepeatedUnseenWaitsForAPerson(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		ctx, stop := context.WithCancel(t.Context())
		l.op(first, func(ctx context.Context) error { stop(); <-ctx.Done(); return ctx.Err() })
		l.open()
		if _, err := l.Process(ctx, sequencer.RunOptions{}); !errors.Is(err, sequencer.ErrInterrupted) {
			t.Errorf("err = %v, want ErrInterrupted", err)
		}
		if _, err := l.process(sequencer.RunOptions{}); !errors.Is(err, sequencer.ErrInterrupted) || !strings.Contains(err.Error(), first) {
			t.Errorf("the next run: %v, want a refusal naming %s", err, first)
		}
	})
}

// What travels with an execution is what the context of its dispatch says, for each attempt
// and on every path, and too much of it is refused there.
func TestAnExecutionTakesAlongWhatItsDispatchCarried(t *testing.T) {
	t.Parallel()
	type key struct{}
	onFlows(t, func(t *testing.T, l *lab) {
		l.cfg.Carry = func(ctx context.Context) string {
			text, _ := ctx.Value(key{}).(string)
			return text
		}
		var mu sync.Mutex
		got := map[string]int{}
		l.cfg.Middleware = []sequencer.Middleware{sequencer.MiddlewareFunc(func(next sequencer.Handler) sequencer.Handler {
			return func(ctx context.Context, a *sequencer.Attempt) error {
				mu.Lock()
				got[a.Name+" "+a.Carried()]++
				mu.Unlock()
				return next(ctx, a)
			}
		})}
		sequencer.RegisterFunc(l.reg, "twice", func(ctx context.Context) error {
			if sequencer.Current(ctx).Number == 1 {
				return errBoom
			}
			return nil
		}, sequencer.Tries(2))
		sequencer.RegisterFunc(l.reg, "then", func(context.Context) error { return nil })
		l.open()
		ctx := context.WithValue(t.Context(), key{}, "trace-1")
		if _, err := l.Batch(sequencer.Named("twice", nil)).Then(sequencer.Named("then", nil)).Dispatch(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Dispatch(t.Context(), sequencer.Named("then", nil)); err != nil {
			t.Fatal(err)
		}
		if err := l.Work(t.Context(), sequencer.WorkerConfig{StopWhenEmpty: true}); err != nil {
			t.Fatal(err)
		}
		want := map[string]int{"twice trace-1": 2, "then trace-1": 1, "then ": 1}
		if !maps.Equal(got, want) {
			t.Errorf("the attempts had %v, want %v", got, want)
		}
		long := context.WithValue(t.Context(), key{}, strings.Repeat("x", sequencer.MaxCarried+1))
		if _, err := l.Dispatch(long, sequencer.Named("then", nil)); err == nil || !strings.Contains(err.Error(), "Config.Carry") {
			t.Errorf("too much was taken along: %v", err)
		}
	})
}
