// Package wake keeps, for any backend, who watches which queues of a store in this
// process ([storage.Waker]), and gathers in a transaction where something became
// claimable, to be told after the commit.
package wake

import (
	"slices"
	"strings"
	"sync"

	"github.com/gosequencer/sequencer/storage"
)

// Arrivals are the queues in which a transaction made something claimable. The zero
// value has none. One call too many is harmless: a wake-up is a hint.
type Arrivals struct {
	queues []string
	all    bool
}

// In adds queues.
func (a *Arrivals) In(queues ...string) {
	for _, q := range queues {
		if !a.all && !slices.Contains(a.queues, q) {
			a.queues = append(a.queues, q)
		}
	}
}

// Anywhere is for a change of which nobody can tell what queues it concerns.
func (a *Arrivals) Anywhere() { a.queues, a.all = nil, true }

// Taken takes back queues from which the transaction has claimed all that is due, since
// it got less than it asked for: nobody would find what arrived there.
func (a *Arrivals) Taken(queues ...string) {
	a.queues = slices.DeleteFunc(a.queues, func(q string) bool { return slices.Contains(queues, q) })
}

// Lifted adds what a pause held up.
func (a *Arrivals) Lifted(p storage.Pause) {
	switch p.Kind {
	case storage.PauseQueue:
		a.In(p.Name)
	case storage.PauseOperation:
		a.Anywhere()
	case storage.PauseSchedule:
	}
}

// Add adds what others have.
func (a *Arrivals) Add(others *Arrivals) {
	if others.all {
		a.Anywhere()
	}
	a.In(others.queues...)
}

// None reports that there is nobody to wake.
func (a *Arrivals) None() bool { return len(a.queues) == 0 && !a.all }

// Shared lists the queues that other processes may serve; "" stands for all.
func (a *Arrivals) Shared() []string {
	if a.all {
		return []string{""}
	}
	var shared []string
	for _, q := range a.queues {
		if !strings.HasPrefix(q, storage.PrivateQueue) {
			shared = append(shared, q)
		}
	}
	return shared
}

// Watchers are the calls of Watch under way. The zero value has none.
type Watchers struct {
	mu     sync.Mutex // guards all, closed
	all    []*Watcher
	closed bool
}

// Watcher is one call of Watch. Its channels are made by the call, so that a store
// which was opened outside a synctest bubble can be watched inside one.
type Watcher struct {
	queues []string
	wake   func()
	gone   chan struct{} // closed with the store
	left   chan struct{} // closed by Leave
}

// Join begins a call. It fails with storage.ErrClosed after Close.
func (s *Watchers) Join(queues []string, wake func()) (*Watcher, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, storage.ErrClosed
	}
	w := &Watcher{queues: slices.Clone(queues), wake: wake, gone: make(chan struct{}), left: make(chan struct{})}
	s.all = append(s.all, w)
	return w, nil
}

// Leave ends a call.
func (s *Watchers) Leave(w *Watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = slices.DeleteFunc(s.all, func(o *Watcher) bool { return o == w })
	close(w.left)
}

// Tell wakes whoever watches a queue of the arrivals.
func (s *Watchers) Tell(a *Arrivals) {
	if a.None() {
		return
	}
	s.mu.Lock()
	waking := slices.Clone(s.all)
	s.mu.Unlock()
	for _, w := range waking {
		if a.all || slices.ContainsFunc(w.queues, func(q string) bool { return slices.Contains(a.queues, q) }) {
			w.wake()
		}
	}
}

// Close ends all calls. The function it returns waits until they have left.
func (s *Watchers) Close() (wait func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	leaving := slices.Clone(s.all)
	if !s.closed {
		s.closed = true
		for _, w := range leaving {
			close(w.gone)
		}
	}
	return func() {
		for _, w := range leaving {
			<-w.left
		}
	}
}

// Watches reports whether the call is about a queue; "" stands for all.
func (w *Watcher) Watches(queue string) bool { return queue == "" || slices.Contains(w.queues, queue) }

// Wake calls the function that was given.
func (w *Watcher) Wake() { w.wake() }

// Gone is closed when the store is.
func (w *Watcher) Gone() <-chan struct{} { return w.gone }
