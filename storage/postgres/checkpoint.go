package postgres

import (
	"context"

	"github.com/gosequencer/sequencer/storage"
)

// checkpointSQL saves a cursor. Index: primary key; the fence as in moveSQL. No
// indexed column changes, so the row is updated in place.
const checkpointSQL = `
UPDATE sequencer_live SET checkpoint = $4::bytea, losses = CASE WHEN $5::bool THEN 0 ELSE losses END
WHERE id = $1::uuid AND state = 'running' AND worker_id = $2::uuid AND delivery = $3::int`

// Checkpoint implements [storage.Queue].
func (s *Store) Checkpoint(ctx context.Context, r storage.CheckpointRequest) error {
	return s.guarded(ctx, "checkpoint", func(ctx context.Context) error {
		return checkpoint(ctx, &session{wire: pgxWire{s.pool}}, r)
	})
}

func checkpoint(ctx context.Context, q *session, r storage.CheckpointRequest) error {
	n, err := q.exec(ctx, checkpointSQL, r.ID.String(), r.Worker.String(), r.Delivery, r.Data, r.Moved)
	if err == nil && n == 0 {
		return leaseLost(r.Worker)
	}
	return err
}
