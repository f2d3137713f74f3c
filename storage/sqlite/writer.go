package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/gosequencer/sequencer/storage"
)

// maxTravellers bounds how many calls share one transaction, so that the first
// of them does not wait for an endless train.
const maxTravellers = 256

// writer owns the one connection that writes. Its goroutine starts with the
// first call, waits for calls, and ends with close. Handler transactions take the
// same connection from db, whose limit of one makes everybody else wait.
type writer struct {
	db    *sql.DB
	stmts *statements
	ctx   context.Context // ends with close
	end   context.CancelFunc
	wake  chan struct{} // capacity 1: there are calls
	ended chan struct{} // closed when the goroutine is gone

	mu      sync.Mutex // guards calls, started, closed
	calls   []*call
	started bool
	closed  bool
}

// call is one verb on its way into a transaction.
type call struct {
	do    func(ctx context.Context, tx *txn) error
	taken atomic.Bool // by the writer, or by its own context giving up
	done  chan error
}

func newWriter(db *sql.DB) *writer {
	ctx, end := context.WithCancel(context.Background())
	return &writer{
		db: db, stmts: newStatements(), ctx: ctx, end: end,
		wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
}

// run carries out do in a transaction and returns when it is committed or has
// failed. Until the transaction has begun, ctx can withdraw the call; from then
// on the answer is certain and near, so it is waited for.
func (w *writer) run(ctx context.Context, do func(ctx context.Context, tx *txn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := &call{do: do, done: make(chan error, 1)}
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return storage.ErrClosed
	}
	if !w.started {
		w.started = true
		go w.loop()
	}
	w.calls = append(w.calls, c)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		if c.taken.CompareAndSwap(false, true) {
			return ctx.Err()
		}
		return <-c.done
	}
}

func (w *writer) loop() {
	defer close(w.ended)
	for {
		select {
		case <-w.ctx.Done():
			w.refuse(storage.ErrClosed)
			return
		case <-w.wake:
		}
		for w.waiting() && w.ctx.Err() == nil {
			w.travel()
		}
	}
}

func (w *writer) waiting() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.calls) > 0
}

// take removes up to max calls that have not given up.
func (w *writer) take(max int) []*call {
	w.mu.Lock()
	defer w.mu.Unlock()
	var taken []*call
	n := 0
	for ; n < len(w.calls) && len(taken) < max; n++ {
		if w.calls[n].taken.CompareAndSwap(false, true) {
			taken = append(taken, w.calls[n])
		}
	}
	w.calls = append(w.calls[:0], w.calls[n:]...)
	return taken
}

func (w *writer) refuse(err error) {
	for _, c := range w.take(1 << 30) {
		c.done <- err
	}
}

// travel runs the calls that wait in one transaction. They are taken only once it
// has begun: whoever arrives while another process holds the write lock still
// travels along, and whoever gives up meanwhile leaves no trace.
func (w *writer) travel() {
	tx, err := w.db.BeginTx(w.ctx, nil)
	if err != nil {
		if w.ctx.Err() != nil {
			err = storage.ErrClosed
		}
		w.refuse(err)
		return
	}
	calls := w.take(maxTravellers)
	answers := make([]error, len(calls))
	t := newTxn(tx, w.stmts)
	switch len(calls) {
	case 0:
		_ = tx.Rollback()
		return
	case 1:
		err = calls[0].do(context.Background(), t)
	default:
		err = together(t, calls, answers)
	}
	if err != nil {
		_ = tx.Rollback()
	} else {
		err = tx.Commit()
	}
	if err != nil && w.ctx.Err() != nil {
		err = storage.ErrClosed
	}
	for i, c := range calls {
		if err != nil {
			c.done <- err
		} else {
			c.done <- answers[i]
		}
	}
	w.stmts.prepare(w.ctx, w.db)
}

// together runs each call under a savepoint and notes its error. The error it
// returns itself means that the whole transaction is lost, as when SQLite rolled
// it back because the disk is full.
func together(t *txn, calls []*call, answers []error) error {
	ctx := context.Background()
	for i, c := range calls {
		if _, err := t.exec(ctx, `SAVEPOINT one`); err != nil {
			return err
		}
		if answers[i] = c.do(ctx, t); answers[i] != nil {
			if _, err := t.exec(ctx, `ROLLBACK TO one`); err != nil {
				return errors.Join(answers[i], err)
			}
		}
		if _, err := t.exec(ctx, `RELEASE one`); err != nil {
			return err
		}
	}
	return nil
}

// close ends the goroutine; a transaction in flight is rolled back.
func (w *writer) close() error {
	w.mu.Lock()
	w.closed = true
	started := w.started
	w.mu.Unlock()
	w.end()
	if started {
		<-w.ended
	}
	return w.db.Close()
}

// write runs do on the writer, for the verbs of Store. An answer comes only with
// a commit.
func write[T any](ctx context.Context, s *Store, attempted string, do func(ctx context.Context, tx *txn) (T, error)) (T, error) {
	var answer, none T
	if err := s.ready(ctx); err != nil {
		return none, err
	}
	err := s.writer.run(ctx, func(ctx context.Context, t *txn) (err error) {
		answer, err = do(ctx, t)
		return err
	})
	if err != nil {
		return none, s.fail(attempted, err)
	}
	return answer, nil
}
