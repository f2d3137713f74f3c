package mysql

import (
	"context"
	"fmt"

	"github.com/gosequencer/sequencer/storage"
)

// Each replaces bytes of a row that are still as they were read, by primary key, in
// one of the two parts, or in a flow. A row that moves between them meanwhile is found in neither,
// and left alone.
var resealSQL = map[storage.Field][]string{
	storage.FieldInput: {
		`UPDATE sequencer_live SET input = ? WHERE id = ? AND input = ?`,
		`UPDATE sequencer_history SET input = ? WHERE id = ? AND input = ?`,
	},
	storage.FieldCheckpoint: {
		`UPDATE sequencer_live SET checkpoint = ? WHERE id = ? AND checkpoint = ?`,
		`UPDATE sequencer_history SET checkpoint = ? WHERE id = ? AND checkpoint = ?`,
	},
	storage.FieldResult: {
		`UPDATE sequencer_live SET result = ? WHERE id = ? AND result = ?`,
		`UPDATE sequencer_history SET result = ? WHERE id = ? AND result = ?`,
	},
	storage.FieldCallbacks: {
		`UPDATE sequencer_flows SET callbacks = ? WHERE id = ? AND callbacks = ?`,
	},
}

// Reseal implements [storage.Operator].
func (s *Store) Reseal(ctx context.Context, r storage.ResealRequest) (int, error) {
	var total int
	err := s.tx(ctx, "reseal", r.Now, func(ctx context.Context, q *session) error {
		counts := make([][2]int64, len(r.Changes))
		for i, c := range r.Changes {
			parts, known := resealSQL[c.Field]
			if !known {
				return fmt.Errorf("a row has no field %q", c.Field)
			}
			if len(c.Old) == 0 {
				continue
			}
			for p, query := range parts {
				q.queueCount(&counts[i][p], query, c.New, idArg(c.ID), c.Old)
			}
		}
		if err := q.flush(ctx); err != nil {
			return err
		}
		total = 0
		for _, n := range counts {
			total += int(n[0] + n[1])
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
