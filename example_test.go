package sequencer_test

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing/fstest"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/cli"
	"github.com/gosequencer/sequencer/migration/goose"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

// SeedAdmin is an operation: exported fields would be its input.
type SeedAdmin struct{}

// Handle runs once per ledger. What it writes through the transaction commits
// together with the record that it ran.
func (*SeedAdmin) Handle(ctx context.Context) error {
	tx, err := sequencer.Tx[*sql.Tx](ctx)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO users (name) VALUES ('admin')")
	return err
}

// Rollback makes it one that can be undone.
func (*SeedAdmin) Rollback(ctx context.Context) error {
	tx, err := sequencer.Tx[*sql.Tx](ctx)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "DELETE FROM users WHERE name = 'admin'")
	return err
}

// open puts an application together. The first run creates the database.
func open(ctx context.Context, path string, files fs.FS) (*sequencer.Sequencer, error) {
	store, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		return nil, err
	}
	db, err := store.DB()
	if err != nil {
		return nil, err
	}
	migrations, err := goose.New(goose.SQLite, db, files, goose.Options{Tx: sqlite.Tx})
	if err != nil {
		return nil, err
	}
	reg := sequencer.NewRegistry()
	sequencer.Register(reg, "20240115120000_seed_admin", sequencer.Make[SeedAdmin])
	return sequencer.New(store, reg, sequencer.Config{Migrations: migrations})
}

// The first run does what is pending, in the order of the timestamps. The second
// finds nothing to do.
func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	ctx := context.Background()
	files := fstest.MapFS{"20240115110000_create_users.sql": {Data: []byte(
		"-- +goose Up\nCREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);\n")}}
	seq, err := open(ctx, filepath.Join(dir, "app.db"), files)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer seq.Store().Close()

	for range 2 {
		report, err := seq.Process(ctx, sequencer.RunOptions{})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(report.State, len(report.Tasks))
	}
	// Output:
	// completed 2
	// completed 0
}

// An application mounts the command in its own main.
func Example_command() {
	ctx := context.Background()
	seq, err := open(ctx, "app.db", os.DirFS("migrations"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(cli.Main(ctx, seq, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
