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
	s.gather = gather.New(1, s.writePlain) // a script is done in less time than it takes to share one
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
