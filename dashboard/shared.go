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

// readings are the answers to what was asked lately, by the page that asked.
type readings[T any] struct {
	mu  sync.Mutex // guards all
	all map[string]*shared[T]
}

// mostReadings are kept; then it begins anew.
const mostReadings = 100

// get is the answer for a page as shared gives it. Where a stream asks, all who have the
// page open share that already, and it is to be new.
func (r *readings[T]) get(p *request, read func(ctx context.Context) (T, error)) (T, error) {
	if p.ctx.Value(captureKey{}) != nil {
		return read(p.ctx)
	}
	return r.of(p.r.URL.Path+"?"+p.q.Encode()).get(p.ctx, p.o.Refresh, read)
}

func (r *readings[T]) of(asked string) *shared[T] {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil || len(r.all) >= mostReadings && r.all[asked] == nil {
		r.all = map[string]*shared[T]{}
	}
	if r.all[asked] == nil {
		r.all[asked] = &shared[T]{}
	}
	return r.all[asked]
}

// forget has all read anew.
func (r *readings[T]) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = nil
}
