package sequencertest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/faultstore"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
)

// World is what one trial of [Crash] happens in. Each has its own: nothing of an earlier
// one may be left in it.
type World struct {
	Registry *sequencer.Registry // with factories that reach into this world
	Config   sequencer.Config
	// Store is the ledger, which has to be set up; nil = a new one in memory. It is for
	// operations that use the ledger's transactions.
	Store storage.Store
	// Given happens before, in a process that is not killed: dispatches, above all.
	Given func(ctx context.Context, seq *sequencer.Sequencer) error
	// Run is what the process does that is killed, and the one after it does again. Queues
	// are drained after it in any case; nil = Process as well.
	Run func(ctx context.Context, seq *sequencer.Sequencer) error
	// State is how the world looks in the end to whoever uses it: rows, files, what was
	// sent. Two are the same if reflect.DeepEqual says so.
	State func(ctx context.Context) (any, error)
}

// Trial is what came of one death.
type Trial struct {
	// Point is the write at which the process was killed, counted by verb, and on which
	// side of it: "Finish#1/before" is after a handler has returned and before that is
	// known to anybody.
	Point string
	// State is how the world looked once another process had recovered.
	State any
	// Err says why the ledger is not done: what failed to recover, what waits for a person.
	Err error
	// Converged reports that State is that of a run without a death, and nothing is left
	// to do.
	Converged bool
}

// maxTrials bounds how many writes a run may make. One that makes more is not tried to
// its end.
const maxTrials = 5000

// Crash runs an operation to its end, and then again for each write to the ledger that
// this took, twice: once the process is killed right before the write, once right after
// it. Each time another process does the same again, on what is left, with open
// transactions rolled back. It answers how the world looks without a death, and what
// came of each.
//
// Being killed is: the call that comes to that point does not return, nor does any call
// of the ledger after it, so nothing that the handler does behind it happens. One
// execution is attempted at a time. What makes its operation concurrent itself, or calls
// nothing of Sequencer for a long while, is better killed for real, in a process of its
// own.
//
// After a lost attempt comes the operation's backoff. Where there is one, wrap the test
// in synctest.Test, see [Drain].
func Crash(tb testing.TB, open func(tb testing.TB) World) (want any, trials []Trial) {
	tb.Helper()
	for n := 0; n <= maxTrials; n++ {
		w := open(tb)
		if w.Registry == nil || w.State == nil {
			tb.Fatal("sequencertest: a World needs a Registry and a State")
		}
		t, err := w.trial(tb, n)
		switch {
		case err != nil:
			tb.Fatalf("sequencertest: %s: %v", orAlive(t.Point), err)
		case n == 0:
			if t.Err != nil {
				tb.Fatalf("sequencertest: without a death: %v", t.Err)
			}
			want = t.State
		case t.Point == "": // it has come to its end
			return want, trials
		default:
			t.Converged = t.Err == nil && reflect.DeepEqual(t.State, want)
			trials = append(trials, t)
		}
	}
	tb.Fatalf("sequencertest: the run makes more than %d writes: give it less to do", maxTrials/2)
	return nil, nil
}

// AssertConverges is [Crash] for an operation that has to come to the same end wherever
// it is killed. Each death after which it does not is an error of the test.
func AssertConverges(tb testing.TB, open func(tb testing.TB) World) {
	tb.Helper()
	want, trials := Crash(tb, open)
	for _, t := range trials {
		switch {
		case t.Err != nil:
			tb.Errorf("killed at %s, it does not come to an end: %v", t.Point, t.Err)
		case !t.Converged:
			tb.Errorf("killed at %s, it comes to another end: %+v, want %+v", t.Point, t.State, want)
		}
	}
}

func orAlive(point string) string {
	if point == "" {
		return "without a death"
	}
	return "killed at " + point
}

// trial kills at the n-th point, 0 = not at all.
func (w World) trial(tb testing.TB, n int) (Trial, error) {
	tb.Helper()
	ctx := tb.Context()
	if w.Store == nil {
		store := memory.New()
		defer func() { _ = store.Close() }()
		w.Store = store
	}
	w.Config.Logger = logger(tb, w.Config.Logger)
	if w.Given != nil {
		if err := w.as(ctx, w.Store, w.Given); err != nil {
			return Trial{}, fmt.Errorf("given: %w", err)
		}
	}
	mortal := faultstore.NewMortal(w.Store, n)
	first, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- w.as(first, mortal.Store(), w.work) }()
	var t Trial
	select {
	case err := <-ended:
		ended <- err
		if t.Point = mortal.Point(); t.Point != "" { // at what it did beside the work, on its way out
			break
		}
		if t.Err = err; err == nil {
			t.Err = w.left(ctx)
		}
		return w.look(ctx, t)
	case <-mortal.Dead():
		t.Point = mortal.Point()
	}
	defer func() {
		stop()
		mortal.Bury()
		<-ended //nolint:errcheck // it was killed
	}()
	if err := errors.Join(mortal.Abort(ctx), w.leave(ctx)); err != nil {
		return t, fmt.Errorf("clearing up behind a dead process: %w", err)
	}
	if t.Err = w.as(ctx, w.Store, w.work); t.Err == nil {
		t.Err = w.left(ctx)
	}
	return w.look(ctx, t)
}

// as does something as a process on store.
func (w World) as(ctx context.Context, store storage.Store, do func(context.Context, *sequencer.Sequencer) error) error {
	seq, err := sequencer.New(store, w.Registry, w.Config)
	if err != nil {
		return err
	}
	return do(ctx, seq)
}

func (w World) work(ctx context.Context, seq *sequencer.Sequencer) error {
	run := w.Run
	if run == nil {
		run = func(ctx context.Context, seq *sequencer.Sequencer) error {
			_, err := seq.Process(ctx, sequencer.RunOptions{Slots: 1})
			return err
		}
	}
	if err := run(ctx, seq); err != nil {
		return err
	}
	_, err := drain(ctx, seq, true)
	return err
}

// leave has all workers leave, the dead process's among them: nobody has to wait for the
// end of a lease, and what they held counts as lost.
func (w World) leave(ctx context.Context) error {
	workers, err := w.Store.Workers(ctx)
	for _, worker := range workers {
		err = errors.Join(err, w.Store.Leave(ctx, worker.ID))
	}
	return err
}

// left says what is not over, or waits for a person.
func (w World) left(ctx context.Context) error {
	rows, err := w.Store.Executions(ctx, storage.Filter{
		States: []storage.State{storage.Pending, storage.Running, storage.Interrupted}, Limit: 100,
	})
	for _, row := range rows {
		if row.State == storage.Interrupted {
			err = errors.Join(err, fmt.Errorf("%s is interrupted and waits for a person: mark it Idempotent if repeating it does no harm", row.Name))
		} else {
			err = errors.Join(err, fmt.Errorf("%s is %s, due at %s", row.Name, row.State, row.DueAt.Format(time.RFC3339)))
		}
	}
	return err
}

func (w World) look(ctx context.Context, t Trial) (Trial, error) {
	state, err := w.State(ctx)
	if err != nil {
		return t, fmt.Errorf("reading the state: %w", err)
	}
	t.State = state
	return t, nil
}
