package sequencer_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// conflictLab is a ledger on a server that has row locks, with a table of effects.
type conflictLab struct {
	*lab
	store    storage.TxStore
	db       *sql.DB
	mu       sync.Mutex
	retrying []error // what the events said
}

func openConflictLab(t *testing.T, open func(*testing.T) (storage.Store, func() string)) *conflictLab {
	t.Helper()
	store, _ := open(t)
	t.Cleanup(func() { _ = store.Close() })
	l := &conflictLab{lab: newLab(t), store: store.(storage.TxStore), db: store.(interface{ DB() *sql.DB }).DB()}
	l.lab.store = store
	if _, err := store.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.db.ExecContext(t.Context(), "CREATE TABLE effects (what TEXT)"); err != nil {
		t.Fatal(err)
	}
	l.cfg.Observers = []sequencer.Observer{func(_ context.Context, e sequencer.Event) {
		if e.Kind == sequencer.EventRetrying {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.retrying = append(l.retrying, e.Err)
		}
	}}
	return l
}

// wantDoneInSpite checks that all executions of "pay" are completed as if nothing had
// been in their way, each with one effect, and that so many attempts say that something
// was.
func (l *conflictLab) wantDoneInSpite(t *testing.T, executions, conflicts int) {
	t.Helper()
	rows, err := l.store.Executions(t.Context(), storage.Filter{Name: "pay"})
	if err != nil || len(rows) != executions {
		t.Fatalf("%d executions, %v", len(rows), err)
	}
	ids := make([]storage.ID, len(rows))
	for i := range rows {
		e := &rows[i]
		ids[i] = e.ID
		if e.State != storage.Completed || e.Attempts() != 1 || e.Errors != 0 || e.Losses != 0 {
			t.Errorf("%s after %d attempts, %d errors, %d losses (%s); want completed by its only try", e.State, e.Attempts(), e.Errors, e.Losses, e.LastError)
		}
	}
	noted, err := l.store.Attempts(t.Context(), ids...)
	if err != nil || len(noted) != conflicts {
		t.Fatalf("the ledger has %d attempts that went wrong, %v; want %d", len(noted), err, conflicts)
	}
	for _, n := range noted {
		if n.Outcome != "conflict" || n.Number != 1 {
			t.Errorf("attempt %d is noted as %s (%s), want 1 as conflict", n.Number, n.Outcome, n.Message)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.retrying) != conflicts {
		t.Errorf("%d events tell of it, want %d", len(l.retrying), conflicts)
	}
	for _, err := range l.retrying {
		if !errors.Is(err, storage.ErrConflict) {
			t.Errorf("an event says %v, want ErrConflict", err)
		}
	}
	var paid int
	if err := l.db.QueryRowContext(t.Context(), "SELECT count(*) FROM effects").Scan(&paid); err != nil || paid != executions {
		t.Errorf("paid %d times, %v; want %d", paid, err, executions)
	}
}

func TestTheVictimOfADeadlockAtTheCommitIsAttemptedAgainThoughItHasOneTry_S7_9_Q9_9(t *testing.T) {
	t.Parallel()
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		deadlock(t, openConflictLab(t, openPostgres), "SELECT 1 FROM sequencer_live WHERE id = $1 FOR UPDATE")
	})
	t.Run("mysql", func(t *testing.T) {
		t.Parallel()
		deadlock(t, openConflictLab(t, openMySQL), "SELECT 1 FROM sequencer_live WHERE id = UNHEX(REPLACE(?, '-', '')) FOR UPDATE")
	})
}

// deadlock has two handlers each lock the row of the other in its transaction, with the
// statement lock, so that their two outcomes are a deadlock, and the server ends one of
// them, whichever it likes.
func deadlock(t *testing.T, l *conflictLab, lock string) {
	t.Helper()
	var here, locked sync.WaitGroup
	here.Add(2)
	locked.Add(2)
	var met sync.Map
	op := sequencer.RegisterFuncOf(l.reg, "pay", func(ctx context.Context, _ count) error {
		if err := write(ctx, "paid"); err != nil {
			return err
		}
		id := sequencer.Current(ctx).ID
		if _, before := met.LoadOrStore(id, true); before {
			return nil
		}
		tx, err := sequencer.Tx[*sql.Tx](ctx)
		if err != nil {
			return err
		}
		rows, err := l.store.Executions(ctx, storage.Filter{Name: "pay"})
		if err != nil {
			return err
		}
		here.Done()
		here.Wait()
		for _, other := range rows {
			if other.ID.String() != id {
				_, err = tx.ExecContext(ctx, lock, other.ID.String())
			}
		}
		locked.Done()
		locked.Wait()
		return err
	}, sequencer.Tries(1))
	l.open()
	l.enqueue(func(i int) sequencer.Operation { return op(count{i}) }, 2)
	l.drain()
	l.wantDoneInSpite(t, 2, 1)
}

// A handler may want more isolation than READ COMMITTED, and its picture of the ledger
// may then be too old to write its outcome. (MySQL and MariaDB read what they lock as it is.)
func TestASerializationFailureAtTheCommitCostsNoTry_S7_9_Q9_9(t *testing.T) {
	t.Parallel()
	l := openConflictLab(t, openPostgres)
	first := true
	op := sequencer.RegisterFuncOf(l.reg, "pay", func(ctx context.Context, _ count) error {
		tx, err := sequencer.Tx[*sql.Tx](ctx)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"); err != nil {
			return err
		}
		if err := write(ctx, "paid"); err != nil {
			return err
		}
		if first {
			first = false
			_, err = l.db.ExecContext(ctx, "UPDATE sequencer_live SET done = 1")
		}
		return err
	}, sequencer.Tries(1))
	l.open()
	l.enqueue(func(i int) sequencer.Operation { return op(count{i}) }, 1)
	l.drain()
	l.wantDoneInSpite(t, 1, 1)
}

// A claim passes over rows that another transaction has locked, and must say so: a worker
// that is to stop when nothing is left would end while there is work.
func TestAClaimTellsOfWhatOthersHaveLocked_Q10_8(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) (storage.Store, func() string){"postgres": openPostgres, "mysql": openMySQL} {
		for _, parked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/parked=%t", name, parked), func(t *testing.T) {
				t.Parallel()
				claimOfLocked(t, openConflictLab(t, open), parked)
			})
		}
	}
}

func claimOfLocked(t *testing.T, l *conflictLab, parked bool) {
	t.Helper()
	op := sequencer.RegisterFuncOf(l.reg, "pay", func(context.Context, count) error { return nil })
	l.open()
	l.enqueue(func(i int) sequencer.Operation { return op(count{i}) }, 2)
	worker := storage.NewID()
	if err := l.store.Join(t.Context(), storage.Worker{ID: worker, Purpose: "work", Lease: time.Minute}); err != nil {
		t.Fatal(err)
	}
	claim := func(want int, limit int) storage.Claimed {
		t.Helper()
		got, err := l.store.Claim(t.Context(), storage.ClaimRequest{Worker: worker, Queues: []string{"default"}, Names: []string{"pay"}, Limit: limit})
		if err != nil || len(got.Executions) != want {
			t.Fatalf("claimed %d, %v; want %d", len(got.Executions), err, want)
		}
		return got
	}
	if parked {
		var back []storage.Outcome
		for _, e := range claim(2, 2).Executions {
			back = append(back, storage.Outcome{ID: e.ID, Delivery: e.Delivery, State: storage.Pending, Park: true, Excuse: true})
		}
		if _, err := l.store.Finish(t.Context(), storage.FinishRequest{Worker: worker, Outcomes: back}); err != nil {
			t.Fatal(err)
		}
	}
	elsewhere, err := l.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = elsewhere.Rollback() }()
	var locked int
	if err := elsewhere.QueryRowContext(t.Context(), "SELECT 1 FROM sequencer_live LIMIT 1 FOR UPDATE").Scan(&locked); err != nil {
		t.Fatal(err)
	}
	if got := claim(1, 5); got.NextDue != storage.LockedFor {
		t.Errorf("beside what is locked: next due in %v, want %v", got.NextDue, storage.LockedFor)
	}
	if got := claim(0, 5); got.NextDue != storage.LockedFor {
		t.Errorf("when all is locked: next due in %v, want %v", got.NextDue, storage.LockedFor)
	}
	if err := elsewhere.Rollback(); err != nil {
		t.Fatal(err)
	}
	if got := claim(1, 5); got.NextDue >= 0 {
		t.Errorf("when all is claimed: next due in %v, want negative", got.NextDue)
	}
}
