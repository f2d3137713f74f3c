package sequencer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// MaxWatchedTags bounds Config.WatchedTags: each has counters per minute, operation and
// ending.
const MaxWatchedTags = 100

// MatchTags reports whether tags pass a filter: at least one of the wanted, exactly,
// and none of those written with a minus (S16.2, S16.5). An empty filter passes
// everything.
func MatchTags(filter, tags []string) bool {
	wanted, hit := false, false
	for _, f := range filter {
		if name, exclude := strings.CutPrefix(f, "-"); exclude {
			if slices.Contains(tags, name) {
				return false
			}
			continue
		}
		wanted = true
		hit = hit || slices.Contains(tags, f)
	}
	return hit || !wanted
}

// watched are the tags of an execution that statistics count it under. An undoing has
// the tags of what it undoes, and is none of its endings.
func (s *Sequencer) watched(e *storage.Execution) (tags []string) {
	if len(s.cfg.WatchedTags) == 0 || e.Kind == storage.Undo {
		return nil
	}
	for _, t := range e.Tags {
		if slices.Contains(s.cfg.WatchedTags, t) && !slices.Contains(tags, t) {
			tags = append(tags, t)
		}
	}
	return tags
}

// checkWatched finds what is wrong with WatchedTags.
func (c *Config) checkWatched() error {
	if n := len(c.WatchedTags); n > MaxWatchedTags {
		return fmt.Errorf("config WatchedTags = %d tags: want %d at most, each has counters of its own", n, MaxWatchedTags)
	}
	if err := checkTags(c.WatchedTags); err != nil {
		return fmt.Errorf("config WatchedTags: %w", err)
	}
	return nil
}

// TagStatus is what executions with a watched tag came to in some time.
type TagStatus struct {
	Tag           string `json:"tag"`
	Watched       bool   `json:"watched"` // this process counts it; else others do, or did
	storage.Tally        // Ran and Waited are of an attempt, on average
	Pending       int64  `json:"pending"`        // now
	Running       int64  `json:"running"`        // now
	Overflowing   bool   `json:"more,omitempty"` // pending and running are more than were counted
}

// TagStats tells of each tag in Config.WatchedTags, and each that has been counted since
// then, by name (S16.4, Q8.5). What ended before its tag was watched is not in the
// counts; it is found by its tag all the same (Q8.4).
func (s *Sequencer) TagStats(ctx context.Context, since time.Time) ([]TagStatus, error) {
	stats, err := s.store.Stats(ctx, storage.StatsFilter{Since: since, Watched: true})
	if err != nil && !noLedger(err) {
		return nil, fmt.Errorf("reading statistics: %w", err)
	}
	byTag := map[string]*TagStatus{}
	of := func(tag string) *TagStatus {
		if byTag[tag] == nil {
			byTag[tag] = &TagStatus{Tag: tag, Watched: slices.Contains(s.cfg.WatchedTags, tag)}
		}
		return byTag[tag]
	}
	for _, tag := range s.cfg.WatchedTags {
		of(tag)
	}
	for i := range stats {
		of(stats[i].Tag).Add(&stats[i])
	}
	all := make([]TagStatus, 0, len(byTag))
	for _, t := range byTag {
		t.Ran, t.Waited = t.MeanRan(), t.MeanWaited()
		if err := s.countLive(ctx, t); err != nil {
			return nil, err
		}
		all = append(all, *t)
	}
	slices.SortFunc(all, func(a, b TagStatus) int { return cmp.Compare(a.Tag, b.Tag) })
	return all, nil
}

// countLive counts what waits and runs with the tag, up to a page of it.
func (s *Sequencer) countLive(ctx context.Context, t *TagStatus) error {
	const most = 10_000
	rows, err := s.store.Executions(ctx, storage.Filter{
		Tag: t.Tag, States: []storage.State{storage.Pending, storage.Running}, Limit: most,
	})
	if err != nil && !noLedger(err) {
		return fmt.Errorf("counting executions with tag %s: %w", t.Tag, err)
	}
	for i := range rows {
		if rows[i].State == storage.Running {
			t.Running++
		} else {
			t.Pending++
		}
	}
	t.Overflowing = len(rows) == most
	return nil
}
