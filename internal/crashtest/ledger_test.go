//go:build linux

package crashtest_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"testing"

	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/migration/goose"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/postgres"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

// place is a database: of which kind, and where.
type place struct{ Backend, Address string }

// onEach runs a test on each backend whose users' tables share the ledger's database.
func onEach(t *testing.T, test func(t *testing.T, fresh func(*testing.T) place)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, func(t *testing.T) place { t.Helper(); return place{"sqlite", testdb.SQLite(t)} })
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, onPostgres)
	})
}

func onPostgres(t *testing.T) place {
	t.Helper()
	return place{"postgres", testdb.Postgres(t)}
}

// ledger is an open store and the handle for the user's tables beside it.
type ledger struct {
	storage.Store
	db      *sql.DB
	dialect goose.Dialect
	tx      func(*sql.Tx) storage.Tx
}

func open(ctx context.Context, p place) (*ledger, error) {
	switch p.Backend {
	case "sqlite":
		store, err := sqlite.Open(ctx, p.Address, sqlite.Options{})
		if err != nil {
			return nil, err
		}
		db, err := store.DB()
		return &ledger{store, db, goose.SQLite, sqlite.Tx}, err
	case "postgres":
		store, err := postgres.Open(ctx, p.Address, postgres.Options{MaxConns: 4})
		if err != nil {
			return nil, err
		}
		return &ledger{store, store.DB(), goose.Postgres, postgres.SQLTx}, nil
	default:
		return nil, fmt.Errorf("no backend %q", p.Backend)
	}
}

// look is within, for a ledger whose process may have died before there was a database.
func look(t *testing.T, p place, see func(l *ledger)) {
	t.Helper()
	if p.Backend == "sqlite" {
		if _, err := os.Stat(p.Address); err != nil {
			return
		}
	}
	within(t, p, see)
}

// within opens the ledger for the test itself while f runs.
func within(t *testing.T, p place, f func(l *ledger)) {
	t.Helper()
	l, err := open(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f(l)
}
