package memory

import (
	"context"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/window"
)

// Take implements [storage.Leases].
func (s *Store) Take(ctx context.Context, r storage.TakeRequest) (storage.Taken, error) {
	var taken storage.Taken
	if err := r.Validate(); err != nil {
		return taken, err
	}
	err := s.write(ctx, r.Now, func(t *tx) error {
		counters := make([]window.Counter, len(r.Limits))
		for i, l := range r.Limits {
			counters[i] = t.limits[l]
		}
		var changed bool
		if taken, changed = window.Take(t.now, r, counters); !changed {
			return nil
		}
		for i, l := range r.Limits {
			if counters[i].Used == 0 {
				delete(t.limits, l)
			} else {
				t.limits[l] = counters[i]
			}
		}
		return nil
	})
	return taken, err
}

// forgetLimits drops counters whose window is over.
func (t *tx) forgetLimits() {
	for l, c := range t.limits {
		if !c.EndsAt.After(t.now) {
			delete(t.limits, l)
		}
	}
}
