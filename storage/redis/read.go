package redis

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gosequencer/sequencer/storage"
)

// defaultLimit is how many rows a listing has where none is given.
const defaultLimit = 100

// Newest implements [storage.Reader]. It reads all rows of each name that an ordered
// operation or a migration has had; there are few of each.
func (s *Store) Newest(ctx context.Context, r storage.NewestRequest) ([]storage.Effective, error) {
	found := []storage.Effective{}
	err := s.guarded(ctx, "read the newest executions", func(ctx context.Context) error {
		names, err := s.client.SMembers(ctx, s.key("ordered")).Result()
		if err != nil || len(names) == 0 {
			return err
		}
		slices.Sort(names)
		pipe := s.client.Pipeline()
		members := make([]*redis.StringSliceCmd, len(names))
		for i, name := range names {
			members[i] = pipe.ZRange(ctx, s.key("n:"+name), 0, -1)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
		var ids []storage.ID
		for _, m := range members {
			for _, id := range m.Val() {
				ids = append(ids, idOf(id))
			}
		}
		rows, err := s.rows(ctx, ids)
		found = newest(rows, r.Environment)
		return err
	})
	return found, err
}

// newest picks the effective rows.
func newest(rows []row, environment string) []storage.Effective {
	type identity struct {
		name string
		kind storage.Kind
	}
	best := map[identity]*storage.Execution{}
	for i := range rows {
		e := &rows[i].Execution
		if named(e.Kind) == 0 || e.State == storage.Cancelled || bound(e) && e.Environment != environment {
			continue
		}
		of := identity{e.Name, e.Kind}
		if b := best[of]; b == nil || newer(e, b) {
			best[of] = e
		}
	}
	found := make([]storage.Effective, 0, len(best))
	for _, e := range best {
		found = append(found, e.Effective())
	}
	slices.SortFunc(found, func(a, b storage.Effective) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
	return found
}

// Attempts implements [storage.Reader].
func (s *Store) Attempts(ctx context.Context, executions ...storage.ID) ([]storage.Attempt, error) {
	found := []storage.Attempt{}
	err := s.guarded(ctx, "read attempts", func(ctx context.Context) error {
		if len(executions) == 0 {
			return nil
		}
		pipe := s.client.Pipeline()
		lists := make([]*redis.StringSliceCmd, len(executions))
		for i, id := range executions {
			lists[i] = pipe.LRange(ctx, s.key("a:"+string(id[:])), 0, -1)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
		for i, id := range executions {
			for _, packed := range lists[i].Val() {
				a, err := attemptOf(id, packed)
				if err != nil {
					return err
				}
				found = append(found, a)
			}
		}
		return nil
	})
	slices.SortStableFunc(found, func(a, b storage.Attempt) int {
		return cmp.Or(a.FinishedAt.Compare(b.FinishedAt), compareIDs(a.ExecutionID, b.ExecutionID), cmp.Compare(a.Delivery, b.Delivery))
	})
	return found, err
}

func attemptOf(id storage.ID, packed string) (storage.Attempt, error) {
	d := decoder{b: []byte(packed)}
	a := storage.Attempt{ExecutionID: id, Delivery: d.int(), Number: d.int(), WorkerID: d.id(), StartedAt: d.time(), FinishedAt: d.time()}
	for _, text := range []*string{&a.Outcome, &a.Type, &a.Message, &a.Trace, &a.Context, &a.Group} {
		*text = string(d.bytes())
	}
	return a, d.err
}

// Flows implements [storage.Reader].
func (s *Store) Flows(ctx context.Context, f storage.FlowFilter) ([]storage.Flow, error) {
	found := []storage.Flow{}
	limit := cmp.Or(f.Limit, defaultLimit)
	err := s.guarded(ctx, "read flows", func(ctx context.Context) error {
		switch {
		case len(f.IDs) > 0:
			return s.flows(ctx, f.IDs, &f, &found)
		case !f.Root.IsZero():
			ids, err := s.idSet(ctx, "nest:"+string(f.Root[:]))
			if err != nil {
				return err
			}
			return s.flows(ctx, append(ids, f.Root), &f, &found)
		case f.Open:
			ids, err := s.idSet(ctx, "openflows")
			if err != nil {
				return err
			}
			return s.flows(ctx, ids, &f, &found)
		}
		const page = 200
		for start := int64(0); len(found) < limit; start += page {
			names, err := s.client.ZRevRange(ctx, s.key("flows"), start, start+page-1).Result()
			if err != nil || len(names) == 0 {
				return err
			}
			ids := make([]storage.ID, len(names))
			for i, name := range names {
				ids[i] = idOf(name)
			}
			if err := s.flows(ctx, ids, &f, &found); err != nil {
				return err
			}
		}
		return nil
	})
	slices.SortFunc(found, func(a, b storage.Flow) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), compareIDs(b.ID, a.ID))
	})
	return found[:min(len(found), limit)], err
}

// idSet reads a set of ids.
func (s *Store) idSet(ctx context.Context, key string) ([]storage.ID, error) {
	names, err := s.client.SMembers(ctx, s.key(key)).Result()
	ids := make([]storage.ID, len(names))
	for i, name := range names {
		ids[i] = idOf(name)
	}
	return ids, err
}

// flows adds those flows of the ids that the filter selects.
func (s *Store) flows(ctx context.Context, ids []storage.ID, f *storage.FlowFilter, found *[]storage.Flow) error {
	if len(ids) == 0 {
		return nil
	}
	pipe := s.client.Pipeline()
	answers := make([]*redis.MapStringStringCmd, len(ids))
	for i, id := range ids {
		answers[i] = pipe.HGetAll(ctx, s.key(flowKey(id)))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	for i, id := range ids {
		read, there, err := flowOf(id, answers[i].Val())
		if err != nil {
			return err
		}
		if there && (len(f.Kinds) == 0 || slices.Contains(f.Kinds, read.Kind)) && (!f.Open || !read.Over()) &&
			(f.Root.IsZero() || f.Root == read.RootID) {
			*found = append(*found, read)
		}
	}
	return nil
}

// Edges implements [storage.Reader].
func (s *Store) Edges(ctx context.Context, flow storage.ID) ([]storage.Edge, error) {
	found := []storage.Edge{}
	err := s.guarded(ctx, "read edges", func(ctx context.Context) error {
		for _, key := range []string{"g:", "h:"} {
			all, err := s.client.HGetAll(ctx, s.key(key+string(flow[:]))).Result()
			if err != nil {
				return err
			}
			for _, from := range sortedKeys(all) {
				for _, e := range edgesOf(idOf(from), all[from]) {
					if !e.away || key == "h:" {
						found = append(found, e.Edge)
					}
				}
			}
		}
		return nil
	})
	return found, err
}

// Workers implements [storage.Reader].
func (s *Store) Workers(ctx context.Context, ids ...storage.ID) ([]storage.Worker, error) {
	found := []storage.Worker{}
	err := s.guarded(ctx, "read workers", func(ctx context.Context) error {
		names, err := s.client.ZRange(ctx, s.key("leases"), 0, -1).Result()
		if err != nil {
			return err
		}
		wanted := slices.Clone(ids)
		for _, name := range names {
			if id := idOf(name); !slices.Contains(wanted, id) {
				wanted = append(wanted, id)
			}
		}
		workers, err := s.workers(ctx, wanted)
		found = append(found, workers...)
		return err
	})
	slices.SortFunc(found, func(a, b storage.Worker) int {
		return cmp.Or(a.JoinedAt.Compare(b.JoinedAt), compareIDs(a.ID, b.ID))
	})
	return found, err
}

func workerOf(described string) (storage.Worker, error) {
	var w storage.Worker
	if err := json.Unmarshal([]byte(described), &w); err != nil {
		return w, fmt.Errorf("a worker: %w: %w", errMangled, err)
	}
	w.JoinedAt, w.LeaseUntil, w.LeftAt, w.Dead = w.JoinedAt.UTC(), time.Time{}, time.Time{}, false
	return w, nil
}

// Counts implements [storage.Reader]. Every script keeps them.
func (s *Store) Counts(ctx context.Context) ([]storage.Count, error) {
	found := []storage.Count{}
	err := s.guarded(ctx, "count", func(ctx context.Context) error {
		all, err := s.client.HGetAll(ctx, s.key("counts")).Result()
		for _, field := range sortedKeys(all) {
			queue, state, _ := strings.Cut(field, "\x00")
			n, _ := strconv.ParseInt(all[field], 10, 64)
			found = append(found, storage.Count{Queue: queue, State: storage.State(state), N: n})
		}
		return err
	})
	return found, err
}

// minuteKey names the hash of one minute's statistics.
func minuteKey(minute int64) string { return "stat:" + strconv.FormatInt(minute, 10) }

// Stats implements [storage.Reader].
func (s *Store) Stats(ctx context.Context, f storage.StatsFilter) ([]storage.Stat, error) {
	found := []storage.Stat{}
	err := s.guarded(ctx, "read statistics", func(ctx context.Context) error {
		minutes, err := s.minutes(ctx, f)
		if err != nil || len(minutes) == 0 {
			return err
		}
		pipe := s.client.Pipeline()
		sums := make([]*redis.MapStringStringCmd, len(minutes))
		for i, minute := range minutes {
			sums[i] = pipe.HGetAll(ctx, s.key(minuteKey(minute)))
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
		for i, minute := range minutes {
			for _, st := range statsOf(time.Unix(minute*60, 0).UTC(), sums[i].Val()) {
				if f.Wants(&st, st.Queue) {
					found = append(found, st)
				}
			}
		}
		return nil
	})
	return f.Summed(found), err
}

// minutes lists those that have statistics, by their number since 1970.
func (s *Store) minutes(ctx context.Context, f storage.StatsFilter) ([]int64, error) {
	all, err := s.client.ZRange(ctx, s.key("minutes"), 0, -1).Result()
	var minutes []int64
	for _, text := range all {
		minute, _ := strconv.ParseInt(text, 10, 64)
		at := time.Unix(minute*60, 0)
		if (f.Since.IsZero() || !at.Before(f.Since)) && (f.Until.IsZero() || at.Before(f.Until)) {
			minutes = append(minutes, minute)
		}
	}
	return minutes, err
}

// statsOf decodes one minute: fields are queue, name, ending and what is summed.
func statsOf(minute time.Time, sums map[string]string) []storage.Stat {
	var found []storage.Stat
	for _, field := range sortedKeys(sums) { // n, r and w of one statistic follow each other
		at := strings.LastIndexByte(field, 0)
		if at < 0 {
			continue
		}
		parts := strings.SplitN(field[:at], "\x00", 3)
		if len(parts) < 3 {
			continue
		}
		last := len(found) - 1
		if last < 0 || found[last].Queue != parts[0] || found[last].Name != parts[1] || found[last].Ending != parts[2] {
			found = append(found, storage.Stat{Minute: minute, Queue: parts[0], Name: parts[1], Ending: parts[2]})
			last++
		}
		n, _ := strconv.ParseInt(sums[field], 10, 64)
		switch field[at+1:] {
		case "n":
			found[last].N = n
		case "r":
			found[last].Ran = time.Duration(n) * time.Microsecond
		case "w":
			found[last].Waited = time.Duration(n) * time.Microsecond
		}
	}
	return found
}

// addAudit notes what a person did. Entries are members of a sorted set by instant;
// each begins with its id, so that those of one instant have an order.
func (u *unit) addAudit(action, target, actor, reason string, count int) {
	e := storage.AuditEntry{
		ID: storage.NewID(), At: u.now, Actor: actor, Action: action, Target: target, Count: count, Reason: reason,
	}
	described, err := json.Marshal(e)
	if err != nil {
		panic(err) // it is texts and a number
	}
	u.commands.add("ZADD", u.s.key("audit"), micro(u.now), append(e.ID[:], described...))
}

// Audit implements [storage.Reader].
func (s *Store) Audit(ctx context.Context, f storage.AuditFilter) ([]storage.AuditEntry, error) {
	found := []storage.AuditEntry{}
	limit := cmp.Or(f.Limit, defaultLimit)
	err := s.guarded(ctx, "read the audit", func(ctx context.Context) error {
		const page = 500
		for start := int64(0); len(found) < limit; start += page {
			entries, err := s.client.ZRevRange(ctx, s.key("audit"), start, start+page-1).Result()
			if err != nil || len(entries) == 0 {
				return err
			}
			for _, packed := range entries {
				var e storage.AuditEntry
				if err := json.Unmarshal([]byte(packed[min(16, len(packed)):]), &e); err != nil {
					return fmt.Errorf("an audit entry: %w: %w", errMangled, err)
				}
				e.At = e.At.UTC()
				if strings.Contains(e.Target, f.Target) {
					found = append(found, e)
				}
			}
		}
		return nil
	})
	return found[:min(len(found), limit)], err
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// Callbacks implements [storage.Reader].
func (s *Store) Callbacks(ctx context.Context, flow storage.ID) (found []storage.Callback, _ error) {
	err := s.guarded(ctx, "read callbacks", func(ctx context.Context) error {
		stored, err := s.callbacks(ctx, flow)
		if err != nil {
			return err
		}
		found, err = storage.DecodeCallbacks(stored)
		return err
	})
	return found, err
}
