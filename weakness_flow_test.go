package sequencer_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/middleware"
	"github.com/gosequencer/sequencer/storage"
)

// Those weaknesses of the register that concern batches and chains; see
// weakness_test.go.

// dies takes one execution as a worker would that then dies.
func (l *lab) dies(queue string) storage.Execution {
	l.t.Helper()
	w := storage.Worker{ID: storage.NewID(), Purpose: "work", Hostname: "elsewhere", Lease: time.Minute, Queues: []string{queue}}
	if err := l.store.Join(l.t.Context(), w); err != nil {
		l.t.Fatal(err)
	}
	got, err := l.store.Claim(l.t.Context(), storage.ClaimRequest{Worker: w.ID, Queues: []string{queue}, Limit: 1})
	if err != nil || len(got.Executions) != 1 {
		l.t.Fatalf("claimed %v, %v", got.Executions, err)
	}
	if err := l.store.Leave(l.t.Context(), w.ID); err != nil {
		l.t.Fatal(err)
	}
	return got.Executions[0]
}

func TestW4AnUndoingThatLostItsWorkerIsFinishedByTheNext(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // S10.6, S10.7
		l.open()
		f := l.start(l.Chain(op("a"), op("b"), op("bad")).RollbackOnFailure().Finally(op("finally")))
		if err := l.Work(t.Context(), sequencer.WorkerConfig{Slots: 1, MaxJobs: 3}); err != nil {
			t.Fatal(err)
		}
		l.expect("a", "b", "bad")
		if lost := l.dies("default"); lost.Kind != storage.Undo || lost.Name != "b" {
			t.Fatalf("the worker died with %s %s, want the undoing of b", lost.Kind, lost.Name)
		}
		l.wantDone("undo b", "undo a", "finally")
		if st, err := f.Wait(t.Context()); st.State != storage.Failed || err == nil {
			t.Errorf("got %+v, %v", st, err)
		}
	})
}

func TestW33AMemberThatLostItsWorkerRunsAgainAndIsCountedOnce(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // Q13.13 in small, Q5.14
		l.open()
		f := l.start(l.Batch(op("a"), op("a"), op("a")).Then(op("then")).Finally(op("finally")))
		l.dies("default")
		l.wantDone("a", "a", "a", "then", "finally")
		l.wantFlow(f, "completed 3/3 3 completed 100% g1")
		f = l.start(l.Batch(op("a")).Then(op("then")))
		l.wantDone("a", "then") // control: nobody dies
		l.wantFlow(f, "completed 1/1 1 completed 100% g1")
	})
}

func TestW33ACallbackThatLostItsWorkerIsCalledAgainAndEndsOnce(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // decisions 32: queued once, one committed outcome
		l.open()
		l.start(l.Batch(nil).Then(op("then")).Finally(op("finally")))
		if lost := l.dies("default"); lost.Kind != storage.KindCallback {
			t.Fatalf("the worker died with a %s", lost.Kind)
		}
		l.wantDone("then", "finally")
		rows, err := l.store.Executions(t.Context(), storage.Filter{Kinds: []storage.Kind{storage.KindCallback}})
		if err != nil || len(rows) != 2 {
			t.Errorf("%d callbacks, %v; want 2", len(rows), err)
		}
	})
}

func TestW15MembersCarryInput(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) { // S1.6
		var sum int
		add := sequencer.RegisterFuncOf(l.reg, "add", func(_ context.Context, in count) error { sum += in.N; return nil })
		l.open()
		members := make([]sequencer.Operation, 20)
		for i := range members {
			members[i] = add(count{i})
		}
		l.start(l.Batch(members...).Then(add(count{1000})))
		l.one()
		if sum != 1190 {
			t.Errorf("the sum is %d, want 1190", sum)
		}
	})
}

func TestW16TriesAndDeadlineBothBindInAFlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // S12.4
		l := newLab(t)
		l.op("bad", func(context.Context) error { return errBoom }, sequencer.Tries(3), sequencer.RetryFor(time.Hour), sequencer.Backoff(time.Second))
		l.op("slow", func(context.Context) error { return errBoom }, sequencer.RetryFor(10*time.Second), sequencer.Backoff(6*time.Second))
		l.op("wait", func(context.Context) error { time.Sleep(time.Minute); return nil })
		l.op("catch", nil)
		l.open()
		first := l.start(l.Batch(op("bad")).Catch(op("catch")))
		// The deadline of a step is counted from when it may start (decisions 24).
		second := l.start(l.Chain(op("wait"), op("slow")).Catch(op("catch")))
		ctx, stop := context.WithCancel(t.Context())
		worked := make(chan error)
		go func() { worked <- l.Work(ctx, sequencer.WorkerConfig{}) }()
		for _, f := range []*sequencer.Flow{first, second} {
			if _, err := f.Wait(t.Context()); err == nil {
				t.Error("a flow of failures completed")
			}
		}
		stop()
		if err := <-worked; err != nil {
			t.Error(err)
		}
		n := map[string]int{}
		for _, name := range l.done() {
			n[name]++
		}
		if n["bad"] != 3 || n["slow"] != 2 {
			t.Errorf("attempts: %v, want bad 3 times, slow twice", n)
		}
	})
}

func TestW17AMemberThatTimesOutFailsAloneAndTheBatchEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // S12.14
		l := newLab(t)
		l.op("hangs", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, sequencer.Timeout(time.Second), sequencer.Tries(2))
		l.op("a", nil)
		l.op("finally", nil)
		l.open()
		f := l.start(l.Batch(op("hangs"), op("a")).AllowFailures().Finally(op("finally")))
		l.drain()
		got := l.done()
		slices.Sort(got)
		if want := []string{"a", "finally", "hangs", "hangs"}; !slices.Equal(got, want) {
			t.Errorf("did %q, want %q", got, want)
		}
		l.wantFlow(f, "failed 2/2 1 completed 1 failed 100% g1")
	})
}

func TestW18AnErrorInAHookChangesNoCount(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) { // S17.4, Q9.17
		l.op("a", nil, sequencer.OnAfter(func(context.Context) error { return errors.New("after") }))
		l.op("then", nil)
		l.open()
		f := l.start(l.Batch(op("a")).Then(op("then")))
		l.wantDone("a", "then")
		l.wantFlow(f, "completed 1/1 1 completed 100% g1")
	})
}

func TestAMemberOfAStoppedBatchThatAWorkerHasAlreadyTakenDoesNotRun(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) { // Q3.39
		var f *sequencer.Flow
		gate := make(chan struct{})
		l.cfg.Middleware = []sequencer.Middleware{ // both are taken at once; by the time the second is asked, the batch is stopped
			sequencer.MiddlewareFunc(func(next sequencer.Handler) sequencer.Handler {
				return func(ctx context.Context, a *sequencer.Attempt) error {
					if a.Name == "second" {
						<-gate
					}
					return next(ctx, a)
				}
			}),
			middleware.SkipIfBatchCancelled(),
		}
		l.op("first", func(ctx context.Context) error {
			defer close(gate)
			return f.Cancel(ctx, "enough")
		})
		l.op("second", nil)
		l.op("third", nil)
		l.op("finally", nil)
		l.open()
		f = l.start(l.Batch(op("first"), op("second"), op("third")).Finally(op("finally")))
		if err := l.Work(t.Context(), sequencer.WorkerConfig{Slots: 2, StopWhenEmpty: true}); err != nil {
			t.Fatal(err)
		}
		l.expect("first", "finally")
		l.wantFlow(f, "cancelled 3/3 1 completed 2 cancelled 100% g1")
	})
}
