package sqlite

import (
	"context"
	"fmt"

	"github.com/gosequencer/sequencer/storage"
)

// By primary key. What has changed meanwhile is left alone.
const (
	resealInput      = `UPDATE sequencer_executions SET input = ? WHERE id = ? AND input = ?`
	resealCheckpoint = `UPDATE sequencer_executions SET checkpoint = ? WHERE id = ? AND checkpoint = ?`
	resealCallbacks  = `UPDATE sequencer_flows SET callbacks = ? WHERE id = ? AND callbacks = ?`
	resealResult     = `UPDATE sequencer_executions SET result = ? WHERE id = ? AND result = ?`
)

var resealed = map[storage.Field]string{
	storage.FieldInput: resealInput, storage.FieldCheckpoint: resealCheckpoint, storage.FieldResult: resealResult,
	storage.FieldCallbacks: resealCallbacks,
}

// Reseal replaces bytes of rows by others, see [storage.Operator].
func (s *Store) Reseal(ctx context.Context, r storage.ResealRequest) (int, error) {
	return write(ctx, s, "reseal", func(ctx context.Context, t *txn) (int, error) {
		total := 0
		for _, c := range r.Changes {
			query, ok := resealed[c.Field]
			if !ok {
				return 0, fmt.Errorf("a row has no field %q", c.Field)
			}
			n, err := t.exec(ctx, query, c.New, c.ID[:], c.Old)
			if err != nil {
				return 0, err
			}
			total += n
		}
		if total == 0 {
			return 0, nil
		}
		return total, audit(ctx, t, clock(r.Now), r.Actor, "rekey", r.Target, total, r.Reason)
	})
}
