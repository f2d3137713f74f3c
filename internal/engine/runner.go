package engine

import (
	"sync"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// runners make the attempts of a pool. There is a goroutine for each attempt that
// takes its time, and of the short ones each makes many: before a runner begins with
// an execution, it sees to it that another one will look at what is left. As long as
// handlers are short, that one finds nothing and ends; where they wait, there are
// soon as many as there are executions.
type runners struct {
	attempt func(e *storage.Execution, h *Hand)
	emptied chan<- struct{} // with room for one: the last of the backlog was taken

	mu      sync.Mutex // guards the rest
	backlog []*storage.Execution
	next    bool // a runner has been started that has not looked yet
}

// add hands executions over. They are attempted in their order.
func (r *runners) add(e *storage.Execution) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.backlog = append(r.backlog, e)
	r.follow()
}

// waiting is how many executions nobody has begun with.
func (r *runners) waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.backlog)
}

// follow starts a runner unless one is about to look, or there is nothing to find.
func (r *runners) follow() {
	if !r.next && len(r.backlog) > 0 {
		r.next = true
		go r.run()
	}
}

func (r *runners) run() {
	var h Hand
	defer h.Leave()
	for e := r.take(true); e != nil; e = r.take(false) {
		r.attempt(e, &h)
	}
}

// take returns the oldest of the backlog; nil ends the runner.
func (r *runners) take(first bool) *storage.Execution {
	r.mu.Lock()
	defer r.mu.Unlock()
	if first {
		r.next = false
	}
	if len(r.backlog) == 0 {
		return nil
	}
	e := r.backlog[0]
	r.backlog[0] = nil
	r.backlog = r.backlog[1:]
	if len(r.backlog) == 0 {
		select {
		case r.emptied <- struct{}{}:
		default:
		}
	}
	r.follow()
	return e
}

// Hand is a goroutine that a runner lends to its attempts, one after the other, for
// code that may never return or may end its goroutine. The zero value is one that
// begins with the first call.
type Hand struct {
	calls chan func()
	gone  chan struct{} // closed when the goroutine has ended
}

// Do begins fn and does not wait for it. It is called when the fn before has
// returned, or after Leave.
func (h *Hand) Do(fn func()) {
	if h.calls == nil {
		h.begin()
	}
	select {
	case h.calls <- fn:
	case <-h.gone: // fn before ended it
		h.begin()
		h.calls <- fn
	}
}

func (h *Hand) begin() {
	calls, gone := make(chan func()), make(chan struct{})
	h.calls, h.gone = calls, gone
	go func() {
		defer close(gone)
		for fn := range calls {
			fn()
		}
	}()
}

// Leave ends the goroutine, as soon as what it does returns.
func (h *Hand) Leave() {
	if h.calls != nil {
		close(h.calls)
		h.calls = nil
	}
}

// How long outcomes wait for others, since the first of them came or the last claim
// brought those that nobody has begun with yet, and how many of them wait: where
// attempts are short, a batch of them is recorded together instead of one first and
// the others after, and a straggler goes with the next batch instead of alone.
const holdFor = 5 * time.Millisecond

func holdUpTo(slots int) int { return max(slots/4, 1) }
