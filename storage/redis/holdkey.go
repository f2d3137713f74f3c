package redis

import (
	"context"

	"github.com/gosequencer/sequencer/storage"
)

// HoldKey implements [storage.Queue].
func (s *Store) HoldKey(ctx context.Context, r storage.HoldKeyRequest) error {
	return s.guarded(ctx, "hold key", func(ctx context.Context) error {
		_, err := s.unit(ctx, r.Now, func(ctx context.Context, u *unit) error {
			e, err := u.get(ctx, r.ID)
			if err != nil {
				return err
			}
			if e == nil || e.State != storage.Running || e.WorkerID != r.Worker || e.Delivery != r.Delivery {
				return leaseLost(r.Worker)
			}
			if r.Key == "" {
				e.UniqueKey = ""
				return nil
			}
			asks := storage.Execution{ID: r.ID, Name: e.Name, UniqueKey: r.Key}
			if err := u.readHolders(ctx, []storage.Execution{asks}); err != nil {
				return err
			}
			if h := u.holder(&asks); h != nil {
				return &storage.DuplicateError{Name: e.Name, Key: r.Key, HolderID: h.ID}
			}
			e.UniqueKey = r.Key
			u.takeKey(e)
			return nil
		})
		return err
	})
}
