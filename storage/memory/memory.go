// Package memory is the executable model of the storage contract: plain maps
// behind one mutex, short enough to read beside the contract, and the partner
// every other backend is compared with by random histories (package storagetest).
//
// It is for tests, examples and throw-away ledgers. Nothing is durable: the
// ledger ends with the process. History is capped at [MaxHistory] rows.
//
// # How a call is atomic
//
// Each verb holds the mutex from start to end. Whatever it changes goes through
// a journal that remembers how to take the change back, so a verb that meets an
// error half way leaves the maps as they were.
//
// # Liveness
//
// A worker that joined with a Lease is dead once LeaseUntil has passed by the
// clock of the request (its Now, or the process clock). A worker without one
// lives until it leaves or a rescuer names it in RescueRequest.Dead.
package memory

import (
	"context"
	"sync"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/wake"
	"github.com/gosequencer/sequencer/storage/internal/window"
)

// MaxHistory is how many executions that are over the store keeps. Beyond it the
// one that ended first goes, except those that Prune would keep for ever.
const MaxHistory = 100_000

const schemaVersion = 1

// Store is a ledger in memory. Use [New].
type Store struct {
	mu sync.Mutex // guards everything below

	closed     bool
	maxHistory int

	rows     map[storage.ID]*row
	live     map[storage.ID]*row
	holders  map[string]*row   // unique key → the live row that holds it
	named    map[string][]*row // ordered operations and migrations by name, in order of insertion
	lanes    map[string]*lane  // queue → its runnable rows
	attempts map[storage.ID][]storage.Attempt
	ended    []ending // over rows in the order they ended; may hold stale entries
	flows    map[storage.ID]*flow
	out      map[storage.ID][]storage.Edge // by where they leave from
	workers  map[storage.ID]*storage.Worker
	locks    map[string]storage.LockState // Worker holds only the ID; it is completed when read
	limits   map[storage.Limit]window.Counter
	stats    map[statKey]storage.Stat
	audit    []storage.AuditEntry

	pauses    map[paused]storage.Pause
	schedules map[string]storage.Schedule // Paused is filled in when read

	watchers wake.Watchers // has a mutex of its own
}

var _ storage.Store = (*Store)(nil)

// New returns an empty ledger, already set up.
func New() *Store {
	return &Store{
		maxHistory: MaxHistory,
		rows:       map[storage.ID]*row{},
		live:       map[storage.ID]*row{},
		holders:    map[string]*row{},
		named:      map[string][]*row{},
		lanes:      map[string]*lane{},
		attempts:   map[storage.ID][]storage.Attempt{},
		flows:      map[storage.ID]*flow{},
		out:        map[storage.ID][]storage.Edge{},
		workers:    map[storage.ID]*storage.Worker{},
		locks:      map[string]storage.LockState{},
		limits:     map[storage.Limit]window.Counter{},
		stats:      map[statKey]storage.Stat{},
		pauses:     map[paused]storage.Pause{},
		schedules:  map[string]storage.Schedule{},
	}
}

// Name implements [storage.Store].
func (s *Store) Name() string { return "memory" }

// Setup implements [storage.Store]; there is nothing to do.
func (s *Store) Setup(ctx context.Context) (storage.Schema, error) { return s.Schema(ctx) }

// Schema implements [storage.Store].
func (s *Store) Schema(ctx context.Context) (storage.Schema, error) {
	err := s.read(ctx, func() error { return nil })
	if err != nil {
		return storage.Schema{}, err
	}
	return storage.Schema{Version: schemaVersion, OldestCompatible: schemaVersion, Want: schemaVersion}, nil
}

// Close ends the ledger and frees its rows. A second call does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		s.rows, s.live, s.holders, s.named, s.lanes, s.ended = nil, nil, nil, nil, nil, nil
		s.attempts, s.flows, s.out, s.stats, s.audit, s.pauses, s.schedules = nil, nil, nil, nil, nil, nil, nil
		s.watchers.Close()
	}
	return nil
}

// read runs f under the mutex.
func (s *Store) read(ctx context.Context, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return storage.ErrClosed
	}
	return f()
}

// write runs f under the mutex and takes back what it did when it fails. Then it
// wakes whoever watches the queues in which rows can be claimed now.
func (s *Store) write(ctx context.Context, now time.Time, f func(*tx) error) error {
	var arrivals wake.Arrivals
	err := s.read(ctx, func() error {
		t := &tx{Store: s, now: clock(now)}
		if err := f(t); err != nil {
			t.rollback()
			return err
		}
		s.capHistory()
		arrivals = t.arrivals
		return nil
	})
	s.watchers.Tell(&arrivals)
	return err
}

// clock is the instant of a request, in the precision every backend keeps.
func clock(now time.Time) time.Time {
	if now.IsZero() {
		now = time.Now()
	}
	return now.UTC().Truncate(time.Microsecond)
}

// tx is one verb at work: its instant and its journal.
type tx struct {
	*Store
	now  time.Time
	undo []func() // run last to first by rollback

	arrivals wake.Arrivals
}

func (t *tx) rollback() {
	for i := len(t.undo) - 1; i >= 0; i-- {
		t.undo[i]()
	}
}

func (t *tx) onRollback(f func()) { t.undo = append(t.undo, f) }
