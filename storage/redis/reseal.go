package redis

import (
	"bytes"
	"context"
	"fmt"

	"github.com/gosequencer/sequencer/storage"
)

// Reseal implements [storage.Operator].
func (s *Store) Reseal(ctx context.Context, r storage.ResealRequest) (int, error) {
	n := 0
	err := s.guarded(ctx, "reseal", func(ctx context.Context) error {
		_, err := s.unit(ctx, r.Now, func(ctx context.Context, u *unit) (err error) {
			n, err = u.reseal(ctx, &r)
			return err
		})
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

func (u *unit) reseal(ctx context.Context, r *storage.ResealRequest) (n int, _ error) {
	ids := make([]storage.ID, len(r.Changes))
	for i, c := range r.Changes {
		ids[i] = c.ID
	}
	if err := u.read(ctx, ids...); err != nil {
		return 0, err
	}
	for _, c := range r.Changes {
		if c.Field == storage.FieldCallbacks {
			done, err := u.resealCallbacks(ctx, &c)
			if err != nil {
				return 0, err
			}
			n += done
			continue
		}
		var nobody row
		to := u.rows[c.ID].now
		if to == nil {
			to = &nobody
		}
		var field *[]byte
		switch c.Field {
		case storage.FieldInput:
			field = &to.Input
		case storage.FieldCheckpoint:
			field = &to.Checkpoint
		case storage.FieldResult:
			field = &to.Result
		default:
			return 0, fmt.Errorf("a row has no field %q", c.Field)
		}
		if len(*field) == 0 || !bytes.Equal(*field, c.Old) {
			continue
		}
		if c.Field == storage.FieldCheckpoint { // a handler saves one without touching the row otherwise
			u.check("HGET", u.s.key("checkpoint"), string(c.ID[:]), string(c.Old), true)
		}
		*field = c.New
		n++
	}
	if n > 0 {
		u.addAudit("rekey", r.Target, r.Actor, r.Reason, n)
	}
	return n, nil
}

func (u *unit) resealCallbacks(ctx context.Context, c *storage.Reseal) (int, error) {
	f, err := u.flow(ctx, c.ID)
	if err != nil || f == nil {
		return 0, err
	}
	stored, err := u.callbacks(ctx, f)
	if err != nil || len(stored) == 0 || !bytes.Equal(stored, c.Old) {
		return 0, err
	}
	f.callbacks, f.resealed = &c.New, true
	u.saveFlow(f)
	return 1, nil
}
