package mysql

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/gosequencer/sequencer/storage"
)

// schemaVersion is what this binary wants: the number of the last file in schema/.
const schemaVersion = 2

// schemaFiles hold one step each, in the order of their numbers. A step may be run
// again after it was broken off, and writes sequencer_meta last. Steps that were
// released are never changed.
//
//go:embed schema/*.sql
var schemaFiles embed.FS

// ledger is what sequencer_meta says.
type ledger struct {
	id     storage.ID
	schema storage.Schema
}

// The lock makes setups of one database wait for each other. It belongs to the
// connection and goes with it, whatever becomes of the process. Its name is one for
// the whole server and has no room for that of a database.
const (
	schemaLockSQL   = `SELECT GET_LOCK(CONCAT('sequencer ', MD5(DATABASE())), 3600)`
	schemaUnlockSQL = `DO RELEASE_LOCK(CONCAT('sequencer ', MD5(DATABASE())))`
)

// Setup implements [storage.Store].
func (s *Store) Setup(ctx context.Context) (storage.Schema, error) {
	ctx, stop, err := s.enter(ctx)
	if err != nil {
		return storage.Schema{}, explained("set up", err)
	}
	defer stop()
	var found storage.Schema
	err = s.ask(ctx, func(q *session) error {
		if found, err = presentSchema(ctx, q); err != nil || found.Version >= found.Want {
			return refused(found, err)
		}
		got := false
		if err := q.each(ctx, func(r scanner) error { return r.Scan(&got) }, schemaLockSQL); err != nil {
			return err
		}
		if !got {
			return errors.New("another process has been setting it up for an hour")
		}
		err := upgrade(ctx, q, &found)
		q.queue(schemaUnlockSQL)
		return errors.Join(err, q.flush(context.WithoutCancel(ctx)))
	})
	return found, explained("set up", err)
}

// refused is the error for a ledger that this binary must not touch.
func refused(found storage.Schema, err error) error {
	if err == nil && found.OldestCompatible > found.Want {
		return &storage.SchemaError{Schema: found}
	}
	return err
}

// upgrade applies the steps that are missing, under the lock.
func upgrade(ctx context.Context, q *session, found *storage.Schema) error {
	var err error
	if *found, err = presentSchema(ctx, q); err != nil || found.Version >= found.Want {
		return refused(*found, err)
	}
	names, err := fs.Glob(schemaFiles, "schema/*.sql")
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names[found.Version:] {
		step, err := schemaFiles.ReadFile(name)
		if err != nil {
			return err
		}
		q.queue(string(step))
		if err := q.flush(ctx); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	*found, err = presentSchema(ctx, q)
	return err
}

// Schema implements [storage.Store].
func (s *Store) Schema(ctx context.Context) (storage.Schema, error) {
	ctx, stop, err := s.enter(ctx)
	if err != nil {
		return storage.Schema{}, explained("read the schema", err)
	}
	defer stop()
	var found storage.Schema
	err = s.ask(ctx, func(q *session) error {
		found, err = presentSchema(ctx, q)
		return err
	})
	return found, explained("read the schema", err)
}

// metaSQL reads the one row of the ledger's description.
const metaSQL = `SELECT ledger_id, version, oldest_compatible FROM sequencer_meta`

// presentSchema reads the versions; a database without a ledger has version 0.
func presentSchema(ctx context.Context, q *session) (storage.Schema, error) {
	l, err := present(ctx, q)
	return l.schema, err
}

func present(ctx context.Context, q *session) (ledger, error) {
	l := ledger{schema: storage.Schema{Want: schemaVersion}}
	err := q.each(ctx, func(r scanner) error {
		return r.Scan(idScan{&l.id}, &l.schema.Version, &l.schema.OldestCompatible)
	}, metaSQL)
	if code(err) == noSuchTable {
		err = nil
	}
	return l, err
}

// ready returns a *storage.SchemaError unless the ledger is there and of use to
// this binary. What was found usable stays so: later schemas say themselves
// whether this binary may go on.
func (s *Store) ready(ctx context.Context) error {
	if s.known.Load() != nil {
		return nil
	}
	var l ledger
	err := s.ask(ctx, func(q *session) (err error) {
		l, err = present(ctx, q)
		return err
	})
	if err != nil {
		return err
	}
	if !l.schema.Usable() {
		return &storage.SchemaError{Schema: l.schema}
	}
	s.known.Store(&l)
	return nil
}
