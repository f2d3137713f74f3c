package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/sqlite"
	"github.com/gosequencer/sequencer/storage/storagetest"
)

func TestConformance(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store {
		t.Helper()
		return ledger(t)
	})
}

func TestConformanceInMemory(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store {
		t.Helper()
		return open(t, ":memory:", sqlite.Options{})
	})
}

func TestConformanceOfTransactions(t *testing.T) {
	storagetest.RunTx(t, func(t *testing.T) storage.TxStore {
		t.Helper()
		return ledger(t)
	})
}

// ledger is an empty one in a file of its own.
func ledger(tb testing.TB) *sqlite.Store {
	tb.Helper()
	return open(tb, filepath.Join(tb.TempDir(), "ledger.db"), sqlite.Options{})
}

// open opens and sets up a store that is closed with the test.
func open(tb testing.TB, path string, opts sqlite.Options) *sqlite.Store {
	tb.Helper()
	s := reopen(tb, path, opts)
	if _, err := s.Setup(tb.Context()); err != nil {
		tb.Fatalf("set up %s: %v", path, err)
	}
	return s
}

func reopen(tb testing.TB, path string, opts sqlite.Options) *sqlite.Store {
	tb.Helper()
	s, err := sqlite.Open(tb.Context(), path, opts)
	if err != nil {
		tb.Fatalf("open %s: %v", path, err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close %s: %v", path, err)
		}
	})
	return s
}
