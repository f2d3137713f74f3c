package sequencer_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

func TestATransactionalBatchIsAllOrNothing(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) { // S22.1, S22.4, S22.5
		l.migrations(table(1))
		l.op(numbered(0), nil)
		l.open()
		l.mustProcess() // W3, S22.2: an earlier run is none of this batch's business
		l.done()
		early, late := meet(2), meet(2)
		l.op(numbered(2), nil)
		l.op(numbered(3), early.wait) // over when the failing one begins to wait for the slow one
		sequencer.RegisterFunc(l.reg, numbered(4), func(context.Context) error { return nil })
		l.op(numbered(5), func(ctx context.Context) error { return errors.Join(errBoom, early.wait(ctx), late.wait(ctx)) })
		l.op(numbered(6), func(ctx context.Context) error { return late.wait(ctx) })
		l.open()
		r, err := l.process(sequencer.RunOptions{Orchestrator: sequencer.TransactionalBatch(), Slots: 5})
		var failed *sequencer.RunError
		if !errors.As(err, &failed) || !errors.Is(err, sequencer.ErrBatchFailed) || !errors.Is(err, errBoom) {
			t.Fatalf("got %+v, %v", r, err)
		}
		if !slices.Equal(failed.Kept, []string{numbered(4)}) || !strings.Contains(err.Error(), "no rollback: "+numbered(4)) {
			t.Errorf("kept %q, err %v; want %s", failed.Kept, err, numbered(4))
		}
		if want := []string{numbered(2), numbered(3), numbered(6)}; !slices.Equal(failed.RolledBack, want) {
			t.Errorf("rolled back %q, want %q", failed.RolledBack, want)
		}
		did := l.done()
		before(t, did, []string{numbered(6)}, []string{"undo " + numbered(2)}) // only once all have stopped
		undone := slices.DeleteFunc(did, func(s string) bool { return !strings.HasPrefix(s, "undo") })
		rows, _ := l.store.Executions(t.Context(), storage.Filter{States: []storage.State{storage.RolledBack}})
		slices.SortFunc(rows, func(a, b storage.Execution) int { return b.FinishedAt.Compare(a.FinishedAt) })
		for i, row := range rows {
			if undone[i] != "undo "+row.Name && (i == 0 || !row.FinishedAt.Equal(rows[i-1].FinishedAt)) && (i+1 == len(rows) || !row.FinishedAt.Equal(rows[i+1].FinishedAt)) {
				t.Errorf("undone in the order %q, want newest completion first", undone)
			}
		}
		if len(rows) != 3 || len(undone) != 3 || l.state(numbered(0)) != storage.Completed {
			t.Errorf("%d rolled back, undone %q, the one before is %s", len(rows), undone, l.state(numbered(0)))
		}
	})
}

func TestStrictRefusesABatchThatCannotBeUndone(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.migrations(table(1))
	l.op(first, nil)
	sequencer.RegisterFunc(l.reg, second, func(context.Context) error { return nil })
	l.open()
	o := sequencer.RunOptions{Orchestrator: sequencer.TransactionalBatch().Strict()}
	_, err := l.process(o)
	if !errors.Is(err, sequencer.ErrNotRollbackable) || !strings.Contains(err.Error(), second) || strings.Contains(err.Error(), first) {
		t.Errorf("S22.6: err = %v, want ErrNotRollbackable naming %s", err, second)
	}
	l.nothingWritten()
	l.reg = sequencer.NewRegistry()
	l.op(first, nil)
	l.op(second, nil)
	l.open()
	if _, err := l.process(o); err != nil { // control
		t.Error(err)
	}
}

func (l *lab) nothingWritten() {
	l.t.Helper()
	l.expect()
	rows, err := l.store.Executions(l.t.Context(), storage.Filter{})
	flows, err2 := l.store.Flows(l.t.Context(), storage.FlowFilter{})
	if err != nil || err2 != nil || len(rows)+len(flows) > 0 {
		l.t.Errorf("%d rows and %d flows were written, %v %v", len(rows), len(flows), err, err2)
	}
}

func TestAnUndoThatFailsInATransactionalBatchIsTold(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) { // S22.5
		m := meet(2)
		broken := errors.New("cannot take it back")
		sequencer.RegisterFunc(l.reg, first, m.wait, sequencer.Undo(func(context.Context) error { return broken }))
		l.op(second, func(ctx context.Context) error { return errors.Join(errBoom, m.wait(ctx)) })
		l.open()
		r, err := l.process(sequencer.RunOptions{Orchestrator: sequencer.TransactionalBatch()})
		if !errors.Is(err, errBoom) || !strings.Contains(err.Error(), first+": "+broken.Error()) || r.Tasks[0].UndoError == "" {
			t.Errorf("got %+v, %v", r, err)
		}
	})
}

func TestABatchThatWasStoppedIsUndoneByTheNextRun(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) { // S22.1: Ctrl-C between two operations
		for _, atomic := range []bool{true, false} {
			l.reg = sequencer.NewRegistry()
			ctx, stop := context.WithCancel(t.Context())
			n := 0
			if !atomic {
				n = 10
			}
			l.op(numbered(n), nil)
			l.op(numbered(n+1), func(ctx context.Context) error {
				if context.Cause(ctx); stop != nil {
					stop()
					stop = nil
					<-ctx.Done()
					return context.Cause(ctx)
				}
				return nil
			}, sequencer.Mark[sequencer.Idempotent]())
			l.cfg.ShutdownGrace = 10 * time.Millisecond
			l.open()
			o := sequencer.RunOptions{Orchestrator: sequencer.ParallelBatch(), Slots: 1}
			if atomic {
				o.Orchestrator = sequencer.TransactionalBatch()
			}
			r, err := l.Process(ctx, o)
			if !errors.Is(err, sequencer.ErrShutdown) || r.State != storage.Interrupted || atomic != strings.Contains(err.Error(), "not all that it did is undone") {
				t.Fatalf("got %+v, %v", r, err)
			}
			l.expect(numbered(n), numbered(n+1))
			r, err = l.process(o)
			if err != nil {
				t.Fatal(err)
			}
			if atomic {
				l.expect("undo "+numbered(n), numbered(n), numbered(n+1))
				if len(r.Recovered) != 1 || !strings.Contains(r.Recovered[0], "rolled back") {
					t.Errorf("recovered %q", r.Recovered)
				}
			} else { // control: a plain batch goes on
				l.expect(numbered(n + 1))
			}
		}
	})
}

func TestABatchWithAnInterruptedMemberIsUndoneOnceAPersonHasDecided(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) { // S22.1, S11.8
		l.op(first, nil)
		l.op(second, nil)
		l.op(third, nil)
		l.cfg.Orchestrator = sequencer.TransactionalBatch()
		l.open()
		l.dyingBatch(2)
		_, err := l.process(sequencer.RunOptions{})
		if !errors.Is(err, sequencer.ErrInterrupted) {
			t.Fatalf("err = %v, want a refusal", err)
		}
		l.expect()
		if err := l.Resolve(t.Context(), second, sequencer.ResolveCompleted, "looked at it"); err != nil {
			t.Fatal(err)
		}
		r := l.mustProcess()
		did := l.done()
		slices.Sort(did[:2])
		if want := []string{"undo " + first, "undo " + second}; !slices.Equal(did[:2], want) || len(did) != 5 || len(r.Recovered) != 1 {
			t.Errorf("did %q, recovered %q; want first both undone, then all three again", did, r.Recovered)
		}
	})
}

// dyingBatch leaves a transactional batch of three operations that are not safe to
// repeat, whose process died: so many were begun, and all but the last of these
// completed.
func (l *lab) dyingBatch(begun int) {
	l.t.Helper()
	ctx, w := l.t.Context(), storage.NewID()
	flow := storage.Flow{ID: storage.NewID(), Kind: storage.FlowRun, Method: "transactional_batch", Policy: storage.PolicyAtomic}
	rows := make([]storage.Execution, 3)
	for i, name := range []string{first, second, third} {
		rows[i] = storage.Execution{
			ID: storage.NewID(), Name: name, Member: name, Kind: storage.Ordered, Queue: "@" + flow.ID.String(), Priority: storage.PriorityDefault,
			UniqueKey: storage.OrderedKey(name), OnLoss: storage.LossInterrupt, Input: []byte("\x01\x00{}"), FlowID: flow.ID, Undoable: true, Position: i,
		}
	}
	_, err := l.store.Setup(ctx)
	if err == nil {
		err = l.store.Join(ctx, storage.Worker{ID: w, Lease: time.Hour})
	}
	var done storage.Enqueued
	if err == nil {
		done, err = l.store.Enqueue(ctx, storage.EnqueueRequest{
			Flows: []storage.Flow{flow}, Executions: rows, Claim: &storage.ClaimRequest{Worker: w, Queues: []string{rows[0].Queue}, Limit: begun},
		})
	}
	for _, e := range done.Claimed.Executions {
		if err == nil && e.Name != rows[begun-1].Name {
			_, err = l.store.Finish(ctx, storage.FinishRequest{Worker: w, Outcomes: []storage.Outcome{{ID: e.ID, Delivery: 1, State: storage.Completed}}})
		}
	}
	if err == nil {
		err = l.store.Leave(ctx, w)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}
