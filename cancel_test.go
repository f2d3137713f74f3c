package sequencer_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// The worker hears of the wish with a renewal, and none comes while the handlers run.
func TestWhatWasCancelledAndFailsBeforeItsWorkerHearsOfItIsNotTriedAgain_S5_5(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, store storage.Store, _ func() string) {
		l := newLab(t)
		l.store = store
		var mu sync.Mutex
		heard := map[sequencer.EventKind]int{}
		l.cfg.Observers = []sequencer.Observer{func(_ context.Context, e sequencer.Event) {
			mu.Lock()
			defer mu.Unlock()
			heard[e.Kind]++
		}}
		started := map[int]int{}
		op := sequencer.RegisterFuncOf(l.reg, "slow", func(ctx context.Context, in count) error {
			started[in.N]++
			if err := l.Cancel(ctx, sequencer.Current(ctx).ID, "by mistake"); err != nil {
				return err
			}
			switch in.N {
			case 0:
				return errBoom
			case 1:
				return sequencer.Release(0)
			default:
				return nil // what has completed has completed
			}
		}, sequencer.Tries(3))
		l.open()
		if err := l.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.enqueue(func(i int) sequencer.Operation { return op(count{i}) }, 3)
		if err := l.Work(t.Context(), sequencer.WorkerConfig{StopWhenEmpty: true, Slots: 1}); err != nil {
			t.Fatal(err)
		}
		if want := map[int]int{0: 1, 1: 1, 2: 1}; !maps.Equal(started, want) {
			t.Errorf("started %v times, want once each", started)
		}
		l.wantStates(map[string]int{"slow cancelled": 2, "slow completed": 1})
		mu.Lock()
		defer mu.Unlock()
		if heard[sequencer.EventCancelled] != 2 || heard[sequencer.EventRetrying]+heard[sequencer.EventReleased] != 0 || heard[sequencer.EventCompleted] != 1 {
			t.Errorf("the events were %v, want two cancelled and one completed", heard)
		}
	})
}

func TestWhatRunsIsCancelledFromElsewhereAndItsResultIsDiscarded(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, l *lab) { // decisions: the cause is ErrCancelled, what it returns afterwards is void
		started := make(chan string)
		causes := make(chan error, 2)
		op := sequencer.RegisterFuncOf(l.reg, "slow", func(ctx context.Context, in count) error {
			started <- sequencer.Current(ctx).ID
			if in.N == 1 {
				return nil
			}
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return nil // too late to have completed
		})
		l.cfg.Lease = 3 * time.Second // it hears of it with a renewal, every third of it
		l.open()
		l.enqueue(func(i int) sequencer.Operation { return op(count{i}) }, 2)
		worked := make(chan error, 1)
		go func() {
			worked <- l.Work(t.Context(), sequencer.WorkerConfig{StopWhenEmpty: true, Slots: 1})
		}()
		id := <-started

		elsewhere, err := sequencer.New(l.store, sequencer.NewRegistry(), l.cfg) // another process, which has none of its code
		if err != nil {
			t.Fatal(err)
		}
		if err := elsewhere.Cancel(t.Context(), id, "by mistake"); err != nil {
			t.Fatal(err)
		}
		if err := <-causes; !errors.Is(err, sequencer.ErrCancelled) {
			t.Errorf("the handler's context ended with %v, want ErrCancelled", err)
		}
		<-started // the worker goes on
		if err := <-worked; err != nil {
			t.Error(err)
		}
		l.wantStates(map[string]int{"slow cancelled": 1, "slow completed": 1})
		if e := l.audit(); e.Action != string(storage.ActCancel) || e.Target != id || e.Reason != "by mistake" {
			t.Errorf("audit: %+v", e)
		}
	})
}
