package sequencer_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
	"github.com/gosequencer/sequencer/storage/mysql"
	"github.com/gosequencer/sequencer/storage/postgres"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

// sqlLab is a lab whose ledger shares a database with a table of the user's.
type sqlLab struct {
	*lab
	db *sql.DB
}

// onSQL runs a test on every store with transactions.
func onSQL(t *testing.T, test func(t *testing.T, l *sqlLab)) {
	t.Helper()
	open := func(t *testing.T, store storage.TxStore, db *sql.DB, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		l := &sqlLab{newLab(t), db}
		l.store = store
		if _, err := store.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := db.ExecContext(t.Context(), "CREATE TABLE effects (what TEXT)"); err != nil {
			t.Fatal(err)
		}
		test(t, l)
	}
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"), sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		db, err := store.DB()
		open(t, store, db, err)
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		store, err := postgres.Open(t.Context(), testdb.Postgres(t), postgres.Options{})
		if err != nil {
			t.Fatal(err)
		}
		open(t, store, store.DB(), nil)
	})
	t.Run("mysql", func(t *testing.T) {
		t.Parallel()
		store, err := mysql.Open(t.Context(), testdb.MySQL(t), mysql.Options{})
		if err != nil {
			t.Fatal(err)
		}
		open(t, store, store.DB(), nil)
	})
}

// write is a handler's effect in the attempt's transaction.
func write(ctx context.Context, what string) error {
	tx, err := sequencer.Tx[*sql.Tx](ctx)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO effects (what) VALUES ('"+what+"')")
	return err
}

func (l *sqlLab) effects() string {
	l.t.Helper()
	rows, err := l.db.QueryContext(l.t.Context(), "SELECT what FROM effects ORDER BY what")
	if err != nil {
		l.t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var what string
		if err := rows.Scan(&what); err != nil {
			l.t.Fatal(err)
		}
		all = append(all, what)
	}
	if err := rows.Err(); err != nil {
		l.t.Fatal(err)
	}
	return strings.Join(all, " ")
}

func TestW11EffectAndRecordCommitTogether(t *testing.T) {
	t.Parallel()
	onSQL(t, func(t *testing.T, l *sqlLab) {
		l.op(first, func(ctx context.Context) error { return write(ctx, "a") })
		l.op(second, func(ctx context.Context) error { return errors.Join(write(ctx, "b"), errBoom) })
		l.open()
		if _, err := l.process(sequencer.RunOptions{}); !errors.Is(err, errBoom) {
			t.Fatalf("err = %v", err)
		}
		if got := l.effects(); got != "a" { // S7.3; first is undone by its rollback, which here does nothing
			t.Errorf("effects = %q, want only first's", got)
		}
	})
}

func TestS75TheRecordIsPartOfTheHandlersTransaction(t *testing.T) {
	t.Parallel()
	onSQL(t, func(t *testing.T, l *sqlLab) {
		// A handler that ends its own transaction behind our back: nothing can commit
		// with it any more, so the attempt has failed (S7.9).
		l.op(first, func(ctx context.Context) error {
			tx, err := sequencer.Tx[*sql.Tx](ctx)
			if err != nil {
				return err
			}
			return tx.Rollback()
		})
		l.open()
		if _, err := l.process(sequencer.RunOptions{}); err == nil {
			t.Fatal("a commit that failed was reported as success")
		}
		if got := l.state(first); got != storage.Failed {
			t.Errorf("state = %s, want failed", got)
		}
	})
}

func TestW23TxNeverOptsOut(t *testing.T) {
	t.Parallel()
	onSQL(t, func(t *testing.T, l *sqlLab) {
		type cursor struct{ At int }
		fail := true
		l.op(first, func(ctx context.Context) error {
			if err := write(ctx, "never"); !errors.Is(err, sequencer.ErrNoTx) {
				t.Errorf("Tx gives %v, want ErrNoTx", err)
			}
			var c cursor
			if _, err := sequencer.Resume(ctx, &c); err != nil {
				return err
			}
			for ; c.At < 4; c.At++ {
				if c.At == 2 && fail {
					fail = false
					return errBoom
				}
				err := sequencer.Transact(ctx, func(ctx context.Context) error {
					if err := write(ctx, string(rune('a'+c.At))); err != nil {
						return err
					}
					return sequencer.Checkpoint(ctx, cursor{c.At + 1})
				})
				if err != nil {
					return err
				}
			}
			return nil
		}, sequencer.Mark[sequencer.TxNever](), sequencer.Tries(2))
		l.open()
		l.mustProcess()
		if got := l.effects(); got != "a b c d" { // each step once, though the first attempt failed half way
			t.Errorf("effects = %q", got)
		}
	})
}

func TestW24ASkipRollsBackUnlessItKeepsItsChanges(t *testing.T) {
	t.Parallel()
	onSQL(t, func(t *testing.T, l *sqlLab) {
		l.op(first, func(ctx context.Context) error { return errors.Join(write(ctx, "lost"), sequencer.Skip("no")) })
		l.op(second, func(ctx context.Context) error {
			if err := write(ctx, "kept"); err != nil {
				return err
			}
			return sequencer.Skip("no", sequencer.KeepChanges())
		})
		l.open()
		l.mustProcess()
		if got := l.effects(); got != "kept" {
			t.Errorf("S7.7: effects = %q, want kept alone", got)
		}
	})
}

func TestS72WhoNeverAsksHasNoTransaction(t *testing.T) {
	t.Parallel()
	onSQL(t, func(t *testing.T, l *sqlLab) {
		l.op(first, func(ctx context.Context) error {
			_, err := l.db.ExecContext(ctx, "INSERT INTO effects VALUES ('outside')") // would wait for ever for a writer that is us
			return err
		})
		l.op(second, func(ctx context.Context) error { return write(ctx, "inside") }, sequencer.Mark[sequencer.TxRequire]())
		l.open()
		l.mustProcess()
		if got := l.effects(); got != "inside outside" {
			t.Errorf("effects = %q", got)
		}
	})
}

func TestDispatchJoinsTheTransactionItIsCalledIn(t *testing.T) {
	t.Parallel()
	onSQL(t, func(t *testing.T, l *sqlLab) {
		sequencer.RegisterFunc(l.reg, "mail", func(context.Context) error { return nil })
		fail := true
		l.op(first, func(ctx context.Context) error {
			if err := write(ctx, "a"); err != nil {
				return err
			}
			if _, err := sequencer.From(ctx).Dispatch(ctx, sequencer.Named("mail", nil)); err != nil {
				return err
			}
			if fail {
				fail = false
				return errBoom
			}
			if err := l.ExecuteSync(ctx, sequencer.Named("mail", nil)); !errors.Is(err, sequencer.ErrOpenTx) {
				t.Errorf("executing with an open transaction gives %v", err)
			}
			return nil
		}, sequencer.Tries(2))
		l.open()
		l.mustProcess()
		rows, err := l.store.Executions(t.Context(), storage.Filter{Name: "mail"})
		if err != nil || len(rows) != 1 { // the failed attempt's is gone with its transaction
			t.Errorf("%d mails queued, %v; want 1", len(rows), err)
		}
		if _, err := l.In(foreign{}).Dispatch(t.Context(), sequencer.Named("mail", nil)); !errors.Is(err, storage.ErrForeignTx) {
			t.Errorf("another backend's transaction gives %v", err)
		}
	})
}

func TestInTakesTheCallersTransactionInItsOwnKind(t *testing.T) {
	t.Parallel()
	url := testdb.Postgres(t)
	store, err := postgres.Open(t.Context(), url, postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	l := newLab(t)
	l.store = store
	sequencer.RegisterFunc(l.reg, "mail", func(context.Context) error { return nil })
	l.open()
	if err := l.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	dispatch := func(result error) func(pgx.Tx) error {
		return func(tx pgx.Tx) error {
			if _, err := l.In(postgres.Tx(tx)).Dispatch(t.Context(), sequencer.Named("mail", nil)); err != nil {
				t.Error(err)
			}
			return result
		}
	}
	if err := pgx.BeginFunc(t.Context(), pool, dispatch(errBoom)); !errors.Is(err, errBoom) {
		t.Fatal(err)
	}
	if err := pgx.BeginFunc(t.Context(), pool, dispatch(nil)); err != nil {
		t.Fatal(err)
	}
	rows, err := l.store.Executions(t.Context(), storage.Filter{Name: "mail"})
	if err != nil || len(rows) != 1 { // what was rolled back queued nothing
		t.Errorf("%d mails queued, %v; want the one whose transaction committed", len(rows), err)
	}
}

type foreign struct{}

func (foreign) Native() any { return "no transaction" }

func TestARequiredTransactionNeedsAStoreThatHasThem(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, nil, sequencer.Mark[sequencer.TxRequire]())
	l.op(second, nil, sequencer.Mark[sequencer.Encrypted]())
	_, err := sequencer.New(memory.New(), l.reg, l.cfg)
	if err == nil || !strings.Contains(err.Error(), first) || !strings.Contains(err.Error(), second) {
		t.Errorf("New: %v, want both operations named", err)
	}
}

func TestASlowTransactionDoesNotCostTheLease(t *testing.T) {
	t.Parallel()
	onSQL(t, func(t *testing.T, l *sqlLab) {
		l.cfg.Lease = 1500 * time.Millisecond // and a renewal may be late on a busy machine
		l.op(first, func(ctx context.Context) error {
			if err := write(ctx, "slow"); err != nil {
				return err
			}
			for range 5 { // longer than the lease, with the writer held and progress to tell
				sequencer.Progress(ctx, 1, 2)
				<-time.After(400 * time.Millisecond) // sleep: the lease must really run out, and servers have real clocks
			}
			return ctx.Err()
		})
		l.open()
		l.mustProcess()
		if got := l.effects(); got != "slow" {
			t.Errorf("effects = %q", got)
		}
	})
}

func TestALeaseThatEndsBeforeTheCommitLosesTheAttemptAndFailsNothing_Q2_15_Q2_16(t *testing.T) {
	t.Parallel()
	onSQL(t, func(t *testing.T, l *sqlLab) {
		op := sequencer.RegisterFuncOf(l.reg, "pay", func(ctx context.Context, _ count) error {
			a := sequencer.Current(ctx)
			rows, err := l.store.Executions(ctx, storage.Filter{IDPrefix: a.ID})
			if err != nil {
				return err
			}
			if a.Number == 1 { // somebody declares this worker dead
				if err := l.store.Leave(ctx, rows[0].WorkerID); err != nil {
					return err
				}
			}
			tx, err := sequencer.Tx[*sql.Tx](ctx)
			if err == nil {
				_, err = tx.ExecContext(ctx, "INSERT INTO effects VALUES ('paid')")
			}
			return err
		})
		l.open()
		l.enqueue(func(i int) sequencer.Operation { return op(count{i}) }, 1)
		// The quota leaves a claim to the handler's commit, which is refused with it, and
		// none to the write that comes after.
		if err := l.Work(t.Context(), sequencer.WorkerConfig{Slots: 1, MaxJobs: 2}); err != nil {
			t.Fatal(err)
		}
		l.drain()
		rows, err := l.store.Executions(t.Context(), storage.Filter{Name: "pay"})
		if err != nil || len(rows) != 1 {
			t.Fatal(len(rows), err)
		}
		if e := rows[0]; e.State != storage.Completed || e.Attempts() != 2 || e.Errors != 0 {
			t.Errorf("%s after %d attempts and %d errors (%s); want completed by the second, and no error", e.State, e.Attempts(), e.Errors, e.LastError)
		}
		var paid int
		if err := l.db.QueryRowContext(t.Context(), "SELECT count(*) FROM effects").Scan(&paid); err != nil || paid != 1 {
			t.Errorf("paid %d times, %v; want once", paid, err)
		}
	})
}
