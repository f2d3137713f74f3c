package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Version of the schema that this binary wants, and the oldest binary that may
// still work on it. They rise with each file in schema/.
const (
	schemaVersion    = 3
	oldestCompatible = 3
)

//go:embed schema/*.sql
var schemaFiles embed.FS

const (
	hasMeta   = `SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'sequencer_meta'`
	readMeta  = `SELECT version, oldest_compatible FROM sequencer_meta`
	writeMeta = `
INSERT INTO sequencer_meta (only_row, version, oldest_compatible) VALUES (1, ?, ?)
ON CONFLICT (only_row) DO UPDATE SET version = excluded.version, oldest_compatible = excluded.oldest_compatible`
)

// queryer is a *sql.DB, *sql.Conn or *sql.Tx.
type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Setup creates the file, switches it to WAL and creates or upgrades the tables.
// The write lock that its transaction takes at once lets one process do the work
// and the others find it done.
func (s *Store) Setup(ctx context.Context) (storage.Schema, error) {
	have, err := s.Schema(ctx)
	if err != nil {
		return have, err
	}
	if have.Usable() {
		return have, nil
	}
	if have.OldestCompatible > schemaVersion {
		return have, &storage.SchemaError{Schema: have}
	}
	db, err := sql.Open("sqlite", s.loc.setupDSN(s.opts))
	if err != nil {
		return have, s.fail("set up the ledger", err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if have, err = s.upgrade(ctx, db); err != nil {
		return have, s.fail("set up the ledger", err)
	}
	return have, nil
}

func (s *Store) upgrade(ctx context.Context, db *sql.DB) (storage.Schema, error) {
	if !s.loc.memory {
		if err := switchToWAL(ctx, db, s.opts.BusyTimeout); err != nil {
			return storage.Schema{Want: schemaVersion}, err
		}
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return storage.Schema{Want: schemaVersion}, err
	}
	defer tx.Rollback()
	have, err := schemaOf(ctx, tx)
	if err != nil {
		return have, err
	}
	if have.OldestCompatible > schemaVersion {
		return have, &storage.SchemaError{Schema: have}
	}
	if have.Usable() {
		return have, nil
	}
	files, err := fs.Glob(schemaFiles, "schema/*.sql")
	if err != nil {
		return have, err
	}
	for i, name := range files {
		if i+1 <= have.Version {
			continue
		}
		text, err := schemaFiles.ReadFile(name)
		if err != nil {
			return have, err
		}
		if _, err := tx.ExecContext(ctx, string(text)); err != nil {
			return have, fmt.Errorf("%s: %w", name, err)
		}
	}
	if _, err := tx.ExecContext(ctx, writeMeta, schemaVersion, oldestCompatible); err != nil {
		return have, err
	}
	have.Version, have.OldestCompatible = schemaVersion, oldestCompatible
	return have, tx.Commit()
}

// switchToWAL is retried here because SQLite does not ask its busy handler while
// it changes the journal mode.
func switchToWAL(ctx context.Context, db *sql.DB, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		_, err := db.ExecContext(ctx, `PRAGMA journal_mode = WAL`)
		if code(err) != codeBusy {
			return err
		}
		pause := time.NewTimer(5 * time.Millisecond)
		select {
		case <-ctx.Done():
			pause.Stop()
			return err
		case <-pause.C:
		}
	}
}

// Schema reads the versions; a file that does not exist has none, and is not
// created.
func (s *Store) Schema(ctx context.Context) (storage.Schema, error) {
	none := storage.Schema{Want: schemaVersion}
	if s.isClosed() {
		return none, storage.ErrClosed
	}
	if !s.loc.exists() {
		return none, nil
	}
	db, done := s.asks()
	defer done()
	have, err := schemaOf(ctx, db)
	return have, s.fail("read the schema's version", err)
}

func schemaOf(ctx context.Context, q queryer) (storage.Schema, error) {
	have := storage.Schema{Want: schemaVersion}
	err := q.QueryRowContext(ctx, readMeta).Scan(&have.Version, &have.OldestCompatible)
	if err == nil {
		return have, nil
	}
	have.Version, have.OldestCompatible = 0, 0
	var n int
	if lost := q.QueryRowContext(ctx, hasMeta).Scan(&n); lost == nil && n == 0 {
		return have, nil
	}
	return have, err
}

// ready returns a *storage.SchemaError unless the ledger is usable. It looks once:
// a schema never becomes unusable for a binary that already works on it, because
// an upgrade that would do so is what oldest_compatible announces beforehand.
func (s *Store) ready(ctx context.Context) error {
	if s.usable.Load() {
		if s.isClosed() {
			return storage.ErrClosed
		}
		return nil
	}
	have, err := s.Schema(ctx)
	if err != nil {
		return err
	}
	if !have.Usable() {
		return &storage.SchemaError{Schema: have}
	}
	s.usable.Store(true)
	return nil
}

func (s *Store) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}
