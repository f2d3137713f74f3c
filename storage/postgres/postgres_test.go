package postgres_test

import (
	"testing"

	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/postgres"
	"github.com/gosequencer/sequencer/storage/storagetest"
)

func TestConformance(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store { return ledger(t) })
}

// ledger is an empty one in a schema of its own.
func ledger(tb testing.TB) *postgres.Store {
	tb.Helper()
	s := connect(tb, testdb.Postgres(tb))
	if _, err := s.Setup(tb.Context()); err != nil {
		tb.Fatalf("set up: %v", err)
	}
	return s
}

// connect opens a store that is closed with the test.
func connect(tb testing.TB, url string) *postgres.Store {
	tb.Helper()
	s, err := postgres.Open(tb.Context(), url, postgres.Options{})
	if err != nil {
		tb.Fatalf("open: %v", err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return s
}
