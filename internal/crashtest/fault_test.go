//go:build linux

package crashtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/faultstore"
	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
	"github.com/gosequencer/sequencer/storage/storagetest"
)

// faultLimit ends a run that waits for something it has lost.
const faultLimit = time.Minute

var errInjected = errors.New("injected fault")

// recorder is a hook that keeps the points, in order.
type recorder struct {
	mu     sync.Mutex
	points []string
}

func (r *recorder) pass(point string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.points = append(r.points, point)
	return nil
}

// failOnce is a hook that fails at a point, the first time it is passed.
func failOnce(at string) faultstore.Hook {
	var mu sync.Mutex
	return func(point string) error {
		mu.Lock()
		defer mu.Unlock()
		if point != at {
			return nil
		}
		at = ""
		return errInjected
	}
}

// decisiveFaults leaves out the second side of a question: its answer is missing on both.
func decisiveFaults(points []string) []string {
	var distinct []string
	for _, point := range points {
		if slices.Contains(distinct, point) || faultstore.Reads(point) && strings.HasSuffix(point, "/after") {
			continue
		}
		distinct = append(distinct, point)
	}
	return sample(distinct)
}

// A process that lives on is harder than one that dies: nobody is proved dead, and
// the same store goes on being used.
func TestCrashlikeErrorsAroundEachEffectAndTheNextRunCompletes_S7_9(t *testing.T) {
	t.Parallel()
	undisturbed := place{"sqlite", testdb.SQLite(t)}
	var rec recorder
	within(t, undisturbed, func(l *ledger) {
		if o := (deploy{Place: undisturbed, Program: "everything", quiet: true}).process(t.Context(), l, rec.pass); o.Error != "" {
			t.Fatal(o.Error)
		}
	})
	want := contents(t, undisturbed)
	for _, point := range decisiveFaults(rec.points) {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			want := want
			if point == "migration 20240103000000/after" {
				// It said that it failed, and goose's table, which is the truth, has it. Nobody corrects the history.
				want = slices.Clone(want)
				want[slices.Index(want, "migration "+index+" is completed")] = "migration " + index + " is failed"
			}
			d := deploy{Place: place{"sqlite", testdb.SQLite(t)}, Program: "everything", quiet: true}
			within(t, d.Place, func(l *ledger) {
				ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
				defer cancel()
				first := d.process(ctx, l, failOnce(point))
				if ctx.Err() != nil {
					t.Errorf("the run with the fault hung, then ended with %q", first.Error)
				}
				nothing := func(string) error { return nil }
				again := d.process(t.Context(), l, nothing)
				if slices.Equal(again.Interrupted, []string{index}) {
					resolve(t, d, index, sequencer.ResolveFailed)
					again = d.process(t.Context(), l, nothing)
				}
				if again.Error != "" {
					t.Errorf("the run with the fault ended with %q, the next one with %q", first.Error, again.Error)
				}
			})
			same(t, "the contents", contents(t, d.Place), want)
			settled(t, d.Place)
		})
	}
}

func TestCrashlikeErrorsOnAStoreWithoutTransactions_S6_6(t *testing.T) {
	t.Parallel()
	var rec recorder
	undisturbed := memory.New()
	if err := processInMemory(t.Context(), undisturbed, rec.pass); err != nil {
		t.Fatal(err)
	}
	want := states(t, undisturbed)
	for _, point := range decisiveFaults(rec.points) {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			store := memory.New()
			ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
			defer cancel()
			first := processInMemory(ctx, store, failOnce(point))
			if ctx.Err() != nil {
				t.Errorf("the run with the fault hung, then ended with %v", first)
			}
			if err := processInMemory(t.Context(), store, func(string) error { return nil }); err != nil {
				t.Errorf("the run with the fault ended with %v, the next one with %v", first, err)
			}
			same(t, "the states", states(t, store), want)
			storagetest.Check(t, store)
		})
	}
}

// processInMemory runs three idempotent operations, the second of which fails once.
func processInMemory(ctx context.Context, store storage.Store, hook faultstore.Hook) error {
	reg := sequencer.NewRegistry()
	for _, name := range []string{seed, flaky, last} {
		sequencer.RegisterFunc(reg, name, func(ctx context.Context) error {
			if name == flaky && sequencer.Current(ctx).Number == 1 {
				return errors.New("the first attempt fails")
			}
			return hook(name)
		}, sequencer.Mark[sequencer.Idempotent](), sequencer.Tries(5))
	}
	seq, err := sequencer.New(faultstore.New(store, hook), reg, sequencer.Config{
		Environment: "test", Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), ShutdownGrace: time.Second, TimeoutGrace: time.Second,
	})
	if err != nil {
		return err
	}
	_, err = seq.Process(ctx, sequencer.RunOptions{})
	return err
}

func states(t *testing.T, store storage.Store) []string {
	t.Helper()
	rows, err := store.Newest(t.Context(), storage.NewestRequest{Environment: "test"})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, row := range rows {
		all = append(all, fmt.Sprintf("%s is %s", row.Name, row.State))
	}
	slices.Sort(all)
	return all
}
