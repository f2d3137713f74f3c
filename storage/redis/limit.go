package redis

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gosequencer/sequencer/storage"
)

// Take implements [storage.Leases] by lua/take.lua. Those who take at the same time share
// a call.
func (s *Store) Take(ctx context.Context, r storage.TakeRequest) (taken storage.Taken, _ error) {
	err := s.guarded(ctx, "take", func(ctx context.Context) (err error) {
		if err := r.Validate(); err != nil {
			return err
		}
		if r.Now.IsZero() {
			taken, err = s.takers.Take(ctx, r)
			return err
		}
		all, err := s.takeAll(ctx, []storage.TakeRequest{r})
		if err == nil {
			taken = all[0]
		}
		return err
	})
	return taken, err
}

// takeAll serves requests of one instant, see [gather.TakeAll].
func (s *Store) takeAll(ctx context.Context, requests []storage.TakeRequest) ([]storage.Taken, error) {
	args := []any{given(requests[0].Now)}
	values := 0
	for i := range requests {
		r := &requests[i]
		args = append(args, string(r.Action), len(r.Limits))
		for _, l := range r.Limits {
			args = append(args, limitField(l), l.N, l.Window.Microseconds())
		}
		values += 1 + len(r.Limits)
	}
	_, rest, err := s.verb(ctx, &takeScript, args...)
	if err != nil {
		return nil, err
	}
	if len(rest) != values {
		return nil, fmt.Errorf("%w: %d values were asked for, %d came back", errMangled, values, len(rest))
	}
	all := make([]storage.Taken, len(requests))
	for i := range requests {
		all[i].Wait = time.Duration(number(rest[0])) * time.Microsecond
		if all[i].Wait < 0 {
			all[i].Wait = -1
		}
		for _, used := range rest[1 : 1+len(requests[i].Limits)] {
			all[i].Used = append(all[i].Used, int(number(used)))
		}
		rest = rest[1+len(requests[i].Limits):]
	}
	return all, nil
}

// limitField names a counter; neither a name nor a key can end early and run into
// what follows.
func limitField(l storage.Limit) []byte {
	b := appendText(appendText(nil, l.Name), l.By)
	b = strconv.AppendInt(b, int64(l.N), 10)
	return strconv.AppendInt(append(b, ' '), l.Window.Microseconds(), 10)
}

func number(answer any) int64 {
	n, _ := answer.(int64)
	return n
}

// pruneLimits deletes counters whose window is over.
func (u *unit) pruneLimits(ctx context.Context) error {
	fields, err := u.s.client.ZRangeByScore(ctx, u.s.key("windows"), &redis.ZRangeBy{
		Min: "-inf", Max: strconv.FormatInt(micro(u.now), 10), Count: pruneAtATime,
	}).Result()
	if err != nil || len(fields) == 0 {
		return err
	}
	// One that is counted in anew meanwhile ends later, which makes this void.
	for _, field := range fields {
		score, err := u.s.client.ZScore(ctx, u.s.key("windows"), field).Result()
		if err != nil {
			return err
		}
		u.check("ZSCORE", u.s.key("windows"), field, strconv.FormatFloat(score, 'f', -1, 64), true)
		u.commands.add("HDEL", u.s.key("limits"), field)
		u.commands.add("ZREM", u.s.key("windows"), field)
	}
	return nil
}
