// Package postgres keeps the ledger in PostgreSQL 13 or newer.
//
// # Tables
//
// The ledger has two parts with the same columns: sequencer_live holds what is
// pending or running, sequencer_history what is over. An end is one statement that
// deletes from the one and inserts what came back into the other, so a row is in
// exactly one part at any instant, and the part that claims walk stays as small as
// the work that is left. A rollback changes the history row; an operator's retry
// moves it back. Names are found by the search path: a schema is a ledger.
//
// # Clock
//
// A request's Now, where given, is its instant; otherwise the server's clock is,
// read once for the request: the start of the transaction that serves it, or the
// wall clock when that transaction is the caller's and may have begun long ago.
// Leases compare nothing but instants of that one clock.
//
// # Concurrency
//
// Every statement is written for READ COMMITTED, and the store's own transactions
// ask for it. Claims and rescues skip rows that others have locked. Transactions
// that end members of flows lock live rows first, then flows in the order of their
// ids, then statistics; what still deadlocks is tried again, up to five times, but
// never inside a caller's transaction.
//
// # Connections
//
// No verb depends on a session: no advisory lock outlives its transaction, and
// nothing is prepared that the pool's settings do not ask for. Only [Store.Watch]
// does, which listens on a connection of its own beside the pool's. Behind a pooler that shares connections between transactions, add
// default_query_exec_mode=exec (or simple_protocol) to the address.
//
// What a verb promises stands with [storage.Store]; here each statement says which
// index it uses, which lock it takes and which race it closes.
package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/gather"
	"github.com/gosequencer/sequencer/storage/internal/wake"
)

// Options tune a store. The zero value works.
type Options struct {
	// MaxConns bounds the pool that Open makes. 0 = what the address says
	// (pool_max_conns), else pgx's default. New ignores it.
	MaxConns int
}

// Store is a ledger in PostgreSQL. Its methods are safe for concurrent use.
type Store struct {
	pool   *pgxpool.Pool
	owned  bool
	known  atomic.Pointer[ledger] // set once the schema was found usable
	db     func() *sql.DB
	dbUsed atomic.Bool
	ending context.Context // done when the store is closed
	end    context.CancelFunc
	gather *gather.Gather
	takers *gather.Takers

	watchers wake.Watchers
	bell     bell
}

var _ storage.TxStore = (*Store)(nil)

// Open connects to the server that url names, in any form pgx accepts. Close ends
// the connections.
func Open(ctx context.Context, url string, o Options) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("postgres address: %w", err) // pgx leaves the password out
	}
	if o.MaxConns > 0 {
		cfg.MaxConns = int32(min(o.MaxConns, 1<<15))
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, &unreachableError{cfg.ConnConfig, err}
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, &unreachableError{cfg.ConnConfig, err}
	}
	s := New(pool, o)
	s.owned = true
	return s, nil
}

// New makes a store on a pool of the caller's, who closes it after the store.
func New(pool *pgxpool.Pool, _ Options) *Store {
	s := &Store{pool: pool, bell: bell{pool: pool}}
	s.gather, s.takers = gather.New(2, s.insertPlain), gather.NewTakers(s.takeAll)
	s.ending, s.end = context.WithCancel(context.Background())
	s.db = sync.OnceValue(func() *sql.DB {
		s.dbUsed.Store(true)
		return stdlib.OpenDBFromPool(pool)
	})
	return s
}

// Name implements [storage.Store].
func (s *Store) Name() string { return "postgres" }

// DB is the store's pool with the face of database/sql, for migrations and for
// transactions to be passed to [SQLTx]. Close closes it.
func (s *Store) DB() *sql.DB { return s.db() }

// Close ends calls in flight, and the connections if Open made them; then it waits
// for transactions that callers still have open. A second call does nothing.
func (s *Store) Close() error {
	s.end()
	s.watchers.Close()()
	s.bell.close()
	var err error
	if s.dbUsed.Load() {
		err = s.db().Close()
	}
	if s.owned {
		s.pool.Close()
	}
	return err
}

// enter binds a call to the life of the store. The caller must call stop.
func (s *Store) enter(ctx context.Context) (_ context.Context, stop func(), _ error) {
	if s.ending.Err() != nil {
		return nil, nil, storage.ErrClosed
	}
	ctx, cancel := context.WithCancelCause(ctx)
	release := context.AfterFunc(s.ending, func() { cancel(storage.ErrClosed) })
	return ctx, func() { release(); cancel(nil) }, nil
}

// maxTries bounds how often a transaction of the store's own is run because
// another one stood in its way.
const maxTries = 5

// tx runs f in a transaction of the store's own and commits it. After a deadlock
// or a serialization failure f runs again, from the start.
func (s *Store) tx(ctx context.Context, what string, now time.Time, f func(context.Context, *session) error) error {
	return s.guarded(ctx, what, func(ctx context.Context) error {
		return s.attempt(ctx, now, f)
	})
}

// guarded surrounds a call with what all of them need: a store that is open, a
// ledger that is usable, another try where that helps, and errors in our words.
func (s *Store) guarded(ctx context.Context, what string, f func(context.Context) error) error {
	ctx, stop, err := s.enter(ctx)
	if err == nil {
		defer stop()
		if err = s.ready(ctx); err == nil {
			for try := 1; ; try++ {
				if err = f(ctx); try == maxTries || !again(err) {
					break
				}
			}
		}
		if err != nil && errors.Is(context.Cause(ctx), storage.ErrClosed) {
			err = errors.Join(storage.ErrClosed, err)
		}
	}
	return explained(what, err)
}

// attempt is one try of tx. BEGIN travels with f's first statement, COMMIT with
// whatever f queued last.
func (s *Store) attempt(ctx context.Context, now time.Time, f func(context.Context, *session) error) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release() // a connection that is still inside a transaction is closed by it
	q := &session{wire: pgxWire{conn}, now: micro(now)}
	q.begin()
	if err = f(ctx, q); err == nil {
		q.queue("COMMIT")
		err = q.flush(ctx)
	}
	if err == nil {
		s.arrived(&q.arrivals)
	}
	if err != nil && !conn.Conn().IsClosed() {
		// Nobody may be waiting for ctx any more; the locks must go all the same.
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_, _ = conn.Exec(undo, "ROLLBACK") // if it does not get through, Release closes the connection
	}
	return err
}

// alone runs f, which queues all it has to send, without BEGIN and COMMIT: what one
// flush sends is a transaction of its own accord, and one trip.
func (s *Store) alone(ctx context.Context, what string, now time.Time, f func(context.Context, *session) error) error {
	return s.guarded(ctx, what, func(ctx context.Context) error {
		q := &session{wire: pgxWire{s.pool}, now: micro(now)}
		q.open()
		if err := f(ctx, q); err != nil {
			return err
		}
		err := q.flush(ctx)
		if err == nil {
			s.arrived(&q.arrivals)
		}
		return err
	})
}

// read runs one query outside any transaction.
func (s *Store) read(ctx context.Context, what, sql string, scan func(scanner) error, args ...any) error {
	return s.guarded(ctx, what, func(ctx context.Context) error {
		return pgxWire{s.pool}.send(ctx, []statement{{sql: sql, args: args, scan: scan}})
	})
}
