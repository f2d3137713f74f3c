package engine

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

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
