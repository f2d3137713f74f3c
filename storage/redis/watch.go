package redis

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/wake"
)

var _ storage.Waker = (*Store)(nil)

const (
	// listenSoon and listenLater are how long to wait before listening again, at
	// first and at most.
	listenSoon  = 100 * time.Millisecond
	listenLater = 5 * time.Second
	// pingAfter is how long a silent connection is believed in.
	pingAfter = 10 * time.Second
)

// Watch implements [storage.Waker]. What this Store writes itself it tells at once,
// from the goroutine that wrote; of others the server tells, on a connection of its
// own. One that breaks is made again; that the server will not listen is an error.
func (s *Store) Watch(ctx context.Context, queues []string, call func()) error {
	bound, stop, err := s.enter(ctx)
	if err != nil {
		return s.unwatched(ctx, err)
	}
	defer stop()
	if err := s.ready(bound); err != nil {
		return s.unwatched(ctx, err)
	}
	w, err := s.watchers.Join(queues, call)
	if err != nil {
		return explained("watch", err)
	}
	defer s.watchers.Leave(w)
	for pause, first := listenSoon, true; ; first = false {
		heard, err := s.hear(bound, w)
		if bound.Err() != nil {
			return s.unwatched(ctx, err)
		}
		var refused redis.Error
		if first && !heard || errors.As(err, &refused) {
			return s.unwatched(ctx, err)
		}
		if heard {
			pause = listenSoon
		}
		if err := sleep(bound, pause); err != nil {
			return s.unwatched(ctx, err)
		}
		pause = min(2*pause, listenLater)
	}
}

// unwatched is what Watch returns: nothing once its caller wants no more.
func (s *Store) unwatched(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return nil
	case s.ending.Err() != nil:
		err = storage.ErrClosed
	}
	return explained("watch", err)
}

// hear wakes for each notification until the connection breaks or ctx is done. heard
// means that it was listening.
func (s *Store) hear(ctx context.Context, w *wake.Watcher) (heard bool, _ error) {
	ear := s.client.Subscribe(ctx, s.key("wake"))
	hangUp := func() { _ = ear.Close() }
	defer hangUp()
	defer context.AfterFunc(ctx, hangUp)() // the client does not look at ctx while it waits
	for silent := false; ; {
		got, err := ear.ReceiveTimeout(ctx, pingAfter)
		if slow, is := errors.AsType[net.Error](err); is && slow.Timeout() && !silent && heard {
			silent = true
			err = ear.Ping(ctx)
		} else if err == nil {
			silent = false
		}
		if err != nil {
			return heard, err
		}
		switch got := got.(type) {
		case *redis.Subscription:
			heard = true
			w.Wake() // for what came before
		case *redis.Message:
			s.told(w, got.Payload)
		}
	}
}

// told wakes for a notification of another store.
func (s *Store) told(w *wake.Watcher, message string) {
	if len(message) < len(s.origin) || strings.HasPrefix(message, s.origin) {
		return
	}
	for queue := range strings.SplitSeq(message[len(s.origin):], "\n") {
		if w.Watches(queue) {
			w.Wake()
			return
		}
	}
}

// message is what others are told of arrivals: who tells, and the queues; none of
// them stands for all. "" when it is nobody else's affair.
func (s *Store) message(a *wake.Arrivals) string {
	shared := a.Shared()
	if len(shared) == 0 {
		return ""
	}
	return s.origin + strings.Join(shared, "\n")
}
