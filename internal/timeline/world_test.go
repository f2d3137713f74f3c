package timeline_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/faketime"
	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
	"github.com/gosequencer/sequencer/storage/mysql"
	"github.com/gosequencer/sequencer/storage/postgres"
	"github.com/gosequencer/sequencer/storage/redis"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

// backend says how to get at an empty database, and how a process opens it.
type backend struct {
	name  string
	sql   bool // it shares transactions
	fresh func(testing.TB) string
	open  func(ctx context.Context, address string) (storage.Store, error)
}

var backends = []backend{
	{"memory", false, nil, nil}, // all processes share one object
	{"sqlite", true, testdb.SQLite, func(ctx context.Context, at string) (storage.Store, error) {
		return sqlite.Open(ctx, at, sqlite.Options{})
	}},
	{"postgres", true, testdb.Postgres, func(ctx context.Context, at string) (storage.Store, error) {
		return postgres.Open(ctx, at, postgres.Options{MaxConns: 4})
	}},
	{"mysql", true, testdb.MySQL, func(ctx context.Context, at string) (storage.Store, error) {
		return mysql.Open(ctx, at, mysql.Options{MaxConns: 4})
	}},
	{"redis", false, testdb.Redis, func(ctx context.Context, at string) (storage.Store, error) {
		return redis.Open(ctx, at, redis.Options{Logger: slog.New(slog.DiscardHandler)})
	}},
}

// everywhere runs a test on each backend.
func everywhere(t *testing.T, test func(w *world)) {
	t.Helper()
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			b.bubble(t, test)
		})
	}
}

// bubble runs a test on an empty database, in a bubble of its own.
func (b backend) bubble(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, began: time.Now(), reg: sequencer.NewRegistry()}
		w.process = func() storage.Store {
			store, err := b.open(t.Context(), w.address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = store.Close() })
			return store
		}
		if b.open == nil {
			store := memory.New()
			w.process = func() storage.Store { return undying{store} }
		} else {
			w.address = b.fresh(t)
		}
		test(w)
	})
}

// undying is the memory that all processes have in common.
type undying struct{ *memory.Store }

func (undying) Close() error { return nil }

// world is a ledger, what runs on it, and the notes that handlers, hooks and observers take.
type world struct {
	t       *testing.T
	began   time.Time
	address string
	reg     *sequencer.Registry
	process func() storage.Store // as another process opens the ledger
	logged  strings.Builder      // of New

	mu    sync.Mutex // guards the rest
	notes []string
	times map[string][]time.Duration
	cause error // what the failed hook was told
}

// seq is a sequencer of its own process, whose clock is the bubble's.
func (w *world) seq(store storage.Store, cfg sequencer.Config) *sequencer.Sequencer {
	w.t.Helper()
	w.logged.Reset()
	cfg.Logger = slog.New(slog.NewTextHandler(&lines{w: w}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	cfg.Observers = append(cfg.Observers, func(_ context.Context, e sequencer.Event) { w.note(string(e.Kind)) })
	s, err := sequencer.New(faketime.New(store, time.Now), w.reg, cfg)
	if err == nil {
		err = s.Setup(w.t.Context())
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// lines is where log lines go.
type lines struct{ w *world }

func (l *lines) Write(p []byte) (int, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.logged.Write(p)
}

// work serves the queue until nothing has been runnable for longer than anything waits.
func (w *world) work(s *sequencer.Sequencer, longest time.Duration) {
	w.t.Helper()
	if err := s.Work(w.t.Context(), sequencer.WorkerConfig{StopWhenEmptyFor: longest, Poll: 30 * time.Second}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) note(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.times == nil {
		w.times = map[string][]time.Duration{}
	}
	w.times[what] = append(w.times[what], time.Since(w.began))
	w.notes = append(w.notes, what)
}

// at answers when something happened, as it was noted.
func (w *world) at(what string) []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.times[what])
}

// wantAt fails unless something happened at these times. Where middleware spreads those
// that it turns away (Q3.17), up to slack later.
func (w *world) wantAt(what string, slack time.Duration, want ...time.Duration) {
	w.t.Helper()
	got := w.at(what)
	if len(got) != len(want) {
		w.t.Errorf("%s at %v, want %v", what, got, want)
		return
	}
	for i := range got {
		if got[i] < want[i] || got[i] > want[i]+slack+exact {
			w.t.Errorf("%s at %v, want %v", what, got, want)
			return
		}
	}
}

// exact is the precision that ledgers keep time in.
const exact = time.Millisecond

func (w *world) rows(s *sequencer.Sequencer, name string) []storage.Execution {
	w.t.Helper()
	rows, err := s.Store().Executions(w.t.Context(), storage.Filter{Name: name, Oldest: true})
	if err != nil {
		w.t.Fatal(err)
	}
	return rows
}

// row is the only execution of a name.
func (w *world) row(s *sequencer.Sequencer, name string) storage.Execution {
	w.t.Helper()
	rows := w.rows(s, name)
	if len(rows) != 1 {
		w.t.Fatalf("%d executions of %s, want one", len(rows), name)
	}
	return rows[0]
}

func (w *world) dispatch(d sequencer.Dispatcher, op sequencer.Operation, opts ...sequencer.DispatchOption) sequencer.Receipt {
	w.t.Helper()
	r, err := d.Dispatch(w.t.Context(), op, opts...)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func describe(e storage.Execution) string {
	return fmt.Sprintf("%s after %d attempts, %d errors, %d losses: %s", e.State, e.Attempts(), e.Errors, e.Losses, e.LastError)
}
