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

// What is left behind must not hold up, or fool, whoever comes next.

func TestARetryThatWasStoppedWhileItsRunIsUndoneDoesNotHoldUpTheNextRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		mode := "fail"
		ctx, stop := context.WithCancel(t.Context())
		l.op(first, nil)
		l.op(second, func(ctx context.Context) error {
			switch mode {
			case "fail":
				return errBoom
			case "stop":
				stop()
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return nil
		}, sequencer.Mark[sequencer.Idempotent]())
		l.open()
		if _, err := l.process(sequencer.RunOptions{}); !errors.Is(err, errBoom) {
			t.Fatal(err)
		}
		mode = "stop"
		if err := l.Retry(ctx, second, "again"); err == nil {
			t.Fatal("a retry that was stopped reported success")
		}
		mode = "fine"
		began := time.Now()
		l.mustProcess()
		if took := time.Since(began); took > time.Minute {
			t.Errorf("the next run took %s", took)
		}
	})
}

func TestW1ARunIsNotRolledBackFromUnderWhatWasRedoneSince(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, nil)
	l.open()
	r := l.mustProcess()
	if _, err := l.process(sequencer.RunOptions{Repeat: true}); err != nil {
		t.Fatal(err)
	}
	l.done()
	if _, err := l.Rollback(t.Context(), "", sequencer.RollbackOptions{Run: r.RunID}); !errors.Is(err, sequencer.ErrNotRollbackable) {
		t.Errorf("S10.11: rolling an older run back: %v", err)
	}
	l.expect()
	if done, err := l.HasExecuted(t.Context(), first); err != nil || !done {
		t.Errorf("HasExecuted = %v, %v", done, err)
	}
}

func TestS317WhatAnOperationIsDoesNotChangeWithACancelledRepeat(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	fail := false
	l.op(first, func(context.Context) error {
		if fail {
			return errBoom
		}
		return nil
	})
	sequencer.RegisterFunc(l.reg, second, func(context.Context) error { return nil })
	l.open()
	l.mustProcess()
	fail = true
	if _, err := l.process(sequencer.RunOptions{Repeat: true}); !errors.Is(err, errBoom) {
		t.Fatal(err)
	}
	if done, err := l.HasExecuted(t.Context(), second); err != nil || !done {
		t.Errorf("HasExecuted = %v, %v; the repeat of second was cancelled, its first execution stands", done, err)
	}
}

func TestWhatADeadProcessHadInHandIsSettledBeforeARunIsRefusedForIt(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, nil)
	l.op(second, nil)
	l.op(third, nil, sequencer.DependsOn(sequencer.Op(second)))
	l.open()
	l.dyingRun(storage.Running)
	if _, err := l.process(sequencer.RunOptions{}); !errors.Is(err, sequencer.ErrInterrupted) { // not: second is in flight
		t.Errorf("process: %v, want it to stop in front of what was interrupted", err)
	}
}

func TestS99ARetryWaitsForWhatItNeeds(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, nil)
	l.op(second, func(context.Context) error { return errBoom }, sequencer.DependsOn(sequencer.Op(first)))
	l.op(third, nil)
	l.open()
	_, _ = l.process(sequencer.RunOptions{}) // first is rolled back, second has failed, third never ran
	l.done()
	for _, name := range []string{second, third} {
		if err := l.Retry(t.Context(), name, "again"); err == nil {
			t.Errorf("retry of %s was not refused", name)
		}
	}
	l.expect()
}

func TestAMigrationThatWasCutOffOutsideATransactionWaitsForAPerson(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		src := &fakeSource{l: l}
		src.list = append(src.list, migrationNamed("20240101000000_slow"))
		ctx, stop := context.WithCancel(t.Context())
		l.cfg.Migrations = &cutOff{fakeSource: src, stop: stop}
		l.open()
		if _, err := l.Process(ctx, sequencer.RunOptions{}); err == nil {
			t.Fatal("a run that was stopped reported success")
		}
		_, err := l.process(sequencer.RunOptions{})
		if !errors.Is(err, sequencer.ErrInterrupted) {
			t.Errorf("the next run: %v, want a refusal", err)
		}
		l.expect("half of 20240101000000")
	})
}

// cutOff is a source whose migrations are stopped half way.
type cutOff struct {
	*fakeSource
	stop func()
}

func (s *cutOff) Apply(ctx context.Context, version int64, _ func(context.Context, storage.Tx) error) error {
	s.l.note(fmt.Sprint("half of ", version))
	s.stop()
	<-ctx.Done()
	return context.Cause(ctx)
}

func TestAFailedStepTakesItsCheckpointWithIt(t *testing.T) {
	t.Parallel()
	onSQL(t, func(t *testing.T, l *sqlLab) {
		l.op(first, func(ctx context.Context) error {
			err := sequencer.Transact(ctx, func(ctx context.Context) error {
				return errors.Join(write(ctx, "lost"), sequencer.Checkpoint(ctx, 7), errBoom)
			})
			if !errors.Is(err, errBoom) {
				return err
			}
			var at int
			if saved, err := sequencer.Resume(ctx, &at); err != nil || saved {
				t.Errorf("Resume = %v, %v at %d; the step was rolled back", saved, err, at)
			}
			return nil
		}, sequencer.Mark[sequencer.TxNever]())
		l.open()
		l.mustProcess()
		if got := l.effects(); got != "" {
			t.Errorf("effects = %q", got)
		}
	})
}

func TestAStepThatPanicsLeavesNoTransactionOpen(t *testing.T) {
	t.Parallel()
	onSQL(t, func(t *testing.T, l *sqlLab) {
		l.op(first, func(ctx context.Context) error {
			return sequencer.Transact(ctx, func(ctx context.Context) error {
				if err := write(ctx, "lost"); err != nil {
					return err
				}
				panic("in a step")
			})
		}, sequencer.Mark[sequencer.TxNever]())
		l.op(second, func(ctx context.Context) error { return write(ctx, "next") })
		l.open()
		if _, err := l.process(sequencer.RunOptions{Only: []string{first}}); err == nil {
			t.Fatal("no error")
		}
		if _, err := l.process(sequencer.RunOptions{Only: []string{second}}); err != nil { // would wait for the writer
			t.Fatal(err)
		}
		if got := l.effects(); got != "next" {
			t.Errorf("effects = %q", got)
		}
	})
}

func TestResumeOutsideAnAttemptFindsNothing(t *testing.T) {
	t.Parallel()
	var cursor int
	if was, err := sequencer.Resume(t.Context(), &cursor); was || err != nil {
		t.Errorf("Resume: %v, %v; want no checkpoint", was, err)
	}
}
