package redis_test

import (
	"testing"

	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/redis"
	"github.com/gosequencer/sequencer/storage/storagetest"
)

// A backend that stopped waking would pass the suite, which skips.
var _ storage.Waker = (*redis.Store)(nil)

func TestConformance(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(t *testing.T) storage.Store { return open(t, testdb.Redis(t)) })
}

// open opens an empty ledger.
func open(tb testing.TB, url string) *redis.Store {
	tb.Helper()
	s, err := redis.Open(tb.Context(), url, redis.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	if _, err := s.Setup(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return s
}
