package goose

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	pressly "github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"

	"github.com/gosequencer/sequencer/migration"
	"github.com/gosequencer/sequencer/storage"
)

// PanicError is a panic in a Go migration.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Apply runs one pending migration and creates goose's table if it is missing. A
// failure names the migration and the cause on one line; a panic of a Go migration
// is a failure, a *[PanicError]. When ctx ends, the error matches its cause.
func (s *Source) Apply(ctx context.Context, version int64, record func(ctx context.Context, tx storage.Tx) error) error {
	sc, ok := s.script(version)
	if !ok {
		return s.unknown(ctx, version)
	}
	t, err := sc.read(s.fsys)
	if err != nil {
		return err
	}
	j := &journal{table: s.table, version: version}
	if record != nil && s.withLedger(sc, t) {
		j.record = func(ctx context.Context, tx *sql.Tx) error { return record(ctx, s.tx(tx)) }
	}

	// A provider of one migration per call: goose's keeps a mutex while it runs one,
	// which would lock up a Go migration that comes back here, and remembers a failed
	// attempt to create its table as a success.
	options := []pressly.ProviderOption{pressly.WithStore(j), pressly.WithDisableGlobalRegistry(true)}
	file := oneFile{name: sc.path, data: t.data}
	if sc.goes != nil {
		file = oneFile{}
		options = append(options, pressly.WithGoMigrations(caught(sc.goes)))
	}
	provider, err := pressly.NewProvider(pressly.DialectCustom, s.db, file, options...)
	if err != nil {
		return &applyError{script: sc.label(), cause: err}
	}
	_, err = provider.ApplyVersion(ctx, version, true)
	if j.panicked != nil {
		panic(j.panicked)
	}
	return s.explain(ctx, sc, t, err)
}

// unknown tells a version without a migration from one that is merely gone.
func (s *Source) unknown(ctx context.Context, version int64) error {
	applied, err := s.table.applied(ctx, s.db)
	if err != nil {
		return err
	}
	if _, ok := applied[version]; ok {
		return fmt.Errorf("migration %d, whose file is gone: %w", version, migration.ErrApplied)
	}
	return fmt.Errorf("version %d: %w", version, migration.ErrUnknown)
}

// journal is goose's table during one Apply. goose inserts the version last, in
// the migration's own transaction if it has one: that is where the ledger joins.
type journal struct {
	table
	version  int64
	record   func(ctx context.Context, tx *sql.Tx) error // nil = nothing to join
	panicked any
}

var _ database.StoreExtender = (*journal)(nil)

// Insert also serves the row of version 0 that goose writes into a new table.
func (j *journal) Insert(ctx context.Context, db database.DBTxConn, r database.InsertRequest) error {
	if err := j.table.Insert(ctx, db, r); err != nil {
		return err
	}
	tx, ok := db.(*sql.Tx)
	if !ok || j.record == nil || r.Version != j.version {
		return nil
	}
	return j.callRecord(ctx, tx)
}

// callRecord holds a panic of the record function back until goose has undone the
// transaction: it would leave it open, and then wait for its end for ever.
func (j *journal) callRecord(ctx context.Context, tx *sql.Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			j.panicked, err = p, fmt.Errorf("panic: %v", p)
		}
	}()
	return j.record(ctx, tx)
}

// caught is a copy of a Go migration whose panics are errors of ours. goose's own
// carry the stack in their text.
func caught(m *pressly.Migration) *pressly.Migration {
	up := &pressly.GoFunc{}
	if run := m.UpFnContext; run != nil {
		up.RunTx = func(ctx context.Context, tx *sql.Tx) (err error) {
			defer catch(&err)
			return run(ctx, tx)
		}
	}
	if run := m.UpFnNoTxContext; run != nil {
		up.RunDB = func(ctx context.Context, db *sql.DB) (err error) {
			defer catch(&err)
			return run(ctx, db)
		}
	}
	return pressly.NewGoMigration(m.Version, up, nil)
}

func catch(err *error) {
	if p := recover(); p != nil {
		*err = &PanicError{Value: p, Stack: debug.Stack()}
	}
}

// explain turns goose's error into ours.
func (s *Source) explain(ctx context.Context, sc script, t text, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, pressly.ErrAlreadyApplied) {
		return fmt.Errorf("migration %s: %w", sc.label(), migration.ErrApplied)
	}
	failure := &applyError{script: sc.label(), cause: err}
	if partial, ok := errors.AsType[*pressly.PartialError](err); ok {
		failure.cause = partial.Err
		failure.leftovers = !s.atomic(sc, t)
	}
	failure.cause = essence(ctx, failure.cause)
	// Drivers say "interrupted" or "canceling statement"; callers ask for the cause.
	if cause := context.Cause(ctx); cause != nil && !errors.Is(failure.cause, cause) {
		failure.cause = fmt.Errorf("%w: %w", cause, failure.cause)
	}
	return failure
}

// essence drops what goose has joined to the cause of a failure while undoing the
// transaction: that the end of the context, or of a failed commit, had undone it.
func essence(ctx context.Context, err error) error {
	joined, ok := err.(interface{ Errors() []error }) // what lies deeper is the migration's own
	if !ok {
		return err
	}
	all := joined.Errors() // the cause first
	kept := all[:1:1]
	for _, e := range all[1:] {
		if ctx.Err() == nil && !errors.Is(e, sql.ErrTxDone) {
			kept = append(kept, e)
		}
	}
	if len(kept) == 1 {
		return kept[0]
	}
	return errors.Join(kept...)
}

// applyError is a failed migration, on one line.
type applyError struct {
	script    string
	cause     error
	leftovers bool
}

func (e *applyError) Error() string {
	var lines []string
	for line := range strings.Lines(e.cause.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	text := "migration " + e.script + ": " + strings.Join(lines, "; ")
	if e.leftovers {
		text += " (it runs outside a transaction: what it did before stays)"
	}
	return text
}

func (e *applyError) Unwrap() error { return e.cause }
