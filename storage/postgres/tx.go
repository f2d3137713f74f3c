package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/wake"
)

// Tx makes a pgx transaction on the ledger's database one that the store's Tx
// methods take.
func Tx(tx pgx.Tx) storage.Tx { return pgxTx{tx} }

// SQLTx does the same for database/sql over pgx, as [Store.DB] gives it.
func SQLTx(tx *sql.Tx) storage.Tx { return sqlTx{tx} }

type pgxTx struct{ tx pgx.Tx }

func (t pgxTx) Native() any { return t.tx }

type sqlTx struct{ tx *sql.Tx }

func (t sqlTx) Native() any { return t.tx }

// ownedPgx and ownedSQL are transactions that the store began. It sees their commit,
// and tells then what arrived.
type ownedPgx struct {
	pgxTx
	*telling
}

type ownedSQL struct {
	sqlTx
	*telling
}

// telling is what a transaction has to tell after its commit.
type telling struct {
	store    *Store
	arrivals wake.Arrivals
}

func (t *telling) committed(err error) error {
	if err == nil {
		t.store.arrived(&t.arrivals)
	}
	return explained("commit", err)
}

func (t ownedPgx) Commit(ctx context.Context) error { return t.committed(t.tx.Commit(ctx)) }

func (t ownedPgx) Rollback(ctx context.Context) error {
	if err := t.tx.Rollback(ctx); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
		return explained("roll back", err)
	}
	return nil
}

func (t ownedSQL) Commit(context.Context) error { return t.committed(t.tx.Commit()) }

func (t ownedSQL) Rollback(context.Context) error {
	if err := t.tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
		return explained("roll back", err)
	}
	return nil
}

// TxKinds implements [storage.TxStore]: pgx's own transaction, and *sql.Tx.
func (s *Store) TxKinds() []storage.TxKind {
	return []storage.TxKind{
		{Sample: (*pgxpool.Tx)(nil), Begin: s.beginPgx},
		{Sample: (*sql.Tx)(nil), Begin: s.beginSQL},
	}
}

// A transaction that the store begins ends with its context, as database/sql has
// it; the store's closing does not end it, its owner does.
func (s *Store) beginPgx(ctx context.Context) (storage.OwnedTx, error) {
	var tx pgx.Tx
	err := s.begin(ctx, func() (err error) {
		tx, err = s.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
		return err
	})
	if err != nil {
		return nil, err
	}
	return ownedPgx{pgxTx{tx}, &telling{store: s}}, nil
}

func (s *Store) beginSQL(ctx context.Context) (storage.OwnedTx, error) {
	var tx *sql.Tx
	err := s.begin(ctx, func() (err error) {
		tx, err = s.DB().BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
		return err
	})
	if err != nil {
		return nil, err
	}
	return ownedSQL{sqlTx{tx}, &telling{store: s}}, nil
}

func (s *Store) begin(ctx context.Context, f func() error) error {
	if s.ending.Err() != nil {
		return explained("begin", storage.ErrClosed)
	}
	err := s.ready(ctx)
	if err == nil {
		err = f()
	}
	return explained("begin", err)
}

// EnqueueTx implements [storage.TxStore].
func (s *Store) EnqueueTx(ctx context.Context, tx storage.Tx, r storage.EnqueueRequest) (storage.Enqueued, error) {
	var e enqueuing
	err := s.within(ctx, tx, "enqueue", r.Now, func(ctx context.Context, q *session) error {
		e = enqueuing{request: r, q: q}
		if e.plain() {
			return e.run(ctx)
		}
		return q.whole(ctx, func() error { return e.run(ctx) })
	})
	if err != nil {
		return storage.Enqueued{}, err
	}
	return e.result(), nil
}

// FinishTx implements [storage.TxStore].
func (s *Store) FinishTx(ctx context.Context, tx storage.Tx, r storage.FinishRequest) (storage.Finished, error) {
	f := finishing{request: r}
	err := s.within(ctx, tx, "finish", r.Now, func(ctx context.Context, q *session) error {
		return q.whole(ctx, func() error { return f.run(ctx, q) })
	})
	if err != nil {
		return storage.Finished{}, err
	}
	return f.result(), nil
}

// whole runs f so that nothing of it is left in the caller's transaction when it
// fails half way, and the transaction can go on.
func (q *session) whole(ctx context.Context, f func() error) error {
	q.queue("SAVEPOINT sequencer")
	err := f()
	if err == nil {
		q.queue("RELEASE SAVEPOINT sequencer")
		err = q.flush(ctx)
	}
	if err != nil {
		q.queued = nil
		q.queue("ROLLBACK TO SAVEPOINT sequencer")
		err = errors.Join(err, q.flush(ctx))
	}
	return err
}

// CheckpointTx implements [storage.TxStore].
func (s *Store) CheckpointTx(ctx context.Context, tx storage.Tx, r storage.CheckpointRequest) error {
	return s.within(ctx, tx, "checkpoint", r.Now, func(ctx context.Context, q *session) error {
		return checkpoint(ctx, q, r)
	})
}

// familiarSQL tells, inside a caller's transaction, which ledger it is on, and
// reads the clock: now() would be the instant when the caller began.
const familiarSQL = `SELECT clock_timestamp(), ledger_id FROM sequencer_meta`

// within runs f inside a caller's transaction, once: only the caller can begin
// again. Whatever f leaves queued is sent, and nothing is ended.
func (s *Store) within(ctx context.Context, tx storage.Tx, what string, now time.Time, f func(context.Context, *session) error) error {
	var q *session
	var owned *telling
	switch t := tx.(type) {
	case pgxTx:
		q = &session{wire: pgxWire{t.tx}}
	case ownedPgx:
		q, owned = &session{wire: pgxWire{t.tx}}, t.telling
	case sqlTx:
		q = &session{wire: sqlWire(t)}
	case ownedSQL:
		q, owned = &session{wire: sqlWire(t.sqlTx)}, t.telling
	default:
		return explained(what, fmt.Errorf("%T: %w", tx, storage.ErrForeignTx))
	}
	if s.ending.Err() != nil {
		return explained(what, storage.ErrClosed)
	}
	err := s.familiar(ctx, q)
	if err == nil {
		if !now.IsZero() {
			q.now = micro(now)
		}
		if err = f(ctx, q); err == nil {
			if owned == nil {
				q.queueNotify()
			}
			err = q.flush(ctx)
		}
	}
	if err == nil && owned != nil {
		owned.arrivals.Add(&q.arrivals)
	}
	return explained(what, err)
}

// familiar checks that a caller's transaction is one on this ledger, and sets the
// session's clock. It asks nothing but the transaction itself: if it took another
// connection, callers who hold all of the pool's would wait for ever. A store that
// has not read its own ledger yet can therefore check the schema alone.
func (s *Store) familiar(ctx context.Context, q *session) error {
	known := s.known.Load()
	if known == nil {
		found, err := present(ctx, q)
		if err != nil {
			return foreign(err)
		}
		if !found.schema.Usable() {
			return &storage.SchemaError{Schema: found.schema}
		}
		known = &found
	}
	var id storage.ID
	err := q.each(ctx, func(r scanner) error { return r.Scan(&q.now, idScan{&id}) }, familiarSQL)
	q.now = micro(q.now)
	switch {
	case err != nil:
		return foreign(err)
	case id != known.id:
		return fmt.Errorf("another ledger: %w", storage.ErrForeignTx)
	default:
		return nil
	}
}

// foreign recognises a transaction of another database: it has no ledger, or its
// errors are not those of PostgreSQL.
func foreign(err error) error {
	if code(err) == undefinedTable {
		return errors.Join(storage.ErrForeignTx, err)
	}
	_, server := errors.AsType[*pgconn.PgError](err)
	if server || errors.Is(err, sql.ErrTxDone) || errors.Is(err, pgx.ErrTxClosed) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || pgconn.Timeout(err) {
		return err
	}
	return errors.Join(storage.ErrForeignTx, err)
}
