package memory

import (
	"context"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Claim implements [storage.Queue].
func (s *Store) Claim(ctx context.Context, r storage.ClaimRequest) (storage.Claimed, error) {
	var got storage.Claimed
	err := s.write(ctx, r.Now, func(t *tx) (err error) {
		got, err = t.claim(r)
		return err
	})
	return got, err
}

func (t *tx) claim(r storage.ClaimRequest) (storage.Claimed, error) {
	if err := t.alive(r.Worker); err != nil {
		return storage.Claimed{}, err
	}
	got := storage.Claimed{NextDue: -1}
	for _, queue := range r.Queues {
		for len(got.Executions) < r.Limit {
			next := t.next(queue, r.Names)
			if next == nil {
				break
			}
			t.change(next, func() { t.start(next, r.Worker) })
			got.Executions = append(got.Executions, copied(next.Execution))
		}
	}
	if len(got.Executions) >= r.Limit {
		got.NextDue = 0
		return got, nil
	}
	for _, queue := range r.Queues {
		if due := t.earliest(queue, r.Names); !due.IsZero() {
			if in := due.Sub(t.now); got.NextDue < 0 || in < got.NextDue {
				got.NextDue = in
			}
		}
	}
	return got, nil
}

func (t *tx) start(r *row, worker storage.ID) {
	r.State, r.WorkerID, r.Parked = storage.Running, worker, false
	r.Delivery++
	if r.StartedAt.IsZero() {
		r.StartedAt = t.now
	}
}

// next returns the due row of a queue that is served first, or nil.
func (t *tx) next(queue string, names []string) *row {
	l := t.lanes[queue]
	if l == nil {
		return nil
	}
	var best *row
	for _, p := range l.priorities() {
		if r := l.first(queue, p); r != nil && !r.DueAt.After(t.now) {
			best = r
			break
		}
	}
	for _, r := range l.knownParked(names) {
		if !r.DueAt.After(t.now) && (best == nil || servedBefore(r, best)) {
			best = r
		}
	}
	return best
}

// earliest is when the queue's next row is due, zero when it holds none.
func (t *tx) earliest(queue string, names []string) time.Time {
	l := t.lanes[queue]
	if l == nil {
		return time.Time{}
	}
	var earliest time.Time
	sooner := func(r *row) {
		if r != nil && (earliest.IsZero() || r.DueAt.Before(earliest)) {
			earliest = r.DueAt
		}
	}
	for p := range l.levels {
		sooner(l.first(queue, p))
	}
	for _, r := range l.knownParked(names) {
		sooner(r)
	}
	return earliest
}

// knownParked returns the parked rows whose names the claimant knows.
func (l *lane) knownParked(names []string) []*row {
	if len(names) == 0 {
		return nil
	}
	var known []*row
	for _, r := range l.parked {
		if slices.Contains(names, r.Name) {
			known = append(known, r)
		}
	}
	return known
}

// servedBefore is the order inside a queue.
func servedBefore(a, b *row) bool {
	if a.Priority != b.Priority {
		return a.Priority < b.Priority
	}
	if c := a.DueAt.Compare(b.DueAt); c != 0 {
		return c < 0
	}
	return compareIDs(a.ID, b.ID) < 0
}
