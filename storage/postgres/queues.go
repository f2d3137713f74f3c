package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/gosequencer/sequencer/storage"
)

// queuesSQL reads the live part in full: it counts it.
const queuesSQL = `
WITH clock AS MATERIALIZED (
	SELECT coalesce($1::timestamptz, now()) AS now
), held AS (
	SELECT queue,
		count(*) FILTER (WHERE state = 'pending' AND NOT parked AND due_at <= (SELECT now FROM clock)) AS ready,
		count(*) FILTER (WHERE state = 'pending' AND NOT parked AND due_at > (SELECT now FROM clock)) AS scheduled,
		count(*) FILTER (WHERE state = 'pending' AND due_at IS NULL) AS blocked,
		count(*) FILTER (WHERE state = 'pending' AND parked AND due_at IS NOT NULL) AS parked,
		count(*) FILTER (WHERE state = 'running') AS running,
		min(due_at) FILTER (WHERE state = 'pending' AND NOT parked AND due_at <= (SELECT now FROM clock)) AS oldest
	FROM ` + fromLive + ` WHERE NOT starts_with(queue, '@') GROUP BY queue
), paused AS (
	SELECT name FROM sequencer_pauses WHERE kind = 'queue'
)
SELECT coalesce(queue, name) AS queue, coalesce(ready, 0), coalesce(scheduled, 0), coalesce(blocked, 0), coalesce(parked, 0),
	coalesce(running, 0), oldest, name IS NOT NULL
FROM held FULL JOIN paused ON queue = name ORDER BY coalesce(queue, name) COLLATE "C"`

// Queues implements [storage.Reader].
func (s *Store) Queues(ctx context.Context, now time.Time) ([]storage.QueueState, error) {
	states := []storage.QueueState{}
	err := s.read(ctx, "look at the queues", queuesSQL, func(r scanner) error {
		var c storage.QueueState
		var oldest pgtype.Timestamptz
		err := r.Scan(&c.Queue, &c.Ready, &c.Scheduled, &c.Blocked, &c.Parked, &c.Running, &oldest, &c.Paused)
		c.Oldest = instant(oldest)
		states = append(states, c)
		return err
	}, at(micro(now)))
	return states, err
}
