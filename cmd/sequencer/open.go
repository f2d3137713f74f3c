package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/cli"
	"github.com/gosequencer/sequencer/internal/fileop"
	"github.com/gosequencer/sequencer/migration"
	"github.com/gosequencer/sequencer/migration/goose"
	"github.com/gosequencer/sequencer/seal"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

// opener makes the sequencer of the stock command. A flag wins over its variable
// in the environment, and that over the default.
type opener struct {
	flags       *pflag.FlagSet
	databaseURL string
	migrations  string
	operations  string
	environment string
	actor       string
	keys        string
	grace       time.Duration
}

func (o *opener) Flags(flags *pflag.FlagSet) {
	o.flags = flags
	flags.StringVar(&o.databaseURL, "database-url", "", "the ledger's database: postgres://…, mysql://…, sqlite:PATH, redis://… or a path (SEQUENCER_DATABASE_URL)")
	flags.StringVar(&o.migrations, "migrations", "migrations", "directory of goose migrations; the default need not exist")
	flags.StringVar(&o.operations, "operations", "operations", "directory of operations; the default need not exist")
	flags.StringVar(&o.environment, "env", "", "the environment that operations are compared with (SEQUENCER_ENV, production)")
	flags.DurationVar(&o.grace, "shutdown-grace", sequencer.DefaultShutdownGrace, "how long what runs may go on after Ctrl-C or SIGTERM")
	flags.StringVar(&o.keys, "keys", "", "file with the key ring of encrypted operations (SEQUENCER_KEYS holds the ring itself)")
	flags.StringVar(&o.actor, "actor", "", "who acts, for the ledger (SEQUENCER_ACTOR, user@host)")
}

func (o *opener) Open(ctx context.Context, log *slog.Logger) (_ *cli.Opened, err error) {
	url := cmp.Or(o.databaseURL, os.Getenv("SEQUENCER_DATABASE_URL"))
	operations, err := o.readOperations()
	if err != nil {
		return nil, err
	}
	db, err := openDatabase(ctx, url)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = db.store.Close() // the error is the one that counts
		}
	}()
	if _, err := db.store.Schema(ctx); err != nil { // the store words what is wrong with a file best
		return nil, err
	}
	if !db.hasSQL() {
		if err := withoutSQL(operations, o.migrations); err != nil {
			return nil, err
		}
	}
	cfg := sequencer.Config{
		Environment: cmp.Or(o.environment, os.Getenv("SEQUENCER_ENV"), "production"), Actor: o.actor, Logger: log, ShutdownGrace: o.grace,
	}
	if cfg.Sealer, err = o.sealer(); err != nil {
		return nil, err
	}
	source, err := o.source(db)
	if err != nil {
		return nil, err
	}
	if source != nil {
		cfg.Migrations = source
	}
	names, err := migrationNames(ctx, cfg.Migrations)
	if err != nil {
		return nil, err
	}
	reg := sequencer.NewRegistry()
	if err := operations.Register(reg, fileop.Host{
		DB: db.sql, DatabaseURL: url, Environment: cfg.Environment, Migrations: names,
	}); err != nil {
		return nil, err
	}
	seq, err := sequencer.New(db.store, reg, cfg)
	if err != nil {
		return nil, err
	}
	handle, err := db.sql()
	if err != nil && !errors.Is(err, errNoSQL) {
		return nil, err
	}
	files := syntax{check: db.syntax, operations: operations, migrations: source, dir: o.migrations}
	return &cli.Opened{
		Seq: seq, DB: handle, Notices: operations.Notices, Warning: cmp.Or(o.warning(), db.warning), Check: files.examine,
		Close: db.store.Close, Abort: operations.Kill,
	}, nil
}

// OpenScratch is Open on a scratch database: the one at url, or a copy of the SQLite
// file in a directory that Close removes.
func (o *opener) OpenScratch(ctx context.Context, log *slog.Logger, url string) (*cli.Opened, error) {
	original := cmp.Or(o.databaseURL, os.Getenv("SEQUENCER_DATABASE_URL"))
	if url != "" {
		if url == original {
			return nil, cli.Usage(errors.New("--scratch is the database itself: name a copy that nobody needs"))
		}
		o.databaseURL = url
		return o.Open(ctx, log)
	}
	copied, remove, err := copySQLite(ctx, original)
	if err != nil {
		return nil, err
	}
	o.databaseURL = copied
	opened, err := o.Open(ctx, log)
	if err != nil {
		return nil, errors.Join(err, remove())
	}
	closing := opened.Close
	opened.Close = func() error { return errors.Join(closing(), remove()) }
	return opened, nil
}

// copySQLite copies the database into a new directory, which remove removes.
func copySQLite(ctx context.Context, url string) (copied string, remove func() error, err error) {
	db, err := openDatabase(ctx, url)
	if err != nil {
		return "", nil, err
	}
	defer func() { err = errors.Join(err, db.store.Close()) }()
	store, ok := db.store.(*sqlite.Store)
	if !ok {
		return "", nil, cli.Usage(fmt.Errorf("a %s database is not copied: make a copy that nobody needs, and name it with --scratch", db.store.Name()))
	}
	dir, err := os.MkdirTemp("", "sequencer-rehearsal-")
	if err != nil {
		return "", nil, err
	}
	remove = func() error { return os.RemoveAll(dir) }
	copied = filepath.Join(dir, "copy.db")
	if err := store.CopyTo(ctx, copied); err != nil {
		return "", nil, errors.Join(err, remove())
	}
	return copied, remove, nil
}

// OperationsDir is where operations are.
func (o *opener) OperationsDir() string { return o.operations }

// sealer is the key ring, with which rekey and status --reveal work on ledgers of
// applications too; nil for none.
func (o *opener) sealer() (sequencer.Sealer, error) {
	const variable = "SEQUENCER_KEYS"
	switch {
	case o.keys != "":
		return some(seal.Load(o.keys))
	case os.Getenv(variable) != "":
		return some(seal.FromEnv(variable))
	}
	return nil, nil //nolint:nilnil // no sealer is none
}

// some is a ring as an interface that is nil where there is an error.
func some(r *seal.Ring, err error) (sequencer.Sealer, error) {
	if err != nil {
		return nil, err
	}
	return r, nil
}

// warning is about a working directory that has nothing of ours.
func (o *opener) warning() string {
	for _, dir := range []string{o.migrations, o.operations} {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			return ""
		}
	}
	return fmt.Sprintf("there is neither %s nor %s here: is this the right directory?", o.migrations, o.operations)
}

// readOperations loads the directory. The default one need not exist.
func (o *opener) readOperations() (*fileop.Set, error) {
	set, err := fileop.Load(o.operations)
	if errors.Is(err, fs.ErrNotExist) && !o.flags.Changed("operations") {
		return &fileop.Set{}, nil
	}
	return set, err
}

// source reads goose migrations from a directory. The default one need not exist.
func (o *opener) source(db *database) (*goose.Source, error) {
	if _, err := os.ReadDir(o.migrations); err != nil {
		if errors.Is(err, fs.ErrNotExist) && !o.flags.Changed("migrations") {
			return nil, nil //nolint:nilnil // no migrations is none
		}
		return nil, err
	}
	if !db.hasSQL() {
		return nil, nil //nolint:nilnil // nor can there be any, see withoutSQL
	}
	handle, err := db.sql()
	if err != nil {
		return nil, err
	}
	return goose.New(db.dialect, handle, os.DirFS(o.migrations), goose.Options{Tx: db.tx})
}

func migrationNames(ctx context.Context, source migration.Source) ([]string, error) {
	if source == nil {
		return nil, nil
	}
	list, err := source.Migrations(ctx)
	names := make([]string, len(list))
	for i, m := range list {
		names[i] = m.Name
	}
	return names, err
}
