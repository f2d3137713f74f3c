package main

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
)

var sqlitePlaces = placeKind{
	store: "sqlite",
	version: func(ctx context.Context) (version string, err error) {
		db, err := sql.Open("sqlite", ":memory:")
		if err != nil {
			return "", err
		}
		defer db.Close()
		return version, db.QueryRowContext(ctx, "SELECT 'SQLite ' || sqlite_version()").Scan(&version)
	},
	make: func(_ context.Context, name string) (string, error) {
		dir, err := os.MkdirTemp("", name)
		return filepath.Join(dir, "queue.db"), err
	},
	remove: func(_ context.Context, p place) error { return os.RemoveAll(filepath.Dir(p.Address)) },
	size: func(ctx context.Context, p place) (int64, error) {
		if err := checkpoint(ctx, p); err != nil {
			return 0, err
		}
		info, err := os.Stat(p.Address)
		if err != nil {
			return 0, err
		}
		return info.Size(), nil
	},
	settle: checkpoint,
}

// checkpoint moves the log into the database.
func checkpoint(ctx context.Context, p place) error {
	db, err := openSQLite(p.Address)
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	return err
}

// openSQLite opens a database the way all queues here have it: with one connection,
// since several would only wait for each other's writes.
func openSQLite(path string) (*sql.DB, error) {
	db, err := openWAL(path, false)
	if err == nil {
		db.SetMaxOpenConns(1)
	}
	return db, err
}

// openWAL opens a database with the settings that our own store makes, so that
// durability is equal.
func openWAL(path string, full bool) (*sql.DB, error) {
	mode := "normal"
	if full {
		mode = "full"
	}
	return sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(wal)&_pragma=busy_timeout(10000)&_pragma=synchronous("+mode+")&_txlock=immediate")
}
