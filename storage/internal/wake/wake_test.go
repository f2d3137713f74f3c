package wake_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/wake"
)

func TestWhoeverWatchesAQueueIsToldOfArrivalsInIt(t *testing.T) {
	t.Parallel()
	var s wake.Watchers
	told := map[string]int{}
	for _, queue := range []string{"a", "b"} {
		if _, err := s.Join([]string{queue, "both"}, func() { told[queue]++ }); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		arrive func(*wake.Arrivals)
		a, b   int
	}{
		{func(*wake.Arrivals) {}, 0, 0},
		{func(a *wake.Arrivals) { a.In("a", "a") }, 1, 0},
		{func(a *wake.Arrivals) { a.In("both") }, 1, 1},
		{func(a *wake.Arrivals) { a.In("c") }, 0, 0},
		{func(a *wake.Arrivals) { a.In("c"); a.Anywhere() }, 1, 1},
		{func(a *wake.Arrivals) { a.Lifted(storage.Pause{Kind: storage.PauseQueue, Name: "b"}) }, 0, 1},
		{func(a *wake.Arrivals) { a.Lifted(storage.Pause{Kind: storage.PauseOperation, Name: "b"}) }, 1, 1},
		{func(a *wake.Arrivals) { a.Lifted(storage.Pause{Kind: storage.PauseSchedule, Name: "b"}) }, 0, 0},
	} {
		clear(told)
		var a, sum wake.Arrivals
		c.arrive(&a)
		sum.Add(&a)
		s.Tell(&sum)
		if told["a"] != c.a || told["b"] != c.b {
			t.Errorf("told a %d times and b %d times, want %d and %d", told["a"], told["b"], c.a, c.b)
		}
	}
}

func TestPrivateQueuesAreNotShared(t *testing.T) {
	t.Parallel()
	var a wake.Arrivals
	a.In("@mine", "high")
	if got := a.Shared(); !slices.Equal(got, []string{"high"}) {
		t.Errorf("shared are %q, want high alone", got)
	}
	a.Anywhere()
	if got := a.Shared(); !slices.Equal(got, []string{""}) {
		t.Errorf("shared are %q, want the sign for all", got)
	}
}

func TestCloseEndsAllCallsAndWaitsForThem(t *testing.T) {
	t.Parallel()
	var s wake.Watchers
	w, err := s.Join([]string{"a"}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-w.Gone()
		s.Leave(w)
	}()
	s.Close()()
	if _, err := s.Join(nil, func() {}); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("got %v after the close, want ErrClosed", err)
	}
	s.Close()()
}

func TestWhatWasTakenByTheSameTransactionIsToldToNobody(t *testing.T) {
	t.Parallel()
	var a wake.Arrivals
	a.In("a", "b")
	a.Taken("b", "c")
	if got := a.Shared(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("told are %q, want a alone", got)
	}
	a.Taken("a")
	if !a.None() {
		t.Errorf("told are %q, want nobody", a.Shared())
	}
	a.Anywhere()
	a.Taken("a")
	if a.None() {
		t.Error("nobody is told of what may be anywhere")
	}
}
