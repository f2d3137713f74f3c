package redis

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gosequencer/sequencer/storage"
)

// Workers that are present have a score in leases, the end of their lease, which is
// infinite for one that asked for none. What they are stands in workers. One that
// left has a field in left, and is in lost as long as it may hold something.

// Join implements [storage.Leases].
func (s *Store) Join(ctx context.Context, w storage.Worker) error {
	return s.guarded(ctx, "join", func(ctx context.Context) error {
		if w.ID.IsZero() {
			return errors.New("a worker needs an id")
		}
		_, err := s.unit(ctx, w.JoinedAt, func(ctx context.Context, u *unit) error {
			id := string(w.ID[:])
			if _, known, err := u.field(ctx, "workers", id); err != nil || known {
				return errors.Join(err, fmt.Errorf("worker %s is already known", w.ID))
			}
			w.JoinedAt = u.now
			described, err := json.Marshal(w)
			if err != nil {
				return err
			}
			u.commands.add("HSET", s.key("workers"), id, described)
			u.commands.add("ZADD", s.key("leases"), leaseEnd(u.now, w.Lease), id)
			return nil
		})
		return err
	})
}

// leaseEnd is the score of a lease.
func leaseEnd(now time.Time, lease time.Duration) string {
	if lease <= 0 {
		return "+inf"
	}
	return strconv.FormatInt(micro(now.Add(lease)), 10)
}

// leaseUntil reads a score; a lease without end has none.
func leaseUntil(score float64) time.Time {
	if math.IsInf(score, 1) {
		return time.Time{}
	}
	return instant(int64(score))
}

// endless is later than any lease.
var endless = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// lease returns when a worker's lease is over, false when it is not present.
func (s *Store) lease(ctx context.Context, worker storage.ID) (time.Time, bool, error) {
	score, err := s.client.ZScore(ctx, s.key("leases"), string(worker[:])).Result()
	if errors.Is(err, redis.Nil) {
		return time.Time{}, false, nil
	}
	till := leaseUntil(score)
	if till.IsZero() {
		till = endless
	}
	return till, err == nil, err
}

// Renew implements [storage.Leases].
func (s *Store) Renew(ctx context.Context, r storage.RenewRequest) (storage.Renewed, error) {
	var renewed storage.Renewed
	err := s.guarded(ctx, "renew", func(ctx context.Context) error {
		le, progress := binary.LittleEndian, []byte(nil)
		for _, p := range r.Progress {
			progress = append(progress, p.ID[:]...)
			progress = le.AppendUint32(progress, uint32(p.Delivery))
			progress = appendProgress(progress, p.Done, p.Total)
		}
		code, rest, err := s.verb(ctx, &renewScript, given(r.Now), r.Worker[:], r.Lease.Microseconds(), progress)
		if err != nil {
			return err
		}
		if code == "lease" {
			return leaseLost(r.Worker)
		}
		for ids := text(rest[0]); ids != ""; ids = ids[16:] {
			renewed.Cancelled = append(renewed.Cancelled, idOf(ids))
		}
		slices.SortFunc(renewed.Cancelled, compareIDs)
		return nil
	})
	return renewed, err
}

// Checkpoint implements [storage.Queue].
func (s *Store) Checkpoint(ctx context.Context, r storage.CheckpointRequest) error {
	return s.guarded(ctx, "checkpoint", func(ctx context.Context) error {
		moved := 0
		if r.Moved {
			moved = 1
		}
		code, _, err := s.verb(ctx, &checkpointScript, r.ID[:], r.Worker[:], r.Delivery, r.Data, moved)
		if err == nil && code == "lease" {
			err = leaseLost(r.Worker)
		}
		return err
	})
}

// Leave implements [storage.Leases].
func (s *Store) Leave(ctx context.Context, worker storage.ID) error {
	return s.guarded(ctx, "leave", func(ctx context.Context) error {
		_, err := s.unit(ctx, time.Time{}, func(ctx context.Context, u *unit) error {
			till, present, err := s.lease(ctx, worker)
			if err != nil || !present {
				return err
			}
			return u.part(ctx, map[storage.ID]time.Time{worker: till}, false)
		})
		return err
	})
}

// part ends workers, which are given with the ends of their leases, and frees their
// locks. What they hold is left for a rescue, and they are lost until one has found
// that this is nothing: a claim of theirs may come between.
func (u *unit) part(ctx context.Context, workers map[storage.ID]time.Time, dead bool) error {
	if len(workers) == 0 {
		return nil
	}
	for worker, till := range workers {
		id := string(worker[:])
		u.check("HGET", u.s.key("left"), id, "", false)
		u.commands.add("HSET", u.s.key("left"), id, appendLeft(nil, u.now, till, dead))
		u.commands.add("ZREM", u.s.key("leases"), id)
		u.commands.add("SADD", u.s.key("lost"), id)
	}
	locks, err := u.s.client.HGetAll(ctx, u.s.key("locks")).Result()
	for name, held := range locks {
		if _, parts := workers[idOf(held)]; parts {
			u.check("HGET", u.s.key("locks"), name, held, true)
			u.commands.add("HDEL", u.s.key("locks"), name)
		}
	}
	return err
}

// appendLeft encodes how a worker ended.
func appendLeft(b []byte, at, till time.Time, dead bool) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, uint64(micro(at)))
	if till.Equal(endless) {
		till = time.Time{}
	}
	b = le.AppendUint64(b, uint64(micro(till)))
	if dead {
		return append(b, 1)
	}
	return append(b, 0)
}

// Rescue implements [storage.Leases].
func (s *Store) Rescue(ctx context.Context, r storage.RescueRequest) ([]storage.Execution, error) {
	var rescued []storage.Execution
	err := s.guarded(ctx, "rescue", func(ctx context.Context) error {
		_, err := s.unit(ctx, r.Now, func(ctx context.Context, u *unit) error {
			rescued = nil
			if err := u.alive(ctx, r.Worker); err != nil {
				return err
			}
			lost, err := u.bury(ctx, r)
			if err != nil {
				return err
			}
			rescued, err = u.takeOver(ctx, lost, r)
			return err
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return rescued, nil
}

// bury ends the workers that are dead, and returns all that may hold something.
func (u *unit) bury(ctx context.Context, r storage.RescueRequest) ([]storage.ID, error) {
	present, err := u.s.client.ZRangeWithScores(ctx, u.s.key("leases"), 0, -1).Result()
	if err != nil {
		return nil, err
	}
	dead := map[storage.ID]time.Time{}
	for _, z := range present {
		id, till := idOf(text(z.Member)), leaseUntil(z.Score)
		expired := !till.IsZero() && !u.now.Before(till)
		if id != r.Worker && (expired || slices.Contains(r.Dead, id)) {
			dead[id] = till
			if till.IsZero() {
				dead[id] = endless
			}
		}
	}
	if err := u.part(ctx, dead, true); err != nil {
		return nil, err
	}
	names, err := u.s.client.SMembers(ctx, u.s.key("lost")).Result()
	lost := make([]storage.ID, 0, len(names)+len(dead))
	for _, name := range names {
		lost = append(lost, idOf(name))
	}
	for id := range dead {
		lost = append(lost, id)
	}
	return lost, err
}

// takeOver makes what the lost hold the rescuer's, oldest first.
func (u *unit) takeOver(ctx context.Context, lost []storage.ID, r storage.RescueRequest) ([]storage.Execution, error) {
	pipe := u.s.client.Pipeline()
	held := make([]*redis.StringSliceCmd, len(lost))
	for i, worker := range lost {
		held[i] = pipe.SMembers(ctx, u.s.key("held:"+string(worker[:])))
	}
	if len(lost) > 0 {
		if _, err := pipe.Exec(ctx); err != nil {
			return nil, err
		}
	}
	var ids []storage.ID
	for i, worker := range lost {
		if len(held[i].Val()) == 0 { // nothing can come any more, see part
			u.check("EXISTS", u.s.key("held:"+string(worker[:])), "", "0", true)
			u.commands.alone("SREM", u.s.key("lost"), string(worker[:]))
		}
		for _, name := range held[i].Val() {
			ids = append(ids, idOf(name))
		}
	}
	found, err := u.oldest(ctx, ids, r.Limit)
	if err != nil {
		return nil, err
	}
	var rescued []storage.Execution
	for _, e := range found {
		was := e.State
		e.State, e.WorkerID, e.Parked = storage.Running, r.Worker, false
		e.Delivery++
		e.Excused++
		taken := copied(e.Execution)
		taken.State = was
		rescued = append(rescued, taken)
	}
	return rescued, nil
}

// oldest reads rows and returns the oldest of them.
func (u *unit) oldest(ctx context.Context, ids []storage.ID, limit int) ([]*row, error) {
	if err := u.read(ctx, ids...); err != nil {
		return nil, err
	}
	var found []*row
	for _, id := range ids {
		if r := u.rows[id].now; r != nil && !r.State.Over() {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b *row) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), compareIDs(a.ID, b.ID))
	})
	return found[:min(len(found), max(limit, 0))], nil
}
