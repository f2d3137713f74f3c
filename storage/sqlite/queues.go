package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Waiting rows are counted in the index of claimable rows alone, parked and running
// ones through the indexes that hold little else.
const queueStates = `
SELECT queue, sum(ready), sum(scheduled), sum(blocked), sum(parked), sum(running), min(oldest),
	EXISTS (SELECT 1 FROM sequencer_pauses AS p WHERE p.kind = 'queue' AND p.name = queue)
FROM (
	SELECT queue, coalesce(sum(due_at <= ?1), 0) AS ready, coalesce(sum(due_at > ?1), 0) AS scheduled, sum(due_at IS NULL) AS blocked,
		0 AS parked, 0 AS running, min(iif(due_at <= ?1, due_at, NULL)) AS oldest
	FROM sequencer_executions INDEXED BY sequencer_executions_claimable
	WHERE state = 'pending' AND parked = 0 GROUP BY queue
	UNION ALL
	SELECT queue, 0, 0, 0, count(*), 0, NULL
	FROM sequencer_executions INDEXED BY sequencer_executions_parked
	WHERE parked = 1 AND state = 'pending' GROUP BY queue
	UNION ALL
	SELECT queue, 0, 0, 0, 0, count(*), NULL
	FROM sequencer_executions INDEXED BY sequencer_executions_held
	WHERE worker_id IS NOT NULL AND finished_at IS NULL AND state = 'running' GROUP BY queue
	UNION ALL
	SELECT name, 0, 0, 0, 0, 0, NULL FROM sequencer_pauses WHERE kind = 'queue')
WHERE NOT (queue >= '@' AND queue < 'A')
GROUP BY queue ORDER BY queue`

// Queues tells how each queue stands, see [storage.Reader].
func (s *Store) Queues(ctx context.Context, now time.Time) ([]storage.QueueState, error) {
	list := []storage.QueueState{}
	err := s.read(ctx, func(rows *sql.Rows) error {
		var q storage.QueueState
		err := rows.Scan(&q.Queue, (*int64Column)(&q.Ready), (*int64Column)(&q.Scheduled), (*int64Column)(&q.Blocked),
			(*int64Column)(&q.Parked), (*int64Column)(&q.Running), (*instantColumn)(&q.Oldest), (*truthColumn)(&q.Paused))
		list = append(list, q)
		return err
	}, queueStates, clock(now).UnixMicro())
	return list, s.fail("look at the queues", err)
}
