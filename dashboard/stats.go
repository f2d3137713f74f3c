package dashboard

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// span is a stretch of time that charts show.
type span struct {
	name string
	long time.Duration
	step time.Duration // of one bar
}

var ranges = [...]span{
	{"1h", time.Hour, time.Minute},
	{"6h", 6 * time.Hour, 5 * time.Minute},
	{"24h", 24 * time.Hour, 15 * time.Minute},
}

// series is what a queue, an operation or everything together did over a span.
type series struct {
	name    string
	buckets []storage.Tally
	sum     storage.Tally
}

// history is a span's statistics.
type history struct {
	span
	from   time.Time
	all    series
	queues []series // by name
	names  []series // by name
}

// history reads the counters that finishing keeps, never the executions.
func (s *server) history(ctx context.Context, i int) (*history, error) {
	return s.charts[i].get(ctx, max(s.o.Refresh, 5*time.Second), func(ctx context.Context) (*history, error) {
		h := &history{span: ranges[i]}
		h.from = time.Now().UTC().Truncate(h.step).Add(h.step - h.long)
		stats, err := s.seq.Store().Stats(ctx, storage.StatsFilter{Since: h.from, Step: h.step})
		var schema *storage.SchemaError
		if err != nil && (!errors.As(err, &schema) || !schema.Missing()) {
			return nil, err
		}
		h.all.buckets = make([]storage.Tally, h.long/h.step)
		queues, names := map[string]*series{}, map[string]*series{}
		for i := range stats {
			st := &stats[i]
			at := int(st.Minute.Sub(h.from) / h.step)
			if at < 0 || at >= len(h.all.buckets) {
				continue
			}
			h.all.count(st, at)
			h.of(queues, st.Queue).count(st, at)
			h.of(names, st.Name).count(st, at)
		}
		h.queues, h.names = sorted(queues), sorted(names)
		return h, nil
	})
}

func (h *history) of(all map[string]*series, name string) *series {
	if all[name] == nil {
		all[name] = &series{name: name, buckets: make([]storage.Tally, len(h.all.buckets))}
	}
	return all[name]
}

func (s *series) count(st *storage.Stat, at int) {
	s.buckets[at].Add(st)
	s.sum.Add(st)
}

func sorted(all map[string]*series) []series {
	list := make([]series, 0, len(all))
	for _, s := range all {
		list = append(list, *s)
	}
	slices.SortFunc(list, func(a, b series) int { return cmp.Compare(a.name, b.name) })
	return list
}

// named finds one of them.
func named(all []series, name string) (series, bool) {
	i, ok := slices.BinarySearchFunc(all, name, func(s series, name string) int { return cmp.Compare(s.name, name) })
	if !ok {
		return series{}, false
	}
	return all[i], true
}

// values makes a line of numbers of a series.
func (s *series) values(of func(b *storage.Tally) float64) []float64 {
	list := make([]float64, len(s.buckets))
	for i := range s.buckets {
		list[i] = of(&s.buckets[i])
	}
	return list
}

func ended(b *storage.Tally) float64 { return float64(b.Completed + b.Failed + b.Others) }

func runTime(b *storage.Tally) float64 { return b.MeanRan().Seconds() }

func waitTime(b *storage.Tally) float64 { return b.MeanWaited().Seconds() }

// chosen is the span that a page was asked for, the first by default.
func (p *request) chosen() int {
	return max(slices.IndexFunc(ranges[:], func(s span) bool { return s.name == p.q.Get("span") }), 0)
}
