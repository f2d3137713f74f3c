package memory

import (
	"context"

	"github.com/gosequencer/sequencer/storage"
)

// HoldKey implements [storage.Queue].
func (s *Store) HoldKey(ctx context.Context, r storage.HoldKeyRequest) error {
	return s.write(ctx, r.Now, func(t *tx) error {
		e := t.held(r.Worker, r.ID, r.Delivery)
		if e == nil {
			return storage.ErrLeaseLost
		}
		if h := t.holder(storage.Execution{ID: r.ID, UniqueKey: r.Key}); h != nil {
			return &storage.DuplicateError{Name: e.Name, Key: r.Key, HolderID: h.ID}
		}
		t.change(e, func() { e.UniqueKey = r.Key })
		return nil
	})
}
