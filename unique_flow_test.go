package sequencer_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// sync1 is unique by its customer.
type sync1 struct {
	Customer string `json:"customer"`
	l        *lab
}

func (s *sync1) Handle(context.Context) error { s.l.note("sync " + s.Customer); return nil }
func (s *sync1) UniqueID() string             { return s.Customer }

func TestADuplicateMemberIsSkippedAndNamesWhoHasItsKey(t *testing.T) {
	t.Parallel()
	onFlowStores(t, func(t *testing.T, l *flowLab) { // Q4.13, Q4.10
		sequencer.Register(l.reg, "sync", func() *sync1 { return &sync1{l: l.lab} })
		l.open()
		first, err := l.Dispatch(t.Context(), &sync1{Customer: "x"}, sequencer.Delay(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		f := l.start(l.Batch(&sync1{Customer: "x"}, &sync1{Customer: "y"}, op("a")).Then(op("then")))
		if again, err := l.Dispatch(t.Context(), &sync1{Customer: "y"}); err != nil || !again.Duplicate {
			t.Errorf("Q4.1: a member that waits does not hold its key: %+v, %v", again, err)
		}
		got := l.one()
		slices.Sort(got)
		if want := []string{"a", "sync y", "then"}; !slices.Equal(got, want) {
			t.Errorf("did %q, want %q", got, want)
		}
		l.wantFlow(f, "completed 3/3 2 completed 1 skipped 100% g1")
		rows, err := l.store.Executions(t.Context(), storage.Filter{Name: "sync", States: []storage.State{storage.Skipped}})
		if err != nil || len(rows) != 1 || !strings.Contains(rows[0].Reason, first.ID) {
			t.Errorf("the duplicate is %+v, %v; want it to name %s", rows, err, first.ID)
		}
	})
}

func TestAStepWaitsForItsUniqueKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // Q4.12
		l := newLab(t)
		sequencer.Register(l.reg, "sync", func() *sync1 { return &sync1{l: l} })
		l.op("a", nil)
		l.open()
		holder, err := l.Dispatch(t.Context(), &sync1{Customer: "x"}, sequencer.Delay(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		// Two steps with one key are no deadlock.
		f := l.start(l.Chain(&sync1{Customer: "x"}, op("a"), &sync1{Customer: "x"}))
		late := l.start(l.Chain(sequencer.With(&sync1{Customer: "x"}, sequencer.RetryFor(10*time.Second)), op("a")))
		ctx, stop := context.WithCancel(t.Context())
		worked := make(chan error)
		go func() { worked <- l.Work(ctx, sequencer.WorkerConfig{}) }()
		_, err = late.Wait(t.Context())
		if err == nil || !strings.Contains(err.Error(), sequencer.ErrUniqueConflict.Error()) || !strings.Contains(err.Error(), holder.ID) {
			t.Errorf("a step whose time was over: %v", err)
		}
		if _, err := f.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		stop()
		if err := <-worked; err != nil {
			t.Error(err)
		}
		l.expect("sync x", "sync x", "a", "sync x")
	})
}
