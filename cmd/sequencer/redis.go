package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/gosequencer/sequencer/internal/fileop"
	"github.com/gosequencer/sequencer/storage/redis"
)

// redisWarning is for whoever runs ordered operations against such a ledger.
const redisWarning = "the ledger is in Redis: what an operation does and the record that it was done cannot commit together; " +
	"one whose process dies is interrupted unless it is declared idempotent"

var errNoSQL = errors.New("a ledger in Redis has no SQL database")

func openRedis(ctx context.Context, url string) (*database, error) {
	goredis.SetLogger(silence{})
	store, err := redis.Open(ctx, url, redis.Options{})
	if err != nil {
		return nil, err
	}
	return &database{store: store, sql: func() (*sql.DB, error) { return nil, errNoSQL }, warning: redisWarning}, nil
}

// silence keeps the client from writing to standard error by itself: what matters
// comes back as an error.
type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

// noSQLError is a file for which the ledger has no database.
type noSQLError struct{ path string }

func (e *noSQLError) Error() string { return fmt.Sprintf("%s: %v to run it in", e.path, errNoSQL) }

func (e *noSQLError) Unwrap() error { return errNoSQL }

func (e *noSQLError) Hint() string {
	return "keep the ledger in the database that the file is for (--database-url postgres://… or sqlite:PATH), or name a directory without .sql files"
}

// withoutSQL returns an error for the first file that a ledger without an SQL database
// cannot run.
func withoutSQL(operations *fileop.Set, migrations string) error {
	for _, f := range operations.Files {
		if f.SQL() {
			return &noSQLError{f.Path}
		}
	}
	entries, err := os.ReadDir(migrations)
	if err != nil {
		return nil //nolint:nilerr // it is read again by whoever needs it
	}
	for _, e := range entries {
		if strings.HasSuffix(strings.ToLower(e.Name()), ".sql") {
			return &noSQLError{migrations + "/" + e.Name()}
		}
	}
	return nil
}
