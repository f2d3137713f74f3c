package sequencer_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

func TestQueuesTellTheirPartsTheirWorkersAndWhoPausedThem(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, l *lab) { // Q10.20
		mail := sequencer.RegisterFuncOf(l.reg, "mail", func(context.Context, count) error { return nil })
		l.open()
		l.enqueue(func(i int) sequencer.Operation { return mail(count{i}) }, 4)
		l.enqueue(func(i int) sequencer.Operation { return mail(count{i}) }, 3, sequencer.Delay(time.Hour))
		l.join(storage.Worker{Purpose: "work", Queues: []string{"default", "idle"}, Names: []string{"mail"}})
		if err := l.Pause(t.Context(), storage.PauseQueue, "high", "a fire"); err != nil {
			t.Fatal(err)
		}
		queues, err := l.Queues(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, q := range queues {
			reason := ""
			if q.Pause != nil {
				reason = q.Pause.Reason
			}
			got = append(got, fmt.Sprintf("%s size %d ready %d scheduled %d workers %d aged %t %s", q.Queue, q.Size, q.Ready, q.Scheduled, q.Workers, q.Age > 0, reason))
		}
		want := []string{
			"default size 7 ready 4 scheduled 3 workers 1 aged true ",
			"high size 0 ready 0 scheduled 0 workers 0 aged false a fire",
			"idle size 0 ready 0 scheduled 0 workers 1 aged false ",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestMonitorSaysWhichLimitsAreReached(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, l *lab) { // Q10.20
		mail := sequencer.RegisterFuncOf(l.reg, "mail", func(context.Context, count) error { return nil })
		var warned []string
		l.cfg.Observers = []sequencer.Observer{func(_ context.Context, e sequencer.Event) {
			if e.Kind == sequencer.EventWarning {
				warned = append(warned, e.Name+": "+e.Reason)
			}
		}}
		l.open()
		l.enqueue(func(i int) sequencer.Operation { return mail(count{i}) }, 4)
		l.enqueue(func(i int) sequencer.Operation { return mail(count{i}) }, 3, sequencer.OnQueue("low"))
		l.enqueue(func(i int) sequencer.Operation { return mail(count{i}) }, 2, sequencer.OnQueue("low"), sequencer.Delay(time.Hour))
		exceeded := func(th sequencer.Thresholds) map[string][]string {
			t.Helper()
			list, err := l.Monitor(t.Context(), th)
			if err != nil {
				t.Fatal(err)
			}
			found := map[string][]string{}
			for _, q := range list {
				found[q.Queue] = q.Exceeded
			}
			return found
		}
		got := exceeded(sequencer.Thresholds{
			Default: sequencer.Limits{Ready: 4, Size: 5},
			Queues:  map[string]sequencer.Limits{"low": {Size: 5}, "absent": {Ready: 1}},
		})
		want := map[string][]string{"default": {"4 ready, limit 4"}, "low": {"holds 5, limit 5"}, "absent": nil}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if want := []string{"default: 4 ready, limit 4", "low: holds 5, limit 5"}; !cmp.Equal(warned, want) {
			t.Errorf("warned %v, want %v", warned, want)
		}
		if got := exceeded(sequencer.Thresholds{Default: sequencer.Limits{Age: 1}}); len(got["default"]) != 1 || len(got["low"]) != 1 {
			t.Errorf("age: %v", got)
		}
		if got := exceeded(sequencer.Thresholds{Default: sequencer.Limits{Ready: 5, Size: 6, Age: time.Hour}}); got["default"] != nil || got["low"] != nil {
			t.Errorf("below every limit: %v", got)
		}
		if _, err := l.Monitor(t.Context(), sequencer.Thresholds{Queues: map[string]sequencer.Limits{"two words": {Ready: -1}}}); err == nil {
			t.Error("a bad threshold is no error")
		}
	})
}

func TestALedgerThatIsNotThereHasNoQueuesAndNothingFailed(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.store = noLedger{l.store}
	l.open()
	queues, err := l.Queues(t.Context())
	if err != nil || len(queues) != 0 {
		t.Errorf("queues: %v, %v", queues, err)
	}
	if list, err := l.Monitor(t.Context(), sequencer.Thresholds{}); err != nil || len(list) != 0 {
		t.Errorf("monitor: %v, %v", list, err)
	}
	if rows, err := l.Failed(t.Context(), sequencer.Selection{}); err != nil || len(rows) != 0 {
		t.Errorf("failed: %v, %v", rows, err)
	}
	if err := l.Pause(t.Context(), storage.PauseQueue, "high", ""); !errors.As(err, new(*storage.SchemaError)) {
		t.Errorf("pause: %v, want a *SchemaError", err)
	}
}

// noLedger is a database that nobody has set up.
type noLedger struct{ storage.Store }

func (noLedger) missing() error { return &storage.SchemaError{Schema: storage.Schema{Want: 1}} }

func (n noLedger) Queues(context.Context, time.Time) ([]storage.QueueState, error) {
	return nil, n.missing()
}

func (n noLedger) Executions(context.Context, storage.Filter) ([]storage.Execution, error) {
	return nil, n.missing()
}

func (n noLedger) Operate(context.Context, storage.Order) ([]storage.Execution, error) {
	return nil, n.missing()
}
