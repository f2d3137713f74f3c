package sequencertest_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/sequencertest"
)

// Welcome is an operation of the application under test.
type Welcome struct {
	To   string `json:"to"`
	desk *desk
}

func (w *Welcome) Handle(context.Context) error { return w.desk.send(w.To) }

// desk is what it works with.
type desk struct {
	mu   sync.Mutex
	sent []string
}

func (d *desk) send(to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sent = append(d.sent, to)
	return nil
}

// signUp is application code: it asks for a Dispatcher and gets what the test gives it.
func signUp(ctx context.Context, d sequencer.Dispatcher, name string) error {
	_, err := d.Dispatch(ctx, &Welcome{To: name})
	return err
}

// What code dispatches is recorded and does not run.
func Example_recording() {
	reg := sequencer.NewRegistry()
	sequencer.Register(reg, "mail:welcome", sequencer.Make[Welcome])
	seq, rec := sequencertest.Recording(t, reg)

	if err := signUp(t.Context(), seq, "ada"); err != nil {
		t.Fatal(err)
	}

	sequencertest.AssertDispatchedOnce(rec, func(w *Welcome) bool { return w.To == "ada" })
	rec.AssertNothingElse()
	fmt.Println(rec)
	// Output: mail:welcome
}

// A failed assertion says what there was instead.
func ExampleAssertDispatched() {
	reg := sequencer.NewRegistry()
	sequencer.Register(reg, "mail:welcome", sequencer.Make[Welcome])
	seq, rec := sequencertest.Recording(t, reg)
	_ = signUp(t.Context(), seq, "ada")

	sequencertest.AssertDispatched(rec, func(w *Welcome) bool { return w.To == "grace" })
	// Output: test failed: no *sequencertest_test.Welcome as asked for was dispatched; there was mail:welcome
}

// What is due runs in the test, one execution after the other.
func ExampleDrainDue() {
	d := &desk{}
	reg := sequencer.NewRegistry()
	sequencer.Register(reg, "mail:welcome", func() *Welcome { return &Welcome{desk: d} })
	seq := sequencertest.New(t, reg, sequencer.Config{})
	_ = signUp(t.Context(), seq, "ada")
	_ = signUp(t.Context(), seq, "grace")

	fmt.Println(sequencertest.DrainDue(t, seq), d.sent)
	// Output: 2 [ada grace]
}

// Backfill keeps its place.
type Backfill struct{ rows []int }

func (b *Backfill) Handle(ctx context.Context) error {
	var next int
	if _, err := sequencer.Resume(ctx, &next); err != nil {
		return err
	}
	for ; next < len(b.rows); next++ {
		sequencer.Progress(ctx, int64(next+1), int64(len(b.rows)))
		if err := sequencer.Checkpoint(ctx, next+1); err != nil {
			return err
		}
	}
	return sequencer.SetResult(ctx, fmt.Sprintf("%d rows", next))
}

// A handler is called in the middle of its life: an earlier attempt has got as far as
// the second row.
func ExampleContext() {
	ctx, seen := sequencertest.Context(t, sequencertest.Attempt{Number: 2, Checkpoint: 2})

	err := (&Backfill{rows: []int{1, 2, 3}}).Handle(ctx)

	done, total := seen.Progress()
	ended := seen.Ended(err)
	var cursor int
	var result string
	seen.Checkpoint(&cursor)
	seen.Result(&result)
	fmt.Printf("%d of %d, at %d, %s: %s\n", done, total, cursor, ended.State, result)
	// Output: 3 of 3, at 3, completed: 3 rows
}

// A mail that is sent before it is known that it was goes out twice when the process
// dies in between.
func ExampleAssertConverges() {
	sequencertest.AssertConverges(t, func(testing.TB) sequencertest.World {
		d := &desk{}
		reg := sequencer.NewRegistry()
		sequencer.Register(reg, "mail:welcome", func() *Welcome { return &Welcome{desk: d} })
		return sequencertest.World{
			Registry: reg,
			Given:    func(ctx context.Context, seq *sequencer.Sequencer) error { return signUp(ctx, seq, "ada") },
			State:    func(context.Context) (any, error) { return slices.Clone(d.sent), nil },
		}
	})
	// Output: test failed: killed at Finish#1/before, it comes to another end: [ada ada], want [ada]
}

// Reserve asks before it does, so repeating it does no harm.
type Reserve struct {
	Seat string `json:"seat"`
	hall map[string]bool
}

func (r *Reserve) Handle(context.Context) error {
	r.hall[r.Seat] = true
	return nil
}

// Killed wherever it may be, it comes to the same end.
func ExampleCrash() {
	state, trials := sequencertest.Crash(t, func(testing.TB) sequencertest.World {
		hall := map[string]bool{}
		reg := sequencer.NewRegistry()
		sequencer.Register(reg, "reserve", func() *Reserve { return &Reserve{hall: hall} })
		return sequencertest.World{
			Registry: reg,
			Given: func(ctx context.Context, seq *sequencer.Sequencer) error {
				_, err := seq.Dispatch(ctx, &Reserve{Seat: "4a"})
				return err
			},
			State: func(context.Context) (any, error) { return len(hall), nil },
		}
	})
	lost := 0
	for _, trial := range trials {
		if !trial.Converged {
			fmt.Println("killed at", trial.Point, trial.State, trial.Err)
			lost++
		}
	}
	fmt.Println(state, "seat;", lost, "deaths made a difference")
	// Output: 1 seat; 0 deaths made a difference
}
