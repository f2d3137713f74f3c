package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

// hold takes the writer with a handler's transaction, so that calls gather
// behind it and travel together once it ends.
func hold(t *testing.T, s *sqlite.Store) storage.OwnedTx {
	t.Helper()
	tx, err := s.TxKinds()[0].Begin(t.Context())
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	return tx
}

func TestACallThatFailsDoesNotHurtThoseItTravelsWith(t *testing.T) {
	t.Parallel()
	for _, path := range []string{filepath.Join(t.TempDir(), "ledger.db"), ":memory:"} {
		s := open(t, path, sqlite.Options{})
		holder := row("holder")
		holder.UniqueKey = "key"
		enqueue(t, s, holder)

		tx := hold(t, s)
		var all sync.WaitGroup
		for i := range 20 {
			e := row("good")
			bad := i%2 == 1
			rows := []storage.Execution{e}
			if bad { // its first row is written before the second one is refused
				second := row("bad")
				second.UniqueKey = "key"
				rows = append(rows, second)
			}
			all.Go(func() {
				_, err := s.Enqueue(t.Context(), storage.EnqueueRequest{Executions: rows, RefuseDuplicates: true})
				if _, duplicate := errors.AsType[*storage.DuplicateError](err); duplicate != bad || !bad && err != nil {
					t.Errorf("call %d: %v", i, err)
				}
			})
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		all.Wait()
		got, err := s.Executions(t.Context(), storage.Filter{Name: "good"})
		if err != nil || len(got) != 10 {
			t.Errorf("%s: %d good executions were written, %v, want 10", path, len(got), err)
		}
	}
}

func TestWaitingForTheWriterEndsWithTheContext(t *testing.T) {
	t.Parallel()
	s := ledger(t)
	tx := hold(t, s)
	ctx, cancel := context.WithCancelCause(t.Context())
	result := make(chan error)
	go func() {
		_, err := s.Enqueue(ctx, storage.EnqueueRequest{Executions: []storage.Execution{row("late")}})
		result <- err
	}()
	cancel(errors.New("no patience"))
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("Enqueue gave %v, want the context's error", err)
	}
	if _, err := s.TxKinds()[0].Begin(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Begin gave %v, want the context's error", err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	enqueue(t, s, row("control"))
	if got, err := s.Executions(t.Context(), storage.Filter{}); err != nil || len(got) != 1 || got[0].Name != "control" {
		t.Errorf("the ledger holds %+v, %v, want the control alone", got, err)
	}
}

func TestWaitingForAnotherHandleEndsWithTheContext(t *testing.T) {
	t.Parallel()
	s := ledger(t)
	db, err := s.DB()
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(t.Context(), nil) // immediate: it holds the file's write lock
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Enqueue(ctx, storage.EnqueueRequest{Executions: []storage.Execution{row("late")}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Enqueue gave %v, want the context's error", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	enqueue(t, s, row("control"))
	if got, err := s.Executions(t.Context(), storage.Filter{}); err != nil || len(got) != 1 {
		t.Errorf("the ledger holds %d executions, %v, want the control alone", len(got), err)
	}
}

func TestCloseEndsCallsInFlight(t *testing.T) {
	t.Parallel()
	s := ledger(t)
	db, err := s.DB()
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	result := make(chan error)
	go func() {
		_, err := s.Enqueue(t.Context(), storage.EnqueueRequest{Executions: []storage.Execution{row("late")}})
		result <- err
	}()
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if err := <-result; !errors.Is(err, storage.ErrClosed) {
		t.Errorf("the call in flight gave %v, want ErrClosed", err)
	}
	if _, err := s.Newest(t.Context(), storage.NewestRequest{}); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("a call after Close gave %v, want ErrClosed", err)
	}
}

func TestAHandlersTransactionCarriesDispatchesAndOutcomes(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, path := range []string{filepath.Join(t.TempDir(), "ledger.db"), ":memory:"} {
		s := open(t, path, sqlite.Options{})
		db, err := s.DB()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.ExecContext(ctx, `CREATE TABLE mine (n INTEGER)`); err != nil {
			t.Fatal(err)
		}
		begins := map[string]func() (storage.Tx, func() error, func() error){
			"its own": func() (storage.Tx, func() error, func() error) {
				tx := hold(t, s)
				return tx, func() error { return tx.Commit(ctx) }, func() error { return tx.Rollback(ctx) }
			},
			"the caller's": func() (storage.Tx, func() error, func() error) {
				tx, err := db.BeginTx(ctx, nil)
				if err != nil {
					t.Fatal(err)
				}
				return sqlite.Tx(tx), tx.Commit, tx.Rollback
			},
		}
		for name, begin := range begins {
			for _, commits := range []bool{false, true} {
				w := join(t, s)
				enqueue(t, s, row("a"))
				a := claim(t, s, w, 1)[0]
				tx, commit, rollback := begin()
				if _, err := tx.Native().(*sql.Tx).ExecContext(ctx, `INSERT INTO mine VALUES (1)`); err != nil {
					t.Fatal(err)
				}
				next := row("next")
				if _, err := s.EnqueueTx(ctx, tx, storage.EnqueueRequest{Executions: []storage.Execution{next}}); err != nil {
					t.Fatal(err)
				}
				if err := s.CheckpointTx(ctx, tx, storage.CheckpointRequest{Worker: w, ID: a.ID, Delivery: a.Delivery, Data: []byte("half")}); err != nil {
					t.Fatal(err)
				}
				done, err := s.FinishTx(ctx, tx, storage.FinishRequest{
					Worker: w, Outcomes: []storage.Outcome{{ID: a.ID, Delivery: a.Delivery, State: storage.Completed}},
					Claim: &storage.ClaimRequest{Queues: []string{"default"}, Limit: 5},
				})
				if err != nil || !done.Applied[0] || len(done.Claimed.Executions) != 1 || done.Claimed.Executions[0].ID != next.ID {
					t.Fatalf("%s %s: finished %+v, %v", path, name, done, err)
				}
				end, want := rollback, storage.Running
				if commits {
					end, want = commit, storage.Completed
				}
				if err := end(); err != nil {
					t.Fatal(err)
				}
				got, err := s.Executions(ctx, storage.Filter{IDs: []storage.ID{a.ID, next.ID}, Oldest: true})
				if err != nil || got[0].State != want || (len(got) == 2) != commits {
					t.Errorf("%s %s, commit %v: %+v, %v", path, name, commits, got, err)
				}
				if _, err := s.Finish(ctx, storage.FinishRequest{Worker: w, Outcomes: []storage.Outcome{
					{ID: a.ID, Delivery: 1, State: storage.Completed}, {ID: next.ID, Delivery: 1, State: storage.Completed},
				}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		var n int
		if err := db.QueryRowContext(ctx, `SELECT count(*) FROM mine`).Scan(&n); err != nil || n != len(begins) {
			t.Errorf("%s: the user's table has %d rows, %v, want one per commit", path, n, err)
		}
	}
}

type strange struct{ native any }

func (s strange) Native() any { return s.native }

func TestATransactionOfAnotherDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	s, other := ledger(t), ledger(t)
	otherDB, err := other.DB()
	if err != nil {
		t.Fatal(err)
	}
	otherTx, err := otherDB.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer otherTx.Rollback()
	owned := hold(t, other)
	defer owned.Rollback(t.Context())
	for name, tx := range map[string]storage.Tx{
		"none": nil, "no *sql.Tx": strange{42}, "a nil *sql.Tx": strange{(*sql.Tx)(nil)}, "another file": sqlite.Tx(otherTx), "another store": owned,
	} {
		if _, err := s.EnqueueTx(t.Context(), tx, storage.EnqueueRequest{Executions: []storage.Execution{row("a")}}); !errors.Is(err, storage.ErrForeignTx) {
			t.Errorf("%s: %v, want ErrForeignTx", name, err)
		}
	}
}

// Readers, the writer and the users' handle all at once, on a file and in memory.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	for _, path := range []string{filepath.Join(t.TempDir(), "ledger.db"), ":memory:"} {
		s := open(t, path, sqlite.Options{})
		db, err := s.DB()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.ExecContext(t.Context(), `CREATE TABLE mine (n INTEGER)`); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				w := storage.Worker{ID: storage.NewID()}
				if err := s.Join(t.Context(), w); err != nil {
					t.Error(err)
				}
				for range 25 {
					_, errE := s.Enqueue(t.Context(), storage.EnqueueRequest{
						Executions: []storage.Execution{row("a")},
						Claim:      &storage.ClaimRequest{Worker: w.ID, Queues: []string{"default"}, Limit: 1},
					})
					_, errR := s.Executions(t.Context(), storage.Filter{Name: "a"})
					_, errU := db.ExecContext(t.Context(), `INSERT INTO mine VALUES (1)`)
					if err := errors.Join(errE, errR, errU); err != nil {
						t.Errorf("%s: %v", path, err)
					}
				}
			})
		}
		all.Wait()
		counts, err := s.Counts(t.Context())
		if err != nil || len(counts) != 1 || counts[0].N != 100 || counts[0].State != storage.Running {
			t.Errorf("%s: counts are %+v, %v, want 100 running", path, counts, err)
		}
	}
}
