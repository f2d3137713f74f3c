package main

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// The floor on Redis keeps the bodies in a hash, the ids that wait in a sorted set,
// those that are held in another, scored by the end of the lease, and what is done in
// a stream. One call acknowledges a batch and claims the next.

// KEYS: bodies, waiting, counter. ARGV: payloads. Returns the last id.
var redisFloorInsert = redis.NewScript(`
local id
for _, payload in ipairs(ARGV) do
  id = redis.call('INCR', KEYS[3])
  redis.call('HSET', KEYS[1], id, payload)
  redis.call('ZADD', KEYS[2], id, id)
end
return id`)

// KEYS: bodies, waiting, held, ledger. ARGV: how many to claim, seconds of the lease,
// ids that are done. Returns ids and payloads in turn.
var redisFloorNext = redis.NewScript(`
for i = 3, #ARGV do
  local id = ARGV[i]
  redis.call('XADD', KEYS[4], '*', 'id', id, 'payload', redis.call('HGET', KEYS[1], id))
  redis.call('HDEL', KEYS[1], id)
  redis.call('ZREM', KEYS[3], id)
end
local popped = redis.call('ZPOPMIN', KEYS[2], ARGV[1])
local lease = redis.call('TIME')[1] + ARGV[2]
local claimed = {}
for i = 1, #popped, 2 do
  redis.call('ZADD', KEYS[3], lease, popped[i])
  claimed[i], claimed[i + 1] = popped[i], redis.call('HGET', KEYS[1], popped[i])
end
return claimed`)

var redisFloors = []contender{
	{
		name: "floor", store: "redis", works: floorWorks, prepare: nothingToPrepare,
		settings: "a script a job, 1,000 jobs a script in bulk; a script that finishes a batch and claims the next, 2 × 500; the ledger is a stream",
		open:     func(_ context.Context, p place) (queue, error) { return openRedisFloor(p) },
	},
	{
		name: "floor, coalesced", store: "redis", works: coalescedWorks, prepare: nothingToPrepare,
		settings: "callers that come together share a script, 2 writers",
		open: func(_ context.Context, p place) (queue, error) {
			f, err := openRedisFloor(p)
			return coalesce(f, err, 2)
		},
	},
}

func nothingToPrepare(context.Context, place) error { return nil }

type redisFloor struct {
	client                                  *redis.Client
	bodies, waiting, held, ledger, counting string
}

func openRedisFloor(p place) (*redisFloor, error) {
	client, err := openRedis(p.Address)
	key := func(name string) string { return "{" + p.Name + "}:" + name }
	return &redisFloor{client, key("bodies"), key("waiting"), key("held"), key("ledger"), key("counter")}, err
}

func (f *redisFloor) insert(ctx context.Context, payload []byte) error {
	return f.insertBulk(ctx, [][]byte{payload})
}

func (f *redisFloor) insertBulk(ctx context.Context, payloads [][]byte) error {
	args := make([]any, len(payloads))
	for i := range payloads {
		args[i] = payloads[i]
	}
	return redisFloorInsert.Run(ctx, f.client, []string{f.bodies, f.waiting, f.counting}, args...).Err()
}

func (f *redisFloor) drain(ctx context.Context, handle handler) error {
	return together(2, func() error {
		keys := []string{f.bodies, f.waiting, f.held, f.ledger}
		args := []any{batch, 60}
		for {
			claimed, err := redisFloorNext.Run(ctx, f.client, keys, args...).StringSlice()
			if err != nil || len(claimed) == 0 {
				return err
			}
			args = args[:2]
			for i := 0; i < len(claimed); i += 2 {
				handle([]byte(claimed[i+1]))
				args = append(args, claimed[i])
			}
		}
	})
}

func (f *redisFloor) left(ctx context.Context) (int, error) {
	n, err := f.client.HLen(ctx, f.bodies).Result()
	return int(n), err
}

func (f *redisFloor) close() error { return f.client.Close() }
