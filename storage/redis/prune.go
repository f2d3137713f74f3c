package redis

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gosequencer/sequencer/storage"
)

// pruneAtATime bounds what one unit of a prune looks at.
const pruneAtATime = 1000

// Prune implements [storage.Operator]. It deletes some at a time, each time by
// itself: what a prune that failed half way had deleted was old enough all the same.
//
// What ended in one minute is a list, which is worked off when the least age is over;
// what must stay goes into a sorted set by its own age (endedKey), and so do rows that
// units ended.
func (s *Store) Prune(ctx context.Context, r storage.PruneRequest) (int, error) {
	p := pruning{s: s, request: &r}
	err := s.guarded(ctx, "prune", func(ctx context.Context) error {
		if _, err := s.unit(ctx, r.Now, func(ctx context.Context, u *unit) error {
			return errors.Join(u.pruneLimits(ctx), u.pruneLocks(ctx))
		}); err != nil {
			return err
		}
		if err := p.lists(ctx); err != nil {
			return err
		}
		for _, state := range []storage.State{storage.Completed, storage.Failed, storage.Skipped} {
			if err := p.sorted(ctx, state); err != nil {
				return err
			}
		}
		return nil
	})
	return p.n, err
}

// pruning is a PruneRequest under way.
type pruning struct {
	s       *Store
	request *storage.PruneRequest
	n       int
}

// age is how long what ended in a state is kept, 0 for ever.
func (p *pruning) age(state storage.State) time.Duration {
	switch state {
	case storage.Completed:
		return p.request.Completed
	case storage.Failed:
		return p.request.Failed
	default:
		return p.request.Others
	}
}

// least is the shortest age, 0 when all is kept.
func (p *pruning) least() time.Duration {
	least := time.Duration(0)
	for _, age := range []time.Duration{p.request.Completed, p.request.Failed, p.request.Others} {
		if age > 0 && (least == 0 || age < least) {
			least = age
		}
	}
	return least
}

func (p *pruning) enough() bool { return p.request.Limit > 0 && p.n >= p.request.Limit }

// lists works off the minutes that are old enough, the oldest first.
func (p *pruning) lists(ctx context.Context) error {
	least := p.least()
	if least == 0 {
		return nil
	}
	minutes, err := p.s.client.ZRange(ctx, p.s.key("endings"), 0, -1).Result()
	if err != nil {
		return err
	}
	for _, minute := range minutes {
		number, _ := strconv.ParseInt(minute, 10, 64)
		begin := time.Unix(number*60, 0)
		for more := true; more && !p.enough(); {
			n := 0
			_, err := p.s.unit(ctx, p.request.Now, func(ctx context.Context, u *unit) (err error) {
				n, more = 0, false
				if until := u.now.Add(-least); begin.Before(until) {
					n, more, err = p.list(ctx, u, minute, until)
				}
				return err
			})
			if err != nil {
				return err
			}
			p.n += n
		}
	}
	return nil
}

// list works off the first rows of one minute's list, those that ended before an
// instant, and forgets the minute when there is none. What is not old enough, or stays
// for ever, moves to a sorted set.
func (p *pruning) list(ctx context.Context, u *unit, minute string, until time.Time) (pruned int, more bool, _ error) {
	key := u.s.key("e:" + minute)
	names, err := u.s.client.LRange(ctx, key, 0, pruneAtATime-1).Result()
	if err != nil {
		return 0, false, err
	}
	if len(names) == 0 {
		u.check("LLEN", key, "", "0", true)
		u.commands.add("ZREM", u.s.key("endings"), minute)
		return 0, false, nil
	}
	u.check("LINDEX", key, "0", names[0], true) // another prune may be at it too
	ids := make([]storage.ID, len(names))
	for i, name := range names {
		ids[i] = idOf(name)
	}
	found, err := u.s.rows(ctx, ids)
	if err != nil {
		return 0, false, err
	}
	endedHere := func(r *row) bool { // else it was retried, and may have ended again
		return r.State.Over() && strconv.FormatInt(micro(r.FinishedAt)/time.Minute.Microseconds(), 10) == minute
	}
	if i := slices.IndexFunc(found, func(r row) bool { return endedHere(&r) && !r.FinishedAt.Before(until) }); i >= 0 {
		ids = ids[:slices.Index(ids, found[i].ID)] // the list is in the order of the ends
	}
	if len(ids) == 0 {
		return 0, false, nil
	}
	pruned, looked, err := p.drop(ctx, u, ids, found, func(r *row) {
		if endedHere(r) {
			u.commands.add("ZADD", u.s.key(endedKey(r.State)), micro(r.FinishedAt), string(r.ID[:]))
		}
	})
	u.commands.alone("LTRIM", key, looked, -1)
	return pruned, true, err
}

// sorted deletes from the sorted set of one age.
func (p *pruning) sorted(ctx context.Context, state storage.State) error {
	age := p.age(state)
	if age == 0 {
		return nil
	}
	for offset := int64(0); !p.enough(); {
		n, looked, seen := 0, 0, 0
		_, err := p.s.unit(ctx, p.request.Now, func(ctx context.Context, u *unit) error {
			names, err := u.s.client.ZRangeByScore(ctx, u.s.key(endedKey(state)), &redis.ZRangeBy{
				Min: "-inf", Max: "(" + strconv.FormatInt(micro(u.now.Add(-age)), 10), Offset: offset, Count: pruneAtATime,
			}).Result()
			if err != nil {
				return err
			}
			ids := make([]storage.ID, len(names))
			for i, name := range names {
				ids[i] = idOf(name)
			}
			seen = len(names)
			found, err := u.s.rows(ctx, ids)
			if err != nil {
				return err
			}
			n, looked, err = p.drop(ctx, u, ids, found, func(*row) {})
			return err
		})
		if err != nil {
			return err
		}
		p.n += n
		if offset += int64(looked - n); seen < pruneAtATime {
			return nil
		}
	}
	return nil
}

// drop deletes those of the rows with these ids that may go, until there are enough,
// and calls stays for the others. It returns how many it deleted, and how many it
// looked at.
func (p *pruning) drop(ctx context.Context, u *unit, ids []storage.ID, found []row, stays func(*row)) (pruned, looked int, _ error) {
	old, asked := map[storage.ID]bool{}, map[storage.ID]bool{}
	for _, id := range ids {
		asked[id] = true
	}
	var flows []storage.ID
	for i := range found {
		e := &found[i]
		age := p.age(e.State)
		switch {
		case !asked[e.ID]:
		case e.State.Over() && age > 0 && e.FinishedAt.Before(u.now.Add(-age)):
			old[e.ID] = true
			flows = append(flows, e.FlowID)
		default:
			stays(e)
		}
	}
	if err := u.read(ctx, slices.Collect(maps.Keys(old))...); err != nil {
		return 0, 0, err
	}
	if err := u.readFlows(ctx, flows...); err != nil {
		return 0, 0, err
	}
	for _, id := range ids {
		if p.request.Limit > 0 && p.n+pruned >= p.request.Limit {
			break
		}
		looked++
		if !old[id] || u.rows[id].now == nil {
			continue
		}
		keeps, err := u.keepsForEver(ctx, u.rows[id].now)
		switch {
		case err != nil:
			return 0, 0, err
		case keeps:
			stays(u.rows[id].now)
		default:
			u.rows[id].now = nil
			pruned++
		}
	}
	return pruned, looked, nil
}
