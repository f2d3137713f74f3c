package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/sqlite"
	"github.com/gosequencer/sequencer/storage/storagetest"
)

func TestConformance(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store { return ledger(t) })
}

func TestConformanceInMemory(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store { return open(t, ":memory:", sqlite.Options{}) })
}

// ledger is an empty one in a file of its own.
func ledger(t testing.TB) *sqlite.Store {
	t.Helper()
	return open(t, filepath.Join(t.TempDir(), "ledger.db"), sqlite.Options{})
}

// open opens and sets up a store that is closed with the test.
func open(t testing.TB, path string, opts sqlite.Options) *sqlite.Store {
	t.Helper()
	s := reopen(t, path, opts)
	if _, err := s.Setup(t.Context()); err != nil {
		t.Fatalf("set up %s: %v", path, err)
	}
	return s
}

func reopen(t testing.TB, path string, opts sqlite.Options) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path, opts)
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close %s: %v", path, err)
		}
	})
	return s
}
