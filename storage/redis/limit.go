package redis

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gosequencer/sequencer/storage"
)

// Take implements [storage.Leases] by lua/take.lua.
func (s *Store) Take(ctx context.Context, r storage.TakeRequest) (storage.Taken, error) {
	var taken storage.Taken
	err := s.guarded(ctx, "take", func(ctx context.Context) error {
		if err := r.Validate(); err != nil {
			return err
		}
		args := []any{given(r.Now), string(r.Action)}
		for _, l := range r.Limits {
			args = append(args, limitField(l), l.N, l.Window.Microseconds())
		}
		_, rest, err := s.verb(ctx, &takeScript, args...)
		if err != nil {
			return err
		}
		if len(rest) != 1+len(r.Limits) {
			return fmt.Errorf("%w: %d limits were asked for, %d values came back", errMangled, len(r.Limits), len(rest))
		}
		taken.Wait = time.Duration(number(rest[0])) * time.Microsecond
		if taken.Wait < 0 {
			taken.Wait = -1
		}
		for _, used := range rest[1:] {
			taken.Used = append(taken.Used, int(number(used)))
		}
		return nil
	})
	return taken, err
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
