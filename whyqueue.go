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

// whyWaiting is about what waits in a queue for any worker.
func (s *Sequencer) whyWaiting(ctx context.Context, a *Answer) error {
	if err := s.whyPaused(ctx, a); err != nil {
		return err
	}
	if err := s.whyBlocked(ctx, a); err != nil {
		return err
	}
	asked, err := s.whyApproval(ctx, a)
	if err != nil {
		return err
	}
	if !asked {
		a.whyHeld()
		a.whyLater()
	}
	if err := s.whyNobody(ctx, a); err != nil {
		return err
	}
	if len(a.Reasons) > 0 {
		return nil
	}
	return s.whyBehind(ctx, a)
}

func (s *Sequencer) whyPaused(ctx context.Context, a *Answer) error {
	pauses, err := s.Pauses(ctx)
	if err != nil {
		return err
	}
	for _, p := range pauses {
		r := Reason{Pause: &p, At: p.At, Text: fmt.Sprintf("%s is paused since %s by %s", p.Target(), clockTime(p.At), p.Actor)}
		switch {
		case p.Kind == storage.PauseQueue && p.Name == a.Execution.Queue:
			r.Kind = ReasonQueuePaused
		case p.Kind == storage.PauseOperation && p.Name == a.Execution.Name:
			r.Kind = ReasonOperationPaused
		default:
			continue
		}
		if p.Reason != "" {
			r.Text += ": " + p.Reason
		}
		a.add(r)
	}
	return nil
}

// whyNobody looks for a worker that would run it.
func (s *Sequencer) whyNobody(ctx context.Context, a *Answer) error {
	workers, err := s.Workers(ctx)
	if err != nil {
		return err
	}
	row := &a.Execution
	serving := slices.DeleteFunc(workers, func(w WorkerStatus) bool { return !w.Serves() || !slices.Contains(w.Queues, row.Queue) })
	knowing := slices.DeleteFunc(slices.Clone(serving), func(w WorkerStatus) bool { return !slices.Contains(w.Names, row.Name) })
	newest := int64(0)
	for _, w := range knowing {
		newest = max(newest, w.Build)
	}
	switch {
	case len(serving) == 0:
		a.add(Reason{Kind: ReasonNoWorker, Text: "no worker serves queue " + row.Queue})
	case len(knowing) == 0:
		r := Reason{Kind: ReasonUnknown, Text: fmt.Sprintf("no worker of queue %s has %s registered; there %s", row.Queue, row.Name, hosts(serving))}
		if row.Parked {
			r.Text += ", which left it for one that has"
		}
		a.add(r)
	case row.MinBuild > newest:
		a.add(Reason{Kind: ReasonBuild, Build: newest, Text: fmt.Sprintf(
			"it wants build %d or later, and the newest worker of queue %s that knows it has %d", row.MinBuild, row.Queue, newest)})
	}
	return nil
}

func hosts(workers []WorkerStatus) string {
	var names []string
	for _, w := range workers {
		if name := fmt.Sprintf("%s (pid %d)", w.Hostname, w.PID); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 1 {
		return "is " + names[0]
	}
	return "are " + few(names)
}

const (
	// countable is how long a queue may be for a place in it to be counted.
	countable = 5000
	countPage = 500
)

// whyBehind counts what comes first in its queue: by priority, due time and id.
func (s *Sequencer) whyBehind(ctx context.Context, a *Answer) error {
	queues, err := s.Queues(ctx)
	if err != nil {
		return err
	}
	row := &a.Execution
	var q QueueStatus
	if at := slices.IndexFunc(queues, func(q QueueStatus) bool { return q.Queue == row.Queue }); at >= 0 {
		q = queues[at]
	}
	ahead, about := q.Ready-1, "up to "
	if q.Ready <= countable {
		if ahead, err = s.ahead(ctx, row); err != nil {
			return err
		}
		about = ""
	}
	if ahead <= 0 {
		a.add(Reason{Kind: ReasonNext, Text: "it is next in queue " + row.Queue + ": a worker with a free slot takes it"})
		return nil
	}
	others := "others"
	if ahead == 1 {
		others = "other"
	}
	a.add(Reason{Kind: ReasonBehind, Count: ahead, Text: fmt.Sprintf("it is behind %s%d %s in queue %s, where %d run", about, ahead, others, row.Queue, q.Running)})
	return nil
}

func (s *Sequencer) ahead(ctx context.Context, row *storage.Execution) (int64, error) {
	f := storage.Filter{Queue: row.Queue, States: []storage.State{storage.Pending}, Oldest: true, Limit: countPage}
	n := int64(0)
	now := time.Now()
	for {
		page, err := s.store.Executions(ctx, f)
		if err != nil {
			return n, fmt.Errorf("reading queue %s: %w", row.Queue, err)
		}
		for i := range page {
			e := &page[i]
			if !e.Parked && !e.DueAt.IsZero() && !e.DueAt.After(now) && before(e, row) {
				n++
			}
		}
		if len(page) < countPage {
			return n, nil
		}
		last := page[len(page)-1]
		f.After = &storage.Cursor{At: last.CreatedAt, ID: last.ID}
	}
}

// before is the order in which a queue is served.
func before(a, b *storage.Execution) bool {
	return cmp.Or(cmp.Compare(a.Priority, b.Priority), a.DueAt.Compare(b.DueAt), strings.Compare(string(a.ID[:]), string(b.ID[:]))) < 0
}
