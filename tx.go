package sequencer

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/gosequencer/sequencer/storage"
)

// attemptTx is a transaction that begins when it is first asked for. The zero
// value has not begun.
type attemptTx struct {
	mu    sync.Mutex // handlers have goroutines; guards the rest
	owned storage.OwnedTx
	ended bool
	deny  error           // begin answers this instead
	ctx   context.Context // the attempt's or step's own: database/sql ends a transaction with the context it was begun with
	kinds []storage.TxKind

	checkpoint checkpoint // saved in it; the attempt's once it has committed
}

// Tx is the transaction of the attempt, in the kind the handler's code uses:
// *sql.Tx, pgx.Tx, or an interface one of them satisfies, such as sqlc's DBTX. It
// begins at the first call and commits together with the outcome; a handler that
// fails leaves nothing in it (S7). ErrNoTx outside an attempt, for TxNever
// operations outside a Transact step, and where the ledger's database has no such
// kind.
func Tx[T any](ctx context.Context) (T, error) {
	var none T
	sc := scopeOf(ctx)
	if sc == nil {
		return none, fmt.Errorf("%w: outside an attempt", ErrNoTx)
	}
	native, err := sc.tx.begin(func(sample any) bool { _, ok := sample.(T); return ok })
	if err != nil {
		return none, fmt.Errorf("transaction of type %T for %s: %w", *new(T), sc.attempt.Name, err)
	}
	tx, ok := native.(T)
	if !ok {
		return none, fmt.Errorf("%w of type %T: %s began one of another kind, %T", ErrNoTx, *new(T), sc.attempt.Name, native)
	}
	return tx, nil
}

// begin returns the native transaction, beginning it if need be.
func (t *attemptTx) begin(serves func(sample any) bool) (any, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.deny != nil:
		return nil, t.deny
	case t.ended:
		return nil, fmt.Errorf("%w: the attempt is over", ErrNoTx)
	case t.owned != nil:
		return t.owned.Native(), nil
	}
	for _, k := range t.kinds {
		if serves(k.Sample) {
			owned, err := k.Begin(t.ctx)
			if err != nil {
				return nil, err
			}
			t.owned = owned
			return owned.Native(), nil
		}
	}
	return nil, fmt.Errorf("%w: the ledger's database cannot begin this kind", ErrNoTx)
}

// open is the transaction if it has begun and not ended.
func (t *attemptTx) open() storage.Tx {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.owned == nil || t.ended {
		return nil
	}
	return t.owned
}

// end closes the transaction to further use and returns it if it had begun; the
// caller commits it or rolls it back.
func (t *attemptTx) end() storage.OwnedTx {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return nil
	}
	t.ended = true
	return t.owned
}

// keep remembers a checkpoint saved in the transaction; handlers have goroutines.
func (t *attemptTx) keep(c checkpoint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.moved = c.moved || t.checkpoint.moved
	t.checkpoint = c
}

// kept is the last checkpoint saved in the transaction, without data for none.
func (t *attemptTx) kept() checkpoint {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.checkpoint
}

// Transact runs fn as one step with a transaction of its own, which commits when
// fn returns nil. Inside, Tx and Checkpoint belong to that transaction: rows and
// cursor commit together, step by step, which is what a long backfill needs (mark
// it TxNever). Outside an attempt it just calls fn.
func Transact(ctx context.Context, fn func(ctx context.Context) error) error {
	sc := scopeOf(ctx)
	if sc == nil {
		return fn(ctx)
	}
	if sc.tx.open() != nil {
		return fmt.Errorf("step of %s: %w already; mark the operation TxNever to commit step by step", sc.attempt.Name, ErrOpenTx)
	}
	stepCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	step := &attemptTx{kinds: sc.tx.kinds, ctx: stepCtx}
	defer func() { // also when fn panics or ends its goroutine; after a commit there is nothing left to end
		if owned := step.end(); owned != nil {
			_ = owned.Rollback(context.WithoutCancel(ctx))
		}
	}()
	if err := fn(withScope(stepCtx, &scope{attempt: sc.attempt, tx: step})); err != nil {
		return err
	}
	if owned := step.end(); owned != nil {
		if err := owned.Commit(ctx); err != nil {
			return errors.Join(fmt.Errorf("step of %s: commit: %w", sc.attempt.Name, err), owned.Rollback(context.WithoutCancel(ctx)))
		}
	}
	if c := step.kept(); c.data != nil {
		sc.attempt.setCheckpoint(c)
	}
	return nil
}
