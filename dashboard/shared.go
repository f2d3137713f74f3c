package dashboard

import (
	"context"
	"sync"
	"time"
)

// shared is an answer of the ledger that all who ask in some time get, so that reading
// costs the same however many look. It is read by whoever asks first once it is too old;
// the others wait for that, as long as their requests last.
type shared[T any] struct {
	once  sync.Once
	turn  chan struct{} // who has what is in it may read and write what follows
	at    time.Time
	took  time.Duration
	value T
}

// burden is the part of the time that may be spent on reading: one in so many.
const burden = 20

// enter waits for the turn; leave gives it back.
func (s *shared[T]) enter(ctx context.Context) (leave func(), err error) {
	s.once.Do(func() { s.turn = make(chan struct{}, 1) })
	select {
	case s.turn <- struct{}{}:
		return func() { <-s.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// get is the answer, at most as old as age, or as what reading it took calls for: a slow
// one is read less often, so that the ledger's own work is not held up by who looks.
func (s *shared[T]) get(ctx context.Context, age time.Duration, read func(ctx context.Context) (T, error)) (T, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return *new(T), err
	}
	defer leave()
	began := time.Now()
	if !s.at.IsZero() && began.Sub(s.at) < max(age, burden*s.took) {
		return s.value, nil
	}
	value, err := read(ctx)
	if err != nil {
		return value, err
	}
	s.value, s.at, s.took = value, time.Now(), time.Since(began)
	return value, nil
}

// forget has the next who asks read anew.
func (s *shared[T]) forget(ctx context.Context) {
	if leave, err := s.enter(ctx); err == nil {
		s.at = time.Time{}
		leave()
	}
}
