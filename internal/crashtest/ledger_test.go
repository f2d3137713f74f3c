//go:build linux

package crashtest_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/gosequencer/sequencer/internal/crashtest"
	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/migration/goose"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/mysql"
	"github.com/gosequencer/sequencer/storage/postgres"
	"github.com/gosequencer/sequencer/storage/redis"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

// backend is one kind of store that these tests run on. A further one is a line in
// backends and a function that opens it.
type backend struct {
	name string
	// fresh is the address of a ledger that is not there yet, for one test.
	fresh func(testing.TB) string
	// open opens an address, in the test itself or in a child.
	open func(ctx context.Context, address string) (*ledger, error)
	// private starts a server that the test may kill; nil: there is no server.
	private func(testing.TB) (address string, server *crashtest.Server)
	// tables: users' tables share its database, and transactions with it…
	tables bool
	// …and it reads the SQL of the deploy runs here.
	deploys bool
}

var backends = []backend{
	{name: "sqlite", fresh: testdb.SQLite, open: openSQLite, tables: true, deploys: true},
	{name: "postgres", fresh: testdb.Postgres, open: openPostgres, private: privatePostgres, tables: true, deploys: true},
	{name: "mysql", fresh: testdb.MySQL, open: openMySQL, private: privateMariaDB, tables: true},
	{name: "redis", fresh: testdb.Redis, open: openRedis, private: privateRedis},
}

// place is a database: of which kind, and where.
type place struct{ Backend, Address string }

// ledger is an open store and, where there are some, the handle for the user's
// tables beside it.
type ledger struct {
	storage.Store
	db      *sql.DB
	dialect goose.Dialect
	tx      func(*sql.Tx) storage.Tx
}

func openSQLite(ctx context.Context, address string) (*ledger, error) {
	store, err := sqlite.Open(ctx, address, sqlite.Options{})
	if err != nil {
		return nil, err
	}
	db, err := store.DB()
	return &ledger{store, db, goose.SQLite, sqlite.Tx}, err
}

func openPostgres(ctx context.Context, address string) (*ledger, error) {
	store, err := postgres.Open(ctx, address, postgres.Options{MaxConns: 4})
	if err != nil {
		return nil, err
	}
	return &ledger{store, store.DB(), goose.Postgres, postgres.SQLTx}, nil
}

func privatePostgres(tb testing.TB) (string, *crashtest.Server) {
	tb.Helper()
	s := crashtest.PostgresServer(tb)
	return "postgres://postgres@" + s.Host + "/postgres?sslmode=disable", s
}

func openRedis(ctx context.Context, address string) (*ledger, error) {
	store, err := redis.Open(ctx, address, redis.Options{})
	if err != nil {
		return nil, err
	}
	return &ledger{Store: store}, nil
}

func privateRedis(tb testing.TB) (string, *crashtest.Server) {
	tb.Helper()
	s := crashtest.RedisServer(tb)
	return "redis://" + s.Host, s
}

func openMySQL(ctx context.Context, address string) (*ledger, error) {
	store, err := mysql.Open(ctx, address, mysql.Options{MaxConns: 4})
	if err != nil {
		return nil, err
	}
	return &ledger{Store: store, db: store.DB(), tx: mysql.Tx}, nil
}

func privateMariaDB(tb testing.TB) (string, *crashtest.Server) {
	tb.Helper()
	s := crashtest.MariaDBServer(tb)
	db, err := sql.Open("mysql", "root@tcp("+s.Host+")/")
	if err == nil {
		_, err = db.ExecContext(tb.Context(), "CREATE DATABASE ledger")
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		tb.Fatal(err)
	}
	return "mysql://root@" + s.Host + "/ledger", s
}

func open(ctx context.Context, p place) (*ledger, error) {
	for _, b := range backends {
		if b.name == p.Backend {
			return b.open(ctx, p.Address)
		}
	}
	return nil, fmt.Errorf("no backend %q", p.Backend)
}

// onBackends runs a test on each backend that suits.
func onBackends(t *testing.T, suits func(backend) bool, test func(t *testing.T, b backend)) {
	t.Helper()
	for _, b := range backends {
		if suits(b) {
			t.Run(b.name, func(t *testing.T) {
				t.Parallel()
				test(t, b)
			})
		}
	}
}

func every(backend) bool                { return true }
func withServer(b backend) bool         { return b.private != nil }
func (b backend) at(t *testing.T) place { t.Helper(); return place{b.name, b.fresh(t)} }

// onEach runs a test of deploy runs.
func onEach(t *testing.T, test func(t *testing.T, fresh func(*testing.T) place)) {
	t.Helper()
	onBackends(t, func(b backend) bool { return b.deploys }, func(t *testing.T, b backend) { test(t, b.at) })
}

func onPostgres(t *testing.T) place {
	t.Helper()
	return place{"postgres", testdb.Postgres(t)}
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
