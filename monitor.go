package sequencer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Limits are what a queue may reach and is then too full, or too slow. A zero field
// has no limit.
type Limits struct {
	Size  int64         // ready, scheduled and running together (Q10.20)
	Ready int64         // due and waiting
	Age   time.Duration // of the oldest that is due
}

// Thresholds are the limits of queues.
type Thresholds struct {
	Default Limits
	Queues  map[string]Limits // of single queues, instead of Default; they are looked at although they hold nothing
}

// Monitored is a queue against its limits.
type Monitored struct {
	QueueStatus
	Exceeded []string `json:"exceeded,omitempty"` // in words, one for each limit that is reached
}

// Monitor measures every queue against its limits and sends an EventWarning for
// each that reaches one (Q10.20).
func (s *Sequencer) Monitor(ctx context.Context, t Thresholds) ([]Monitored, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	queues, err := s.Queues(ctx)
	if err != nil {
		return nil, err
	}
	for name := range t.Queues {
		if !slices.ContainsFunc(queues, func(q QueueStatus) bool { return q.Queue == name }) {
			queues = append(queues, QueueStatus{QueueState: storage.QueueState{Queue: name}})
		}
	}
	slices.SortFunc(queues, func(a, b QueueStatus) int { return cmp.Compare(a.Queue, b.Queue) })
	found := make([]Monitored, len(queues))
	for i, q := range queues {
		limits, own := t.Queues[q.Queue]
		if !own {
			limits = t.Default
		}
		found[i] = Monitored{QueueStatus: q, Exceeded: limits.exceeded(q)}
		for _, what := range found[i].Exceeded {
			s.emit(ctx, Event{Kind: EventWarning, Name: q.Queue, Reason: what})
		}
	}
	return found, nil
}

func (t Thresholds) check() error {
	problems := []error{t.Default.check("default")}
	for name, limits := range t.Queues {
		problems = append(problems, checkIdentifier("queue", name), limits.check("queue "+name))
	}
	return errors.Join(problems...)
}

func (l Limits) check(whose string) error {
	if l.Size < 0 || l.Ready < 0 || l.Age < 0 {
		return fmt.Errorf("limits of %s: want 0 (no limit) or more", whose)
	}
	return nil
}

func (l Limits) exceeded(q QueueStatus) []string {
	var all []string
	if l.Size > 0 && q.Size >= l.Size {
		all = append(all, fmt.Sprintf("holds %d, limit %d", q.Size, l.Size))
	}
	if l.Ready > 0 && q.Ready >= l.Ready {
		all = append(all, fmt.Sprintf("%d ready, limit %d", q.Ready, l.Ready))
	}
	if l.Age > 0 && q.Age >= l.Age {
		all = append(all, fmt.Sprintf("the oldest has waited %s, limit %s", q.Age.Round(time.Second), l.Age))
	}
	return all
}
