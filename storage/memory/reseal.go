package memory

import (
	"bytes"
	"context"
	"fmt"

	"github.com/gosequencer/sequencer/storage"
)

// Reseal implements [storage.Operator].
func (s *Store) Reseal(ctx context.Context, r storage.ResealRequest) (int, error) {
	n := 0
	err := s.write(ctx, r.Now, func(t *tx) error {
		for _, c := range r.Changes {
			if c.Field == storage.FieldCallbacks {
				n += t.resealCallbacks(c)
				continue
			}
			e := t.rows[c.ID]
			if e == nil {
				continue
			}
			field, err := e.field(c.Field)
			if err != nil {
				return err
			}
			if len(c.Old) > 0 && bytes.Equal(*field, c.Old) {
				t.change(e, func() { *field = bytes.Clone(c.New) })
				n++
			}
		}
		if n > 0 {
			t.addAudit("rekey", r.Target, r.Actor, r.Reason, n)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

func (t *tx) resealCallbacks(c storage.Reseal) int {
	f := t.flows[c.ID]
	if f == nil || len(c.Old) == 0 || !bytes.Equal(f.callbacks, c.Old) {
		return 0
	}
	was := f.callbacks
	f.callbacks = bytes.Clone(c.New)
	t.onRollback(func() { f.callbacks = was })
	return 1
}

func (r *row) field(f storage.Field) (*[]byte, error) {
	switch f {
	case storage.FieldInput:
		return &r.Input, nil
	case storage.FieldCheckpoint:
		return &r.Checkpoint, nil
	case storage.FieldResult:
		return &r.Result, nil
	case storage.FieldCallbacks: // of a flow
	}
	return nil, fmt.Errorf("reseal: a row has no field %q", f)
}
