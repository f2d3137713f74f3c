// Package mysql keeps the ledger in MariaDB 10.6 or newer, or MySQL 8.0.19 or newer.
// It is tested on MariaDB 10.11; what it sends is the common subset of the two, so
// there is no RETURNING.
//
// # Tables
//
// A database is a ledger. It has two parts with the same columns: sequencer_live
// holds what is pending or running, sequencer_history what is over, and an end moves
// a row from the one to the other, so the part that claims walk stays as small as the
// work that is left. A rollback changes the history row; an operator's retry moves it
// back. The schema says how holders and marks stand in for partial indexes, which
// neither server has.
//
// # Clock
//
// A request's Now, where given, is its instant; otherwise the server's clock is, read
// once for the request, into a variable of the session. Leases compare nothing but
// instants of that one clock.
//
// # Concurrency
//
// Every statement is written for READ COMMITTED, and the store's own sessions ask for
// it. Without RETURNING a row is locked, looked at, and then written: the fence of an
// outcome is checked on a locked row. Claims and rescues skip rows that others have
// locked. Transactions that end members of flows lock live rows first, then flows in
// the order of their ids, then statistics; what still deadlocks, or waits too long
// for a lock, is tried again, up to five times, but never inside a caller's
// transaction.
//
// # Connections
//
// The store's own connections take several statements in one message, with the values
// written into them by the driver, so a transaction has as many round trips as it asks
// questions. [Store.DB], for migrations and handlers, has connections apart that do
// not. No verb depends on a session: Setup alone holds a lock of the server, on a
// connection of its own.
//
// Work that another process enqueued is found by polling; [Store.Watch] tells what
// this Store commits.
//
// What a verb promises stands with [storage.Store]; here each statement says which
// index it uses, which lock it takes and which race it closes.
package mysql

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/gather"
	"github.com/gosequencer/sequencer/storage/internal/wake"
)

// Options tune a store. The zero value works.
type Options struct {
	// MaxConns bounds the connections of the store's own, and those of DB apart.
	// 0 = 10 each.
	MaxConns int
	// MultiStatements lets DB take several statements in one text, as operations that
	// are SQL files need. It also lets whoever can inject SQL add statements.
	MultiStatements bool
}

const defaultConns = 10

// Store is a ledger in MySQL or MariaDB. Its methods are safe for concurrent use.
type Store struct {
	server server
	pool   *sql.DB
	db     func() *sql.DB
	dbUsed atomic.Bool
	known  atomic.Pointer[ledger] // set once the schema was found usable
	ending context.Context        // done when the store is closed
	end    context.CancelFunc
	gather *gather.Gather
	takers *gather.Takers

	watchers wake.Watchers
}

var _ storage.TxStore = (*Store)(nil)

// Open connects to the database that address names: mysql://user:password@host:3306/database,
// or the form of the driver, user:password@tcp(host:3306)/database. Close ends the
// connections.
func Open(ctx context.Context, address string, o Options) (*Store, error) {
	server, err := parse(address)
	if err != nil {
		return nil, err
	}
	conns := o.MaxConns
	if conns <= 0 {
		conns = defaultConns
	}
	s := &Store{server: server, pool: server.own(conns)}
	if err := s.pool.PingContext(ctx); err != nil {
		return nil, errors.Join(&unreachableError{server.config, err}, s.pool.Close())
	}
	s.gather, s.takers = gather.New(2, s.insertPlain), gather.NewTakers(s.takeAll)
	s.ending, s.end = context.WithCancel(context.Background())
	s.db = sync.OnceValue(func() *sql.DB {
		s.dbUsed.Store(true)
		return server.plain(conns, o.MultiStatements)
	})
	return s, nil
}

// Name implements [storage.Store].
func (s *Store) Name() string { return "mysql" }

// DB is a pool of connections for migrations and for transactions to be passed to
// [Tx]. Close closes it.
func (s *Store) DB() *sql.DB { return s.db() }

// Close ends calls in flight, and the connections. A second call does nothing.
func (s *Store) Close() error {
	s.end()
	s.watchers.Close()()
	err := s.pool.Close()
	if s.dbUsed.Load() {
		err = errors.Join(err, s.db().Close())
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

// maxTries bounds how often a transaction of the store's own is run because another one
// stood in its way. Those who met wait a random time, longer each time, up to retryPause
// a try, or they would meet again.
const (
	maxTries   = 8
	retryPause = 5 * time.Millisecond
)

// tx runs f in a transaction of the store's own and commits it. When another one was
// in its way f runs again, from the start.
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
				rest(ctx, rand.N(time.Duration(try)*retryPause)) //nolint:gosec // nobody has to guess it
			}
		}
		if err != nil && errors.Is(context.Cause(ctx), storage.ErrClosed) {
			err = errors.Join(storage.ErrClosed, err)
		}
	}
	return explained(what, err)
}

// rest waits for d, or until ctx is done.
func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// attempt is one try of tx. What begins the transaction travels with f's first
// statement, COMMIT with whatever f queued last.
func (s *Store) attempt(ctx context.Context, now time.Time, f func(context.Context, *session) error) error {
	conn, err := s.pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() // it goes back to the pool, or is broken
	q := &session{wire: connWire{conn}, now: micro(now)}
	q.begin()
	if err = f(ctx, q); err == nil {
		q.queue("COMMIT")
		err = q.flush(ctx)
	}
	if err == nil {
		s.watchers.Tell(&q.arrivals)
		return nil
	}
	// Nobody may be waiting for ctx any more; the locks must go all the same.
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, _ = conn.ExecContext(undo, "ROLLBACK") // a connection on which it does not get through is closed, which ends it too
	return err
}

// read runs one query outside any transaction.
func (s *Store) read(ctx context.Context, what, query string, scan func(scanner) error, args ...any) error {
	return s.guarded(ctx, what, func(ctx context.Context) error {
		return s.ask(ctx, func(q *session) error { return q.each(ctx, scan, query, args...) })
	})
}

// ask runs f on a connection, outside any transaction.
func (s *Store) ask(ctx context.Context, f func(*session) error) error {
	conn, err := s.pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() // it goes back to the pool, or is broken
	return f(&session{wire: connWire{conn}})
}
