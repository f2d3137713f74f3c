package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/wake"
)

// Tx makes a transaction on the ledger's database one that the store's Tx methods
// take. Any pool of go-sql-driver/mysql serves, that of [Store.DB] or another on the
// same database, at any isolation; READ COMMITTED meets the fewest deadlocks.
func Tx(tx *sql.Tx) storage.Tx { return sqlTx{tx} }

type sqlTx struct{ tx *sql.Tx }

func (t sqlTx) Native() any { return t.tx }

// ownedTx is a transaction that the store began. It sees the commit, and tells then
// what arrived.
type ownedTx struct {
	sqlTx
	*telling
}

type telling struct {
	store    *Store
	arrivals wake.Arrivals
}

func (t ownedTx) Commit(context.Context) error {
	err := t.tx.Commit()
	if err == nil {
		t.store.watchers.Tell(&t.arrivals)
	}
	return explained("commit", err)
}

func (t ownedTx) Rollback(context.Context) error {
	if err := t.tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
		return explained("roll back", err)
	}
	return nil
}

// TxKinds implements [storage.TxStore]: *sql.Tx.
func (s *Store) TxKinds() []storage.TxKind {
	return []storage.TxKind{{Sample: (*sql.Tx)(nil), Begin: s.beginTx}}
}

// A transaction that the store begins ends with its context, as database/sql has
// it; the store's closing does not end it, its owner does.
func (s *Store) beginTx(ctx context.Context) (storage.OwnedTx, error) {
	if s.ending.Err() != nil {
		return nil, explained("begin", storage.ErrClosed)
	}
	err := s.ready(ctx)
	var tx *sql.Tx
	if err == nil {
		tx, err = s.DB().BeginTx(ctx, nil)
	}
	if err != nil {
		return nil, explained("begin", err)
	}
	return ownedTx{sqlTx{tx}, &telling{store: s}}, nil
}

// EnqueueTx implements [storage.TxStore].
func (s *Store) EnqueueTx(ctx context.Context, tx storage.Tx, r storage.EnqueueRequest) (storage.Enqueued, error) {
	var e enqueuing
	err := s.within(ctx, tx, "enqueue", r.Now, func(ctx context.Context, q *session) error {
		for try := 0; ; try++ {
			e = enqueuing{request: r, q: q, lock: try > 0}
			err := q.whole(ctx, func() error { return e.run(ctx) })
			if try == maxTries || !errors.Is(err, errKeyTaken) && code(err) != duplicateKey {
				return err
			}
		}
	})
	if err != nil {
		return storage.Enqueued{}, err
	}
	return e.result(), nil
}

// FinishTx implements [storage.TxStore].
func (s *Store) FinishTx(ctx context.Context, tx storage.Tx, r storage.FinishRequest) (storage.Finished, error) {
	f := finishing{request: r, look: true}
	err := s.within(ctx, tx, "finish", r.Now, func(ctx context.Context, q *session) error {
		return q.whole(ctx, func() error { return f.run(ctx, q) })
	})
	if err != nil {
		return storage.Finished{}, err
	}
	return f.result(), nil
}

// whole runs f so that nothing of it is left in the caller's transaction when it
// fails half way, and the transaction can go on. After a deadlock it cannot: the
// server has undone all of it. Where a statement of the caller's has committed the
// transaction, f would write outside of any: a savepoint that is gone at once tells.
func (q *session) whole(ctx context.Context, f func() error) error {
	q.queue("SAVEPOINT sequencer")
	q.queue("ROLLBACK TO SAVEPOINT sequencer")
	err := q.flush(ctx)
	if code(err) == noSuchSavepoint {
		return errEnded
	}
	if err == nil {
		err = f()
	}
	if err == nil {
		q.queue("RELEASE SAVEPOINT sequencer")
		err = q.flush(ctx)
	}
	if err != nil {
		q.queued = nil
		q.queue("ROLLBACK TO SAVEPOINT sequencer")
		if undone := q.flush(ctx); undone != nil && code(err) != deadlock {
			err = errors.Join(err, undone)
		}
	}
	return err
}

// CheckpointTx implements [storage.TxStore].
func (s *Store) CheckpointTx(ctx context.Context, tx storage.Tx, r storage.CheckpointRequest) error {
	return s.within(ctx, tx, "checkpoint", r.Now, func(ctx context.Context, q *session) error {
		return checkpoint(ctx, q, r)
	})
}

// familiarSQL tells, inside a caller's transaction, which ledger it is on, and reads
// the clock.
const familiarSQL = `SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)), ledger_id FROM sequencer_meta`

// within runs f inside a caller's transaction, once: only the caller can begin
// again. Whatever f leaves queued is sent, and nothing is ended.
func (s *Store) within(ctx context.Context, tx storage.Tx, what string, now time.Time, f func(context.Context, *session) error) error {
	var q *session
	var owned *telling
	switch t := tx.(type) {
	case sqlTx:
		q = &session{wire: sqlWire(t)}
	case ownedTx:
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
		q.queueNow()
		if err = f(ctx, q); err == nil {
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
	err := q.each(ctx, func(r scanner) error { return r.Scan(instant{&q.now}, idScan{&id}) }, familiarSQL)
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
// errors are not those of the server.
func foreign(err error) error {
	if code(err) == noSuchTable {
		return fmt.Errorf("%w: %v", storage.ErrForeignTx, err) //nolint:errorlint // its code would make it a missing ledger
	}
	_, server := errors.AsType[*mysql.MySQLError](err)
	if server || errors.Is(err, sql.ErrTxDone) || errors.Is(err, mysql.ErrInvalidConn) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return errors.Join(storage.ErrForeignTx, err)
}
