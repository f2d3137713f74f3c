package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/gosequencer/sequencer/storage"
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
	tx, err := s.writer.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, s.fail("begin a transaction", err)
	}
	return &ownedTx{store: s, tx: tx, txn: newTxn(tx, s.writer.stmts)}, nil
}

// ownedTx is a transaction on the writer's connection.
type ownedTx struct {
	store *Store
	tx    *sql.Tx
	txn   *txn
}

func (o *ownedTx) Native() any { return o.tx }

func (o *ownedTx) Commit(context.Context) error {
	return o.store.fail("commit", o.tx.Commit())
}

func (o *ownedTx) Rollback(context.Context) error {
	if err := o.tx.Rollback(); !errors.Is(err, sql.ErrTxDone) {
		return o.store.fail("roll back", err)
	}
	return nil
}

// EnqueueTx is Enqueue inside the caller's transaction.
func (s *Store) EnqueueTx(ctx context.Context, tx storage.Tx, r storage.EnqueueRequest) (storage.Enqueued, error) {
	return join(ctx, s, tx, "enqueue", func(t *txn) (storage.Enqueued, error) { return enqueue(ctx, t, r) })
}

// FinishTx is Finish inside the caller's transaction.
func (s *Store) FinishTx(ctx context.Context, tx storage.Tx, r storage.FinishRequest) (storage.Finished, error) {
	return join(ctx, s, tx, "finish", func(t *txn) (storage.Finished, error) { return finish(ctx, t, r) })
}

// CheckpointTx is Checkpoint inside the caller's transaction.
func (s *Store) CheckpointTx(ctx context.Context, tx storage.Tx, r storage.CheckpointRequest) error {
	_, err := join(ctx, s, tx, "checkpoint", func(t *txn) (nothing, error) { return nothing{}, checkpoint(ctx, t, r) })
	return err
}

// join runs do inside a transaction that somebody else ends. A savepoint makes it
// one step: if it fails, the caller's transaction is as it was before.
func join[T any](ctx context.Context, s *Store, tx storage.Tx, attempted string, do func(*txn) (T, error)) (T, error) {
	var none T
	if err := s.ready(ctx); err != nil {
		return none, err
	}
	t, err := s.recognize(ctx, tx)
	if err != nil {
		return none, s.fail(attempted, err)
	}
	if _, err := t.exec(ctx, `SAVEPOINT sequencer`); err != nil {
		return none, s.fail(attempted, err)
	}
	answer, err := do(t)
	if err != nil {
		undo := context.WithoutCancel(ctx)
		if _, lost := t.exec(undo, `ROLLBACK TO sequencer`); lost == nil {
			_, _ = t.exec(undo, `RELEASE sequencer`)
		}
		return none, s.fail(attempted, err)
	}
	if _, err = t.exec(ctx, `RELEASE sequencer`); err != nil {
		return none, s.fail(attempted, err)
	}
	return answer, nil
}

// The file behind the connection of a transaction.
const mainFile = `SELECT file FROM pragma_database_list WHERE name = 'main'`

// recognize accepts a transaction of this store, and any *sql.Tx whose
// connection has this store's file open.
func (s *Store) recognize(ctx context.Context, tx storage.Tx) (*txn, error) {
	if own, ok := tx.(*ownedTx); ok {
		if own.store != s {
			return nil, storage.ErrForeignTx
		}
		return own.txn, nil
	}
	if tx == nil {
		return nil, storage.ErrForeignTx
	}
	native, ok := tx.Native().(*sql.Tx)
	if !ok || native == nil {
		return nil, fmt.Errorf("%w: it is a %T, SQLite's is a *sql.Tx", storage.ErrForeignTx, tx.Native())
	}
	var file string
	if err := native.QueryRowContext(ctx, mainFile).Scan(&file); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: %w", storage.ErrForeignTx, err)
	}
	if !s.loc.is(file) {
		return nil, fmt.Errorf("%w: its file is %q, the ledger's %s", storage.ErrForeignTx, file, s.loc)
	}
	return newTxn(native, nil), nil
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
	shared *statements          // of the writer's connection; nil in a caller's transaction
	stmts  map[string]*sql.Stmt // prepared for this transaction
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
		st = t.tx.StmtContext(ctx, ready) //nolint:sqlclosecheck // closed with the transaction
	} else {
		var err error
		if st, err = t.tx.PrepareContext(ctx, query); err != nil { //nolint:sqlclosecheck // closed with the transaction
			return nil, err
		}
	}
	t.stmts[query] = st
	return st, nil
}

func (t *txn) exec(ctx context.Context, query string, args ...any) (int, error) {
	st, err := t.stmt(ctx, query)
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
	st, err := t.stmt(ctx, query)
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
	defer rows.Close() //nolint:errcheck // rows.Err tells
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// statements are prepared on the writer's handle, where they outlive a
// transaction. Preparing needs the one connection, so it cannot happen inside a
// transaction: a statement that is missed twice is noted and prepared after it.
type statements struct {
	mu     sync.Mutex // guards the maps
	ready  map[string]*sql.Stmt
	missed map[string]int
	wanted []string
}

func newStatements() *statements {
	return &statements{ready: map[string]*sql.Stmt{}, missed: map[string]int{}}
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
