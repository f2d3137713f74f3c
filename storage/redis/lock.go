package redis

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gosequencer/sequencer/storage"
)

// lockOwner is who holds a lock; it is how the value under the lock's name begins.
type lockOwner struct {
	worker, execution storage.ID
	delivery          int
}

func (o lockOwner) encode() []byte {
	return binary.LittleEndian.AppendUint64(append(append([]byte(nil), o.worker[:]...), o.execution[:]...), uint64(o.delivery))
}

// heldLock is what stands under a lock's name.
type heldLock struct {
	lockOwner
	flow   storage.ID
	at     time.Time
	freeAt time.Time
}

func (l heldLock) encode() []byte {
	b := append(l.lockOwner.encode(), l.flow[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(micro(l.at)))
	return binary.LittleEndian.AppendUint64(b, uint64(micro(l.freeAt)))
}

func lockOf(held string) heldLock {
	d := decoder{b: []byte(held)}
	return heldLock{lockOwner{d.id(), d.id(), int(d.int64())}, d.id(), d.time(), d.time()}
}

func (l heldLock) state(name string, w storage.Worker) storage.LockState {
	return storage.LockState{
		Name: name, Worker: w, Execution: l.execution, Delivery: l.delivery, Flow: l.flow, AcquiredAt: l.at, FreeAt: l.freeAt,
	}
}

// Lock implements [storage.Leases].
func (s *Store) Lock(ctx context.Context, r storage.LockRequest) error {
	if err := r.Validate(); err != nil {
		return err
	}
	return s.guarded(ctx, "lock", func(ctx context.Context) error {
		_, err := s.unit(ctx, r.Now, func(ctx context.Context, u *unit) error {
			if !r.Worker.IsZero() {
				if err := u.alive(ctx, r.Worker); err != nil {
					return err
				}
				u.check("HGET", s.key("left"), string(r.Worker[:]), "", false)
			}
			held, taken, err := u.field(ctx, "locks", r.Name)
			if err != nil {
				return err
			}
			own := lockOwner{r.Worker, r.Execution, r.Delivery}
			if holder := lockOf(held); taken && (holder.freeAt.IsZero() || u.now.Before(holder.freeAt)) {
				if holder.lockOwner == own {
					return nil
				}
				if !holder.worker.IsZero() {
					err = u.alive(ctx, holder.worker)
				}
				if err == nil {
					return s.lockedError(ctx, r.Name, holder)
				}
				if !errors.Is(err, storage.ErrLeaseLost) {
					return err
				}
			}
			l := heldLock{lockOwner: own, flow: r.Flow, at: u.now}
			if r.For > 0 {
				l.freeAt = u.now.Add(r.For).Truncate(time.Microsecond)
			}
			u.commands.add("HSET", s.key("locks"), r.Name, l.encode())
			return nil
		})
		return err
	})
}

// pruneLocks forgets those without a worker whose time is over.
func (u *unit) pruneLocks(ctx context.Context) error {
	held, err := u.s.client.HGetAll(ctx, u.s.key("locks")).Result()
	if err != nil {
		return err
	}
	for _, name := range sortedKeys(held) {
		l := lockOf(held[name])
		if !l.worker.IsZero() || u.now.Before(l.freeAt) {
			continue
		}
		if err := u.unlock(ctx, name, l.lockOwner); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) lockedError(ctx context.Context, name string, l heldLock) error {
	workers, err := s.workers(ctx, []storage.ID{l.worker})
	if err != nil {
		return err
	}
	w := storage.Worker{ID: l.worker}
	if len(workers) == 1 {
		w = workers[0]
	}
	return &storage.LockedError{Lock: l.state(name, w)}
}

// Unlock implements [storage.Leases].
func (s *Store) Unlock(ctx context.Context, r storage.UnlockRequest) error {
	return s.guarded(ctx, "unlock", func(ctx context.Context) error {
		_, err := s.unit(ctx, time.Time{}, func(ctx context.Context, u *unit) error {
			return u.unlock(ctx, r.Name, lockOwner{r.Worker, r.Execution, r.Delivery})
		})
		return err
	})
}

func (u *unit) unlock(ctx context.Context, name string, owner lockOwner) error {
	held, taken, err := u.field(ctx, "locks", name)
	if err == nil && taken && lockOf(held).lockOwner == owner {
		u.commands.add("HDEL", u.s.key("locks"), name)
	}
	return err
}

// Locks implements [storage.Reader].
func (s *Store) Locks(ctx context.Context) ([]storage.LockState, error) {
	found := []storage.LockState{}
	err := s.guarded(ctx, "read locks", func(ctx context.Context) error {
		held, err := s.client.HGetAll(ctx, s.key("locks")).Result()
		if err != nil {
			return err
		}
		var ids []storage.ID
		for _, l := range held {
			ids = append(ids, lockOf(l).worker)
		}
		workers, err := s.workers(ctx, ids)
		if err != nil {
			return err
		}
		byID := map[storage.ID]storage.Worker{}
		for _, w := range workers {
			byID[w.ID] = w
		}
		for _, name := range sortedKeys(held) {
			l := lockOf(held[name])
			w, known := byID[l.worker]
			if !known {
				w.ID = l.worker
			}
			found = append(found, l.state(name, w))
		}
		return nil
	})
	return found, err
}

// workers reads workers by id; those that are not known are left out.
func (s *Store) workers(ctx context.Context, ids []storage.ID) ([]storage.Worker, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = string(id[:])
	}
	pipe := s.client.Pipeline()
	described := pipe.HMGet(ctx, s.key("workers"), names...)
	left := pipe.HMGet(ctx, s.key("left"), names...)
	present := make([]*redis.FloatCmd, len(names))
	for i, name := range names {
		present[i] = pipe.ZScore(ctx, s.key("leases"), name)
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return nil, err
	}
	var found []storage.Worker
	for i := range ids {
		text, known := described.Val()[i].(string)
		if !known {
			continue
		}
		w, err := workerOf(text)
		if err != nil {
			return nil, err
		}
		if present[i].Err() == nil {
			w.LeaseUntil = leaseUntil(present[i].Val())
		} else if ended, has := left.Val()[i].(string); has {
			d := decoder{b: []byte(ended)}
			w.LeftAt, w.LeaseUntil, w.Dead = d.time(), d.time(), d.byte() == 1
		}
		found = append(found, w)
	}
	return found, nil
}
