package postgres_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/postgres"
)

// watch lets s watch the queue of [job], and returns what waits for a wake-up.
func watch(t *testing.T, s *postgres.Store) (woken func(by string)) {
	t.Helper()
	wakes, ended := make(chan struct{}, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	go func() {
		ended <- s.Watch(ctx, []string{job("").Queue}, func() {
			select {
			case wakes <- struct{}{}:
			default:
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Watch ended with %v, want nil", err)
		}
	})
	woken = func(by string) {
		t.Helper()
		select {
		case <-wakes:
		case <-time.After(5 * time.Second):
			t.Errorf("not woken by %s", by)
		}
	}
	woken("the beginning")
	return woken
}

func TestAnotherStoreOnTheLedgerWakesWhoeverWatches(t *testing.T) { // W1
	t.Parallel()
	url := testdb.Postgres(t)
	woken := watch(t, setUp(t, connect(t, url)))
	other, err := postgres.Open(t.Context(), url, postgres.Options{MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	enqueue(t, other, 1)
	woken("another store")

	one := storage.EnqueueRequest{Executions: []storage.Execution{job("in a transaction")}}
	tx, err := pool(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.EnqueueTx(t.Context(), postgres.Tx(tx), one); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	woken("a transaction that is not the store's")

	enqueue(t, other, 1)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	woken("a store that was closed right after its commit")
}

func TestAWatcherWhoseConnectionBreaksListensAgain(t *testing.T) { // W1
	t.Parallel()
	url := testdb.Postgres(t)
	woken := watch(t, setUp(t, connect(t, url)))
	other := connect(t, url)
	const breakIt = `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE query = 'LISTEN "sequencer_' || md5(current_schema()) || '"'`
	var broken int
	if err := pool(t, url).QueryRow(t.Context(), breakIt).Scan(&broken); err != nil || broken != 1 {
		t.Fatalf("%d connections listened, %v; want 1", broken, err)
	}
	woken("listening again")
	enqueue(t, other, 1)
	woken("another store, after that")
}

func TestSetupUpgradesALedgerOfSchema1(t *testing.T) { // S4.10
	t.Parallel()
	url := testdb.Postgres(t)
	first, err := os.ReadFile("schema/0001_ledger.sql")
	if err != nil {
		t.Fatal(err)
	}
	db := pool(t, url)
	worker := storage.NewID()
	if _, err := db.Exec(t.Context(), string(first), pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(t.Context(), `INSERT INTO sequencer_workers (id, joined_at, lease_us, pid, slots, purpose, actor, hostname)
		VALUES ($1, now(), 0, 1, 1, 'work', 'ada', 'lab')`, worker.String())
	if err != nil {
		t.Fatal(err)
	}
	s := connect(t, url)
	for range 2 {
		found, err := s.Setup(t.Context())
		if want := (storage.Schema{Version: 3, OldestCompatible: 3, Want: 3}); err != nil || found != want {
			t.Fatalf("Setup: %+v, %v; want %+v", found, err, want)
		}
	}
	workers, err := s.Workers(t.Context())
	if err != nil || len(workers) != 1 || workers[0].ID != worker || len(workers[0].Names) != 0 {
		t.Errorf("workers %+v, %v; want the one of before, without names", workers, err)
	}
	if err := s.Announce(t.Context(), storage.AnnounceRequest{Schedules: []storage.Schedule{{Name: "nightly"}}}); err != nil {
		t.Errorf("Announce: %v", err)
	}
}
