package mysql_test

import (
	"testing"

	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/mysql"
	"github.com/gosequencer/sequencer/storage/storagetest"
)

func TestConformance(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store { return ledger(t) })
	storagetest.RunTx(t, func(t *testing.T) storage.TxStore { return ledger(t) })
}

// ledger is an empty one in a database of its own.
func ledger(tb testing.TB) *mysql.Store {
	tb.Helper()
	return setUp(tb, connect(tb, testdb.MySQL(tb)))
}

func setUp(tb testing.TB, s *mysql.Store) *mysql.Store {
	tb.Helper()
	if _, err := s.Setup(tb.Context()); err != nil {
		tb.Fatalf("set up: %v", err)
	}
	return s
}

// connect opens a store that is closed with the test.
func connect(tb testing.TB, url string) *mysql.Store {
	tb.Helper()
	s, err := mysql.Open(tb.Context(), url, mysql.Options{})
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
