package testdb

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

const (
	redisVar        = "SEQUENCER_TEST_REDIS_URL"
	redisClusterVar = "SEQUENCER_TEST_REDIS_CLUSTER_URL"
)

// Where scripts/services.sh has the servers.
const (
	localRedis        = "redis://127.0.0.1:6379"
	localRedisCluster = "redis://127.0.0.1:6390"
)

// Redis returns the URL of a ledger that nobody else uses, on the server in SEQUENCER_TEST_REDIS_URL. All its keys are
// removed when tb ends. It may be called inside a synctest bubble.
//
// Without a server, tb is skipped, or failed if SEQUENCER_TEST_REQUIRE says so.
func Redis(tb testing.TB) string {
	tb.Helper()
	server, err := redisServer()
	if err != nil {
		leaveOut(tb, "redis", redisVar, err)
		return ""
	}
	return redisLedger(tb, server)
}

// RedisCluster is Redis for a server in cluster mode that has all slots, the one in SEQUENCER_TEST_REDIS_CLUSTER_URL.
func RedisCluster(tb testing.TB) string {
	tb.Helper()
	server, err := redisCluster()
	if err != nil {
		leaveOut(tb, "redis-cluster", redisClusterVar, err)
		return ""
	}
	return redisLedger(tb, server)
}

func redisLedger(tb testing.TB, server string) string {
	tb.Helper()
	u, err := url.Parse(server)
	if err != nil {
		tb.Fatal(err)
	}
	ledger := fmt.Sprintf("test_%016x", rand.Uint64())
	q := u.Query()
	q.Set("ledger", ledger)
	u.RawQuery = q.Encode()
	tb.Cleanup(func() {
		if err := dropRedis(context.WithoutCancel(tb.Context()), server, "{"+ledger+"}:*"); err != nil {
			tb.Errorf("remove the keys of ledger %s: %v", ledger, err)
		}
	})
	return u.String()
}

// The servers are looked for once per process, as postgresServer is.
var (
	redisServer  = sync.OnceValues(func() (string, error) { return answeringRedis(redisVar, localRedis) })
	redisCluster = sync.OnceValues(func() (string, error) { return answeringRedis(redisClusterVar, localRedisCluster) })
)

func answeringRedis(variable, local string) (string, error) {
	server := local
	if set := os.Getenv(variable); set != "" {
		server = set
	}
	client, err := connectRedis(server)
	if err != nil {
		return "", err
	}
	defer client.Close()
	return server, client.Ping(context.Background()).Err()
}

// connectRedis speaks to one node: a test's keys are all there.
func connectRedis(server string) (*redis.Client, error) {
	o, err := redis.ParseURL(server)
	if err != nil {
		return nil, err
	}
	o.DialTimeout = connectTimeout
	return redis.NewClient(o), nil
}

// dropRedis removes the keys that match.
func dropRedis(ctx context.Context, server, pattern string) error {
	client, err := connectRedis(server)
	if err != nil {
		return err
	}
	defer client.Close()
	for cursor := uint64(0); ; {
		keys, next, err := client.Scan(ctx, cursor, pattern, 1000).Result()
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			if err := client.Unlink(ctx, keys...).Err(); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}
