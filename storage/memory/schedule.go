package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/gosequencer/sequencer/storage"
)

// Announce implements [storage.Operator].
func (s *Store) Announce(ctx context.Context, r storage.AnnounceRequest) error {
	return s.write(ctx, r.Now, func(t *tx) error {
		if err := r.Validate(); err != nil {
			return err
		}
		for _, said := range r.Schedules {
			t.announce(said)
		}
		return nil
	})
}

func (t *tx) announce(said storage.Schedule) {
	was, known := t.schedules[said.Name]
	now := storage.Schedule{
		Name: said.Name, Spec: said.Spec, Zone: said.Zone, Operation: said.Operation, Queue: said.Queue,
		Missed: said.Missed, Build: said.Build, AnnouncedAt: was.AnnouncedAt, LastTick: was.LastTick, LastID: was.LastID,
	}
	if known && (was.Build > said.Build || now == was) {
		return
	}
	now.AnnouncedAt = t.now
	if !known || was.Spec != said.Spec || was.Zone != said.Zone {
		now.LastTick = t.now
	}
	t.schedules[said.Name] = now
}

// fires moves a schedule on to a tick, for executions of which the first is given
// (zero = none). The answer is the schedule as it was, and whether the tick is due.
func (t *tx) fires(tick storage.Tick, first storage.ID) (storage.Schedule, bool, error) {
	was, known := t.schedules[tick.Schedule]
	if !known {
		return was, false, fmt.Errorf("schedule %q: %w", tick.Schedule, storage.ErrNotFound)
	}
	at := clock(tick.At)
	if t.isPaused(storage.PauseSchedule, tick.Schedule) || !at.After(was.LastTick) {
		return was, false, nil
	}
	now := was
	now.LastTick = at
	if !first.IsZero() {
		now.LastID = first
	}
	t.schedules[tick.Schedule] = now
	t.onRollback(func() { t.schedules[tick.Schedule] = was })
	return was, true, nil
}

// Schedules implements [storage.Reader].
func (s *Store) Schedules(ctx context.Context) ([]storage.Schedule, error) {
	found := []storage.Schedule{}
	err := s.read(ctx, func() error {
		for _, e := range s.schedules {
			e.Paused = s.isPaused(storage.PauseSchedule, e.Name)
			found = append(found, e)
		}
		return nil
	})
	slices.SortFunc(found, func(a, b storage.Schedule) int { return cmp.Compare(a.Name, b.Name) })
	return found, err
}
