package faketime

import (
	"context"

	"github.com/gosequencer/sequencer/storage"
)

// clockedTx is a clocked store that shares transactions.
type clockedTx struct {
	*clocked
	tx storage.TxStore
}

var _ storage.TxStore = (*clockedTx)(nil)

func (s *clockedTx) TxKinds() []storage.TxKind { return s.tx.TxKinds() }

func (s *clockedTx) EnqueueTx(ctx context.Context, tx storage.Tx, r storage.EnqueueRequest) (storage.Enqueued, error) {
	r.Now = s.now()
	return s.tx.EnqueueTx(ctx, tx, r)
}

func (s *clockedTx) FinishTx(ctx context.Context, tx storage.Tx, r storage.FinishRequest) (storage.Finished, error) {
	r.Now = s.now()
	return s.tx.FinishTx(ctx, tx, r)
}

func (s *clockedTx) CheckpointTx(ctx context.Context, tx storage.Tx, r storage.CheckpointRequest) error {
	r.Now = s.now()
	return s.tx.CheckpointTx(ctx, tx, r)
}
