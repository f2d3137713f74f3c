package faultstore_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/gosequencer/sequencer/internal/faultstore"
	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

var errInjected = errors.New("injected")

func failAt(point string) faultstore.Hook {
	return func(at string) error {
		if at == point {
			return errInjected
		}
		return nil
	}
}

func TestEveryCallPassesAPointBeforeAndAfterItsEffect(t *testing.T) {
	t.Parallel()
	var passed []string
	store := faultstore.New(memory.New(), func(point string) error { passed = append(passed, point); return nil })
	if _, err := store.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := store.Locks(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"Setup#1/before", "Setup#1/after", "Locks#1/before", "Locks#1/after", "Locks#2/before", "Locks#2/after"}
	if !slices.Equal(passed, want) {
		t.Errorf("passed %q, want %q", passed, want)
	}
	if !faultstore.Reads(want[2]) || faultstore.Reads(want[0]) {
		t.Error("Locks is a read and Setup is none")
	}
}

func TestWhatCarriesOutcomesIsNumberedApartFromWhatLooksForWork(t *testing.T) {
	t.Parallel()
	var passed []string
	store := faultstore.New(memory.New(), func(point string) error { passed = append(passed, point); return nil })
	outcome := []storage.Outcome{{ID: storage.NewID(), Delivery: 1, State: storage.Completed}}
	for _, r := range []storage.FinishRequest{{}, {Outcomes: outcome}, {}} {
		if _, err := store.Finish(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"Look#1/before", "Look#1/after", "Finish#1/before", "Finish#1/after", "Look#2/before", "Look#2/after"}
	if !slices.Equal(passed, want) {
		t.Errorf("passed %q, want %q", passed, want)
	}
	if !faultstore.Chance(want[0]) || faultstore.Chance(want[2]) {
		t.Error("Look is a matter of time and Finish is not")
	}
}

func TestAnErrorBeforePreventsTheEffectAndOneAfterHidesIt(t *testing.T) {
	t.Parallel()
	for point, want := range map[string]int{"Join#1/before": 0, "Join#1/after": 1} {
		ledger := memory.New()
		store := faultstore.New(ledger, failAt(point))
		if _, err := store.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := store.Join(t.Context(), storage.Worker{ID: storage.NewID()}); !errors.Is(err, errInjected) {
			t.Errorf("%s: got %v, want the injected error", point, err)
		}
		workers, err := ledger.Workers(t.Context())
		if err != nil || len(workers) != want {
			t.Errorf("%s: %d workers have joined, %v, want %d", point, len(workers), err, want)
		}
	}
}

func TestAStoreSharesTransactionsIfTheWrappedOneDoes(t *testing.T) {
	t.Parallel()
	if _, ok := faultstore.New(memory.New(), failAt("")).(storage.TxStore); ok {
		t.Error("the memory store has no transactions, and its wrapper claims to")
	}
	ledger, err := sqlite.Open(t.Context(), testdb.SQLite(t), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer ledger.Close()
	store, ok := faultstore.New(ledger, failAt("Commit#1/before")).(storage.TxStore)
	if !ok {
		t.Fatal("SQLite has transactions, and its wrapper does not")
	}
	if _, err := store.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	owned, err := store.TxKinds()[0].Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	row := storage.Execution{ID: storage.NewID(), Name: "a", Kind: storage.Unlisted, Queue: "default", Priority: storage.PriorityDefault, OnLoss: storage.LossRetry}
	if _, err := store.EnqueueTx(t.Context(), owned, storage.EnqueueRequest{Executions: []storage.Execution{row}}); err != nil {
		t.Fatalf("a transaction of the wrapper's own: %v", err)
	}
	if err := owned.Commit(t.Context()); !errors.Is(err, errInjected) {
		t.Errorf("commit: got %v, want the injected error", err)
	}
	if err := owned.Rollback(t.Context()); err != nil {
		t.Errorf("rollback after a commit that was not made: %v", err)
	}
	if rows, err := store.Executions(t.Context(), storage.Filter{}); err != nil || len(rows) != 0 {
		t.Errorf("%d executions, %v, want none", len(rows), err)
	}
}
