package redis

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gosequencer/sequencer/storage"
)

// Queues implements [storage.Reader].
func (s *Store) Queues(ctx context.Context, now time.Time) ([]storage.QueueState, error) {
	found := []storage.QueueState{}
	err := s.guarded(ctx, "read queues", func(ctx context.Context) error {
		if now.IsZero() {
			at, err := s.time(ctx)
			if err != nil {
				return err
			}
			now = at
		}
		names, err := s.queueNames(ctx)
		if err != nil {
			return err
		}
		found, err = s.queueStates(ctx, names, micro(now))
		return err
	})
	return found, err
}

// queueNames are those with live rows and those that are paused, by name.
func (s *Store) queueNames(ctx context.Context) ([]string, error) {
	counts, err := s.client.HKeys(ctx, s.key("counts")).Result()
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, field := range counts {
		queue, state, _ := strings.Cut(field, "\x00")
		if !private(queue) && !storage.State(state).Over() {
			names[queue] = ""
		}
	}
	stopped, err := s.client.HKeys(ctx, s.key("pauses")).Result()
	for _, target := range stopped {
		if queue, is := strings.CutPrefix(target, string(storage.PauseQueue)+" "); is {
			names[queue] = ""
		}
	}
	return sortedKeys(names), err
}

// queueStates reads all at one instant, because what is blocked is what is left.
func (s *Store) queueStates(ctx context.Context, names []string, now int64) ([]storage.QueueState, error) {
	type level struct {
		all, due *redis.IntCmd
		first    *redis.ZSliceCmd
	}
	pipe := s.client.TxPipeline()
	counts, lanes := pipe.HGetAll(ctx, s.key("counts")), pipe.HGetAll(ctx, s.key("lanes"))
	stopped := pipe.HGetAll(ctx, s.key("pauses"))
	levels := map[string][]level{}
	until := strconv.FormatInt(now, 10)
	for _, name := range names {
		for priority := storage.PriorityHighest; priority <= storage.PriorityLowest; priority++ {
			key := s.key(levelKey(name, priority))
			levels[name] = append(levels[name], level{
				pipe.ZCard(ctx, key), pipe.ZCount(ctx, key, "-inf", until), pipe.ZRangeWithScores(ctx, key, 0, 0),
			})
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	count := func(queue string, state storage.State) int64 {
		n, _ := strconv.ParseInt(counts.Val()[queue+"\x00"+string(state)], 10, 64)
		return n
	}
	found := make([]storage.QueueState, 0, len(names))
	for _, name := range names {
		q := storage.QueueState{Queue: name, Running: count(name, storage.Running)}
		_, q.Paused = stopped.Val()[storage.Pause{Kind: storage.PauseQueue, Name: name}.Target()]
		for _, l := range levels[name] {
			q.Ready += l.due.Val()
			q.Scheduled += l.all.Val() - l.due.Val()
			if first := l.first.Val(); len(first) > 0 && int64(first[0].Score) <= now {
				if at := instant(int64(first[0].Score)); q.Oldest.IsZero() || at.Before(q.Oldest) {
					q.Oldest = at
				}
			}
		}
		for lane, n := range lanes.Val() {
			if queue, _, _ := strings.Cut(lane, "\x00"); queue == name {
				parked, _ := strconv.ParseInt(n, 10, 64)
				q.Parked += parked
			}
		}
		q.Blocked = count(name, storage.Pending) - q.Ready - q.Scheduled - q.Parked
		found = append(found, q)
	}
	return found, nil
}
