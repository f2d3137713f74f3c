package sequencer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

func TestAChainRunsInOrderWhateverTheSlots(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // Q6.1, S18.1
		l.op("skip", func(context.Context) error { return sequencer.Skip("nothing to do") })
		l.open()
		f := l.start(l.Chain(op("c"), op("skip"), op("a"), op("b")).Finally(op("finally")))
		l.drain()
		l.expect("c", "skip", "a", "b", "finally")
		l.wantFlow(f, "completed 4/4 3 completed 1 skipped 100% g1")
	})
}

func TestAFailedStepEndsAChainAndARetryGoesOnFromThere(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // Q6.3, Q6.4, Q6.5, S18.2
		l.open()
		f := l.start(l.Chain(op("a"), op("bad"), op("b"), op("c")).Catch(op("catch")).Finally(op("finally")))
		l.wantDone("a", "bad", "catch", "finally")
		l.wantFlow(f, "failed 4/4 1 completed 1 failed 2 cancelled 100% g1")
		l.mended = true
		if err := f.Retry(t.Context(), sequencer.RetryOptions{}); err != nil {
			t.Fatal(err)
		}
		l.wantDone("bad", "b", "c", "finally")
		l.wantFlow(f, "completed 4/4 4 completed 100% g2")
	})
}

func TestOneFailedStepTakenBackByItselfBringsTheRest(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // Q6.5
		l.open()
		l.start(l.Chain(op("bad"), op("b")))
		l.wantDone("bad")
		l.mended = true
		if err := l.Retry(t.Context(), "bad", ""); err != nil {
			t.Fatal(err)
		}
		l.wantDone("bad", "b")
	})
}

func TestStepsArePrependedAndAppendedFromInside(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // Q6.8
		l.op("grow", func(ctx context.Context) error {
			c := sequencer.CurrentChain(ctx)
			return errors.Join(
				c.Prepend(ctx, op("a"), nil, op("b")),
				c.Append(ctx, op("then"), sequencer.From(ctx).Batch(op("then2"))),
			)
		})
		l.open()
		f := l.start(l.Chain(op("grow"), op("c"), op("d")).Finally(op("finally")))
		l.wantDone("grow", "a", "b", "c", "d", "then", "then2", "finally")
		l.wantFlow(f, "completed 7/7 7 completed 100% g1")
	})
}

func TestTheLastStepMayAppend(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // Q5.28: never a finished flow with pending members
		n := 0
		l.op("again", func(ctx context.Context) error {
			if n++; n < 3 {
				return sequencer.CurrentChain(ctx).Append(ctx, op("again"))
			}
			return nil
		})
		l.open()
		f := l.start(l.Chain(op("again")).Finally(op("finally")))
		l.wantDone("again", "again", "again", "finally")
		l.wantFlow(f, "completed 3/3 3 completed 100% g1")
	})
}

func TestABatchInAChain(t *testing.T) {
	t.Parallel()
	for _, allow := range []bool{true, false} {
		onFlowStores(t, func(t *testing.T, l *flowLab) { // Q13.11, Q6.10
			l.open()
			b := l.Batch(op("b"), op("bad")).Catch(op("catch"))
			want, stands := []string{"a", "b", "bad", "catch", "catch2"}, "failed 3/3 1 completed 1 failed 1 cancelled 100% g1"
			if allow {
				b.AllowFailures()
				want, stands = []string{"a", "b", "bad", "catch", "c"}, "completed 3/3 3 completed 100% g1"
			}
			f := l.start(l.Chain(op("a"), b, op("c")).Catch(op("catch2")))
			got := l.one()
			slices.Sort(got)
			if slices.Sort(want); !slices.Equal(got, want) {
				t.Errorf("allowed %v: did %q, want %q", allow, got, want)
			}
			l.wantFlow(f, stands)
		})
	}
}

func TestChainsInABatch(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // Q13.10, Q5.31
		l.open()
		f := l.start(l.Batch(l.Chain(op("bad"), op("b"), op("c")), op("d")).AllowFailures().Finally(op("finally")))
		l.wantDone("bad", "d", "finally")
		st := l.wantFlow(f, "failed 2/2 1 completed 1 failed 100% g1")
		_, err := f.Wait(t.Context())
		if e, ok := errors.AsType[*sequencer.FlowError](err); !ok || len(e.Failures) != 1 || e.Failures[0].Name != "bad" {
			t.Errorf("Wait of %v: %v", st, err)
		}
		l.mended = true
		if err := f.Retry(t.Context(), sequencer.RetryOptions{}); err != nil {
			t.Fatal(err)
		}
		l.wantDone("bad", "b", "c", "finally")
		l.wantFlow(f, "completed 2/2 2 completed 100% g2")
	})
}

func TestABatchInABatch(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) {
		l.open()
		f := l.start(l.Batch(op("a"), l.Batch(op("b"), op("c")).Finally(op("finally"))).Then(op("then")))
		got := l.one()
		slices.Sort(got)
		if want := []string{"a", "b", "c", "finally", "then"}; !slices.Equal(got, want) {
			t.Errorf("did %q, want %q", got, want)
		}
		l.wantFlow(f, "completed 2/2 2 completed 100% g1")
	})
}

func TestCallbacksMayBeChainsAndBatches(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) {
		l.open()
		l.start(l.Batch(op("a")).Then(l.Chain(op("b"), l.Batch(), l.Batch(op("c"), op("d")).Finally(op("then2")), op("d")), op("then")).Finally(l.Batch(), op("finally")))
		got := l.one()
		place := func(name string) int { return slices.Index(got, name) }
		if len(got) != 8 || place("a") != 0 || place("b") != 1 || place("c") < 2 || place("then") < 5 || place("then2") < 4 || got[7] != "finally" {
			t.Errorf("did %q", got)
		}
	})
}

func TestW3ARollingBackChainUndoesWhatCompletedNewestFirst(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // S18.5, W3
		l.open()
		f := l.start(l.Chain(op("a"), op("b"), op("bad"), op("c")).RollbackOnFailure().Finally(op("finally")))
		l.wantDone("a", "b", "bad", "undo b", "undo a", "finally")
		if st, err := f.Status(t.Context()); err != nil || st.State != storage.Failed {
			t.Errorf("got %+v, %v", st, err)
		}
	})
}

func TestW29DelaysOfAChainCountFromWhenAStepMayStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // Q6.7, W29
		l := newLab(t)
		began := time.Now()
		var at []string
		for _, name := range []string{"a", "b", "c"} {
			sequencer.RegisterFunc(l.reg, name, func(context.Context) error {
				at = append(at, fmt.Sprintf("%s %s", name, time.Since(began).Round(time.Second)))
				return nil
			})
		}
		l.open()
		f := l.start(l.Chain(op("a"), sequencer.With(op("b"), sequencer.Delay(time.Hour)), op("c")).Delay(time.Minute))
		ctx, stop := context.WithCancel(t.Context())
		worked := make(chan error)
		go func() { worked <- l.Work(ctx, sequencer.WorkerConfig{}) }()
		if _, err := f.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		stop()
		if err := <-worked; err != nil {
			t.Error(err)
		}
		if want := []string{"a 1m0s", "b 1h1m0s", "c 1h1m0s"}; !slices.Equal(at, want) {
			t.Errorf("started %q, want %q", at, want)
		}
	})
}

func TestLaterMembersReadTheResultsOfEarlierOnes(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) { // issue 5.7
		fetch := sequencer.RegisterFuncOf(l.reg, "fetch", func(ctx context.Context, in count) error {
			return sequencer.SetResult(ctx, in.N*10)
		})
		var got []string
		l.op("read", func(ctx context.Context) error {
			one, err := sequencer.ResultOf[int](ctx, "one")
			two, err2 := sequencer.ResultOf[int](ctx, "fetch")
			_, gone := sequencer.ResultOf[int](ctx, "nobody")
			got = append(got, fmt.Sprint(one, two, gone != nil))
			return errors.Join(err, err2)
		})
		l.op("ambiguous", func(ctx context.Context) error {
			_, err := sequencer.ResultOf[int](ctx, "fetch")
			got = append(got, fmt.Sprint(err != nil))
			return nil
		})
		l.open()
		l.start(l.Chain(sequencer.With(fetch(count{1}), sequencer.As("one")), fetch(count{2}), op("read"), l.Batch(op("read")).Then(op("read"))))
		l.start(l.Batch(fetch(count{3}), fetch(count{4})).Then(op("ambiguous")))
		l.drain()
		if want := []string{"10 20 true", "10 20 true", "10 20 true", "true"}; !slices.Equal(got, want) {
			slices.Sort(got)
			if slices.Sort(want); !slices.Equal(got, want) {
				t.Errorf("read %q, want %q", got, want)
			}
		}
	})
}
