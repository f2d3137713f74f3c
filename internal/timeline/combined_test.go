package timeline_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/faultstore"
	"github.com/gosequencer/sequencer/middleware"
	"github.com/gosequencer/sequencer/seal"
	"github.com/gosequencer/sequencer/storage"
)

// base is the operation of S43 with all it may declare but Idempotent.
type base struct {
	sequencer.Async
	sequencer.Encrypted
	sequencer.TxNever        // its effects are elsewhere, so that it is the same on every backend
	Card              string `json:"card"`
	world             *world
	do                func(ctx context.Context) error
}

func (b *base) Handle(ctx context.Context) error {
	b.world.note("start")
	return b.do(ctx)
}
func (*base) Tries() int             { return 3 }
func (*base) RetryUntil() time.Time  { return time.Now().Add(time.Hour) }
func (*base) Timeout() time.Duration { return time.Minute }
func (*base) FailOnTimeout() bool    { return false }
func (*base) MaxExceptions() int     { return 5 }
func (b *base) UniqueID() string     { return b.Card }
func (*base) Tags() []string         { return []string{"billing"} }
func (*base) Backoff() []time.Duration {
	return []time.Duration{10 * time.Second, 30 * time.Second}
}

func (*base) Middleware() []sequencer.Middleware {
	return []sequencer.Middleware{middleware.RateLimited("api"), middleware.ThrottleErrors(10, 5*time.Minute)}
}

func (b *base) Before(context.Context) error { b.world.note("before"); return nil }
func (b *base) After(context.Context) error  { b.world.note("after"); return nil }
func (b *base) Failed(_ context.Context, cause error) error {
	return b.world.failed(cause)
}

func (b *base) Rollback(ctx context.Context) error {
	kept, err := sequencer.ResultOf[string](ctx, "")
	b.world.note("undo " + b.Card + " " + kept)
	return err
}

// combined is the operation of S43.
type combined struct {
	sequencer.Idempotent
	base
}

const card = "4111-secret"

// ring is the same in every process.
var ring = sync.OnceValues(func() (*seal.Ring, error) {
	file, err := seal.NewFile("2026-01")
	if err != nil {
		return nil, err
	}
	return file.Ring()
})

func combinedConfig(w *world) sequencer.Config {
	w.t.Helper()
	keys, err := ring()
	if err != nil {
		w.t.Fatal(err)
	}
	return sequencer.Config{
		Sealer:   keys,
		Limiters: map[string]sequencer.Limiter{"api": sequencer.Limit{N: 3, Per: 10 * time.Minute}},
	}
}

func TestS43_1_To_4_TheCombinedOperation(t *testing.T) {
	t.Parallel()
	everywhere(t, func(w *world) {
		do := func(ctx context.Context) error {
			switch len(w.at("start")) {
			case 1:
				<-ctx.Done() // S43.1
				return context.Cause(ctx)
			case 2:
				return errBoom // S43.2
			}
			return nil
		}
		sequencer.Register(w.reg, "combined", func() *combined { return &combined{base: base{world: w, do: do}} })
		hog := sequencer.RegisterFunc(w.reg, "hog", func(context.Context) error { return nil }, sequencer.Use(middleware.RateLimited("api")))
		store := w.process()
		s := w.seq(store, combinedConfig(w))
		op := &combined{base: base{Card: card}}
		first := w.dispatch(s, op)
		w.dispatch(s, hog, sequencer.Delay(80*time.Second)) // takes what the third attempt would need
		w.began = time.Now()
		time.AfterFunc(90*time.Second, func() {
			if again := w.dispatch(s, op); !again.Duplicate || again.HolderID != first.ID {
				w.t.Errorf("S43.3: %+v, want a duplicate of %s", again, first.ID)
			}
			row := w.row(s, "combined")
			if row.State != storage.Pending || row.Attempts() != 2 || row.Errors != 2 || len(w.at("before")) != 2 || len(w.at("hook failed")) != 0 {
				w.t.Errorf("S43.2: %s, hooks %v", describe(row), w.notes)
			}
			if bytes.Contains(row.Input, []byte("secret")) {
				w.t.Error("S43.4: the input can be read in the store")
			}
			attempts, err := s.Store().Attempts(w.t.Context(), row.ID)
			if err != nil || len(attempts) != 2 || attempts[0].Outcome != "timeout" || attempts[1].Outcome != "error" {
				w.t.Errorf("S43.1, S43.2: attempts %+v, %v", attempts, err)
			}
		})
		w.work(s, 11*time.Minute)
		w.wantAt("start", 3*time.Second, 0, 70*time.Second, 10*time.Minute)
		w.wantAt(string(sequencer.EventRetrying), 0, 60*time.Second, 70*time.Second)
		row := w.row(s, "combined")
		if row.State != storage.Completed || row.Attempts() != 3 || row.Excused == 0 || len(w.at("after")) != 1 || len(w.at("hook failed")) != 0 {
			w.t.Errorf("S43.4: %s, %d deferrals, hooks %v", describe(row), row.Excused, w.notes)
		}
		if next := w.dispatch(s, op); next.Duplicate {
			w.t.Errorf("S43.4: the key is still held by %s", next.HolderID)
		}
	})
}

// killed serves until the handler says that it is in the middle of its work, and ends the
// process there. What it holds is left to its lease, or to the end of its handle where
// the store sees that.
func (w *world) killed(run func(s *sequencer.Sequencer), cfg sequencer.Config, when <-chan struct{}) {
	w.t.Helper()
	store := w.process()
	process := faultstore.NewMortal(store, 0)
	s := w.seq(process.Store(), cfg)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		run(s)
	}()
	<-when
	process.Kill()
	if err := store.Close(); err != nil {
		w.t.Error(err)
	}
	w.t.Cleanup(func() {
		process.Bury()
		<-ended
	})
}

// A killed worker's attempt is lost. Tries bind that too, where they are declared: the
// third of three is not repeated.
func TestS43_5_AKilledWorker(t *testing.T) {
	t.Parallel()
	const name = "20240115120000_combined"
	for _, c := range []struct {
		name       string
		idempotent bool
		during     int // which attempt
		state      storage.State
		starts     int
	}{
		{"idempotent", true, 2, storage.Completed, 3},
		{"in the last attempt", true, 3, storage.Failed, 3},
		{"not idempotent", false, 2, storage.Interrupted, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			everywhere(t, func(w *world) {
				middle, stop := make(chan struct{}), make(chan struct{})
				w.t.Cleanup(func() { close(stop) })
				do := func(context.Context) error {
					switch n := len(w.at("start")); {
					case n < c.during:
						return errBoom
					case n == c.during:
						close(middle)
						<-stop
					}
					return nil
				}
				b := func() base { return base{Card: card, world: w, do: do} }
				var op sequencer.Operation = &base{Card: card}
				if c.idempotent {
					op = &combined{base: base{Card: card}}
					sequencer.Register(w.reg, name, func() *combined { return &combined{base: b()} })
				} else {
					sequencer.Register(w.reg, name, func() *base { o := b(); return &o })
				}
				cfg := combinedConfig(w)
				cfg.Limiters["api"] = sequencer.PerMinute(100)
				w.dispatch(w.seq(w.process(), cfg), op)
				w.killed(func(s *sequencer.Sequencer) {
					_ = s.Work(context.WithoutCancel(w.t.Context()), sequencer.WorkerConfig{Poll: time.Minute})
				}, cfg, middle)
				s := w.seq(w.process(), cfg)
				w.work(s, 2*time.Minute)
				row := w.row(s, name)
				if row.State != c.state || len(w.at("start")) != c.starts || row.Attempts() != c.starts {
					w.t.Errorf("%s after %d starts, want %s after %d", describe(row), len(w.at("start")), c.state, c.starts)
				}
			})
		})
	}
}

// The run fails in one process, which dies before it has undone anything; the next one
// undoes the operation with what it kept, and offers it again.
func TestS43_6_AnotherProcessRollsItBackWithItsSavedState(t *testing.T) {
	t.Parallel()
	const name = "20240115120000_combined"
	everywhere(t, func(w *world) {
		do := func(ctx context.Context) error { return sequencer.SetResult(ctx, "ticket 7") }
		sequencer.Register(w.reg, name, func() *combined { return &combined{base: base{Card: card, world: w, do: do}} })
		sequencer.RegisterFunc(w.reg, "20240115130000_breaks", func(context.Context) error {
			if len(w.at("start")) == 1 {
				return errBoom
			}
			return nil
		}, sequencer.DependsOn(sequencer.Op(name)))
		cfg := combinedConfig(w)
		failed := make(chan struct{})
		dying := cfg
		dying.Observers = []sequencer.Observer{func(_ context.Context, e sequencer.Event) {
			if e.Kind == sequencer.EventFailed { // it is durable, and with it that the run is to be undone
				close(failed)
				<-w.t.Context().Done() // no further
			}
		}}
		w.killed(func(s *sequencer.Sequencer) {
			_, _ = s.Process(context.WithoutCancel(w.t.Context()), sequencer.RunOptions{})
		}, dying, failed)
		const undone = "undo " + card + " ticket 7"
		if n := len(w.at(undone)); n != 0 {
			w.t.Fatal("it was undone by the process that was to die")
		}
		s := w.seq(w.process(), cfg)
		report, err := s.Process(w.t.Context(), sequencer.RunOptions{Isolate: true, WaitLock: time.Hour})
		if err != nil || report.State != storage.Completed {
			w.t.Fatalf("the next process: %+v, %v", report, err)
		}
		var story []string
		for _, n := range w.notes {
			if n == "start" || strings.HasPrefix(n, "undo") {
				story = append(story, n)
			}
		}
		if want := []string{"start", undone, "start"}; !slices.Equal(story, want) {
			w.t.Errorf("S43.6: %q, want %q", story, want)
		}
		states := []storage.State{}
		for _, row := range w.rows(s, name) {
			if row.Kind == storage.Ordered {
				states = append(states, row.State)
			}
		}
		if want := []storage.State{storage.RolledBack, storage.Completed}; !slices.Equal(states, want) {
			w.t.Errorf("S43.6: its executions are %v, want %v", states, want)
		}
	})
}
