package testdb

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	osexec "os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

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

// RedisServer starts a server with these options, which ends with tb, and returns its URL: for what concerns settings, or
// cannot be done to a server that others use. Without the program redis-server, tb is skipped as by Redis.
func RedisServer(tb testing.TB, options ...string) string {
	tb.Helper()
	program, err := osexec.LookPath("redis-server")
	if err != nil {
		leaveOut(tb, "redis", redisVar, err)
		return ""
	}
	dir, err := os.MkdirTemp("", "redis") //nolint:usetesting // the directory of a test may be too long for the name of a socket
	if err != nil {
		tb.Fatal(err)
	}
	socket := filepath.Join(dir, "socket")
	args := append([]string{"--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "", "--loglevel", "warning"}, options...)
	cmd := osexec.CommandContext(context.WithoutCancel(tb.Context()), program, args...)
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	})
	server := "unix://" + socket
	for deadline := time.Now().Add(connectTimeout); ; {
		client, err := connectRedis(server)
		if err == nil {
			err = client.Ping(tb.Context()).Err()
			_ = client.Close()
		}
		if err == nil {
			return server
		}
		if time.Now().After(deadline) {
			tb.Fatalf("redis-server %v does not answer: %v", options, err)
		}
	}
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
	defer client.Close() //nolint:errcheck // nothing is under way any more
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
	defer client.Close() //nolint:errcheck // nothing is under way any more
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
