package memory

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Queues implements [storage.Reader].
func (s *Store) Queues(ctx context.Context, now time.Time) ([]storage.QueueState, error) {
	found := []storage.QueueState{}
	err := s.read(ctx, func() error {
		now := clock(now)
		states := map[string]*storage.QueueState{}
		at := func(queue string) *storage.QueueState {
			if states[queue] == nil {
				states[queue] = &storage.QueueState{Queue: queue, Paused: s.isPaused(storage.PauseQueue, queue)}
			}
			return states[queue]
		}
		for key := range s.pauses {
			if key.kind == storage.PauseQueue {
				at(key.name)
			}
		}
		for _, r := range s.live {
			if !r.private() {
				r.countIn(at(r.Queue), now)
			}
		}
		for _, q := range states {
			found = append(found, *q)
		}
		return nil
	})
	slices.SortFunc(found, func(a, b storage.QueueState) int { return cmp.Compare(a.Queue, b.Queue) })
	return found, err
}

// countIn adds a live row to the state of its queue.
func (r *row) countIn(q *storage.QueueState, now time.Time) {
	switch {
	case r.State == storage.Running:
		q.Running++
	case r.DueAt.IsZero():
		q.Blocked++
	case r.Parked:
		q.Parked++
	case r.DueAt.After(now):
		q.Scheduled++
	default:
		q.Ready++
		if q.Oldest.IsZero() || r.DueAt.Before(q.Oldest) {
			q.Oldest = r.DueAt
		}
	}
}
