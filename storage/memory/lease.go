package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Join implements [storage.Leases]. JoinedAt, when set, is the instant of the
// call, as Now is elsewhere.
func (s *Store) Join(ctx context.Context, w storage.Worker) error {
	return s.write(ctx, w.JoinedAt, func(t *tx) error {
		if w.ID.IsZero() {
			return errors.New("join: a worker needs an id")
		}
		if t.workers[w.ID] != nil {
			return fmt.Errorf("join: worker %s is already known", w.ID)
		}
		w.JoinedAt, w.LeftAt, w.Dead = t.now, time.Time{}, false
		w.LeaseUntil = t.leaseUntil(w.Lease)
		w.Queues, w.Names = slices.Clone(w.Queues), slices.Clone(w.Names)
		t.workers[w.ID] = &w
		return nil
	})
}

// Renew implements [storage.Leases].
func (s *Store) Renew(ctx context.Context, r storage.RenewRequest) (storage.Renewed, error) {
	var renewed storage.Renewed
	err := s.write(ctx, r.Now, func(t *tx) error {
		if err := t.alive(r.Worker); err != nil {
			return err
		}
		w := t.workers[r.Worker]
		w.Lease = cmp.Or(r.Lease, w.Lease)
		w.LeaseUntil = t.leaseUntil(w.Lease)
		for _, p := range r.Progress {
			if e := t.held(r.Worker, p.ID, p.Delivery); e != nil {
				t.change(e, func() { e.Done, e.Total = p.Done, p.Total })
			}
		}
		for _, e := range t.live {
			if e.cancel && e.State == storage.Running && e.WorkerID == r.Worker {
				renewed.Cancelled = append(renewed.Cancelled, e.ID)
			}
		}
		slices.SortFunc(renewed.Cancelled, compareIDs)
		return nil
	})
	return renewed, err
}

// Leave implements [storage.Leases].
func (s *Store) Leave(ctx context.Context, worker storage.ID) error {
	return s.write(ctx, time.Time{}, func(t *tx) error {
		if w := t.workers[worker]; w != nil && w.LeftAt.IsZero() {
			w.LeftAt = t.now
			t.freeLocks(worker)
		}
		return nil
	})
}

// Rescue implements [storage.Leases].
func (s *Store) Rescue(ctx context.Context, r storage.RescueRequest) ([]storage.Execution, error) {
	var rescued []storage.Execution
	err := s.write(ctx, r.Now, func(t *tx) error {
		if err := t.alive(r.Worker); err != nil {
			return err
		}
		for id, w := range t.workers {
			if w.LeftAt.IsZero() && id != r.Worker && (t.expired(w) || slices.Contains(r.Dead, id)) {
				w.LeftAt, w.Dead = t.now, true
				t.freeLocks(id)
			}
		}
		for _, e := range t.orphans() {
			if len(rescued) == r.Limit {
				break
			}
			found := e.State
			t.change(e, func() {
				e.State, e.WorkerID, e.Parked = storage.Running, r.Worker, false
				e.Delivery++
				e.Excused++
			})
			taken := copied(e.Execution)
			taken.State = found
			rescued = append(rescued, taken)
		}
		return nil
	})
	return rescued, err
}

// orphans returns what workers that left still hold, oldest first.
func (t *tx) orphans() []*row {
	var found []*row
	for _, e := range t.live {
		w := t.workers[e.WorkerID]
		if w == nil || w.LeftAt.IsZero() {
			continue
		}
		if e.State == storage.Running || e.FlowID.IsZero() {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, func(a, b *row) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), compareIDs(a.ID, b.ID))
	})
	return found
}

// Lock implements [storage.Leases].
func (s *Store) Lock(ctx context.Context, r storage.LockRequest) error {
	if err := r.Validate(); err != nil {
		return err
	}
	return s.write(ctx, r.Now, func(t *tx) error {
		if err := t.holds(r.Worker); err != nil {
			return err
		}
		held, ok := t.locks[r.Name]
		if ok && (held.FreeAt.IsZero() || held.FreeAt.After(t.now)) && t.holds(held.Worker.ID) == nil {
			if held.Worker.ID == r.Worker && held.Execution == r.Execution && held.Delivery == r.Delivery {
				return nil
			}
			return &storage.LockedError{Lock: t.completed(held)}
		}
		l := storage.LockState{
			Name: r.Name, Worker: storage.Worker{ID: r.Worker}, Execution: r.Execution, Delivery: r.Delivery, Flow: r.Flow, AcquiredAt: t.now,
		}
		if r.For > 0 {
			l.FreeAt = t.now.Add(r.For).Truncate(time.Microsecond)
		}
		t.locks[r.Name] = l
		return nil
	})
}

// Unlock implements [storage.Leases].
func (s *Store) Unlock(ctx context.Context, r storage.UnlockRequest) error {
	return s.write(ctx, time.Time{}, func(t *tx) error {
		t.unlock(r)
		return nil
	})
}

func (t *tx) unlock(r storage.UnlockRequest) {
	held, ok := t.locks[r.Name]
	if !ok || held.Worker.ID != r.Worker || held.Execution != r.Execution || held.Delivery != r.Delivery {
		return
	}
	delete(t.locks, r.Name)
	t.onRollback(func() { t.locks[r.Name] = held })
}

func (t *tx) leaseUntil(lease time.Duration) time.Time {
	if lease <= 0 {
		return time.Time{}
	}
	return t.now.Add(lease).Truncate(time.Microsecond)
}

// expired reports a worker whose lease is over by the clock.
func (t *tx) expired(w *storage.Worker) bool {
	return !w.LeaseUntil.IsZero() && !t.now.Before(w.LeaseUntil)
}

// alive returns ErrLeaseLost unless the worker has joined, not left, and holds
// its lease.
func (t *tx) alive(id storage.ID) error {
	if w := t.workers[id]; w == nil || !w.LeftAt.IsZero() || t.expired(w) {
		return fmt.Errorf("worker %s: %w", id, storage.ErrLeaseLost)
	}
	return nil
}

// holds is alive for whoever has a lock: what no worker has cannot die with one.
func (t *tx) holds(worker storage.ID) error {
	if worker.IsZero() {
		return nil
	}
	return t.alive(worker)
}

// forgetLocks forgets those without a worker whose time is over.
func (t *tx) forgetLocks() {
	maps.DeleteFunc(t.locks, func(_ string, l storage.LockState) bool { return l.Worker.ID.IsZero() && !l.FreeAt.After(t.now) })
}

func (t *tx) freeLocks(worker storage.ID) {
	for name, l := range t.locks {
		if l.Worker.ID == worker {
			delete(t.locks, name)
		}
	}
}

// completed fills in the holder of a lock.
func (s *Store) completed(l storage.LockState) storage.LockState {
	if w := s.workers[l.Worker.ID]; w != nil {
		l.Worker = copiedWorker(w)
	}
	return l
}

func copiedWorker(w *storage.Worker) storage.Worker {
	c := *w
	c.Queues, c.Names = slices.Clone(w.Queues), slices.Clone(w.Names)
	return c
}
