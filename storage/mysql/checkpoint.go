package mysql

import (
	"context"

	"github.com/gosequencer/sequencer/storage"
)

// fencedSQL locks a row if the worker holds it at a delivery, by primary key;
// checkpointSQL then saves a cursor in it.
const (
	fencedSQL     = `SELECT 1 FROM sequencer_live FORCE INDEX (PRIMARY) WHERE id = ? AND holder = ? AND delivery = ? FOR UPDATE`
	checkpointSQL = `UPDATE sequencer_live FORCE INDEX (PRIMARY) SET checkpoint = ?, losses = IF(?, 0, losses) WHERE id = ? AND holder = ? AND delivery = ?`
)

// Checkpoint implements [storage.Queue].
func (s *Store) Checkpoint(ctx context.Context, r storage.CheckpointRequest) error {
	return s.tx(ctx, "checkpoint", r.Now, func(ctx context.Context, q *session) error { return checkpoint(ctx, q, r) })
}

func checkpoint(ctx context.Context, q *session, r storage.CheckpointRequest) error {
	held := false
	q.queueScan(func(scanner) error { held = true; return nil }, fencedSQL, idArg(r.ID), r.Worker[:], r.Delivery)
	q.queue(checkpointSQL, bytesArg(r.Data), r.Moved, idArg(r.ID), r.Worker[:], r.Delivery)
	err := q.flush(ctx)
	if err == nil && !held {
		return leaseLost(r.Worker)
	}
	return err
}
