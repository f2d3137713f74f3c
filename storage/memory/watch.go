package memory

import (
	"context"
	"slices"

	"github.com/gosequencer/sequencer/storage"
)

var _ storage.Waker = (*Store)(nil)

// watcher is a call of Watch under way.
type watcher struct {
	queues []string
	wake   func()
	gone   chan struct{} // closed with the store
}

// Watch implements [storage.Waker]. It starts no goroutine: whoever writes calls
// wake, after the write and without holding the mutex. The channel belongs to the
// call, so that a store made outside a synctest bubble can be watched inside one.
func (s *Store) Watch(ctx context.Context, queues []string, wake func()) error {
	w := &watcher{queues: slices.Clone(queues), wake: wake, gone: make(chan struct{})}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return storage.ErrClosed
	}
	s.watchers = append(s.watchers, w)
	s.mu.Unlock()
	defer s.forget(w)
	wake()
	select {
	case <-ctx.Done():
		return nil
	case <-w.gone:
		return storage.ErrClosed
	}
}

func (s *Store) forget(w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers = slices.DeleteFunc(s.watchers, func(o *watcher) bool { return o == w })
}

// awaken returns those to wake for the queues of a write.
func (s *Store) awaken(queues []string) []*watcher {
	if len(queues) == 0 {
		return nil
	}
	var found []*watcher
	for _, w := range s.watchers {
		if slices.ContainsFunc(w.queues, func(q string) bool { return slices.Contains(queues, q) }) {
			found = append(found, w)
		}
	}
	return found
}

// noteDue remembers the queue of a row that can be claimed now. It may be claimed
// in the same call, which makes the wake-up one for nothing.
func (t *tx) noteDue(r *row) {
	if len(t.watchers) > 0 && r.runnable() && !r.DueAt.After(t.now) && !slices.Contains(t.woken, r.Queue) {
		t.woken = append(t.woken, r.Queue)
	}
}
