package mysql

import (
	"context"

	"github.com/gosequencer/sequencer/storage"
)

var _ storage.Waker = (*Store)(nil)

// Watch implements [storage.Waker]: what this Store commits itself it tells at once,
// from the goroutine that committed. What other processes commit, and transactions
// that the store did not begin, is found by whoever polls.
func (s *Store) Watch(ctx context.Context, queues []string, wake func()) error {
	w, err := s.watchers.Join(queues, wake)
	if err != nil {
		return explained("watch", err)
	}
	defer s.watchers.Leave(w)
	wake() // for what came before
	select {
	case <-ctx.Done():
		return nil
	case <-w.Gone():
		return explained("watch", storage.ErrClosed)
	}
}
