package sequencer_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
)

// wantNothing expects that the ledger has no execution and no flow.
func (l *lab) wantNothing(store storage.Store) {
	l.t.Helper()
	rows, err := store.Executions(l.t.Context(), storage.Filter{Limit: 10})
	if err != nil || len(rows) > 0 {
		l.t.Errorf("%d executions were written, %v", len(rows), err)
	}
	flows, err := store.Flows(l.t.Context(), storage.FlowFilter{Limit: 10})
	if err != nil || len(flows) > 0 {
		l.t.Errorf("%d flows were written, %v", len(flows), err)
	}
}

func TestWhatIsBuiltWrongIsToldAndNothingIsWritten(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // Q5.33, Q5.34, Q5.35
		far := memory.New()
		if _, err := far.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.cfg.Connections = map[string]storage.Store{"far": far}
		l.open()
		elsewhere, err := l.On("far")
		if err != nil {
			t.Fatal(err)
		}
		type dispatcher interface {
			Dispatch(ctx context.Context) (*sequencer.Flow, error)
		}
		for want, d := range map[string]dispatcher{
			"member 2: chain: it is to be on connection far":                  l.Batch(op("a"), l.Chain(op("b")).OnConnection("far")),
			"step 2: batch: it is to be on connection far":                    l.Chain(op("a"), l.Batch(op("b")).OnConnection("far")),
			"then callback 1: chain: it is to be on connection far":           l.Batch(op("a")).Then(l.Chain(op("b")).OnConnection("far")),
			"member 2: b is to be on connection far":                          l.Batch(op("a"), sequencer.With(op("b"), sequencer.OnConnection("far"))),
			"member 1: chain: it was made by another Dispatcher":              l.Batch(elsewhere.Chain(op("a"))),
			"member 2: chain: step 2: batch: member 1: operation \"unheard\"": l.Batch(op("a"), l.Chain(op("b"), l.Batch(op("unheard")))),
			"finally callback 1: operation \"unheard\"":                       l.Chain(op("a")).Finally(op("unheard")),
			"member 1: chain: ": l.Batch(l.Chain()),
		} {
			f, err := d.Dispatch(t.Context())
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("the error is %v, want one about %q", err, want)
			}
			if f != nil {
				t.Errorf("%q: there is a flow %s", want, f.ID())
			}
		}
		l.wantNothing(l.store)
		l.wantNothing(far)
	})
}

func TestWhatAMemberAddsWronglyIsToldAndNothingIsWritten(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // Q5.28
		var unknown, chained, good error
		l.op("adds", func(ctx context.Context) error {
			unknown = sequencer.CurrentBatch(ctx).Add(ctx, op("a"), op("unheard"))
			chained = sequencer.CurrentChain(ctx).Append(ctx, op("a"))
			good = sequencer.CurrentBatch(ctx).Add(ctx, op("b"))
			return nil
		})
		l.open()
		f := l.start(l.Batch(op("adds")))
		l.wantDone("adds", "b")
		if !errors.Is(unknown, sequencer.ErrOperationNotFound) || chained == nil || good != nil {
			t.Errorf("adding an unknown member: %v; to a chain that is none: %v; a good one: %v", unknown, chained, good)
		}
		l.wantFlow(f, "completed 2/2 2 completed 100% g1")
	})
}

func TestWhatAMemberAddsToABatchThatIsBeingStoppedIsCancelled(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // Q5.27, Q5.28
		var f *sequencer.Flow
		var added error
		l.op("adds", func(ctx context.Context) error {
			if err := f.Cancel(context.WithoutCancel(t.Context()), "enough"); err != nil {
				return err
			}
			added = sequencer.CurrentBatch(ctx).Add(ctx, op("a"))
			return nil
		})
		l.open()
		f = l.start(l.Batch(op("adds"), op("b")).Then(op("then")).Finally(op("finally")))
		l.wantDone("adds", "finally")
		if added != nil && !errors.Is(added, sequencer.ErrFlowOver) {
			t.Errorf("Add: %v", added)
		}
		st, err := f.Status(t.Context())
		if err != nil || st.State != storage.Cancelled || st.Completed != 1 || st.Cancelled != st.Total-1 {
			t.Errorf("the flow is %+v, %v; want it cancelled, and all but the one that ran", st, err)
		}
		if _, err := f.Add(t.Context(), op("c")); !errors.Is(err, sequencer.ErrFlowOver) {
			t.Errorf("adding to a cancelled batch: %v", err)
		}
	})
}
