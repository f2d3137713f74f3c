package cli

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/wording"
	"github.com/gosequencer/sequencer/storage"
)

// queueEntry is a queue and how much of its history failed.
type queueEntry struct {
	sequencer.QueueStatus

	Failed int64 `json:"failed"`
}

func newQueues(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "queues",
		Short: "Show how deep each queue is, and who works on it",
		Long: "Of each queue that holds work, is paused or has a worker: what is due (ready), due later, waits for others of\n" +
			"its flow, is parked (for a worker that knows it, or until its operation is resumed), runs, and failed; how\n" +
			"long the oldest that is due has waited; how many workers serve it.",
		Args: takes(),
		RunE: a.with(func(ctx context.Context, s *session) error {
			queues, err := readQueues(ctx, s.Seq)
			if err != nil {
				return err
			}
			switch {
			case s.json:
				s.document(map[string]any{"queues": queues})
			case len(queues) == 0:
				s.printf("No queue holds anything, and no worker serves one.")
			default:
				s.queueTable(queues)
				for _, q := range queues {
					if q.Pause != nil {
						s.printf("  %s is paused %s", q.Queue, pausedBy(*q.Pause))
					}
				}
			}
			return nil
		}),
	}
}

func readQueues(ctx context.Context, seq *sequencer.Sequencer) ([]queueEntry, error) {
	queues, err := seq.Queues(ctx)
	if err != nil {
		return nil, err
	}
	counts, err := seq.Store().Counts(ctx)
	if err != nil && !isMissingLedger(err) {
		return nil, err
	}
	return withFailed(queues, counts), nil
}

// withFailed adds what failed, also of queues that hold nothing else.
func withFailed(queues []sequencer.QueueStatus, counts []storage.Count) []queueEntry {
	entries := make([]queueEntry, len(queues))
	at := map[string]int{}
	for i, q := range queues {
		entries[i].QueueStatus = q
		at[q.Queue] = i
	}
	for _, c := range counts {
		if c.State != storage.Failed || wording.Queue(c.Queue) == "" {
			continue
		}
		i, known := at[c.Queue]
		if !known {
			i = len(entries)
			entries = append(entries, queueEntry{QueueStatus: sequencer.QueueStatus{QueueState: storage.QueueState{Queue: c.Queue}}})
		}
		entries[i].Failed = c.N
	}
	return entries
}

func (u *ui) queueTable(queues []queueEntry) {
	rows := make([][]string, len(queues))
	for i, q := range queues {
		name := q.Queue
		if q.Paused {
			name += " " + u.paint(yellow, "(paused)")
		}
		rows[i] = []string{
			name, number(q.Ready), number(q.Scheduled), number(q.Blocked), number(q.Parked), number(q.Running), number(q.Failed),
			wording.Roughly(q.Age), number(int64(q.Workers)),
		}
	}
	u.fitted([]string{"queue", "ready", "later", "waiting", "parked", "running", "failed", "oldest", "workers"}, rows)
}

func number(n int64) string { return strconv.FormatInt(n, 10) }
