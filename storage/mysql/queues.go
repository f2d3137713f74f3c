package mysql

import (
	"context"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// queuesSQL reads the live part in full: it counts it.
const queuesSQL = `
SELECT queue, SUM(ready), SUM(scheduled), SUM(blocked), SUM(parked), SUM(running), MIN(oldest), MAX(paused) FROM (
	SELECT queue,
		SUM(state = 'pending' AND NOT parked AND due_at IS NOT NULL AND due_at <= @sequencer_now) AS ready,
		SUM(state = 'pending' AND NOT parked AND due_at IS NOT NULL AND due_at > @sequencer_now) AS scheduled,
		SUM(state = 'pending' AND due_at IS NULL) AS blocked,
		SUM(state = 'pending' AND parked AND due_at IS NOT NULL) AS parked,
		SUM(state = 'running') AS running,
		MIN(CASE WHEN state = 'pending' AND NOT parked AND due_at <= @sequencer_now THEN due_at END) AS oldest,
		0 AS paused
	FROM sequencer_live WHERE LEFT(queue, 1) <> '@' GROUP BY queue
	UNION ALL
	SELECT name, 0, 0, 0, 0, 0, NULL, 1 FROM sequencer_pauses WHERE kind = 'queue'
) q GROUP BY queue ORDER BY queue`

// Queues implements [storage.Reader].
func (s *Store) Queues(ctx context.Context, now time.Time) ([]storage.QueueState, error) {
	states := []storage.QueueState{}
	err := s.guarded(ctx, "look at the queues", func(ctx context.Context) error {
		states = states[:0]
		return s.ask(ctx, func(q *session) error {
			q.now = micro(now)
			q.queueNow()
			return q.each(ctx, func(r scanner) error {
				var c storage.QueueState
				err := r.Scan(&c.Queue, &c.Ready, &c.Scheduled, &c.Blocked, &c.Parked, &c.Running, instant{&c.Oldest}, &c.Paused)
				states = append(states, c)
				return err
			}, queuesSQL)
		})
	})
	return states, err
}
