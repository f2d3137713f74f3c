package sequencer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// flowLab has operations "ok:…" that note their name, and "bad:…" that fail; "mend"
// makes the bad ones good.
type flowLab struct {
	*lab
	mended bool
}

func onFlowStores(t *testing.T, test func(t *testing.T, l *flowLab)) {
	t.Helper()
	onFlows(t, func(t *testing.T, l *lab) {
		f := &flowLab{lab: l}
		for _, name := range []string{"a", "b", "c", "d", "then", "catch", "finally", "progress", "then2", "catch2"} {
			l.op(name, nil)
		}
		l.op("bad", func(context.Context) error {
			if f.mended {
				return nil
			}
			return errBoom
		})
		test(t, f)
	})
}

// onFlows runs a test on every kind of store.
func onFlows(t *testing.T, test func(t *testing.T, l *lab)) {
	t.Helper()
	onAll(t, func(t *testing.T, store storage.Store, _ func() string) {
		if _, err := store.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		l := newLab(t)
		l.store = store
		test(t, l)
	})
}

func op(name string) sequencer.Operation { return sequencer.Named(name, nil) }

// start dispatches and fails the test on an error.
func (l *lab) start(b interface {
	Dispatch(ctx context.Context) (*sequencer.Flow, error)
},
) *sequencer.Flow {
	l.t.Helper()
	f, err := b.Dispatch(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	return f
}

// one works with one slot until nothing is left, and returns what was done.
func (l *lab) one() []string {
	l.t.Helper()
	if err := l.Work(l.t.Context(), sequencer.WorkerConfig{Slots: 1, StopWhenEmpty: true}); err != nil {
		l.t.Fatalf("Work: %v", err)
	}
	return l.done()
}

func (l *lab) wantDone(want ...string) {
	l.t.Helper()
	if got := l.one(); !slices.Equal(got, want) {
		l.t.Errorf("did %q, want %q", got, want)
	}
}

// wantFlow compares how a flow stands.
func (l *lab) wantFlow(f *sequencer.Flow, want string) sequencer.FlowStatus {
	l.t.Helper()
	st, err := f.Status(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	got := fmt.Sprintf("%s %d/%d", st.State, st.Total-st.Pending-st.Running, st.Total)
	for _, c := range []struct {
		n    int
		word string
	}{
		{st.Completed, "completed"},
		{st.Failed, "failed"},
		{st.FailedAllowed, "allowed"},
		{st.Skipped, "skipped"},
		{st.Cancelled, "cancelled"},
		{st.Interrupted, "interrupted"},
	} {
		if c.n > 0 {
			got += fmt.Sprintf(" %d %s", c.n, c.word)
		}
	}
	if got += fmt.Sprintf(" %d%% g%d", st.Percent, st.Generation); got != want {
		l.t.Errorf("flow is %q, want %q", got, want)
	}
	if sum := st.Pending + st.Running + st.Completed + st.Failed + st.FailedAllowed + st.Skipped + st.Cancelled + st.Interrupted; sum != st.Total {
		l.t.Errorf("Q5.15: counts add up to %d, total is %d", sum, st.Total)
	}
	return st
}

func TestABatchCallsThenAndFinallyOnce(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // S18.6, Q5.17, Q5.19
		l.open()
		f := l.start(l.Batch(op("a"), op("b")).Name("import").Then(op("then"), op("then2")).Catch(op("catch")).Finally(op("finally")))
		if st := l.wantFlow(f, "running 0/2 0% g1"); st.Name != "import" || st.Kind != storage.FlowBatch || f.ID() != st.ID {
			t.Errorf("got %+v", st)
		}
		l.wantDone("a", "b", "then", "then2", "finally")
		l.wantFlow(f, "completed 2/2 2 completed 100% g1")
		if st, err := f.Wait(t.Context()); err != nil || st.State != storage.Completed {
			t.Errorf("Wait: %v, %v", st, err)
		}
		l.wantDone()
	})
}

func TestW20AFailureStopsABatch(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // Q13.8, W20
		l.open()
		f := l.start(l.Batch(op("a"), op("bad"), op("c")).Then(op("then")).Catch(op("catch")).Finally(op("finally")))
		l.wantDone("a", "bad", "catch", "finally")
		l.wantFlow(f, "failed 3/3 1 completed 1 failed 1 cancelled 100% g1")
		_, err := f.Wait(t.Context())
		var failed *sequencer.FlowError
		if !errors.As(err, &failed) || len(failed.Failures) != 1 || failed.Failures[0].Name != "bad" || !strings.Contains(err.Error(), "boom") {
			t.Errorf("Wait: %v", err)
		}
	})
}

func TestAllowedFailuresLetABatchGoOnAndARetryIsANewGeneration(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // Q13.9
		l.open()
		f := l.start(l.Batch(op("a"), op("bad"), op("c")).AllowFailures().Then(op("then")).Catch(op("catch")).Finally(op("finally")))
		got := l.one()
		slices.Sort(got)
		if want := []string{"a", "bad", "c", "catch", "finally"}; !slices.Equal(got, want) {
			t.Errorf("did %q, want %q", got, want)
		}
		l.wantFlow(f, "failed 3/3 2 completed 1 failed 100% g1")
		l.mended = true
		if err := f.Retry(t.Context(), sequencer.RetryOptions{Reason: "mended"}); err != nil {
			t.Fatal(err)
		}
		l.wantFlow(f, "running 2/3 2 completed 66% g2")
		l.wantDone("bad", "then", "finally")
		l.wantFlow(f, "completed 3/3 3 completed 100% g2")
	})
}

func TestARetryThatFailsAgainCatchesAgain(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // Q5.29, Q6.5
		l.open()
		f := l.start(l.Batch(op("bad"), op("b")).Then(op("then")).Catch(op("catch")).Finally(op("finally")))
		l.wantDone("bad", "catch", "finally")
		if err := f.Retry(t.Context(), sequencer.RetryOptions{}); err != nil {
			t.Fatal(err)
		}
		l.wantDone("bad", "catch", "finally")
		l.wantFlow(f, "failed 2/2 1 failed 1 cancelled 100% g2")
		l.mended = true
		if err := f.Retry(t.Context(), sequencer.RetryOptions{}); err != nil {
			t.Fatal(err)
		}
		l.wantDone("bad", "b", "then", "finally")
		if err := f.Retry(t.Context(), sequencer.RetryOptions{}); err == nil {
			t.Error("a batch with nothing to retry was retried")
		}
	})
}

func TestAnEmptyBatchIsOverAtOnce(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // Q5.23, Q5.30
		l.open()
		f := l.start(l.Batch(nil).Then(op("then")).Finally(op("finally")))
		l.wantFlow(f, "completed 0/0 100% g1")
		l.wantDone("then", "finally")
	})
}

func TestAnEmptyBatchInAChainComesInItsTurn(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // Q6.11
		l.open()
		f := l.start(l.Chain(op("a"), l.Batch().Then(op("then")), op("c")).Finally(op("finally")))
		got := l.one()
		if got[0] != "a" || slices.Index(got, "then") < 1 || got[len(got)-1] != "finally" || len(got) != 4 {
			t.Errorf("did %q", got)
		}
		l.wantFlow(f, "completed 3/3 3 completed 100% g1")
	})
}

func TestW20CancellingABatchKeepsUnstartedMembersFromRunning(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // Q5.26, Q5.27, W20
		l.open()
		f := l.start(l.Batch(op("a"), l.Chain(op("b"), op("c"))).Then(op("then")).Catch(op("catch")).Finally(op("finally")))
		for range 2 {
			if err := f.Cancel(t.Context(), "changed my mind"); err != nil {
				t.Fatal(err)
			}
		}
		l.wantDone("finally")
		l.wantFlow(f, "cancelled 2/2 2 cancelled 100% g1")
		_, err := f.Wait(t.Context())
		if !errors.Is(err, sequencer.ErrCancelled) || !strings.Contains(err.Error(), "changed my mind") {
			t.Errorf("Wait: %v", err)
		}
		if err := f.Retry(t.Context(), sequencer.RetryOptions{}); err == nil {
			t.Error("Q5.29: what a person cancelled was retried without force")
		}
		if err := f.Retry(t.Context(), sequencer.RetryOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
		l.wantDone("a", "b", "c", "then", "finally")
	})
}

func TestW19ARunningMemberLearnsThatItsBatchWasCancelled(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) { // W19, Q5.26
		started, name := make(chan struct{}), ""
		l.op("long", func(ctx context.Context) error {
			b := sequencer.CurrentBatch(ctx)
			name = b.Name
			if b.Cancelled() {
				t.Error("cancelled before it was")
			}
			close(started)
			for !b.Cancelled() { // nothing else ends it
				select {
				case <-time.After(time.Millisecond):
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
		l.open()
		f := l.start(l.Batch(op("long")).Name("import"))
		worked := make(chan error, 1)
		go func() { worked <- l.Work(t.Context(), sequencer.WorkerConfig{StopWhenEmpty: true}) }()
		<-started
		other, err := sequencer.New(l.store, l.reg, l.cfg) // as another process would
		if err != nil {
			t.Fatal(err)
		}
		same, err := other.Flow(t.Context(), f.ID())
		if err == nil {
			err = same.Cancel(t.Context(), "")
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := <-worked; err != nil {
			t.Fatal(err)
		}
		if name != "import" {
			t.Errorf("the member saw a batch named %q", name)
		}
		if st := l.wantFlow(f, "cancelled 1/1 1 completed 100% g1"); !strings.Contains(st.Reason, "tester@lab") {
			t.Errorf("reason %q", st.Reason)
		}
	})
}

func TestMembersAreAddedWithTheOutcomeOfTheOneThatAddsThem(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // Q5.28
		tries := 0
		l.op("more", func(ctx context.Context) error {
			b := sequencer.CurrentBatch(ctx)
			if err := b.Add(ctx, op("a"), nil, sequencer.From(ctx).Chain(op("b"), op("c"))); err != nil {
				return err
			}
			if tries++; tries == 1 {
				return errBoom
			}
			return nil
		}, sequencer.Tries(2))
		l.open()
		f := l.start(l.Batch(op("more")).Then(op("then")).OnQueue("default"))
		l.wantDone("more", "more", "a", "b", "c", "then")
		l.wantFlow(f, "completed 3/3 3 completed 100% g1")
	})
}

func TestAddingFromOutside(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // S18.10, Q5.28
		l.open()
		f := l.start(l.Batch(op("a")).OnQueue("q").Tagged("x").Then(op("then")))
		receipts, err := f.Add(t.Context(), op("b"))
		if err != nil || len(receipts) != 1 {
			t.Fatalf("Add: %v, %v", receipts, err)
		}
		rows, err := l.store.Executions(t.Context(), storage.Filter{Name: "b"})
		if err != nil || len(rows) != 1 || rows[0].Queue != "q" || !slices.Equal(rows[0].Tags, []string{"x"}) {
			t.Errorf("the added member is %+v, %v", rows, err)
		}
		if _, err := f.Add(t.Context(), op("unheard")); !errors.Is(err, sequencer.ErrOperationNotFound) {
			t.Errorf("an unknown member: %v", err)
		}
		l.drain("q")
		if got := l.done(); len(got) != 3 || got[2] != "then" {
			t.Errorf("did %q", got)
		}
		before := l.states()
		if _, err := f.Add(t.Context(), op("c")); !errors.Is(err, sequencer.ErrFlowOver) || !strings.Contains(err.Error(), "completed") {
			t.Errorf("adding to a finished batch: %v", err)
		}
		if after := l.states(); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("it wrote something: %v, before %v", after, before)
		}
		chain := l.start(l.Chain(op("a")))
		if _, err := chain.Add(t.Context(), op("b")); err == nil {
			t.Error("a chain took a member from outside")
		}
	})
}

func TestOutsideOfABatchNothingIsLostSilently(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var added error
	l.op("alone", func(ctx context.Context) error {
		if b := sequencer.CurrentBatch(ctx); b.ID != "" || b.Cancelled() {
			t.Errorf("an execution without a batch has %+v", b)
		}
		added = sequencer.CurrentBatch(ctx).Add(ctx, op("alone"))
		return nil
	})
	l.open()
	if _, err := l.Dispatch(t.Context(), op("alone")); err != nil {
		t.Fatal(err)
	}
	l.wantDone("alone")
	if added == nil || !strings.Contains(added.Error(), "belongs to no batch") {
		t.Errorf("S18.10: adding outside of a batch: %v", added)
	}
	if c := sequencer.CurrentChain(t.Context()); c.ID != "" || c.Append(t.Context(), op("alone")) == nil {
		t.Errorf("outside an attempt there is chain %+v", c)
	}
	if _, ok := sequencer.FailureOf(t.Context()); ok {
		t.Error("outside an attempt there is a failure")
	}
}

func TestACatchKnowsWhatFailed(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // S18.2, Q5.18, Q6.10
		var seen []string
		tell := func(ctx context.Context) error {
			f, ok := sequencer.FailureOf(ctx)
			seen = append(seen, fmt.Sprint(sequencer.Current(ctx).Name, " ", ok, " ", f.Name, " ", f.Attempt, " ", f.Message))
			return nil
		}
		l.op("alert", tell)
		l.op("step", tell)
		l.op("after", tell)
		l.open()
		l.start(l.Chain(l.Batch(op("bad"), op("a")).Catch(op("alert")), op("b")).
			Catch(l.Chain(op("step"), op("after"))).Finally(op("after")))
		if got := l.one(); len(got) != 5 || got[0] != "bad" {
			t.Errorf("did %q", got)
		}
		slices.Sort(seen[:2]) // of different flows
		want := []string{"alert true bad 1 boom", "step true bad 1 boom", "after true bad 1 boom", "after false  0 "}
		if !slices.Equal(seen, want) {
			t.Errorf("saw %q, want %q", seen, want)
		}
	})
}

func TestACallbackThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // Q5.22
		l.open()
		f := l.start(l.Batch(op("a")).Then(op("bad"), op("then2")).Finally(op("finally")))
		l.wantDone("a", "bad", "then2", "finally")
		l.wantFlow(f, "completed 1/1 1 completed 100% g1")
	})
}

func TestProgressIsCalledAndNeverAfterTheEnd(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // Q5.20
		l.open()
		l.start(l.Batch(op("a"), op("b"), op("c")).Progress(op("progress")).Finally(op("finally")))
		got := l.one()
		if n := len(got); got[n-1] != "finally" || !slices.Contains(got, "progress") {
			t.Errorf("did %q", got)
		}
	})
}

func TestW5SkipsAndAllowedFailuresDoNotKeepThenAway(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // Q5.32, Q5.17; W5, decisions 27
		l.op("skip", func(context.Context) error { return sequencer.Skip("not today") })
		l.op("may", func(context.Context) error { return errBoom }, sequencer.Mark[sequencer.AllowedToFail]())
		l.open()
		f := l.start(l.Batch(op("skip"), op("may"), op("a")).Then(op("then")).Catch(op("catch")))
		l.wantDone("skip", "may", "a", "then")
		l.wantFlow(f, "completed 3/3 1 completed 1 allowed 1 skipped 100% g1")
	})
}

func TestNothingIsWrittenWhereSomethingIsWrong(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // S18.12, Q5.35
		l.open()
		for _, b := range []interface {
			Dispatch(ctx context.Context) (*sequencer.Flow, error)
		}{
			l.Batch(op("a"), op("unheard")), l.Chain(), l.Batch(op("a")).Finally(op("unheard")),
			l.Batch(op("a")).OnConnection("nowhere"), l.Batch(sequencer.With(op("a"), sequencer.Priority(9))),
		} {
			if f, err := b.Dispatch(t.Context()); err == nil || f != nil {
				t.Errorf("%v was dispatched", b)
			}
		}
		if f, err := l.Batch(op("unheard")).DispatchIf(t.Context(), false); f != nil || err != nil {
			t.Errorf("DispatchIf(false): %v, %v", f, err)
		}
		if f, err := l.Chain(op("a")).DispatchUnless(t.Context(), true); f != nil || err != nil {
			t.Errorf("DispatchUnless(true): %v, %v", f, err)
		}
		if _, err := l.Dispatch(t.Context(), l.Batch(op("a"))); err == nil || !strings.Contains(err.Error(), "its own Dispatch") {
			t.Errorf("a batch dispatched as an operation: %v", err)
		}
		if _, err := l.Dispatch(t.Context(), sequencer.With(op("a"), sequencer.As("first"))); err == nil {
			t.Error("As outside of a flow was taken")
		}
		if err := l.ExecuteSync(t.Context(), l.Chain(op("a"))); err == nil {
			t.Error("a chain was executed")
		}
		if _, err := sequencer.From(t.Context()).Batch(op("a")).Dispatch(t.Context()); err == nil {
			t.Error("a batch was dispatched by nobody")
		}
		if got := l.states(); len(got) != 0 {
			t.Errorf("it wrote %v", got)
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.op("a", nil)
		l.open()
		f := l.start(l.Batch(op("a")))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if st, err := f.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) || st.Total != 1 || st.Over() {
			t.Errorf("got %+v, %v", st, err)
		}
	})
}

func TestEndsOfFlowsAreToldOnce(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) {
		var told []string
		l.cfg.Observers = append(l.cfg.Observers, func(_ context.Context, e sequencer.Event) {
			if e.Kind == sequencer.EventFlowDispatched || e.Kind == sequencer.EventFlowEnded {
				told = append(told, fmt.Sprint(e.Kind, " ", e.Method, " ", e.Name, " ", e.State, " ", e.Tasks))
			}
		})
		l.open()
		l.start(l.Batch(op("a"), l.Chain(op("b")).Name("inner")).Name("outer").Then(op("then")).Finally(op("finally")))
		l.wantDone("a", "b", "then", "finally")
		want := []string{"flow_dispatched batch outer running 2", "flow_ended batch outer completed 2", "flow_ended chain inner completed 1"}
		slices.Sort(told[1:])
		if !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}
