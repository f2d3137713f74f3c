package postgres

import (
	"context"
	"fmt"

	"github.com/gosequencer/sequencer/storage"
)

// Each replaces the bytes of rows of either part, or of flows, that are still as they
// were read.
// Index: primary keys. Lock: the rows. A row that moves between the parts meanwhile
// is found in neither, and left alone.
const (
	resealInputSQL = `
WITH c AS MATERIALIZED (SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS c (id, old, new)),
live AS (UPDATE sequencer_live l SET input = c.new FROM c WHERE l.id = c.id AND l.input = c.old RETURNING 1),
past AS (UPDATE sequencer_history l SET input = c.new FROM c WHERE l.id = c.id AND l.input = c.old RETURNING 1)
SELECT (SELECT count(*) FROM live) + (SELECT count(*) FROM past)`
	resealCheckpointSQL = `
WITH c AS MATERIALIZED (SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS c (id, old, new)),
live AS (UPDATE sequencer_live l SET checkpoint = c.new FROM c WHERE l.id = c.id AND l.checkpoint = c.old RETURNING 1),
past AS (UPDATE sequencer_history l SET checkpoint = c.new FROM c WHERE l.id = c.id AND l.checkpoint = c.old RETURNING 1)
SELECT (SELECT count(*) FROM live) + (SELECT count(*) FROM past)`
	resealResultSQL = `
WITH c AS MATERIALIZED (SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS c (id, old, new)),
live AS (UPDATE sequencer_live l SET result = c.new FROM c WHERE l.id = c.id AND l.result = c.old RETURNING 1),
past AS (UPDATE sequencer_history l SET result = c.new FROM c WHERE l.id = c.id AND l.result = c.old RETURNING 1)
SELECT (SELECT count(*) FROM live) + (SELECT count(*) FROM past)`
	resealCallbacksSQL = `
WITH c AS MATERIALIZED (SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS c (id, old, new)),
done AS (UPDATE sequencer_flows f SET callbacks = c.new FROM c WHERE f.id = c.id AND f.callbacks = c.old RETURNING 1)
SELECT count(*) FROM done`
)

// Reseal implements [storage.Operator].
func (s *Store) Reseal(ctx context.Context, r storage.ResealRequest) (int, error) {
	byField := map[storage.Field][]storage.Reseal{}
	for _, c := range r.Changes {
		byField[c.Field] = append(byField[c.Field], c)
	}
	total := 0
	err := s.tx(ctx, "reseal", r.Now, func(ctx context.Context, q *session) error {
		total = 0
		for field, changes := range byField {
			sql := map[storage.Field]string{
				storage.FieldInput: resealInputSQL, storage.FieldCheckpoint: resealCheckpointSQL, storage.FieldResult: resealResultSQL,
				storage.FieldCallbacks: resealCallbacksSQL,
			}[field]
			if sql == "" {
				return fmt.Errorf("a row has no field %q", field)
			}
			was, now := make([][]byte, len(changes)), make([][]byte, len(changes))
			for i, c := range changes {
				was[i], now[i] = c.Old, c.New
			}
			err := q.each(ctx, func(r scanner) error {
				var n int
				err := r.Scan(&n)
				total += n
				return err
			}, sql, idColumn(changes, func(c *storage.Reseal) storage.ID { return c.ID }), was, now)
			if err != nil {
				return err
			}
		}
		if total > 0 {
			queueAudit(q, "rekey", r.Target, r.Actor, r.Reason, total)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return total, nil
}
