package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

var redisPlaces = placeKind{
	store: "redis",
	version: func(ctx context.Context) (string, error) {
		client, err := openRedis(redisServer())
		if err != nil {
			return "", err
		}
		defer client.Close() //nolint:errcheck // nothing is under way any more
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		info, err := client.Info(ctx, "server").Result()
		if err != nil {
			return "", fmt.Errorf("%w (set SEQUENCER_TEST_REDIS_URL)", err)
		}
		_, info, _ = strings.Cut(info, "redis_version:")
		version, _, _ := strings.Cut(info, "\r\n")
		return "Redis " + version, nil
	},
	make: func(context.Context, string) (string, error) { return redisServer(), nil },
	remove: func(ctx context.Context, p place) error {
		return onKeys(ctx, p, func(client *redis.Client, keys []string) error {
			// asynq keeps the names of its queues in one set.
			if err := client.SRem(ctx, "asynq:queues", p.Name).Err(); err != nil {
				return err
			}
			return client.Unlink(ctx, keys...).Err()
		})
	},
	size: func(ctx context.Context, p place) (size int64, err error) {
		err = onKeys(ctx, p, func(client *redis.Client, keys []string) error {
			answers, err := client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
				for _, key := range keys {
					pipe.MemoryUsage(ctx, key, 0)
				}
				return nil
			})
			for _, a := range answers {
				if a.Err() == nil {
					size += a.(*redis.IntCmd).Val()
				}
			}
			return err
		})
		return size, err
	},
	settle: func(context.Context, place) error { return nil },
}

func redisServer() string { return server("SEQUENCER_TEST_REDIS_URL", "redis://127.0.0.1:6379") }

func openRedis(address string) (*redis.Client, error) {
	o, err := redis.ParseURL(address)
	if err != nil {
		return nil, fmt.Errorf("redis address: %w", err)
	}
	return redis.NewClient(o), nil
}

// onKeys calls do with the keys of a place, some at a time.
func onKeys(ctx context.Context, p place, do func(client *redis.Client, keys []string) error) error {
	client, err := openRedis(p.Address)
	if err != nil {
		return err
	}
	defer client.Close() //nolint:errcheck // nothing is under way any more
	for cursor := uint64(0); ; {
		keys, next, err := client.Scan(ctx, cursor, "*"+p.Name+"*", 1000).Result()
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			if err := do(client, keys); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}
