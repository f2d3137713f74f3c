package sequencer_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

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
