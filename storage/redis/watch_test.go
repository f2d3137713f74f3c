package redis_test

import (
	"context"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/internal/testdb"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/redis"
)

// watch lets s watch the queue "default", and returns what waits for a wake-up.
func watch(t *testing.T, s *redis.Store) (woken func(by string)) {
	t.Helper()
	wakes, ended := make(chan struct{}, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	go func() {
		ended <- s.Watch(ctx, []string{"default"}, func() {
			select {
			case wakes <- struct{}{}:
			default:
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Watch ended with %v, want nil", err)
		}
	})
	woken = func(by string) {
		t.Helper()
		select {
		case <-wakes:
		case <-time.After(10 * time.Second):
			t.Errorf("not woken by %s", by)
		}
	}
	woken("the beginning")
	return woken
}

func TestAnotherStoreOnTheLedgerWakesWhoeverWatches(t *testing.T) { // W1
	t.Parallel()
	for name, server := range map[string]func(testing.TB) string{"redis": testdb.Redis, "cluster": testdb.RedisCluster} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := server(t)
			woken, other := watch(t, open(t, address)), open(t, address)
			enqueue(t, other, job("default"))
			woken("a row that another store enqueued")

			flow := storage.Flow{ID: storage.NewID(), Kind: storage.FlowChain, Policy: storage.PolicyStop}
			one, two := job("elsewhere"), job("default")
			one.FlowID, two.FlowID = flow.ID, flow.ID
			_, err := other.Enqueue(t.Context(), storage.EnqueueRequest{
				Flows: []storage.Flow{flow}, Executions: []storage.Execution{one, two}, Edges: []storage.Edge{{From: one.ID, To: two.ID}},
			})
			if err != nil {
				t.Fatal(err)
			}
			worker := join(t, other)
			got, err := other.Claim(t.Context(), storage.ClaimRequest{Worker: worker, Queues: []string{"elsewhere"}, Limit: 1})
			if err != nil || len(got.Executions) != 1 {
				t.Fatalf("claimed %+v, %v; want the first member", got, err)
			}
			o := storage.Outcome{ID: one.ID, Delivery: 1, State: storage.Completed}
			if _, err := other.Finish(t.Context(), storage.FinishRequest{Worker: worker, Outcomes: []storage.Outcome{o}}); err != nil {
				t.Fatal(err)
			}
			woken("a member that was released")
		})
	}
}

func TestAWatcherWhoseConnectionBreaksListensAgain(t *testing.T) { // W1
	t.Parallel()
	address := testdb.RedisServer(t)
	woken, other := watch(t, open(t, address)), open(t, address)
	if n, err := client(t, address).ClientKillByFilter(t.Context(), "TYPE", "pubsub").Result(); err != nil || n != 1 {
		t.Fatalf("broke %d connections, %v; want the one that listened", n, err)
	}
	woken("listening again")
	enqueue(t, other, job("default"))
	woken("another store, after that")
}

func TestAServerThatDoesNotLetOneListenIsAnError(t *testing.T) { // W2
	t.Parallel()
	address := testdb.RedisServer(t)
	s := open(t, address)
	c := client(t, address)
	if err := c.ACLSetUser(t.Context(), "default", "-subscribe").Err(); err != nil {
		t.Fatal(err)
	}
	if err := s.Watch(t.Context(), []string{"default"}, func() {}); err == nil {
		t.Error("Watch of a server that does not let it listen gave no error")
	}
}
