package sequencertest

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
)

// Attempt says inside which attempt a handler is to find itself. Its zero value is the
// first one, on a ledger in memory.
type Attempt struct {
	Number     int      // which attempt it is; default 1
	Checkpoint any      // what Resume finds; nil = nothing
	Tags       []string // of the execution
	Limiters   map[string]sequencer.Limiter
	Logger     *slog.Logger // what Log answers; default the test's output
	// Registry knows the operations that the handler dispatches through From.
	Registry *sequencer.Registry
	// Store is the ledger, which has to be set up; default one in memory. With an SQL
	// store the handler has transactions, which commit if Ended is told of a success.
	Store storage.Store
}

// Seen is what an attempt left behind.
type Seen struct {
	// Dispatched is what the handler dispatched, executed or had run through From: it is
	// recorded and does not happen.
	Dispatched *Recorder

	tb    testing.TB
	store storage.Store
	id    storage.ID

	handler chan error    // what the handler returned
	over    chan struct{} // closed when the worker has ended…
	failure error         // …with this
	once    sync.Once
	row     storage.Execution

	mu          sync.Mutex // guards these
	done, total int64
}

// Context is the context of an attempt under way, for a handler, a hook or a middleware
// that a test calls itself:
//
//	ctx, seen := sequencertest.Context(t, sequencertest.Attempt{Number: 3, Checkpoint: cursor{Last: 42}})
//	err := (&Import{File: "users.csv"}).Handle(ctx)
//	state := seen.Ended(err).State
//
// It is a real attempt, of an operation of its own: Current, Log, Resume, Checkpoint,
// Progress, SetResult, Tx, Transact and an Attempt's limits and locks do what they do
// elsewhere. The policy is not that of your operation, which only a worker reads. The
// attempt ends with Ended, or with the test; what it did in a transaction is then gone.
func Context(tb testing.TB, a Attempt) (context.Context, *Seen) {
	tb.Helper()
	reg := sequencer.NewRegistry()
	if a.Registry != nil {
		reg = a.Registry.Clone()
	}
	s := &Seen{Dispatched: NewRecorder(tb), tb: tb, store: a.Store, handler: make(chan error, 1), over: make(chan struct{})}
	if s.store == nil {
		s.store = memory.New()
	}
	number := max(a.Number, 1)
	entered := make(chan context.Context, 1)
	op := sequencer.RegisterFunc(reg, "sequencertest:attempt", func(ctx context.Context) error {
		if sequencer.Current(ctx).Number < number {
			return errEarlier
		}
		entered <- ctx
		return <-s.handler
	}, sequencer.Tries(number+1), sequencer.Use(a.leadUp()))
	quiet := &later{logger(tb, a.Logger).Handler(), &atomic.Bool{}}
	cfg := sequencer.Config{Limiters: a.Limiters, Logger: slog.New(quiet)}
	dispatcher, err := sequencer.New(s.store, reg, cfg)
	if err != nil {
		tb.Fatalf("sequencertest: %v", err)
	}
	cfg.Recorder = s.Dispatched
	cfg.Observers = []sequencer.Observer{s.observe}
	worker, err := sequencer.New(s.store, reg, cfg)
	if err != nil {
		tb.Fatalf("sequencertest: %v", err)
	}
	receipt, err := dispatcher.Dispatch(tb.Context(), op, sequencer.OnQueue(queue), sequencer.Tagged(a.Tags...))
	if err == nil {
		s.id, err = storage.ParseID(receipt.ID)
	}
	if err != nil {
		tb.Fatalf("sequencertest: %v", err)
	}
	deliveries := number
	if a.Checkpoint != nil {
		deliveries++ // see leadUp
	}
	go func() {
		defer close(s.over)
		// Cleanup ends it, which comes after the end of tb's own context.
		s.failure = worker.Work(context.WithoutCancel(tb.Context()), sequencer.WorkerConfig{Queues: []string{queue}, Slots: 1, MaxJobs: deliveries})
	}()
	select {
	case ctx := <-entered:
		quiet.on.Store(true)
		tb.Cleanup(func() { s.end(sequencer.SkipForNow("the test is over")) })
		return ctx, s
	case <-s.over:
		tb.Fatalf("sequencertest: the attempt did not begin: %v", s.failure)
		return nil, nil
	}
}

const queue = "sequencertest"

var errEarlier = errors.New("an earlier attempt, which failed")

// leadUp is how the checkpoint of an earlier attempt comes to be there: a delivery that
// is turned away, at no cost, has saved it.
func (a *Attempt) leadUp() sequencer.Middleware {
	saved := a.Checkpoint == nil
	return sequencer.MiddlewareFunc(func(next sequencer.Handler) sequencer.Handler {
		return func(ctx context.Context, attempt *sequencer.Attempt) error {
			if saved {
				return next(ctx, attempt)
			}
			saved = true
			if err := sequencer.Checkpoint(ctx, a.Checkpoint); err != nil {
				return sequencer.Fail(err)
			}
			return sequencer.Release(0)
		}
	})
}

func (s *Seen) observe(_ context.Context, e sequencer.Event) {
	if e.Kind == sequencer.EventProgress {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.done, s.total = e.Done, e.Total
	}
}

// Progress is what the handler last said with Progress.
func (s *Seen) Progress() (done, total int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done, s.total
}

// Checkpoint reads what the handler last saved into cursor, and reports whether there is
// something. In a transaction it is there once Ended has committed it.
func (s *Seen) Checkpoint(cursor any) bool {
	s.tb.Helper()
	return s.read("checkpoint", s.now().Checkpoint, cursor)
}

// Result reads what the handler kept with SetResult into v. It is there once the attempt
// has ended.
func (s *Seen) Result(v any) bool {
	s.tb.Helper()
	return s.read("result", s.now().Result, v)
}

// Ended ends the attempt as if the handler had returned err, and answers the execution as
// it then stands: completed, skipped, failed by Fail, or else pending, to be tried again
// (DueAt) after an error or a Release.
func (s *Seen) Ended(err error) storage.Execution {
	s.tb.Helper()
	s.end(err)
	if s.failure != nil {
		s.tb.Fatalf("sequencertest: ending the attempt: %v", s.failure)
	}
	return s.row
}

func (s *Seen) end(err error) {
	s.once.Do(func() {
		s.handler <- err
		<-s.over
		s.row = s.now()
	})
}

func (s *Seen) now() storage.Execution {
	s.tb.Helper()
	rows, err := s.store.Executions(context.WithoutCancel(s.tb.Context()), storage.Filter{IDs: []storage.ID{s.id}})
	if err != nil || len(rows) != 1 {
		s.tb.Errorf("sequencertest: reading the execution: %d rows, %v", len(rows), err)
		return storage.Execution{}
	}
	return rows[0]
}

func (s *Seen) read(what string, data []byte, v any) bool {
	s.tb.Helper()
	if data == nil {
		return false
	}
	if err := json.Unmarshal(data, v); err != nil {
		s.tb.Errorf("sequencertest: the %s does not fit %T: %v", what, v, err)
	}
	return true
}

// later drops lines until it is switched on: those of what leads up to the attempt.
type later struct {
	slog.Handler
	on *atomic.Bool
}

func (l *later) Enabled(ctx context.Context, level slog.Level) bool {
	return l.on.Load() && l.Handler.Enabled(ctx, level)
}

func (l *later) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &later{l.Handler.WithAttrs(attrs), l.on}
}

func (l *later) WithGroup(name string) slog.Handler { return &later{l.Handler.WithGroup(name), l.on} }
