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

// What each of these does is said in the head of the output, by deployNotes.
const (
	gooseAlone = "goose Up + bare loop of commits"
	ourRun     = "sequencer"
	ourPaced   = "sequencer, as the command opens it"
	gooseOnly  = "goose Up"
)

// deploy compares a run over 1,000 migrations and 1,000 operations on SQLite with what
// goose alone needs for the migrations plus a bare loop that commits 1,000
// transactions; and a run with nothing pending with goose's own.
func deploy() []measurement {
	return []measurement{
		timed("deploy-normal", gooseAlone, baseline(false)),
		timed("deploy-normal", ourRun, process(false)),
		timed("deploy-full", gooseAlone, baseline(true)),
		timed("deploy-full", ourRun, process(true)),
		timed("deploy-full", ourPaced, process(false)),
		timed("deploy-nothing", gooseOnly, gooseNothing),
		timed("deploy-nothing", ourRun, sequencerNothing),
		timed("deploy-plan", ourRun, plan),
	}
}

// deployNotes are for the head of the output.
var deployNotes = []string{
	"deploy: everything runs in this process, on a new file, through one driver, with the same settings of its connections:",
	"  WAL, 16 MiB of cache, a checkpoint each 4,096 pages, foreign keys, BEGIN IMMEDIATE",
	"deploy, " + gooseAlone + ": 1,000 files with a CREATE TABLE each, in a transaction each, by goose's Provider;",
	"  then 1,000 times begin, one INSERT of a small row, commit",
	"deploy, " + ourRun + ": the schema of the ledger, a plan, and the same 1,000 migrations in turn with 1,000 operations, each of",
	"  which inserts one small row in its transaction; each step is committed with its record and the claim of the next",
	"deploy-normal: synchronous NORMAL, no commit waits for the disk; deploy-full: synchronous FULL, each commit does",
	"deploy-full, " + ourPaced + ": NORMAL, and a sync of what was done once a second and before it returns",
	"deploy-nothing: open the file, build goose's provider (ours: and a registry of 1,000 operations), find nothing to do, close",
	"cpu seconds are those of the process, user and system; on a busy machine they tell more than the clock",
}

// timing measures something in a directory.
type timing func(ctx context.Context, dir string) (took, error)

// took is how long something took.
type took struct{ wall, cpu time.Duration }

// stopwatch runs from when it is made.
type stopwatch struct {
	began time.Time
	cpu   time.Duration
}

func startWatch() stopwatch { return stopwatch{time.Now(), processCPU(os.Getpid())} }

func (w stopwatch) read() took { return took{time.Since(w.began), processCPU(os.Getpid()) - w.cpu} }

// timed measures in a fresh directory.
func timed(work, who string, do timing) measurement {
	return measurement{work, "sqlite", who, func(ctx context.Context) ([]reading, error) {
		dir, err := os.MkdirTemp("", "sequencer-bench")
		if err != nil {
			return nil, err
		}
		took, err := do(ctx, dir)
		return []reading{{"seconds", took.wall.Seconds()}, {"cpu seconds", took.cpu.Seconds()}}, errors.Join(err, os.RemoveAll(dir))
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

// openAsOurs opens a database with the settings of our store's own connections.
func openAsOurs(path string, full bool) (*sql.DB, error) {
	mode := "normal"
	if full {
		mode = "full"
	}
	return sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(wal)&_pragma=busy_timeout(10000)&_pragma=synchronous("+mode+")"+
		"&_pragma=foreign_keys(1)&_pragma=cache_size(-16384)&_pragma=wal_autocheckpoint(4096)&_txlock=immediate")
}

func baseline(full bool) timing {
	return func(ctx context.Context, dir string) (took, error) {
		watch := startWatch()
		db, err := openAsOurs(filepath.Join(dir, "base.db"), full)
		if err != nil {
			return took{}, err
		}
		defer db.Close()
		if err := gooseUp(ctx, db); err != nil {
			return took{}, err
		}
		err = bareCommits(ctx, db)
		return watch.read(), err
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
	return func(ctx context.Context, dir string) (took, error) {
		watch := startWatch()
		seq, store, err := deployer(ctx, filepath.Join(dir, "ours.db"), full)
		if err != nil {
			return took{}, err
		}
		defer store.Close() //nolint:errcheck // scratch
		_, err = seq.Process(ctx, sequencer.RunOptions{})
		return watch.read(), err
	}
}

// gooseNothing and sequencerNothing measure what a new process does that finds
// nothing to do: open a database that nobody has open, look, and close it.
func gooseNothing(ctx context.Context, dir string) (took, error) {
	up := func() error {
		db, err := openAsOurs(filepath.Join(dir, "base.db"), false)
		if err != nil {
			return err
		}
		return errors.Join(gooseUp(ctx, db), db.Close())
	}
	return second(up)
}

func sequencerNothing(ctx context.Context, dir string) (took, error) {
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
func second(do func() error) (took, error) {
	if err := do(); err != nil {
		return took{}, err
	}
	runtime.GC() // of what the first time left, which no new process has
	watch := startWatch()
	err := do()
	return watch.read(), err
}

func plan(ctx context.Context, dir string) (took, error) {
	watch := startWatch()
	seq, store, err := deployer(ctx, filepath.Join(dir, "ours.db"), false)
	if err != nil {
		return took{}, err
	}
	defer store.Close() //nolint:errcheck // scratch
	p, err := seq.Preview(ctx, sequencer.RunOptions{})
	if err == nil && len(p.Tasks) != 2*tasks {
		err = fmt.Errorf("plan has %d tasks", len(p.Tasks))
	}
	return watch.read(), err
}
