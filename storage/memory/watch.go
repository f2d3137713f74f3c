package memory

import (
	"context"

	"github.com/gosequencer/sequencer/storage"
)

var _ storage.Waker = (*Store)(nil)

// Watch implements [storage.Waker]. It starts no goroutine: whoever writes calls
// wake, after the write and without holding the mutex.
func (s *Store) Watch(ctx context.Context, queues []string, wake func()) error {
	w, err := s.watchers.Join(queues, wake)
	if err != nil {
		return err
	}
	defer s.watchers.Leave(w)
	wake()
	select {
	case <-ctx.Done():
		return nil
	case <-w.Gone():
		return storage.ErrClosed
	}
}

// noteDue remembers the queue of a row that can be claimed now. It may be claimed
// in the same call, which makes the wake-up one for nothing.
func (t *tx) noteDue(r *row) {
	if r.runnable() && !r.DueAt.After(t.now) {
		t.arrivals.In(r.Queue)
	}
}
