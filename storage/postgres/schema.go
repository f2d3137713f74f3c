package postgres

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/gosequencer/sequencer/storage"
)

// schemaVersion is what this binary wants: the number of the last file in schema/.
const schemaVersion = 3

// schemaFiles hold one step each, in the order of their numbers. A step also
// writes sequencer_meta. Steps that were released are never changed.
//
//go:embed schema/*.sql
var schemaFiles embed.FS

// ledger is what sequencer_meta says.
type ledger struct {
	id     storage.ID
	schema storage.Schema
}

// schemaLockSQL makes setups of one schema wait for each other and not for those
// of other schemas. The lock ends with the transaction, so no session keeps it.
const schemaLockSQL = `SELECT pg_advisory_xact_lock(hashtext('sequencer'), hashtext(current_schema()))`

// Setup implements [storage.Store].
func (s *Store) Setup(ctx context.Context) (storage.Schema, error) {
	ctx, stop, err := s.enter(ctx)
	if err != nil {
		return storage.Schema{}, explained("set up", err)
	}
	defer stop()
	var found storage.Schema
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, schemaLockSQL); err != nil {
			return err
		}
		q := &session{wire: pgxWire{tx}}
		if found, err = presentSchema(ctx, q); err != nil {
			return err
		}
		if found.OldestCompatible > found.Want {
			return &storage.SchemaError{Schema: found}
		}
		if found.Version >= found.Want {
			return nil
		}
		if err := upgrade(ctx, tx, found.Version); err != nil {
			return err
		}
		found, err = presentSchema(ctx, q)
		return err
	})
	return found, explained("set up", err)
}

// upgrade applies the steps after version. A step is many statements in one text,
// which only the simple protocol takes.
func upgrade(ctx context.Context, tx pgx.Tx, version int) error {
	names, err := fs.Glob(schemaFiles, "schema/*.sql")
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names[version:] {
		step, err := schemaFiles.ReadFile(name)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, string(step), pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// Schema implements [storage.Store].
func (s *Store) Schema(ctx context.Context) (storage.Schema, error) {
	ctx, stop, err := s.enter(ctx)
	if err != nil {
		return storage.Schema{}, explained("read the schema", err)
	}
	defer stop()
	found, err := presentSchema(ctx, &session{wire: pgxWire{s.pool}})
	return found, explained("read the schema", err)
}

// presentSQL looks only into the schema that Setup would create the ledger in. A
// search path may have others behind it, with ledgers of other people.
const presentSQL = `SELECT EXISTS (SELECT FROM pg_class
	WHERE relname = 'sequencer_meta' AND relkind = 'r' AND relnamespace = to_regnamespace(quote_ident(current_schema())))`

// metaSQL reads the one row of the ledger's description.
const metaSQL = `SELECT ledger_id, version, oldest_compatible FROM sequencer_meta`

// presentSchema reads the versions without failing, and so without spoiling the
// transaction, where there is no ledger.
func presentSchema(ctx context.Context, q *session) (storage.Schema, error) {
	l, err := present(ctx, q)
	return l.schema, err
}

func present(ctx context.Context, q *session) (ledger, error) {
	l := ledger{schema: storage.Schema{Want: schemaVersion}}
	exists := false
	if err := q.each(ctx, func(r scanner) error { return r.Scan(&exists) }, presentSQL); err != nil || !exists {
		return l, err
	}
	err := q.each(ctx, func(r scanner) error {
		return r.Scan(idScan{&l.id}, &l.schema.Version, &l.schema.OldestCompatible)
	}, metaSQL)
	return l, err
}

// ready returns a *storage.SchemaError unless the ledger is there and of use to
// this binary. What was found usable stays so: later schemas say themselves
// whether this binary may go on.
func (s *Store) ready(ctx context.Context) error {
	if s.known.Load() != nil {
		return nil
	}
	l, err := present(ctx, &session{wire: pgxWire{s.pool}})
	if err != nil {
		return err
	}
	if !l.schema.Usable() {
		return &storage.SchemaError{Schema: l.schema}
	}
	s.known.Store(&l)
	return nil
}
