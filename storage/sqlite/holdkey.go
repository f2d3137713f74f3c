package sqlite

import (
	"context"

	"github.com/gosequencer/sequencer/storage"
)

// HoldKey implements [storage.Queue].
func (s *Store) HoldKey(ctx context.Context, r storage.HoldKeyRequest) error {
	_, err := write(ctx, s, "hold key", func(ctx context.Context, t *txn) (nothing, error) {
		return nothing{}, holdKey(ctx, t, r)
	})
	return err
}

// By primary key. Under the write lock nobody takes the key between the look and this.
const (
	saveKey = `UPDATE sequencer_executions SET unique_key = ?, holds_key = 1` + fenced
	dropKey = `UPDATE sequencer_executions SET unique_key = NULL, holds_key = 0` + fenced
)

func holdKey(ctx context.Context, t *txn, r storage.HoldKeyRequest) error {
	if r.Key == "" {
		n, err := t.exec(ctx, dropKey, r.ID[:], r.Worker[:], r.Delivery)
		if err == nil && n == 0 {
			err = storage.ErrLeaseLost
		}
		return err
	}
	holder, held, err := holderOf(ctx, t, clock(r.Now), r.Key, true)
	switch {
	case err != nil:
		return err
	case held && holder != r.ID:
		return &storage.DuplicateError{Name: r.Name, Key: r.Key, HolderID: holder}
	}
	n, err := t.exec(ctx, saveKey, r.Key, r.ID[:], r.Worker[:], r.Delivery)
	if err == nil && n == 0 {
		err = storage.ErrLeaseLost
	}
	return err
}
