package sequencer_test

import (
	"context"
	"testing"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// afterDeath holds back the first run that is sent to it, and writes it when the second one
// comes: a server may commit what a process sent only after that was killed, and after the
// next one has looked.
type afterDeath struct {
	storage.Store
	sent *storage.EnqueueRequest
	runs int
}

func (a *afterDeath) Enqueue(ctx context.Context, r storage.EnqueueRequest) (storage.Enqueued, error) {
	switch a.runs++; a.runs {
	case 1:
		a.sent = &r
		return storage.Enqueued{}, errBoom
	case 2:
		late := *a.sent
		late.Claim = nil
		if _, err := a.Store.Enqueue(ctx, late); err != nil {
			return storage.Enqueued{}, err
		}
	}
	return a.Store.Enqueue(ctx, r)
}

func TestARunThatIsWrittenAfterItsProcessWasKilledIsTakenOverToo_S10_6(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, name := range []string{"20240101000000_one", "20240102000000_two"} {
		l.op(name, nil)
	}
	store := &afterDeath{Store: l.store}
	l.store = store
	l.open()
	if _, err := l.process(sequencer.RunOptions{}); err == nil {
		t.Fatal("the first run was to be cut off")
	}
	report := l.mustProcess()
	l.expect("20240101000000_one", "20240102000000_two")
	if report.State != storage.Completed || len(report.Recovered) != 1 || store.runs != 3 {
		t.Errorf("%s after %d runs, recovered %v; want what was written late to be taken over", report.State, store.runs, report.Recovered)
	}
	flows, err := l.store.Flows(t.Context(), storage.FlowFilter{Open: true})
	if err != nil || len(flows) > 0 {
		t.Errorf("%d flows are open, %v", len(flows), err)
	}
}
