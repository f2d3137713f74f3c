package sqlite_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

// A second Store on the same file is what another process is.
func TestAnotherStoreOnTheFileWakesWhoeverWatches(t *testing.T) { // W1
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	s := open(t, path, sqlite.Options{})
	other := reopen(t, path, sqlite.Options{})
	wakes, ended := make(chan struct{}, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		ended <- s.Watch(ctx, []string{"default"}, func() {
			select {
			case wakes <- struct{}{}:
			default:
			}
		})
	}()
	woken := func(by string) {
		t.Helper()
		select {
		case <-wakes:
		case <-time.After(5 * time.Second):
			t.Errorf("not woken by %s", by)
		}
	}
	woken("the beginning")
	enqueue(t, other, row("a"))
	woken("another store")

	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.EnqueueTx(t.Context(), sqlite.Tx(tx), storage.EnqueueRequest{Executions: []storage.Execution{row("b")}}); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	woken("a transaction that is not the store's")

	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Watch ended with %v, want nil", err)
	}
}
