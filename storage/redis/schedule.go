package redis

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Schedules are fields of one hash, pauses of another: "queue high".

// Announce implements [storage.Operator].
func (s *Store) Announce(ctx context.Context, r storage.AnnounceRequest) error {
	return s.guarded(ctx, "announce", func(ctx context.Context) error {
		if err := r.Validate(); err != nil {
			return err
		}
		_, err := s.unit(ctx, r.Now, func(ctx context.Context, u *unit) error {
			for i := range r.Schedules {
				if err := u.announce(ctx, &r.Schedules[i]); err != nil {
					return err
				}
			}
			return nil
		})
		return err
	})
}

func (u *unit) announce(ctx context.Context, said *storage.Schedule) error {
	was, known, err := u.schedule(ctx, said.Name)
	if err != nil {
		return err
	}
	now := storage.Schedule{
		Name: said.Name, Spec: said.Spec, Zone: said.Zone, Operation: said.Operation, Queue: said.Queue,
		Missed: said.Missed, Build: said.Build, AnnouncedAt: was.AnnouncedAt, LastTick: was.LastTick, LastID: was.LastID,
	}
	if known && (was.Build > said.Build || now == was) {
		return nil
	}
	now.AnnouncedAt = u.now
	if !known || was.Spec != said.Spec || was.Zone != said.Zone {
		now.LastTick = u.now
	}
	return u.setSchedule(&now)
}

// schedule reads a schedule, which must not change meanwhile.
func (u *unit) schedule(ctx context.Context, name string) (storage.Schedule, bool, error) {
	described, known, err := u.field(ctx, "schedules", name)
	if err != nil || !known {
		return storage.Schedule{}, false, err
	}
	read, err := scheduleOf(described)
	return read, true, err
}

func scheduleOf(described string) (storage.Schedule, error) {
	var read storage.Schedule
	if err := json.Unmarshal([]byte(described), &read); err != nil {
		return read, fmt.Errorf("a schedule: %w: %w", errMangled, err)
	}
	read.AnnouncedAt, read.LastTick = read.AnnouncedAt.UTC(), read.LastTick.UTC()
	return read, nil
}

func (u *unit) setSchedule(c *storage.Schedule) error {
	described, err := json.Marshal(c)
	u.commands.add("HSET", u.s.key("schedules"), c.Name, described)
	return err
}

// fire moves a schedule on to the request's tick. One that is not due is refused,
// with the first execution of the latest one.
func (u *unit) fire(ctx context.Context, r *storage.EnqueueRequest) (last storage.ID, due bool, _ error) {
	was, known, err := u.schedule(ctx, r.Tick.Schedule)
	if err != nil {
		return last, false, err
	}
	if !known {
		return last, false, fmt.Errorf("schedule %q: %w", r.Tick.Schedule, storage.ErrNotFound)
	}
	_, stopped, err := u.field(ctx, "pauses", storage.Pause{Kind: storage.PauseSchedule, Name: was.Name}.Target())
	at := r.Tick.At.UTC().Truncate(time.Microsecond)
	if err != nil || stopped || !at.After(was.LastTick) {
		return was.LastID, false, err
	}
	was.LastTick = at
	if len(r.Executions) > 0 {
		was.LastID = r.Executions[0].ID
	}
	return last, true, u.setSchedule(&was)
}

// Schedules implements [storage.Reader].
func (s *Store) Schedules(ctx context.Context) ([]storage.Schedule, error) {
	found := []storage.Schedule{}
	err := s.guarded(ctx, "read schedules", func(ctx context.Context) error {
		all, err := s.client.HGetAll(ctx, s.key("schedules")).Result()
		if err != nil {
			return err
		}
		stopped, err := s.client.HGetAll(ctx, s.key("pauses")).Result()
		if err != nil {
			return err
		}
		for _, name := range sortedKeys(all) {
			read, err := scheduleOf(all[name])
			if err != nil {
				return err
			}
			_, read.Paused = stopped[storage.Pause{Kind: storage.PauseSchedule, Name: name}.Target()]
			found = append(found, read)
		}
		return nil
	})
	return found, err
}

// pause carries out ActPause and ActResume.
func (u *unit) pause(ctx context.Context, o *storage.Order) error {
	p := storage.Pause{Kind: o.Pause.Kind, Name: o.Pause.Name, At: u.now, Actor: o.Actor, Reason: o.Reason}
	if err := p.Validate(); err != nil {
		return err
	}
	_, is, err := u.field(ctx, "pauses", p.Target())
	if err != nil || is == (o.Action == storage.ActPause) {
		return err
	}
	if o.Action == storage.ActPause {
		described, err := json.Marshal(p)
		if err != nil {
			return err
		}
		u.commands.add("HSET", u.s.key("pauses"), p.Target(), described)
	} else {
		u.commands.add("HDEL", u.s.key("pauses"), p.Target())
		u.arrivals.Lifted(p)
	}
	u.addAudit(string(o.Action), p.Target(), o.Actor, o.Reason, 1)
	return nil
}

// Pauses implements [storage.Reader].
func (s *Store) Pauses(ctx context.Context) ([]storage.Pause, error) {
	found := []storage.Pause{}
	err := s.guarded(ctx, "read pauses", func(ctx context.Context) error {
		all, err := s.client.HGetAll(ctx, s.key("pauses")).Result()
		for _, described := range all {
			var p storage.Pause
			if err := json.Unmarshal([]byte(described), &p); err != nil {
				return fmt.Errorf("a pause: %w: %w", errMangled, err)
			}
			p.At = p.At.UTC()
			found = append(found, p)
		}
		return err
	})
	slices.SortFunc(found, func(a, b storage.Pause) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name))
	})
	return found, err
}
