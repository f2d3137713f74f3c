package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing/fstest"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/gosequencer/sequencer"
	source "github.com/gosequencer/sequencer/migration/goose"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

// tasks is how many migrations, and how many operations, a deploy has.
const tasks = 1000

// deploy compares a run over 1,000 migrations and 1,000 operations on SQLite, with
// synchronous NORMAL and FULL, with what goose alone needs for the migrations plus a
// bare loop that commits 1,000 transactions; and a run with nothing pending with
// goose's own.
func deploy() []measurement {
	return []measurement{
		timed("deploy-normal", "goose Up + bare loop of commits", baseline(false)),
		timed("deploy-normal", "sequencer", process(false)),
		timed("deploy-full", "goose Up + bare loop of commits", baseline(true)),
		timed("deploy-full", "sequencer", process(true)),
		timed("deploy-nothing", "goose Up", gooseNothing),
		timed("deploy-nothing", "sequencer", sequencerNothing),
		timed("deploy-plan", "sequencer", plan),
	}
}

// timing measures something in a directory.
type timing func(ctx context.Context, dir string) (time.Duration, error)

// timed measures in a fresh directory.
func timed(work, who string, do timing) measurement {
	return measurement{work, "sqlite", who, func(ctx context.Context) ([]reading, error) {
		dir, err := os.MkdirTemp("", "sequencer-bench")
		if err != nil {
			return nil, err
		}
		took, err := do(ctx, dir)
		return []reading{{"seconds", took.Seconds()}}, errors.Join(err, os.RemoveAll(dir))
	}}
}

func migrations() fs.FS {
	files := fstest.MapFS{}
	for i := range tasks {
		name := fmt.Sprintf("2024%02d%02d%02d%02d00_table_%d.sql", i/600+1, i/24%25+1, i%24, 0, i)
		text := fmt.Sprintf("-- +goose Up\nCREATE TABLE t%d (id INTEGER PRIMARY KEY, v TEXT);\n", i)
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return files
}

func gooseUp(ctx context.Context, db *sql.DB) error {
	p, err := goose.NewProvider(goose.DialectSQLite3, db, migrations(), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

func baseline(full bool) timing {
	return func(ctx context.Context, dir string) (time.Duration, error) {
		db, err := openWAL(filepath.Join(dir, "base.db"), full)
		if err != nil {
			return 0, err
		}
		defer db.Close()
		began := time.Now()
		if err := gooseUp(ctx, db); err != nil {
			return 0, err
		}
		err = bareCommits(ctx, db)
		return time.Since(began), err
	}
}

func bareCommits(ctx context.Context, db *sql.DB) error {
	if _, err := db.ExecContext(ctx, "CREATE TABLE bare (id INTEGER PRIMARY KEY, v TEXT)"); err != nil {
		return err
	}
	for i := range tasks {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO bare (v) VALUES (?)", strconv.Itoa(i)); err != nil {
			return err
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}

// deployer opens a sequencer over the same migrations and as many operations, each of
// which commits one row in its transaction.
func deployer(ctx context.Context, path string, full bool) (*sequencer.Sequencer, *sqlite.Store, error) {
	durability := sqlite.Normal
	if full {
		durability = sqlite.Full
	}
	store, err := sqlite.Open(ctx, path, sqlite.Options{Durability: durability})
	if err != nil {
		return nil, nil, err
	}
	db, err := store.DB()
	if err != nil {
		return nil, nil, err
	}
	src, err := source.New(source.SQLite, db, migrations(), source.Options{Tx: sqlite.Tx})
	if err != nil {
		return nil, nil, err
	}
	reg := sequencer.NewRegistry()
	for i := range tasks {
		name := fmt.Sprintf("2024%02d%02d%02d%02d30_op_%d", i/600+1, i/24%25+1, i%24, 0, i)
		sequencer.RegisterFunc(reg, name, sequencer.InTx(func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, fmt.Sprintf("INSERT INTO t%d (v) VALUES (?)", i), strconv.Itoa(i))
			return err
		}))
	}
	seq, err := sequencer.New(store, reg, sequencer.Config{Migrations: src, Logger: slog.New(slog.DiscardHandler)})
	return seq, store, err
}

func process(full bool) timing {
	return func(ctx context.Context, dir string) (time.Duration, error) {
		began := time.Now()
		seq, store, err := deployer(ctx, filepath.Join(dir, "ours.db"), full)
		if err != nil {
			return 0, err
		}
		defer store.Close() //nolint:errcheck // scratch
		_, err = seq.Process(ctx, sequencer.RunOptions{})
		return time.Since(began), err
	}
}

// gooseNothing and sequencerNothing measure what a new process does that finds
// nothing to do: open a database that nobody has open, look, and close it.
func gooseNothing(ctx context.Context, dir string) (time.Duration, error) {
	up := func() error {
		db, err := openWAL(filepath.Join(dir, "base.db"), false)
		if err != nil {
			return err
		}
		return errors.Join(gooseUp(ctx, db), db.Close())
	}
	return second(up)
}

func sequencerNothing(ctx context.Context, dir string) (time.Duration, error) {
	run := func() error {
		seq, store, err := deployer(ctx, filepath.Join(dir, "ours.db"), false)
		if err != nil {
			return err
		}
		_, err = seq.Process(ctx, sequencer.RunOptions{})
		return errors.Join(err, store.Close())
	}
	return second(run)
}

// second runs do twice and measures the second time.
func second(do func() error) (time.Duration, error) {
	if err := do(); err != nil {
		return 0, err
	}
	runtime.GC() // of what the first time left, which no new process has
	began := time.Now()
	err := do()
	return time.Since(began), err
}

func plan(ctx context.Context, dir string) (time.Duration, error) {
	began := time.Now()
	seq, store, err := deployer(ctx, filepath.Join(dir, "ours.db"), false)
	if err != nil {
		return 0, err
	}
	defer store.Close() //nolint:errcheck // scratch
	p, err := seq.Preview(ctx, sequencer.RunOptions{})
	if err == nil && len(p.Tasks) != 2*tasks {
		err = fmt.Errorf("plan has %d tasks", len(p.Tasks))
	}
	return time.Since(began), err
}
