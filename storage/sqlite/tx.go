package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/wake"
)

// Tx wraps a transaction of the caller's on the ledger's database, so that a
// dispatch or an outcome commits together with what else it writes. It may come
// from any handle on the same file; the caller ends it.
func Tx(tx *sql.Tx) storage.Tx { return foreignTx{tx} }

type foreignTx struct{ tx *sql.Tx }

func (f foreignTx) Native() any { return f.tx }

// TxKinds lists the one form of transaction, *sql.Tx. It is the store's own
// write connection: while it is open every other write waits.
func (s *Store) TxKinds() []storage.TxKind {
	return []storage.TxKind{{Sample: (*sql.Tx)(nil), Begin: s.begin}}
}

func (s *Store) begin(ctx context.Context) (storage.OwnedTx, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	tx, release, err := s.writer.begin(ctx, nil)
	if err != nil {
		return nil, s.fail("begin a transaction", err)
	}
	o := &ownedTx{store: s, tx: tx, txn: newTxn(tx, s.writer.stmts)}
	o.release = sync.OnceFunc(release)
	o.forget = context.AfterFunc(ctx, o.release) // the transaction ends with ctx, whoever forgets it
	return o, nil
}

// ownedTx is a transaction of the writer's.
type ownedTx struct {
	store   *Store
	tx      *sql.Tx
	txn     *txn
	release func() // the writer's turn
	forget  func() bool
}

func (o *ownedTx) Native() any { return o.tx }

func (o *ownedTx) Commit(context.Context) error {
	err := o.tx.Commit()
	o.ended()
	if err == nil {
		o.store.watchers.Tell(&o.txn.arrivals)
	}
	return o.store.fail("commit", err)
}

func (o *ownedTx) Rollback(context.Context) error {
	defer o.ended()
	if err := o.tx.Rollback(); !errors.Is(err, sql.ErrTxDone) {
		return o.store.fail("roll back", err)
	}
	return nil
}

func (o *ownedTx) ended() {
	o.forget()
	o.release()
}

// EnqueueTx is Enqueue inside the caller's transaction.
func (s *Store) EnqueueTx(ctx context.Context, tx storage.Tx, r storage.EnqueueRequest) (storage.Enqueued, error) {
	return join(ctx, s, tx, "enqueue", func(ctx context.Context, t *txn) (storage.Enqueued, error) { return enqueue(ctx, t, r) })
}

// FinishTx is Finish inside the caller's transaction.
func (s *Store) FinishTx(ctx context.Context, tx storage.Tx, r storage.FinishRequest) (storage.Finished, error) {
	return join(ctx, s, tx, "finish", func(ctx context.Context, t *txn) (storage.Finished, error) { return finish(ctx, t, r) })
}

// CheckpointTx is Checkpoint inside the caller's transaction.
func (s *Store) CheckpointTx(ctx context.Context, tx storage.Tx, r storage.CheckpointRequest) error {
	_, err := join(ctx, s, tx, "checkpoint", func(ctx context.Context, t *txn) (nothing, error) { return nothing{}, checkpoint(ctx, t, r) })
	return err
}

// join runs do inside a transaction that somebody else ends. A savepoint makes it
// one step: if it fails, the caller's transaction is as it was before.
func join[T any](ctx context.Context, s *Store, tx storage.Tx, attempted string, do func(context.Context, *txn) (T, error)) (T, error) {
	var none T
	if err := s.ready(ctx); err != nil {
		return none, err
	}
	t, err := s.enter(ctx, tx)
	if err != nil {
		return none, s.fail(attempted, err)
	}
	calm := context.WithoutCancel(ctx)
	if t.shared != nil { // it has the write lock: the answer is certain and near
		ctx = calm
	}
	answer, err := do(ctx, t)
	if err != nil {
		if _, lost := t.exec(calm, backOut); lost == nil {
			_, _ = t.exec(calm, stepOut)
		}
		return none, s.fail(attempted, err)
	}
	if _, err = t.exec(ctx, stepOut); err != nil {
		return none, s.fail(attempted, err)
	}
	return answer, nil
}

const (
	stepIn  = `SAVEPOINT sequencer`
	backOut = `ROLLBACK TO sequencer`
	stepOut = `RELEASE sequencer`
)

// The file behind the connection of a transaction.
const mainFile = `SELECT file FROM pragma_database_list WHERE name = 'main'`

// enter accepts a transaction of this store, any that was begun on its handle,
// and any other *sql.Tx whose connection has this store's file open, and begins
// the savepoint.
func (s *Store) enter(ctx context.Context, tx storage.Tx) (*txn, error) {
	if own, ok := tx.(*ownedTx); ok {
		if own.store != s {
			return nil, storage.ErrForeignTx
		}
		_, err := own.txn.exec(ctx, stepIn)
		return own.txn, err
	}
	if tx == nil {
		return nil, storage.ErrForeignTx
	}
	native, ok := tx.Native().(*sql.Tx)
	if !ok || native == nil {
		return nil, fmt.Errorf("%w: it is a %T, SQLite's is a *sql.Tx", storage.ErrForeignTx, tx.Native())
	}
	if s.writer.stmts.has(stepIn) {
		// database/sql refuses a statement in a transaction of another handle, so that
		// it runs is the proof. That it does not may have any reason, found out below.
		t := newTxn(native, s.writer.stmts)
		if _, err := t.exec(ctx, stepIn); err == nil {
			return t, nil
		}
	}
	var file string
	if err := native.QueryRowContext(ctx, mainFile).Scan(&file); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if errors.Is(err, sql.ErrTxDone) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", storage.ErrForeignTx, err)
	}
	if !s.loc.is(file) {
		return nil, fmt.Errorf("%w: its file is %q, the ledger's %s", storage.ErrForeignTx, file, s.loc)
	}
	t := newTxn(native, nil)
	_, err := t.exec(ctx, stepIn)
	return t, err
}

// is reports whether file, as SQLite names it, is this location.
func (l location) is(file string) bool {
	if l.memory {
		return file == "" || file == l.path
	}
	a, err := os.Stat(l.path)
	if err != nil {
		return false
	}
	b, err := os.Stat(file)
	return err == nil && os.SameFile(a, b)
}

// txn is a transaction with its prepared statements. It is used by one goroutine
// at a time, as the transaction itself.
type txn struct {
	tx     *sql.Tx
	shared *statements          // of the store's handle; nil in a transaction of another one
	stmts  map[string]*sql.Stmt // prepared for this transaction

	arrivals wake.Arrivals // to be told after the commit
}

func newTxn(tx *sql.Tx, shared *statements) *txn {
	return &txn{tx: tx, shared: shared, stmts: map[string]*sql.Stmt{}}
}

// stmt returns the prepared form of query. database/sql closes what was prepared
// on a transaction when that ends.
func (t *txn) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	if st, ok := t.stmts[query]; ok {
		return st, nil
	}
	var st *sql.Stmt
	if ready := t.shared.find(query); ready != nil {
		st = t.tx.StmtContext(ctx, ready)
	} else {
		var err error
		if st, err = t.tx.PrepareContext(ctx, query); err != nil {
			return nil, err
		}
	}
	t.stmts[query] = st
	return st, nil
}

func (t *txn) exec(ctx context.Context, query string, args ...any) (int, error) {
	st, err := t.stmt(ctx, query) //nolint:sqlclosecheck // closed with the transaction
	if err != nil {
		return 0, err
	}
	res, err := st.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	return int(n), err
}

// each calls row for every row of a query.
func (t *txn) each(ctx context.Context, row func(*sql.Rows) error, query string, args ...any) error {
	st, err := t.stmt(ctx, query) //nolint:sqlclosecheck // closed with the transaction
	if err != nil {
		return err
	}
	rows, err := st.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	return eachRow(rows, row)
}

// one scans the only row of a query and reports whether there was one.
func (t *txn) one(ctx context.Context, dest []any, query string, args ...any) (bool, error) {
	found := false
	err := t.each(ctx, func(rows *sql.Rows) error {
		found = true
		return rows.Scan(dest...)
	}, query, args...)
	return found, err
}

// any reports whether a query has rows.
func (t *txn) any(ctx context.Context, query string, args ...any) (bool, error) {
	found := false
	err := t.each(ctx, func(*sql.Rows) error {
		found = true
		return nil
	}, query, args...)
	return found, err
}

func eachRow(rows *sql.Rows, row func(*sql.Rows) error) error {
	defer rows.Close()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// statements are prepared on the store's handle, where they outlive a transaction.
// Inside one they cannot be: preparing would open another connection. So a
// statement that is missed twice is noted and prepared after the transaction, and
// those on the path of an execution before its first step.
type statements struct {
	mu     sync.Mutex // guards the maps
	ready  map[string]*sql.Stmt
	missed map[string]int
	wanted []string
}

// path are the statements of a step that ends one execution and claims another.
var path = []string{stepIn, stepOut, finishClean, advanceFlow, takeNext, leaving, release, claimNext, takeOne}

func newStatements() *statements {
	return &statements{ready: map[string]*sql.Stmt{}, missed: map[string]int{}}
}

// want has statements prepared after the transaction that runs now.
func (s *statements) want(queries []string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, query := range queries {
		if s.missed[query] < 2 && s.ready[query] == nil {
			s.missed[query] = 2
			s.wanted = append(s.wanted, query)
		}
	}
}

func (s *statements) has(query string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready[query] != nil
}

func (s *statements) find(query string) *sql.Stmt {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st, ok := s.ready[query]
	if !ok {
		if s.missed[query]++; s.missed[query] == 2 {
			s.wanted = append(s.wanted, query)
		}
	}
	return st
}

// prepare makes what is wanted ready. An error is of no concern here: whoever
// needs the statement prepares it himself and will see it.
func (s *statements) prepare(ctx context.Context, db *sql.DB) {
	s.mu.Lock()
	wanted := s.wanted
	s.wanted = nil
	s.mu.Unlock()
	for _, query := range wanted {
		st, err := db.PrepareContext(ctx, query) //nolint:sqlclosecheck // closed with the handle
		if err != nil {
			return
		}
		s.mu.Lock()
		s.ready[query] = st
		s.mu.Unlock()
	}
}
