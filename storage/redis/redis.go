// Package redis keeps the ledger in Redis 7 or newer. It asks for nothing that Valkey
// lacks, but is tested with Redis alone.
//
// # What a server may lose
//
// A call that returned is as durable as the server makes it, and that is less than a
// database does. With appendonly yes and appendfsync everysec, the usual setting, the
// last second of calls is lost with the machine; with appendfsync always none is, at
// the price of a disk write for each. Without an append-only file all since the last
// snapshot is lost with the server, of which [Store.Setup] warns. When a replica takes
// over it lacks what had not reached it, seconds in the worst case, whatever the disk
// has. What is lost is lost whole and from the end: the ledger is then as it was at
// some instant before. Executions that were done since run again, and what was
// enqueued since is gone; that is the one case in which something accepted vanishes.
// A server that evicts keys is refused by Setup ([EvictionError]).
//
// No effect of a handler can share the commit of its outcome, so the ledger of
// ordered operations belongs into an SQL database where there is one.
//
// # Keys
//
// All keys of a ledger begin with its name in braces, the hash tag of a cluster: so
// all are in one slot, and a script can touch any. More nodes means more ledgers.
//
// A row is a field of x and one of d, named by its id (lua/common.lua). Beside it are
// what finds it: sorted sets for what is due, by queue and priority; for what was
// created, by name; for what ended badly, has a tag or had an error; sets for what a
// worker holds and for members of flows; hashes for unique keys. place.go lists them
// all. History stays where it is: an end is one write of d, so a ledger that is kept
// costs no more than one that is not, but for memory: about 600 bytes for an execution
// of 100 bytes.
//
// # How a call is atomic
//
// A server runs one script at a time. The hot path is a script for each verb that
// does all of it: enqueue, claim, finish with the claim of what comes next, renew,
// checkpoint. Everything else (what concerns flows, leases and people) is decided in
// Go (unit.go): it reads, decides, and has one script write all at once, if nothing
// of what it read has changed; otherwise it decides anew. The rules of flows therefore
// exist once, in package settle.
//
// # Clock
//
// A request's Now, where given, is its instant; otherwise the server's clock is.
package redis

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/gather"
	"github.com/gosequencer/sequencer/storage/internal/wake"
)

// DefaultLedger is the name of the ledger where none is given.
const DefaultLedger = "sequencer"

// Options tune a store. The zero value works.
type Options struct {
	// Ledger is the name of the ledger, "" = what the address says
	// (?ledger=name), else DefaultLedger. All keys begin with it in braces,
	// which in a cluster is their hash tag. It cannot contain braces.
	Ledger string
	// Logger hears of a server that may lose the ledger, nil = slog.Default().
	Logger *slog.Logger
}

// Store is a ledger in Redis. Its methods are safe for concurrent use.
type Store struct {
	client redis.UniversalClient
	owned  bool
	prefix string // of all keys, with the hash tag
	keys   []string
	logger *slog.Logger
	origin string // tells our notifications from those of others

	known  atomic.Bool     // the schema was found usable
	ending context.Context // done when the store is closed
	end    context.CancelFunc
	turn   chan struct{} // held by the unit at work

	gather   *gather.Gather
	takers   *gather.Takers
	watchers wake.Watchers
}

var _ storage.Store = (*Store)(nil)

// New makes a store on a client of the caller's, who closes it after the store.
// Calls that must not be sent twice are not repeated by the client, whatever its
// MaxRetries.
func New(client redis.UniversalClient, o Options) *Store {
	if o.Ledger == "" {
		o.Ledger = DefaultLedger
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	id := storage.NewID()
	s := &Store{client: client, prefix: "{" + o.Ledger + "}:", logger: o.Logger, origin: string(id[8:]), turn: make(chan struct{}, 1)}
	s.keys = []string{s.prefix}
	s.takers = gather.NewTakers(s.takeAll)
	s.gather = gather.New(2, s.writePlain) // with one, client and server would wait for each other in turn
	s.ending, s.end = context.WithCancel(context.Background())
	return s
}

// Name implements [storage.Store].
func (s *Store) Name() string { return "redis" }

// Close ends calls in flight, and the connections if Open made them. A second call
// does nothing.
func (s *Store) Close() error {
	if s.ending.Err() != nil {
		return nil
	}
	s.end()
	s.watchers.Close()()
	if s.owned {
		return s.client.Close()
	}
	return nil
}

// key is the name of one of the ledger's keys.
func (s *Store) key(name string) string { return s.prefix + name }

// guarded surrounds a call with what all of them need: a store that is open, a
// ledger that is usable, and errors in our words.
func (s *Store) guarded(ctx context.Context, what string, f func(context.Context) error) error {
	return explained(what, s.within(ctx, f))
}

// within is guarded for a call that is part of another one.
func (s *Store) within(ctx context.Context, f func(context.Context) error) error {
	ctx, stop, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer stop()
	if err = s.ready(ctx); err == nil {
		err = f(ctx)
	}
	if err != nil && errors.Is(context.Cause(ctx), storage.ErrClosed) {
		err = errors.Join(storage.ErrClosed, err)
	}
	return err
}

// enter binds a call to the life of the store. The caller must call stop.
func (s *Store) enter(ctx context.Context) (_ context.Context, stop func(), _ error) {
	if s.ending.Err() != nil {
		return nil, nil, storage.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	release := context.AfterFunc(s.ending, func() { cancel(storage.ErrClosed) })
	return ctx, func() { release(); cancel(nil) }, nil
}
