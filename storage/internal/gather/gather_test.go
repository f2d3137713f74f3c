package gather_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/gather"
)

// database writes slowly enough for callers to meet, and notes what it was given.
type database struct {
	mu    sync.Mutex
	calls [][]string
	open  chan struct{} // closed when calls may end
}

var errBad = errors.New("refused")

func (d *database) write(_ context.Context, rows []storage.Execution, _ []int) (int, error) {
	var names []string
	for _, e := range rows {
		names = append(names, e.Name)
	}
	d.mu.Lock()
	d.calls = append(d.calls, names)
	d.mu.Unlock()
	<-d.open
	for _, name := range names {
		switch name {
		case "bad":
			return 0, errBad
		case "repeat":
			return 0, nil
		}
	}
	return len(rows), nil
}

// enqueue lets callers come one after the other while the database stands still,
// then lets it go on, and returns what each was told.
func enqueue(t *testing.T, d *database, rows ...[]storage.Execution) []error {
	t.Helper()
	g := gather.New(2, d.write)
	errs := make([]error, len(rows))
	var all sync.WaitGroup
	for i, r := range rows {
		all.Go(func() { errs[i] = g.Enqueue(t.Context(), r) })
		synctest.Wait()
	}
	close(d.open)
	all.Wait()
	return errs
}

func named(name string) []storage.Execution { return []storage.Execution{{Name: name}} }

func TestWhoeverComesWhileTwoCallsAreUnderWaySharesTheNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &database{open: make(chan struct{})}
		for i, err := range enqueue(t, d, named("a"), named("b"), named("c"), named("d"), named("e")) {
			if err != nil {
				t.Errorf("caller %d: %v", i, err)
			}
		}
		if len(d.calls) != 3 || len(d.calls[2]) != 3 {
			t.Errorf("calls %v, want two with one row and one with three", d.calls)
		}
	})
}

func TestWhatOneCallerBringsIsNoMatterOfAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &database{open: make(chan struct{})}
		errs := enqueue(t, d, named("a"), named("b"), named("c"), named("bad"), named("repeat"), named("d"))
		for i, err := range errs {
			if bad := i == 3; bad != errors.Is(err, errBad) {
				t.Errorf("caller %d was told %v", i, err)
			}
		}
		if got := len(d.calls); got != 2+1+4 {
			t.Errorf("%d calls, want two alone, one together, and four alone after it failed: %v", got, d.calls)
		}
	})
}

func TestACallCarriesSoManyRowsAndBytes(t *testing.T) {
	t.Parallel()
	for name, big := range map[string][]storage.Execution{
		"rows":  make([]storage.Execution, gather.MaxRows),
		"bytes": {{Input: make([]byte, 3<<20)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := &database{open: make(chan struct{})}
				enqueue(t, d, named("a"), named("b"), big, big)
				for _, call := range d.calls {
					if len(call) > gather.MaxRows {
						t.Errorf("a call of %d rows", len(call))
					}
				}
				if len(d.calls) != 4 {
					t.Errorf("%d calls, want one for each big parcel", len(d.calls))
				}
			})
		})
	}
}

func TestACallerDoesNotWaitLongerThanItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &database{open: make(chan struct{})}
		g := gather.New(2, d.write)
		ctx, cancel := context.WithCancel(t.Context())
		told := make(chan error)
		go func() { told <- g.Enqueue(ctx, named("a")) }()
		synctest.Wait()
		cancel()
		if err := <-told; !errors.Is(err, context.Canceled) {
			t.Errorf("told %v, want that its context was done", err)
		}
		if err := g.Enqueue(ctx, named("b")); !errors.Is(err, context.Canceled) || len(d.calls) != 1 {
			t.Errorf("told %v after %d calls, want none for a context that is done", err, len(d.calls))
		}
		close(d.open)
	})
}

func TestThoseWhoTakeAtTheSameTimeShareACall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // guards calls
		var calls [][]string
		open := make(chan struct{})
		g := gather.NewTakers(func(_ context.Context, requests []storage.TakeRequest) ([]storage.Taken, error) {
			var names []string
			answers := make([]storage.Taken, len(requests))
			for i, r := range requests {
				names = append(names, r.Limits[0].Name)
				answers[i].Used = []int{r.Limits[0].N}
			}
			mu.Lock()
			calls = append(calls, names)
			bad := len(calls) == 4
			mu.Unlock()
			<-open
			if bad {
				return nil, errBad
			}
			return answers, nil
		})
		var all sync.WaitGroup
		used, errs := make([]int, 5), make([]error, 5)
		for i := range 5 {
			all.Go(func() {
				taken, err := g.Take(t.Context(), storage.TakeRequest{Limits: []storage.Limit{{Name: string(rune('a' + i)), N: i}}})
				if errs[i] = err; err == nil {
					used[i] = taken.Used[0]
				}
			})
			synctest.Wait()
		}
		close(open)
		all.Wait()
		if got, want := fmt.Sprint(calls), "[[a] [b] [c d e]]"; got != want {
			t.Errorf("calls %s, want %s", got, want)
		}
		if got, want := fmt.Sprint(used, errs), "[0 1 2 3 4] [<nil> <nil> <nil> <nil> <nil>]"; got != want {
			t.Errorf("answers %s, want %s", got, want)
		}
		all.Go(func() { _, errs[0] = g.Take(t.Context(), storage.TakeRequest{Limits: []storage.Limit{{Name: "x"}}}) })
		all.Wait()
		if !errors.Is(errs[0], errBad) {
			t.Errorf("got %v, want what the call came to", errs[0])
		}
	})
}
