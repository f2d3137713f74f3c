package redis

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gosequencer/sequencer/storage"
)

// What a listing reads at a time, and gives at most.
const (
	listPage  = 1000
	listLimit = 10_000
)

// Executions implements [storage.Reader]. The sets that serve a filter are those of
// ids, flow, name, tag, error, and of states other than completed; any
// other filter is applied to all rows, in the order asked for, until the page is
// full.
func (s *Store) Executions(ctx context.Context, f storage.Filter) ([]storage.Execution, error) {
	found := []storage.Execution{}
	err := s.guarded(ctx, "list executions", func(ctx context.Context) error {
		if f.IDPrefix != "" && len(f.IDPrefix) < 8 {
			return errors.New("an id prefix needs at least 8 characters")
		}
		l := listing{s: s, filter: &f, limit: min(cmp.Or(f.Limit, defaultLimit), listLimit)}
		err := l.run(ctx)
		for i := range l.found {
			found = append(found, l.found[i].Execution)
		}
		return err
	})
	return found, err
}

// listing is a call of Executions under way.
type listing struct {
	s      *Store
	filter *storage.Filter
	limit  int
	found  []row
}

func (l *listing) run(ctx context.Context) error {
	if ids, some, err := l.few(ctx); err != nil || some {
		return cmp.Or(err, l.sorted(ctx, ids))
	}
	keys, err := l.sets(ctx)
	if err != nil {
		return err
	}
	return l.merge(ctx, keys)
}

// few returns the only rows that the filter can select, if a set of ids without
// order names them.
func (l *listing) few(ctx context.Context) (ids []storage.ID, some bool, _ error) {
	f := l.filter
	if id, err := storage.ParseID(f.IDPrefix); err == nil { // all of it
		return []storage.ID{id}, true, nil
	}
	var names []string
	var err error
	switch {
	case len(f.IDs) > 0:
		return f.IDs, true, nil
	case !f.FlowID.IsZero():
		names, err = l.s.client.SMembers(ctx, l.s.key("m:"+string(f.FlowID[:]))).Result()
	case len(f.States) > 0 && !slices.ContainsFunc(f.States, storage.State.Over):
		most := int64(listLimit)
		if f.Tag != "" {
			tagged, err := l.s.client.ZCard(ctx, l.s.key("t:"+f.Tag)).Result()
			if err != nil {
				return nil, false, err
			}
			most = min(most, tagged)
		}
		var some bool
		if names, some, err = l.s.live(ctx, slices.Contains(f.States, storage.Pending), most); !some {
			return nil, false, err
		}
	default:
		return nil, false, nil
	}
	for _, name := range names {
		ids = append(ids, idOf(name))
	}
	return ids, true, err
}

// live names all rows that run, and those that are pending where that is asked for.
// It gives up when these are more than most: then a walk finds them sooner.
func (s *Store) live(ctx context.Context, pending bool, most int64) (names []string, some bool, err error) {
	names, err = s.running(ctx)
	if err != nil || !pending {
		return names, true, err
	}
	counts, err := s.client.HGetAll(ctx, s.key("counts")).Result()
	if err != nil {
		return nil, false, err
	}
	var keys []string
	total := int64(0)
	for field, n := range counts {
		queue, state, _ := strings.Cut(field, "\x00")
		if storage.State(state) == storage.Pending {
			many, _ := strconv.ParseInt(n, 10, 64)
			total += many
			for priority := storage.PriorityHighest; priority <= storage.PriorityLowest; priority++ {
				keys = append(keys, levelKey(queue, priority))
			}
		}
	}
	if total == 0 || total > most {
		return names, total == 0, nil
	}
	pipe := s.client.Pipeline()
	lanes, waiting := pipe.HKeys(ctx, s.key("lanes")), pipe.HKeys(ctx, s.key("waiting"))
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, false, err
	}
	for _, lane := range lanes.Val() {
		keys = append(keys, "p:"+lane)
	}
	names = append(names, waiting.Val()...)
	pipe = s.client.Pipeline()
	due := make([]*redis.StringSliceCmd, len(keys))
	for i, key := range keys {
		due[i] = pipe.ZRange(ctx, s.key(key), 0, -1)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, false, err
	}
	for _, d := range due {
		names = append(names, d.Val()...)
	}
	return names, true, nil
}

// running names all rows that a worker holds.
func (s *Store) running(ctx context.Context) ([]string, error) {
	pipe := s.client.Pipeline()
	present, lost := pipe.ZRange(ctx, s.key("leases"), 0, -1), pipe.SMembers(ctx, s.key("lost"))
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	var keys []string
	for _, worker := range slices.Concat(present.Val(), lost.Val()) {
		keys = append(keys, s.key("held:"+worker))
	}
	if len(keys) == 0 {
		return nil, nil
	}
	return s.client.SUnion(ctx, keys...).Result()
}

// sorted reads rows and keeps the page.
func (l *listing) sorted(ctx context.Context, ids []storage.ID) error {
	slices.SortFunc(ids, compareIDs)
	ids = slices.Compact(ids)
	rows, err := l.s.rows(ctx, ids)
	if err != nil {
		return err
	}
	rows = slices.DeleteFunc(rows, func(r row) bool { return !l.selects(&r.Execution) })
	slices.SortFunc(rows, func(a, b row) int { return l.order(a.CreatedAt, a.ID, b.CreatedAt, b.ID) })
	l.found = rows[:min(len(rows), l.limit)]
	return nil
}

// order compares two places in the listing.
func (l *listing) order(aAt time.Time, aID storage.ID, bAt time.Time, bID storage.ID) int {
	c := cmp.Or(aAt.Compare(bAt), compareIDs(aID, bID))
	if l.filter.Oldest {
		return c
	}
	return -c
}

// sets are the sorted sets, by creation, which together have all rows that the
// filter can select.
func (l *listing) sets(ctx context.Context) ([]string, error) {
	f := l.filter
	switch {
	case f.Name != "" && !strings.Contains(f.Name, "*") && f.Tag != "":
		return l.smaller(ctx, "n:"+f.Name, "t:"+f.Tag)
	case f.Name != "" && !strings.Contains(f.Name, "*"):
		return []string{"n:" + f.Name}, nil
	case strings.HasPrefix(f.UniqueKey, storage.OrderedKey("")):
		return []string{"n:" + strings.TrimPrefix(f.UniqueKey, storage.OrderedKey(""))}, nil
	case f.Tag != "":
		return []string{"t:" + f.Tag}, nil
	case f.Group != "":
		return []string{"errors"}, nil
	case !f.Undoes.IsZero():
		target, err := l.s.rows(ctx, []storage.ID{f.Undoes})
		if err != nil || len(target) == 1 { // an undoing has the name of what it undoes
			return slices.Collect(func(yield func(string) bool) {
				for _, r := range target {
					yield("n:" + r.Name)
				}
			}), err
		}
	case len(f.States) > 0 && !slices.ContainsFunc(f.States, func(s storage.State) bool {
		return s == storage.Completed || !s.Over()
	}):
		var keys []string
		for _, state := range f.States {
			keys = append(keys, "s:"+string(state))
		}
		return keys, nil
	}
	names, err := l.s.client.SMembers(ctx, l.s.key("names")).Result()
	var keys []string
	for _, name := range names {
		if f.Name == "" || matches(f.Name, name) {
			keys = append(keys, "n:"+name)
		}
	}
	return keys, err
}

// smaller is the one of two sorted sets that has fewer members.
func (l *listing) smaller(ctx context.Context, a, b string) ([]string, error) {
	pipe := l.s.client.Pipeline()
	as, bs := pipe.ZCard(ctx, l.s.key(a)), pipe.ZCard(ctx, l.s.key(b))
	_, err := pipe.Exec(ctx)
	if as.Val() > bs.Val() {
		a = b
	}
	return []string{a}, err
}

// merge walks through sorted sets in the order of the listing until the page is full.
func (l *listing) merge(ctx context.Context, keys []string) error {
	slices.Sort(keys)
	keys = slices.Compact(keys)
	walks := make([]*walk, len(keys))
	page := min(max(2*l.limit/max(len(keys), 1), 16), listPage)
	for i, key := range keys {
		walks[i] = &walk{key: l.s.key(key), page: page}
	}
	if err := l.fill(ctx, walks); err != nil {
		return err
	}
	var ids []storage.ID
	want := min(max(l.limit, defaultLimit), listPage)
	for len(l.found) < l.limit {
		next, err := l.next(ctx, walks)
		if err != nil {
			return err
		}
		if next != nil {
			if l.wanted(next) {
				ids = append(ids, next.id)
			}
			if len(ids) < want {
				continue
			}
		}
		if err := l.add(ctx, ids); err != nil || next == nil {
			return err
		}
		ids = ids[:0]
	}
	return nil
}

// add reads rows and takes those that the filter selects.
func (l *listing) add(ctx context.Context, ids []storage.ID) error {
	rows, err := l.s.rows(ctx, ids)
	for i := range rows {
		if len(l.found) < l.limit && l.selects(&rows[i].Execution) {
			l.found = append(l.found, rows[i])
		}
	}
	return err
}

// entry is a member of a sorted set.
type entry struct {
	id      storage.ID
	created float64
}

// walk is a way through one sorted set.
type walk struct {
	key   string
	page  int
	ahead []entry
	last  float64 // score of the last entry that was read…
	seen  int64   // …and how many with that score were
	began bool
	ended bool
}

// fill reads on in the walks that have nothing ahead.
func (l *listing) fill(ctx context.Context, walks []*walk) error {
	pipe := l.s.client.Pipeline()
	answers := map[*walk]*redis.ZSliceCmd{}
	for _, w := range walks {
		if len(w.ahead) == 0 && !w.ended {
			answers[w] = pipe.ZRangeArgsWithScores(ctx, l.step(w))
		}
	}
	if len(answers) == 0 {
		return nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	for w, answer := range answers {
		w.ended = len(answer.Val()) < w.page
		for _, z := range answer.Val() {
			if !w.began || z.Score != w.last {
				w.began, w.last, w.seen = true, z.Score, 0
			}
			w.seen++
			w.ahead = append(w.ahead, entry{idOf(text(z.Member)), z.Score})
		}
	}
	return nil
}

// step asks for what comes next in a walk, within the instants of the filter.
func (l *listing) step(w *walk) redis.ZRangeArgs {
	f := l.filter
	from, to := "-inf", "+inf"
	if !f.Since.IsZero() {
		from = strconv.FormatInt(f.Since.UnixMicro(), 10)
	}
	if !f.Until.IsZero() {
		to = "(" + strconv.FormatInt(f.Until.Add(time.Microsecond-1).UnixMicro(), 10)
	}
	begin := math.NaN()
	if f.After != nil {
		begin = float64(f.After.At.UnixMicro())
	}
	if w.began {
		begin = w.last
	}
	if !math.IsNaN(begin) {
		if at := strconv.FormatFloat(begin, 'f', -1, 64); f.Oldest {
			from = at
		} else {
			to = at
		}
	}
	if !f.Oldest {
		from, to = to, from
	}
	return redis.ZRangeArgs{Key: w.key, Start: from, Stop: to, ByScore: true, Rev: !f.Oldest, Offset: w.seen, Count: int64(w.page)}
}

// next takes the entry that comes first of all walks, nil at the end.
func (l *listing) next(ctx context.Context, walks []*walk) (*entry, error) {
	if err := l.fill(ctx, walks); err != nil {
		return nil, err
	}
	var first *walk
	for _, w := range walks {
		if len(w.ahead) > 0 && (first == nil || l.before(&w.ahead[0], &first.ahead[0])) {
			first = w
		}
	}
	if first == nil {
		return nil, nil
	}
	e := first.ahead[0]
	first.ahead = first.ahead[1:]
	return &e, nil
}

func (l *listing) before(a, b *entry) bool {
	c := cmp.Or(cmp.Compare(a.created, b.created), compareIDs(a.id, b.id))
	if l.filter.Oldest {
		return c < 0
	}
	return c > 0
}

// wanted reports an entry whose row may be on the page, by what is known without it.
func (l *listing) wanted(e *entry) bool {
	f := l.filter
	if f.IDPrefix != "" && !strings.HasPrefix(e.id.String(), strings.ToLower(f.IDPrefix)) {
		return false
	}
	return f.After == nil || l.order(instant(int64(e.created)), e.id, f.After.At, f.After.ID) > 0
}

// selects reports whether a row is one that the filter describes, after its cursor.
func (l *listing) selects(e *storage.Execution) bool {
	f := l.filter
	return (len(f.IDs) == 0 || slices.Contains(f.IDs, e.ID)) &&
		(f.IDPrefix == "" || strings.HasPrefix(e.ID.String(), strings.ToLower(f.IDPrefix))) &&
		(len(f.States) == 0 || slices.Contains(f.States, e.State)) &&
		(len(f.Kinds) == 0 || slices.Contains(f.Kinds, e.Kind)) &&
		(f.Name == "" || matches(f.Name, e.Name)) &&
		(f.Queue == "" || f.Queue == e.Queue) &&
		(f.Tag == "" || slices.Contains(e.Tags, f.Tag)) &&
		(f.FlowID.IsZero() || f.FlowID == e.FlowID) &&
		(f.Member == "" || f.Member == e.Member) &&
		(f.Method == "" || f.Method == e.Method) &&
		(f.Undoes.IsZero() || f.Undoes == e.Undoes) &&
		(f.WorkerID.IsZero() || f.WorkerID == e.WorkerID) &&
		(f.Group == "" || f.Group == e.ErrorGroup) &&
		(f.UniqueKey == "" || f.UniqueKey == e.UniqueKey) &&
		(f.Since.IsZero() || !e.CreatedAt.Before(f.Since)) &&
		(f.Until.IsZero() || e.CreatedAt.Before(f.Until)) &&
		(f.After == nil || l.order(e.CreatedAt, e.ID, f.After.At.Truncate(time.Microsecond), f.After.ID) > 0)
}

// matches compares a name with a pattern in which only * is special (S32.5).
func matches(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == name
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(name) < len(first)+len(last) || !strings.HasPrefix(name, first) || !strings.HasSuffix(name, last) {
		return false
	}
	name = name[len(first) : len(name)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		at := strings.Index(name, part)
		if at < 0 {
			return false
		}
		name = name[at+len(part):]
	}
	return true
}
