package mysql

import (
	"context"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

var _ storage.Waker = (*Store)(nil)

// lookEvery is how often whoever watches is told to look. The server tells nobody of
// anything, so that is how what other processes commit, and transactions that the
// store did not begin, is found.
const lookEvery = 10 * time.Millisecond

// Watch implements [storage.Waker]: what this Store commits itself it tells at once,
// from the goroutine that committed, and for what others commit it has its watcher
// look again and again.
func (s *Store) Watch(ctx context.Context, queues []string, wake func()) error {
	w, err := s.watchers.Join(queues, wake)
	if err != nil {
		return explained("watch", err)
	}
	defer s.watchers.Leave(w)
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		wake() // at first for what came before
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil
		case <-w.Gone():
			return explained("watch", storage.ErrClosed)
		}
	}
}
