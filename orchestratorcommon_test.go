package sequencer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/guard"
	"github.com/gosequencer/sequencer/storage"
)

// everyOrchestrator are all there are, and a custom one.
func everyOrchestrator() []sequencer.Orchestrator {
	return []sequencer.Orchestrator{
		sequencer.Sequential(), sequencer.ParallelBatch(), sequencer.AllowedToFailBatch(),
		sequencer.TransactionalBatch(), sequencer.TransactionalBatch().Strict(),
		sequencer.DependencyGraph(), sequencer.DependencyGraph().Eager(), sequencer.DependencyGraph().RollbackOnFailure(),
		sequencer.QueueScheduled(),
		bent{shape: sequencer.Arrangement{Policy: storage.PolicyContinue}},
	}
}

func nameOf(o sequencer.Orchestrator) string { return fmt.Sprintf("%s %v", o.Name(), o) }

// onOrchestrators runs a test with each of them as the configured one.
func onOrchestrators(t *testing.T, test func(t *testing.T, l *lab)) {
	t.Helper()
	for _, o := range everyOrchestrator() {
		t.Run(nameOf(o), func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.cfg.Orchestrator = o
			test(t, l)
		})
	}
}

// The weaknesses W20 to W40 of the register that concern orchestrators: six copies of
// one skeleton, of which each did something else, or nothing, of what all should do.

func TestW40EventsOfARun(t *testing.T) {
	t.Parallel()
	onOrchestrators(t, func(t *testing.T, l *lab) { // S19.3, S19.4, S19.5
		fail := true
		l.op(first, nil)
		l.op(second, func(context.Context) error {
			if fail {
				return errBoom
			}
			return nil
		}, sequencer.DependsOn(sequencer.Op(first)))
		l.open()
		var mu sync.Mutex
		var kinds []sequencer.EventKind
		process := func() sequencer.Event {
			kinds = nil
			var last sequencer.Event
			ctx := sequencer.WithObserver(t.Context(), func(_ context.Context, e sequencer.Event) {
				mu.Lock()
				defer mu.Unlock()
				kinds, last = append(kinds, e.Kind), e
				if e.Method != l.cfg.Orchestrator.Name() && e.Method != "rollback" {
					t.Errorf("S19.5: %s has the method %q", e.Kind, e.Method)
				}
			})
			_, _ = l.Process(ctx, sequencer.RunOptions{})
			return last
		}
		end := process()
		if kinds[0] != sequencer.EventRunStarted || end.Kind != sequencer.EventRunEnded || end.State != storage.Failed || end.Err == nil {
			t.Errorf("S19.4: events %q, the last %+v", kinds, end)
		}
		fail = false
		if end = process(); end.Kind != sequencer.EventRunEnded || end.State != storage.Completed || end.Err != nil {
			t.Errorf("S19.4: events %q, the last %+v", kinds, end)
		}
		if end = process(); end.Kind != sequencer.EventNoPending || len(kinds) != 1 {
			t.Errorf("S19.3: events %q", kinds)
		}
	})
}

func TestW28W40APreviewIsThePlanOfTheRunAndChangesNothing(t *testing.T) {
	t.Parallel()
	onOrchestrators(t, func(t *testing.T, l *lab) { // S19.6, S19.7, I11
		l.op(second, nil, sequencer.DependsOn(sequencer.Op(third)))
		l.op(first, nil)
		l.op(third, nil)
		l.open()
		plan := l.preview(sequencer.RunOptions{})
		l.nothingWritten()
		if want := []string{first, third, second}; !slices.Equal(plan.Names(), want) || plan.Method != l.cfg.Orchestrator.Name() {
			t.Errorf("plan %q by %s, want %q", plan.Names(), plan.Method, want)
		}
		r := l.mustProcess()
		var ran []string
		for i, task := range r.Tasks {
			ran = append(ran, task.Name)
			if task.Wave != plan.Tasks[i].Wave {
				t.Errorf("%s is in wave %d of the report, %d of the preview", task.Name, task.Wave, plan.Tasks[i].Wave)
			}
		}
		if !slices.Equal(ran, plan.Names()) {
			t.Errorf("the report lists %q, the preview %q", ran, plan.Names())
		}
		before(t, l.done(), []string{third}, []string{second}) // S19.13
	})
}

func TestW14W40AbilitiesAndOptionsHoldInAll(t *testing.T) {
	t.Parallel()
	onOrchestrators(t, func(t *testing.T, l *lab) { // S19.2, S19.12, S1.3, S16.3
		op := func(name string, fn func(context.Context) error, opts ...sequencer.RegisterOption) {
			l.op(name, fn, append(opts, sequencer.Tagged("billing"))...)
		}
		never := func(context.Context) (bool, error) { return false, nil }
		op(numbered(0), nil, sequencer.When(never))
		op(numbered(1), nil, sequencer.Environments("elsewhere"))
		op(numbered(2), func(ctx context.Context) error {
			if sequencer.Current(ctx).Number == 1 {
				return errBoom
			}
			return nil
		}, sequencer.Tries(2), sequencer.OnBefore(func(context.Context) error { l.note("before"); return nil }),
			sequencer.OnAfter(func(context.Context) error { l.note("after"); return nil }))
		op(numbered(3), func(context.Context) error { return sequencer.Skip("nothing to do") })
		op(numbered(4), func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, sequencer.Timeout(time.Millisecond),
			sequencer.Mark[sequencer.AllowedToFail]())
		op(numbered(5), nil, sequencer.Mark[sequencer.Async]())
		l.op(numbered(6), nil) // without the tag
		l.open()
		r, err := l.process(sequencer.RunOptions{Tags: []string{"billing"}, Isolate: true})
		if err != nil {
			t.Fatal(err)
		}
		var got []storage.State
		for _, task := range r.Tasks {
			got = append(got, task.State)
		}
		want := []storage.State{storage.Skipped, storage.Skipped, storage.Completed, storage.Skipped, storage.Failed, storage.Completed}
		if !slices.Equal(got, want) || r.Tasks[2].Attempts != 2 {
			t.Errorf("got %q, want %q; %d attempts", got, want, r.Tasks[2].Attempts)
		}
		did := l.done()
		slices.Sort(did)
		if want := []string{numbered(2), numbered(2), numbered(3), numbered(4), numbered(5), "after", "before", "before"}; !slices.Equal(did, want) {
			t.Errorf("did %q, want %q", did, want)
		}
		for _, o := range []sequencer.RunOptions{{Repeat: true, Only: []string{numbered(2)}}, {From: "20240101000006", Sync: true}, {Repeat: true, Only: []string{numbered(5)}, Async: true}} {
			r, err := l.process(o) // S3.6, S3.11, S11.1
			if err != nil || len(r.Tasks) != 1 || r.Plan.Tasks[0].Async != o.Async {
				t.Errorf("%+v: %+v, %v", o, r, err)
			}
		}
	})
}

func TestW32W40AGuardBlocksAll(t *testing.T) {
	t.Parallel()
	onOrchestrators(t, func(t *testing.T, l *lab) { // S27.9
		closed, err := guard.Func("maintenance", func(context.Context) (bool, string, error) { return false, "not on a Friday", nil })
		if err != nil {
			t.Fatal(err)
		}
		l.cfg.Guards = []sequencer.Guard{closed}
		l.op(first, nil)
		l.open()
		if _, err := l.process(sequencer.RunOptions{}); !errors.Is(err, sequencer.ErrGuard) {
			t.Errorf("err = %v", err)
		}
		l.nothingWritten()
		if plan := l.preview(sequencer.RunOptions{}); plan.Blocked == "" || len(plan.Tasks) != 1 {
			t.Errorf("S27.9: a preview says %+v", plan)
		}
	})
}

func TestW30W40ASecondRunIsRefusedAndALostLeaseStopsARun(t *testing.T) {
	t.Parallel()
	onOrchestrators(t, func(t *testing.T, l *lab) { // S26.1, S26.2, S26.3
		inside := make(chan struct{})
		l.op(first, func(ctx context.Context) error { close(inside); <-ctx.Done(); return context.Cause(ctx) })
		l.op(second, nil, sequencer.DependsOn(sequencer.Op(first)))
		l.cfg.Lease = 200 * time.Millisecond
		l.open()
		done := make(chan error, 1)
		go func() {
			_, err := l.Process(t.Context(), sequencer.RunOptions{})
			done <- err
		}()
		<-inside
		if _, err := l.process(sequencer.RunOptions{}); !errors.Is(err, sequencer.ErrLocked) {
			t.Errorf("S26.1: a second run: %v", err)
		}
		workers, err := l.store.Workers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range workers {
			if err := l.store.Leave(t.Context(), w.ID); err != nil { // as if its lease had ended
				t.Error(err)
			}
		}
		if err := <-done; !errors.Is(err, sequencer.ErrLeaseLost) {
			t.Errorf("S26.3: the run without a lease: %v", err)
		}
		l.expect(first)
	})
}
