package faultstore

import (
	"context"

	"github.com/gosequencer/sequencer/storage"
)

// faultyTx is a faulty store that shares transactions.
type faultyTx struct {
	*faulty
	tx storage.TxStore
}

var _ storage.TxStore = (*faultyTx)(nil)

func (s *faultyTx) TxKinds() []storage.TxKind {
	kinds := s.tx.TxKinds()
	for i, k := range kinds {
		kinds[i].Begin = func(ctx context.Context) (storage.OwnedTx, error) {
			var begun storage.OwnedTx
			owned, err := around(s.counted, "Begin", func() (storage.OwnedTx, error) {
				var err error
				if begun, err = k.Begin(ctx); err == nil {
					s.note(begun, true)
				}
				return begun, err
			})
			if err == nil {
				return &ownedTx{owned, s.counted}, nil
			}
			if begun != nil { // an answer that was lost must not leave the database locked
				s.note(begun, false)
				_ = begun.Rollback(context.WithoutCancel(ctx))
			}
			return nil, err
		}
	}
	return kinds
}

func (s *faultyTx) EnqueueTx(ctx context.Context, tx storage.Tx, r storage.EnqueueRequest) (storage.Enqueued, error) {
	return around(s.counted, "EnqueueTx", func() (storage.Enqueued, error) { return s.tx.EnqueueTx(ctx, inner(tx), r) })
}

func (s *faultyTx) FinishTx(ctx context.Context, tx storage.Tx, r storage.FinishRequest) (storage.Finished, error) {
	return around(s.counted, "FinishTx", func() (storage.Finished, error) { return s.tx.FinishTx(ctx, inner(tx), r) })
}

func (s *faultyTx) CheckpointTx(ctx context.Context, tx storage.Tx, r storage.CheckpointRequest) error {
	return step(s.counted, "CheckpointTx", func() error { return s.tx.CheckpointTx(ctx, inner(tx), r) })
}

// ownedTx is a transaction that the wrapped store began.
type ownedTx struct {
	storage.OwnedTx
	*counted
}

func (t *ownedTx) Commit(ctx context.Context) error {
	return step(t.counted, "Commit", func() error {
		defer t.note(t.OwnedTx, false)
		return t.OwnedTx.Commit(ctx)
	})
}

func (t *ownedTx) Rollback(ctx context.Context) error {
	return step(t.counted, "Rollback", func() error {
		defer t.note(t.OwnedTx, false)
		return t.OwnedTx.Rollback(ctx)
	})
}

// inner is the transaction as the wrapped store made it: stores know their own by type.
func inner(tx storage.Tx) storage.Tx {
	if t, ok := tx.(*ownedTx); ok {
		return t.OwnedTx
	}
	return tx
}
