package storagetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// RunTx runs what the contract promises of a [storage.TxStore], for each kind of
// transaction that the store can begin. The function it is given is as for [Run].
func RunTx(t *testing.T, open func(t *testing.T) storage.TxStore) {
	t.Helper()
	kinds := open(t).TxKinds()
	if len(kinds) == 0 {
		t.Fatal("the store begins no kind of transaction")
	}
	for i := range kinds {
		t.Run(fmt.Sprintf("%T", kinds[i].Sample), func(t *testing.T) {
			for _, r := range txRules {
				t.Run(r.name, func(t *testing.T) {
					t.Parallel()
					recite(t, r.name)
					s := open(t)
					r.run(t, &txLab{lab: newLab(t, s), store: s, kind: s.TxKinds()[i]})
				})
			}
		})
	}
}

// txLab is a lab whose store can join transactions.
type txLab struct {
	*lab
	store storage.TxStore
	kind  storage.TxKind
}

func (l *txLab) begin() storage.OwnedTx {
	l.t.Helper()
	tx, err := l.kind.Begin(l.t.Context())
	l.must(err, "Begin")
	l.t.Cleanup(func() {
		if err := tx.Rollback(context.WithoutCancel(l.t.Context())); err != nil {
			l.t.Errorf("Rollback after the end: %v", err)
		}
	})
	return tx
}

func (l *txLab) commit(tx storage.OwnedTx) {
	l.t.Helper()
	l.must(tx.Commit(l.t.Context()), "Commit")
}

func (l *txLab) rollback(tx storage.OwnedTx) {
	l.t.Helper()
	l.must(tx.Rollback(l.t.Context()), "Rollback")
}

func (l *txLab) enqueueTx(tx storage.Tx, r storage.EnqueueRequest) storage.Enqueued {
	l.t.Helper()
	r.Now = l.now
	done, err := l.store.EnqueueTx(l.t.Context(), tx, r)
	l.must(err, "EnqueueTx")
	return done
}

func (l *txLab) finishTx(tx storage.Tx, r storage.FinishRequest) storage.Finished {
	l.t.Helper()
	r.Now = l.now
	done, err := l.store.FinishTx(l.t.Context(), tx, r)
	l.must(err, "FinishTx")
	return done
}

// txRule is a case for one kind of transaction.
type txRule struct {
	name string
	run  func(t *testing.T, l *txLab)
}

var txRules = []txRule{
	{"Q10.4 what EnqueueTx wrote is there after the commit, and not before", func(t *testing.T, l *txLab) {
		a := l.row("a")
		a.Input, a.Tags = []byte("in"), []string{"t"}
		tx := l.begin()
		l.same("receipts", l.enqueueTx(tx, storage.EnqueueRequest{Executions: []storage.Execution{a}}).Receipts, []storage.Receipt{{ID: a.ID}})
		if got := l.list(storage.Filter{}); len(got) != 0 {
			t.Errorf("visible before the commit: %v", names(got))
		}
		l.commit(tx)
		want := a
		want.State, want.CreatedAt, want.DueAt = storage.Pending, base, base
		l.same("row", l.get(a.ID), want)
		l.take(l.join())
	}},
	{"Q10.4 a rollback leaves nothing of EnqueueTx, and frees its keys", func(t *testing.T, l *txLab) {
		a, b := l.row("a"), l.row("a")
		a.UniqueKey, b.UniqueKey = "k", "k"
		f := l.draft(storage.PolicyStop, "x", "y needs x")
		l.unchanged("what was rolled back", func() {
			tx := l.begin()
			l.enqueueTx(tx, storage.EnqueueRequest{Executions: []storage.Execution{a}})
			l.enqueueTx(tx, f.request())
			l.rollback(tx)
		})
		if got := l.enqueue(b); got[0].Duplicate {
			t.Errorf("the key is still held: %+v", got)
		}
		f.enqueue()
		f.end("x", storage.Completed)
	}},
	{"Q10.4 a Rollback after the commit does nothing", func(t *testing.T, l *txLab) {
		a := l.row("a")
		tx := l.begin()
		l.enqueueTx(tx, storage.EnqueueRequest{Executions: []storage.Execution{a}})
		l.commit(tx)
		l.rollback(tx)
		l.wantState(a.ID, storage.Pending)
	}},
	{"Q4.11 EnqueueTx sees the holder of a key, and its own rows", func(t *testing.T, l *txLab) {
		a, b, c, d := l.row("a"), l.row("a"), l.row("c"), l.row("c")
		a.UniqueKey, b.UniqueKey, c.UniqueKey, d.UniqueKey = "k", "k", "own", "own"
		l.enqueue(a)
		tx := l.begin()
		got := l.enqueueTx(tx, storage.EnqueueRequest{Executions: []storage.Execution{b, c}}).Receipts
		got = append(got, l.enqueueTx(tx, storage.EnqueueRequest{Executions: []storage.Execution{d}}).Receipts...)
		l.commit(tx)
		l.same("receipts", got, []storage.Receipt{
			{ID: b.ID, Duplicate: true, HolderID: a.ID}, {ID: c.ID}, {ID: d.ID, Duplicate: true, HolderID: c.ID},
		})
	}},
	{"Q9.9 Q0.2 FinishTx records its outcome with the commit: row, attempt, flow and statistics", func(t *testing.T, l *txLab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a")
		f.enqueue()
		l.settle(f.worker, failure(f.take("a"), storage.Pending, "boom"))
		held := l.take(f.worker)
		tx := l.begin()
		l.must(l.store.CheckpointTx(t.Context(), tx, storage.CheckpointRequest{
			Now: l.now, Worker: f.worker, ID: held.ID, Delivery: held.Delivery, Data: []byte("cursor"),
		}), "CheckpointTx")
		done := l.finishTx(tx, storage.FinishRequest{Worker: f.worker, Outcomes: []storage.Outcome{outcome(held, storage.Completed)}})
		l.same("Applied", done.Applied, []bool{true})
		if e := l.get(held.ID); e.State != storage.Running || e.Checkpoint != nil {
			t.Errorf("before the commit others see %s with checkpoint %q, want running without", e.State, e.Checkpoint)
		}
		l.commit(tx)
		l.sameFlows(done.Flows, f.now())
		if e := l.wantState(held.ID, storage.Completed); string(e.Checkpoint) != "cursor" {
			t.Errorf("checkpoint %q, want cursor", e.Checkpoint)
		}
		f.end("b", storage.Completed)
		f.wantOver(storage.Completed)
	}},
	{"Q9.9 a rollback leaves the row running and its flow as it was, to be finished by another call", func(t *testing.T, l *txLab) {
		f := l.draft(storage.PolicyCompensate, "a", "b needs a")
		f.enqueue()
		f.end("a", storage.Completed)
		held := f.take("b")
		l.unchanged("what was rolled back", func() {
			tx := l.begin()
			l.must(l.store.CheckpointTx(t.Context(), tx, storage.CheckpointRequest{
				Now: l.now, Worker: f.worker, ID: held.ID, Delivery: held.Delivery, Data: []byte("cursor"),
			}), "CheckpointTx")
			l.finishTx(tx, storage.FinishRequest{Worker: f.worker, Outcomes: []storage.Outcome{failure(held, storage.Failed, "boom")}})
			l.rollback(tx)
		})
		f.end("b", storage.Failed)
		f.end("undo a", storage.Completed)
		f.wantOver(storage.Failed)
	}},
	{"Q0.2 a claim fused with FinishTx takes what its outcome made runnable, and gives it back with a rollback", func(t *testing.T, l *txLab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a")
		f.enqueue()
		r := storage.FinishRequest{
			Worker: f.worker, Outcomes: []storage.Outcome{outcome(f.take("a"), storage.Completed)},
			Claim: &storage.ClaimRequest{Queues: []string{"default"}, Limit: 5},
		}
		tx := l.begin()
		l.same("claimed", names(l.finishTx(tx, r).Claimed.Executions), []string{"b"})
		l.rollback(tx)
		f.wantStates(states{"a": storage.Running, "b": storage.Pending})
		tx = l.begin()
		got := l.finishTx(tx, r).Claimed.Executions
		l.same("claimed", names(got), []string{"b"})
		l.commit(tx)
		if e := f.get("b"); e.State != storage.Running || e.WorkerID != f.worker || e.Delivery != 1 {
			t.Errorf("b is %s for %s at delivery %d, want running for %s at 1", e.State, e.WorkerID, e.Delivery, f.worker)
		}
		l.settle(f.worker, outcome(got[0], storage.Completed))
	}},
	{"S5.5 Q0.2 FinishTx ends as cancelled what was asked to stop, but not what completes", func(t *testing.T, l *txLab) {
		for to, want := range map[storage.State]storage.State{storage.Pending: storage.Cancelled, storage.Completed: storage.Completed} {
			l.enqueue(l.row("a"))
			w := l.join()
			held := l.take(w)
			l.operate(l.order(storage.ActCancel, held.ID))
			tx := l.begin()
			done := l.finishTx(tx, storage.FinishRequest{Worker: w, Outcomes: []storage.Outcome{outcome(held, to)}})
			l.commit(tx)
			if stopped := done.Stopped != nil && done.Stopped[0]; !done.Applied[0] || stopped != (to == storage.Pending) {
				t.Errorf("%s: Applied %v, Stopped %v", to, done.Applied, done.Stopped)
			}
			l.wantState(held.ID, want)
		}
	}},
	{"S5.7 FinishTx of a late writer applies nothing, and the transaction lives on", func(t *testing.T, l *txLab) {
		a, b := l.row("a"), l.row("b")
		l.enqueue(a)
		w, other := l.join(), l.join()
		held := l.take(w)
		tx := l.begin()
		done := l.finishTx(tx, storage.FinishRequest{Worker: other, Outcomes: []storage.Outcome{outcome(held, storage.Failed)}})
		l.same("Applied", done.Applied, []bool{false})
		l.enqueueTx(tx, storage.EnqueueRequest{Executions: []storage.Execution{b}})
		l.commit(tx)
		l.wantState(a.ID, storage.Running)
		l.wantState(b.ID, storage.Pending)
	}},
	{"S5.7 CheckpointTx of a late writer is ErrLeaseLost", func(t *testing.T, l *txLab) {
		l.enqueue(l.row("a"))
		w, other := l.join(), l.join()
		held := l.take(w)
		tx := l.begin()
		err := l.store.CheckpointTx(t.Context(), tx, storage.CheckpointRequest{Now: l.now, Worker: other, ID: held.ID, Delivery: held.Delivery})
		if !errors.Is(err, storage.ErrLeaseLost) {
			t.Errorf("got error %v, want ErrLeaseLost", err)
		}
		l.rollback(tx)
	}},
	{"Q9.9 a transaction is of the kind that its sample names", func(t *testing.T, l *txLab) {
		tx := l.begin()
		if got, want := fmt.Sprintf("%T", tx.Native()), fmt.Sprintf("%T", l.kind.Sample); got != want && want != "<nil>" {
			t.Errorf("Native is a %s, the sample a %s", got, want)
		}
		l.rollback(tx)
	}},
	{"Q10.4 a transaction of a stranger is ErrForeignTx, and nothing is written", func(t *testing.T, l *txLab) {
		a := l.row("a")
		l.enqueue(a)
		w := l.join()
		held := l.take(w)
		l.unchanged("the refused calls", func() {
			for what, err := range map[string]error{
				"EnqueueTx": second(l.store.EnqueueTx(t.Context(), stranger{}, storage.EnqueueRequest{Now: l.now, Executions: []storage.Execution{l.row("b")}})),
				"FinishTx": second(l.store.FinishTx(t.Context(), stranger{}, storage.FinishRequest{
					Now: l.now, Worker: w, Outcomes: []storage.Outcome{outcome(held, storage.Completed)},
				})),
				"CheckpointTx": l.store.CheckpointTx(t.Context(), stranger{}, storage.CheckpointRequest{
					Now: l.now, Worker: w, ID: held.ID, Delivery: held.Delivery, Data: []byte("x"),
				}),
			} {
				if !errors.Is(err, storage.ErrForeignTx) {
					t.Errorf("%s: got error %v, want ErrForeignTx", what, err)
				}
			}
		})
	}},
	{"W1 what a transaction enqueued wakes whoever watches once it is committed", func(t *testing.T, l *txLab) {
		l.wakes()
		woken := l.watch("default")
		tx := l.begin()
		_, err := l.store.EnqueueTx(t.Context(), tx, storage.EnqueueRequest{Executions: []storage.Execution{l.row("a")}})
		l.must(err, "EnqueueTx")
		woken.forget()
		l.commit(tx)
		woken.within(t, "the commit of an enqueue")
	}},
	{"Q10.4 two transactions one after the other see each other's work", func(t *testing.T, l *txLab) {
		a := l.row("a")
		tx := l.begin()
		l.enqueueTx(tx, storage.EnqueueRequest{Executions: []storage.Execution{a}})
		l.commit(tx)
		l.tick(time.Second)
		w := l.join()
		held := l.take(w)
		tx = l.begin()
		l.finishTx(tx, storage.FinishRequest{Worker: w, Outcomes: []storage.Outcome{outcome(held, storage.Skipped)}})
		l.commit(tx)
		l.wantState(a.ID, storage.Skipped)
	}},
}

// stranger is a transaction that no backend began.
type stranger struct{}

func (stranger) Native() any { return 42 }

func second[T any](_ T, err error) error { return err }
