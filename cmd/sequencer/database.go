package main

import (
	"context"
	"database/sql"
	"errors"
	"regexp"
	"strings"

	"github.com/gosequencer/sequencer/cli"
	"github.com/gosequencer/sequencer/migration/goose"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/postgres"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

// database is the ledger's, in the forms that its users need.
type database struct {
	store   storage.Store
	dialect goose.Dialect
	tx      func(*sql.Tx) storage.Tx
	sql     func() (*sql.DB, error)
	syntax  func(ctx context.Context, text string) error // nil = it cannot be asked
	warning string                                       // what such a ledger cannot promise
}

// hasSQL reports whether statements can be run where the ledger is.
func (db *database) hasSQL() bool { return db.dialect != "" }

// openDatabase tells by its form what a URL means. Errors never show it: it may
// hold a password.
func openDatabase(ctx context.Context, url string) (*database, error) {
	scheme, rest, found := strings.Cut(url, ":")
	switch {
	case url == "":
		return nil, cli.Usage(errors.New("no database: give --database-url or set SEQUENCER_DATABASE_URL"))
	case scheme == "postgres" || scheme == "postgresql":
		return openPostgres(ctx, url)
	case scheme == "sqlite" || scheme == "sqlite3":
		return openSQLite(ctx, strings.TrimPrefix(rest, "//"))
	case scheme == "redis" || scheme == "rediss":
		return openRedis(ctx, url)
	case scheme != "file" && keyword.MatchString(url):
		return nil, cli.Usage(errors.New("the database is given as keywords of libpq: write postgres://user@host/db"))
	case !found, scheme == "file", url == ":memory:", isDrive(scheme):
		return openSQLite(ctx, url)
	}
	return nil, cli.Usage(errors.New("unknown kind of database: the URL must start with postgres:, sqlite: or redis:, or be the path of a SQLite file"))
}

// keyword finds one of libpq's in a connection string that is no URL.
var keyword = regexp.MustCompile(`(?:^|\s)(?:host|hostaddr|port|user|password|dbname|service)\s*=`)

// isDrive recognises C:\data\app.db.
func isDrive(scheme string) bool { return len(scheme) == 1 }

func openPostgres(ctx context.Context, url string) (*database, error) {
	store, err := postgres.Open(ctx, url, postgres.Options{})
	if err != nil {
		return nil, err
	}
	return &database{
		store: store, dialect: goose.Postgres, tx: postgres.SQLTx,
		sql:    func() (*sql.DB, error) { return store.DB(), nil },
		syntax: postgresSyntax(store.DB()),
	}, nil
}

func openSQLite(ctx context.Context, path string) (*database, error) {
	store, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		return nil, err
	}
	return &database{store: store, dialect: goose.SQLite, tx: sqlite.Tx, sql: store.DB, syntax: sqliteSyntax}, nil
}
