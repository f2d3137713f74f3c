package sequencer_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// stepper registers a handler that counts to ten, a step a second, and saves each.
func (l *lab) stepper(name string, opts ...sequencer.RegisterOption) sequencer.Operation {
	return sequencer.RegisterFunc(l.reg, name, func(ctx context.Context) error {
		at := 0
		if _, err := sequencer.Resume(ctx, &at); err != nil {
			return err
		}
		for at < 10 {
			if err := sequencer.Yield(ctx); err != nil {
				return err
			}
			time.Sleep(time.Second) // sleep: the tests that register it are bubbles
			at++
			l.note(fmt.Sprint(at))
			if err := sequencer.Checkpoint(ctx, at); err != nil {
				return err
			}
		}
		return nil
	}, opts...)
}

var toTen = []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10"}

func TestQ1018WhatYieldsStopsBetweenTwoStepsWhenItIsPausedAndGoesOnAtNoCost(t *testing.T) {
	t.Parallel()
	for kind, name := range map[storage.PauseKind]string{storage.PauseOperation: "count", storage.PauseQueue: "default"} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				op := l.stepper("count", sequencer.Tries(1))
				l.open()
				if _, err := l.Dispatch(t.Context(), op); err != nil {
					t.Fatal(err)
				}
				ctx, stop := context.WithCancel(t.Context())
				worked := make(chan error)
				go func() { worked <- l.Work(ctx, sequencer.WorkerConfig{Queues: []string{"default"}}) }()
				row := func(want storage.State) storage.Execution {
					t.Helper()
					synctest.Wait()
					e := l.rows(storage.Filter{Name: "count"})[0]
					if e.State != want {
						t.Fatalf("the execution is %s, want %s", e.State, want)
					}
					return e
				}
				time.Sleep(3500 * time.Millisecond)
				row(storage.Running)
				if err := l.Pause(t.Context(), kind, name, "a fire"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				if e := row(storage.Pending); e.Attempts() != 0 || e.Parked != (kind == storage.PauseOperation) {
					t.Errorf("paused: %d attempts, parked %v; want none, parked only if the operation is paused", e.Attempts(), e.Parked)
				}
				if err := l.Resume(t.Context(), kind, name, "it is out"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				if e := row(storage.Completed); e.Attempts() != 1 || e.Errors != 0 {
					t.Errorf("completed with %d attempts and %d errors, want 1 and 0", e.Attempts(), e.Errors)
				}
				l.expect(toTen...)
				stop()
				if err := <-worked; err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		})
	}
}

func TestQ1018ARunWaitsWhereItIsForAnOperationThatIsPaused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.stepper(first)
		l.open()
		if _, err := l.store.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := l.Pause(t.Context(), storage.PauseOperation, first, "a fire"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		time.AfterFunc(time.Hour, func() {
			l.expect()
			if err := l.Resume(t.Context(), storage.PauseOperation, first, "it is out"); err != nil {
				t.Error(err)
			}
		})
		l.mustProcess()
		l.expect(toTen...)
		if took := time.Since(began); took < time.Hour || took > time.Hour+time.Minute {
			t.Errorf("the run took %s, want the hour of the pause and some seconds", took)
		}
	})
}

func TestYieldEndsWithItsContextAndAsksNothingInATransactionOrOutsideAnAttempt(t *testing.T) {
	t.Parallel()
	if err := sequencer.Yield(t.Context()); err != nil {
		t.Errorf("outside an attempt: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errBoom)
	if err := sequencer.Yield(ctx); !errors.Is(err, errBoom) {
		t.Errorf("with a context that is over: %v, want its cause", err)
	}
	onSQL(t, func(t *testing.T, l *sqlLab) {
		l.op(first, func(ctx context.Context) error {
			if err := write(ctx, "one"); err != nil {
				return err
			}
			return sequencer.Yield(ctx)
		})
		l.open()
		if err := l.Pause(t.Context(), storage.PauseOperation, first, "a fire"); err != nil {
			t.Fatal(err)
		}
		l.mustProcess()
	})
}
