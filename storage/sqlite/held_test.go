package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

// holders are the ways in which others can hold the writer; each returns what lets
// go of it.
var holders = map[string]func(t *testing.T, s *sqlite.Store, path string) func(){
	"a handler's transaction": func(t *testing.T, s *sqlite.Store, _ string) func() {
		t.Helper()
		tx := hold(t, s)
		return func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }
	},
	"a transaction of the user's": func(t *testing.T, s *sqlite.Store, _ string) func() {
		t.Helper()
		db, err := s.DB()
		if err != nil {
			t.Fatal(err)
		}
		return lock(t, db)
	},
	"another process": func(t *testing.T, _ *sqlite.Store, path string) func() {
		t.Helper()
		db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return lock(t, db)
	},
}

func lock(t *testing.T, db *sql.DB) func() {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = tx.Rollback() }
}

// eachHolder runs a test with the writer held, on a store with one execution that
// runs and one that waits.
func eachHolder(t *testing.T, opts sqlite.Options, test func(t *testing.T, s *sqlite.Store, worker storage.ID, running storage.Execution, letGo func())) {
	t.Helper()
	for name, take := range holders {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "ledger.db")
			s := open(t, path, opts)
			w := join(t, s)
			enqueue(t, s, row("runs"))
			running := claim(t, s, w, 1)[0]
			enqueue(t, s, row("waits"))
			letGo := take(t, s, path)
			defer letGo()
			test(t, s, w, running, letGo)
		})
	}
}

// No handler's transaction, however long, may keep a pool from its other work.
func TestAClaimDoesNotWaitForTheWriter(t *testing.T) {
	t.Parallel()
	eachHolder(t, sqlite.Options{}, func(t *testing.T, s *sqlite.Store, w storage.ID, _ storage.Execution, letGo func()) {
		ask := storage.ClaimRequest{Worker: w, Queues: []string{"default"}, Limit: 1}
		for name, try := range map[string]func() (storage.Claimed, error){
			"Claim": func() (storage.Claimed, error) { return s.Claim(t.Context(), ask) },
			"Finish": func() (storage.Claimed, error) {
				done, err := s.Finish(t.Context(), storage.FinishRequest{Worker: w, Claim: &ask})
				return done.Claimed, err
			},
		} {
			for range 3 {
				began := time.Now()
				got, err := try()
				if err != nil || len(got.Executions) > 0 || got.NextDue <= 0 || got.NextDue > time.Second {
					t.Errorf("%s gave %+v, %v, want nothing for the moment", name, got, err)
				}
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("%s took %s, want it at once", name, took)
				}
			}
		}
		letGo()
		enqueue(t, s, row("later")) // once it has been written, the writer is free
		if got := claim(t, s, w, 2); got[0].Name != "waits" {
			t.Errorf("afterwards a claim gave %+v, want the one that waits", got)
		}
	})
}

func TestARenewalDoesNotWaitForTheWriter(t *testing.T) {
	t.Parallel()
	eachHolder(t, sqlite.Options{}, func(t *testing.T, s *sqlite.Store, w storage.ID, e storage.Execution, letGo func()) {
		renewal := storage.RenewRequest{Worker: w, Progress: []storage.Progress{{ID: e.ID, Delivery: e.Delivery, Done: 1, Total: 2}}}
		began := time.Now()
		if _, err := s.Renew(t.Context(), renewal); err != nil {
			t.Errorf("renew: %v", err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the renewal took %s, want it at once", took)
		}
		letGo()
		enqueue(t, s, row("later")) // once it has been written, the writer is free
		if _, err := s.Renew(t.Context(), renewal); err != nil {
			t.Errorf("renew: %v", err)
		}
		if got, err := s.Executions(t.Context(), storage.Filter{IDs: []storage.ID{e.ID}}); err != nil || got[0].Done != 1 {
			t.Errorf("afterwards progress is %+v, %v, want it saved", got, err)
		}
	})
}

// What happened must not be lost: an outcome outwaits BusyTimeout, a dispatch is
// told what is wrong.
func TestAnOutcomeWaitsForTheWriterADispatchNotForEver(t *testing.T) {
	t.Parallel()
	eachHolder(t, sqlite.Options{BusyTimeout: 50 * time.Millisecond}, func(t *testing.T, s *sqlite.Store, w storage.ID, e storage.Execution, letGo func()) {
		outcome := make(chan error, 1)
		go func() {
			done, err := s.Finish(t.Context(), storage.FinishRequest{
				Worker: w, Outcomes: []storage.Outcome{{ID: e.ID, Delivery: e.Delivery, State: storage.Completed}},
			})
			if err == nil && !done.Applied[0] {
				err = errors.New("the outcome was not applied")
			}
			outcome <- err
		}()
		if !strings.HasSuffix(t.Name(), "handler's_transaction") { // which a dispatch waits for as long as its context
			_, err := s.Enqueue(t.Context(), storage.EnqueueRequest{Executions: []storage.Execution{row("late")}})
			if trouble, ok := errors.AsType[*sqlite.Error](err); !ok || trouble.Hint() == "" {
				t.Errorf("a dispatch gave %v, want an *Error that says the file is busy", err)
			}
		}
		select {
		case err := <-outcome:
			t.Errorf("the outcome was answered with %v while the writer was held", err)
		case <-time.After(200 * time.Millisecond): // sleep: longer than BusyTimeout
		}
		letGo()
		if err := <-outcome; err != nil {
			t.Errorf("finish: %v", err)
		}
	})
}

func TestAHandlersTransactionThatIsForgottenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := ledger(t)
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := s.TxKinds()[0].Begin(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	enqueue(t, s, row("next"))
}
