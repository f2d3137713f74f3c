package testdb

import (
	"net/url"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestRedisGivesEachTestALedgerOfItsOwnAndRemovesItsKeys(t *testing.T) {
	t.Parallel()
	for name, server := range map[string]func(testing.TB) string{"redis": Redis, "cluster": RedisCluster} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var key string
			t.Run("the test", func(t *testing.T) {
				one, two := ledger(t, server(t)), ledger(t, server(t))
				if one == two {
					t.Errorf("two tests have the ledger %s", one)
				}
				key = "{" + one + "}:x"
				if err := redisOf(t, server).Set(t.Context(), key, "left behind", 0).Err(); err != nil {
					t.Fatal(err)
				}
			})
			if n, err := redisOf(t, server).Exists(t.Context(), key).Result(); err != nil || n != 0 {
				t.Errorf("%s is still there after its test (%d, %v)", key, n, err)
			}
		})
	}
}

func TestRedisServerIsOnesOwn(t *testing.T) {
	t.Parallel()
	one, two := RedisServer(t), RedisServer(t, "--appendonly", "yes")
	if one == two {
		t.Fatalf("both are at %s", one)
	}
	for address, want := range map[string]string{one: "no", two: "yes"} {
		client, err := connectRedis(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := client.ConfigGet(t.Context(), "appendonly").Val()["appendonly"]; got != want {
			t.Errorf("appendonly is %q, want %q", got, want)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
}

// redisOf speaks to the server behind an address.
func redisOf(t *testing.T, server func(testing.TB) string) *redis.Client {
	t.Helper()
	u, err := url.Parse(server(t))
	if err != nil {
		t.Fatal(err)
	}
	u.RawQuery = ""
	client, err := connectRedis(u.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func ledger(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query().Get("ledger")
}
