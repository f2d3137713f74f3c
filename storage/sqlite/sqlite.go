// Package sqlite keeps the ledger in one SQLite database file, beside the
// user's own tables if they like.
//
// # How it works
//
// SQLite lets one connection write at a time, so the store begins one transaction
// at a time. Calls that write (Enqueue, Claim, Finish, …) are handed to one
// goroutine, which runs all that have gathered while the previous transaction was
// in flight in the next one: a busy store commits once for many callers, an idle
// one commits each call at once. Inside a shared transaction every call has a
// savepoint of its own, so one that fails does not disturb the others. A
// transaction that a handler asked for (see [Store.TxKinds]) takes the same turn:
// while it is open, other writes wait behind it, and each may give up when its
// context does. Claims, and the progress of a renewal, do not wait: a claim finds
// nothing for the moment, and progress is told another time.
//
// Readers use a pool of their own. In WAL mode they neither wait for the writer
// nor hold it up. A process that has not written yet reads with the connection
// that it will write with, because the first thing a connection does is to read
// the whole schema.
//
// # What is durable
//
// A call that has returned survives the death of the process, always. With
// [Normal], the default, the last commits before a power failure or a crash of
// the operating system may be lost, as a whole and in order (the database stays
// consistent; what is lost is what the system had not yet written to the disk).
// With [Full] each commit waits for the disk and survives that too. Durability
// belongs to the handle, so a deploy run can open the same file with Full.
//
// # Who is alive
//
// All processes on one SQLite file run on one machine, so no clock is asked
// whether a worker lives: each worker holds an operating system lock on a file in
// the directory <database>-workers, which the kernel drops when its process ends,
// however it ends. A worker is dead when somebody else can take that lock. A
// process that is merely stopped or slow keeps it, and is waited for. The
// directory belongs to the database while workers run: do not delete it.
//
// # Where things are
//
// The schema is schema/*.sql. Statements stand above the methods that send them:
// enqueue.go, claim.go and finish.go are the path of an execution, flow.go the
// steps that package settle drives, lease.go and lock.go liveness, operate.go
// what people do, read.go every question; pause.go, schedule.go and queues.go what
// a queue has beside, watch.go how it wakes its workers.
package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	_ "modernc.org/sqlite" // the driver, pure Go

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/wake"
)

// Durability says what a commit waits for.
type Durability int

const (
	// Normal survives the death of the process. A power failure may take the last
	// commits with it, never parts of one.
	Normal Durability = iota
	// Full waits for the disk at each commit and survives a power failure.
	Full
)

// Options of [Open]; the zero value works.
type Options struct {
	// Durability of the writer; default Normal.
	Durability Durability
	// BusyTimeout is how long a write waits for another process that is writing;
	// default 10 s. A shorter context ends the wait earlier.
	BusyTimeout time.Duration
	// Readers is the number of connections that answer questions; default 4.
	Readers int
}

// Store is a ledger in a SQLite database.
type Store struct {
	loc    location
	writer *writer
	reader *sql.DB
	anchor *sql.Conn // keeps a database in memory alive
	alive  *liveness
	usable atomic.Bool // the schema has been found usable

	watchers wake.Watchers

	alone  sync.Mutex // held by the one question that the writer's handle answers
	mu     sync.Mutex // guards closed
	closed bool

	opts Options
}

var _ storage.TxStore = (*Store)(nil)

// Open makes a store on the database at path: a file path, a file: URI (its
// query is kept, so mode=ro works), or :memory: for one that lives as long as the
// Store. The file is not created before Setup; until then every other method
// answers with a *storage.SchemaError.
func Open(ctx context.Context, path string, opts Options) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	opts.BusyTimeout = cmp.Or(opts.BusyTimeout, 10*time.Second)
	opts.Readers = cmp.Or(opts.Readers, 4)
	loc, err := locate(path)
	if err != nil {
		return nil, err
	}
	s := &Store{loc: loc, opts: opts, alive: newLiveness(loc)}
	writing, err := openHandle(loc, loc.writerDSN(opts))
	if err != nil {
		return nil, s.translate(err)
	}
	writing.SetMaxIdleConns(opts.Readers)
	s.writer = newWriter(writing, opts.BusyTimeout, &s.watchers)
	if s.reader, err = openHandle(loc, loc.readerDSN(opts)); err != nil {
		_ = writing.Close()
		return nil, s.translate(err)
	}
	s.reader.SetMaxOpenConns(opts.Readers)
	s.reader.SetMaxIdleConns(opts.Readers)
	if loc.memory {
		if s.anchor, err = s.reader.Conn(ctx); err != nil {
			_ = s.Close()
			return nil, s.translate(err)
		}
		s.reader.SetMaxOpenConns(opts.Readers + 1)
	}
	return s, nil
}

// Name is "sqlite".
func (s *Store) Name() string { return "sqlite" }

// Path is the database file; empty for a database in memory.
func (s *Store) Path() string { return s.loc.path }

// DB returns the store's own handle, for the user's tables and for migrations. A
// transaction begun on it takes the write lock at once (unless it is read-only),
// waiting for it as long as BusyTimeout, and the store's writes then wait for it in
// turn. Its connections are the store's: what a PRAGMA changes on one stays, so
// leave them as they are. The store closes it.
func (s *Store) DB() (*sql.DB, error) {
	if s.isClosed() {
		return nil, storage.ErrClosed
	}
	return s.writer.db, nil
}

// CopyTo writes a copy of the database, the user's tables with the ledger, to a file that
// must not exist, while others go on writing. Where there is no database yet there is
// nothing to copy, and no file is made.
func (s *Store) CopyTo(ctx context.Context, path string) error {
	db, err := s.DB()
	if err != nil || !s.loc.exists() {
		return err
	}
	if _, err := db.ExecContext(ctx, `VACUUM INTO ?`, path); err != nil {
		return s.fail("copy the database to "+path, err)
	}
	return nil
}

// Close ends calls in flight with storage.ErrClosed, frees the file locks of the
// workers that joined through this Store, and closes every connection.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()

	s.watchers.Close()() // each has a connection
	errs := []error{s.writer.close(), s.alive.close()}
	if s.anchor != nil {
		errs = append(errs, s.anchor.Close())
	}
	if s.reader != nil {
		errs = append(errs, s.reader.Close())
	}
	return errors.Join(errs...)
}

// clock is a request's Now, or the process clock when it is zero, in the
// resolution that the ledger keeps.
func clock(now time.Time) time.Time {
	if now.IsZero() {
		now = time.Now()
	}
	return now.UTC().Truncate(time.Microsecond)
}
