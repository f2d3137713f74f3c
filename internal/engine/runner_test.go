package engine

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

func TestExecutionsThatWaitAllRunAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const all = 100
		var mu sync.Mutex
		var order []int
		release := make(chan struct{})
		emptied := make(chan struct{}, 1)
		r := runners{emptied: emptied, attempt: func(e *storage.Execution, _ *Hand) {
			mu.Lock()
			order = append(order, e.Position)
			mu.Unlock()
			<-release
		}}
		for i := range all {
			r.add(&storage.Execution{Position: i})
		}
		synctest.Wait()
		mu.Lock()
		if len(order) != all || r.waiting() != 0 {
			t.Errorf("%d of %d have begun, %d wait for it", len(order), all, r.waiting())
		}
		mu.Unlock()
		select {
		case <-emptied:
		default:
			t.Error("nobody was told that the last had been taken")
		}
		close(release)
	})
}

func TestShortAttemptsDoNotEachHaveAGoroutine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const all = 1000
		var mu sync.Mutex
		hands := map[*Hand]int{}
		r := runners{emptied: make(chan struct{}, 1), attempt: func(_ *storage.Execution, h *Hand) {
			done := make(chan struct{})
			h.Do(func() { close(done) })
			<-done
			mu.Lock()
			hands[h]++
			mu.Unlock()
		}}
		for range all {
			r.add(&storage.Execution{})
		}
		synctest.Wait()
		sum := 0
		for _, n := range hands {
			sum += n
		}
		if sum != all || len(hands) > all/2 {
			t.Errorf("%d attempts by %d runners, want %d by far fewer", sum, len(hands), all)
		}
	})
}

func TestWhatIsLeftOfABatchTravelsWithTheNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &run{Pool: &Pool{Slots: 100}, mine: map[storage.ID]bool{}}
		r.runners.next = true // somebody is about to look, and does not yet
		r.came()
		r.outcomes = append(r.outcomes, storage.Outcome{})
		time.Sleep(10 * holdFor) // all calls of the store were under way
		r.start(storage.Claimed{Executions: make([]storage.Execution, 50)})
		if !r.holds() {
			t.Error("one outcome goes alone while 50 are about to end")
		}
		time.Sleep(holdFor)
		if r.holds() {
			t.Errorf("it still waits for others after %s", holdFor)
		}
	})
}

// gated lets calls wait until it is opened.
type gated struct {
	storage.Store
	open chan struct{}
}

func (g *gated) Finish(context.Context, storage.FinishRequest) (storage.Finished, error) {
	<-g.open
	return storage.Finished{}, nil
}

func TestCallsShareTheSlotsAndAnIdlePoolAsksOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &gated{open: make(chan struct{})}
		l := &Lease{Worker: storage.Worker{ID: storage.NewID(), Lease: time.Minute}, lost: t.Context()}
		r := &run{Pool: &Pool{Store: g, Lease: l, Slots: 400, Writes: 2}, free: 400, written: make(chan *write, 2)}
		r.write(t.Context())
		if r.writing != 1 || r.free != 200 {
			t.Errorf("%d calls claim and %d slots are free, want one for half of 400: nobody knows yet whether there is more", r.writing, r.free)
		}
		r.deep = true // the answer to another was that there is
		r.write(t.Context())
		if r.writing != 2 || r.free != 0 {
			t.Errorf("%d calls claim and %d slots are free, want another for the other half", r.writing, r.free)
		}
		close(g.open)
		for range 2 {
			if w := <-r.written; w.asks.claim.Limit != 200 {
				t.Errorf("a call claims %d, want its half of 400", w.asks.claim.Limit)
			}
		}
	})
}

func TestAHandOutlivesWhatItIsGiven(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h Hand
		defer h.Leave()
		release := make(chan struct{})
		ended := make(chan string, 3)
		h.Do(func() {
			defer func() { ended <- "goexit" }()
			runtime.Goexit()
		})
		synctest.Wait()
		h.Do(func() {
			<-release
			ended <- "abandoned"
		})
		synctest.Wait()
		h.Leave() // the next call does not wait for this one
		h.Do(func() { ended <- "next" })
		synctest.Wait()
		close(release)
		synctest.Wait()
		for _, want := range []string{"goexit", "next", "abandoned"} {
			if got := <-ended; got != want {
				t.Errorf("%s ended, want %s", got, want)
			}
		}
	})
}
