package sequencer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/internal/process"
	"github.com/gosequencer/sequencer/storage"
)

// QueueStatus is how a queue stands, and who works on it.
type QueueStatus struct {
	storage.QueueState
	Size    int64          `json:"size"`            // ready, scheduled and running (Q10.20)
	Age     time.Duration  `json:"age_ns"`          // of the oldest ready row since it was due; 0 = there is none
	Workers int            `json:"workers"`         // that serve it
	Pause   *storage.Pause `json:"pause,omitempty"` // who paused it, and why
}

// Queues tells of each queue that holds live work, is paused or is served by a
// worker, by name. A database without a ledger has none.
func (s *Sequencer) Queues(ctx context.Context) ([]QueueStatus, error) {
	states, err := s.store.Queues(ctx, time.Time{})
	if err != nil {
		if noLedger(err) {
			return []QueueStatus{}, nil
		}
		return nil, fmt.Errorf("reading queues: %w", err)
	}
	pauses, err := s.store.Pauses(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading pauses: %w", err)
	}
	workers, err := s.Workers(ctx)
	if err != nil {
		return nil, err
	}
	queues := make([]QueueStatus, len(states))
	for i, q := range states {
		queues[i] = QueueStatus{QueueState: q, Size: q.Ready + q.Scheduled + q.Running}
		if !q.Oldest.IsZero() {
			queues[i].Age = max(time.Since(q.Oldest), 0)
		}
	}
	for _, w := range workers {
		if !w.Serves() {
			continue
		}
		for _, name := range w.Queues {
			at := slices.IndexFunc(queues, func(q QueueStatus) bool { return q.Queue == name })
			if at < 0 {
				at = len(queues)
				queues = append(queues, QueueStatus{QueueState: storage.QueueState{Queue: name}})
			}
			queues[at].Workers++
		}
	}
	for i := range queues {
		for _, p := range pauses {
			if p.Kind == storage.PauseQueue && p.Name == queues[i].Queue {
				queues[i].Pause = &p
			}
		}
	}
	slices.SortFunc(queues, func(a, b QueueStatus) int { return cmp.Compare(a.Queue, b.Queue) })
	return queues, nil
}

// WorkerStatus is a process that has joined and not left: a worker of queues, a
// run, a call.
type WorkerStatus struct {
	storage.Worker
	Gone bool `json:"gone,omitempty"` // it can be seen from here that it is dead: whoever comes next takes over from it
}

// Serves reports a living worker of queues.
func (w *WorkerStatus) Serves() bool { return len(w.Queues) > 0 && !w.Gone }

// Workers lists who has joined the ledger and not left it, oldest first.
func (s *Sequencer) Workers(ctx context.Context) ([]WorkerStatus, error) {
	rows, err := s.store.Workers(ctx)
	if err != nil && !noLedger(err) {
		return nil, fmt.Errorf("reading workers: %w", err)
	}
	self := process.Self()
	workers := make([]WorkerStatus, len(rows))
	for i, w := range rows {
		workers[i] = WorkerStatus{Worker: w, Gone: goneFrom(self, &w)}
	}
	return workers, nil
}

// clockSlack is by how much this process's clock and the store's may differ without
// a living worker being called dead.
const clockSlack = DefaultLease

// goneFrom reports a worker whose process is not there any more, or whose lease has
// been over for a while by this process's clock.
func goneFrom(self process.Identity, w *storage.Worker) bool {
	return w.Dead || !w.LeftAt.IsZero() || !w.LeaseUntil.IsZero() && time.Since(w.LeaseUntil) > clockSlack ||
		self.Gone(process.Identity{Hostname: w.Hostname, Boot: w.Boot, PID: w.PID, Start: w.PIDStart})
}
