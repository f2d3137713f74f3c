package mysql

import (
	"context"
	"database/sql"
	"time"

	"github.com/gosequencer/sequencer/storage/internal/wake"
)

// scanner is one row of an answer.
type scanner interface{ Scan(dest ...any) error }

// statement is one statement with its arguments. scan is called for each row of
// its answer; nil means that the answer has none. affected, where set, receives
// the number of rows inserted, deleted or found by the update.
type statement struct {
	sql      string
	args     []any
	scan     func(scanner) error
	affected *int64
}

// wire sends statements, in order, up to the first error.
type wire interface {
	send(ctx context.Context, all []statement) error
}

// session is one transaction at work, whoever began it. Writes whose answer nobody
// waits for are queued and travel with the next query or the commit, so that the
// number of round trips is that of the questions asked, not of the statements.
type session struct {
	wire
	now    time.Time // the request's instant; zero until the server was asked
	queued []statement

	arrivals wake.Arrivals // to be told after the commit
}

// queue adds a statement whose answer does not matter.
func (q *session) queue(query string, args ...any) {
	q.queued = append(q.queued, statement{sql: query, args: args})
}

// queueScan adds a query whose rows may come as late as the commit.
func (q *session) queueScan(scan func(scanner) error, query string, args ...any) {
	q.queued = append(q.queued, statement{sql: query, args: args, scan: scan})
}

// queueCount adds a statement of which n will be the number of rows it wrote.
func (q *session) queueCount(n *int64, query string, args ...any) {
	q.queued = append(q.queued, statement{sql: query, args: args, affected: n})
}

// each sends a query, and what was queued before it, and scans its rows.
func (q *session) each(ctx context.Context, scan func(scanner) error, query string, args ...any) error {
	q.queueScan(scan, query, args...)
	return q.flush(ctx)
}

// exec sends a statement and returns the number of rows it wrote.
func (q *session) exec(ctx context.Context, query string, args ...any) (int64, error) {
	var n int64
	q.queueCount(&n, query, args...)
	err := q.flush(ctx)
	return n, err
}

// flush sends what is queued.
func (q *session) flush(ctx context.Context) error {
	all := q.queued
	q.queued = nil
	if len(all) == 0 {
		return nil
	}
	return q.send(ctx, all)
}

// nowSQL sets the instant of the request, which every other statement then finds in
// @sequencer_now: the one given, or the server's clock in microseconds.
const nowSQL = `SET @sequencer_now = COALESCE(?, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)))`

// begin queues the beginning of a transaction; q.now is set once it was sent.
func (q *session) begin() {
	q.queue("START TRANSACTION")
	q.queueNow()
	q.queueScan(func(r scanner) error { return r.Scan(instant{&q.now}) }, "SELECT @sequencer_now")
}

// queueNow tells the server the instant of the request.
func (q *session) queueNow() { q.queue(nowSQL, at(q.now)) }

// connWire sends statements through a connection that takes several at once and has
// the values in them.
type connWire struct{ conn *sql.Conn }

// maxMessage bounds a message, in bytes of its arguments. A statement that is larger
// goes alone: if it does not fit into a message either, with values that take twice
// their room there, the driver sends them apart.
const maxMessage = 2 << 20

func (w connWire) send(ctx context.Context, all []statement) error {
	for len(all) > 0 {
		n := 1
		var err error
		if weight(all[0].args) > maxMessage {
			err = one(ctx, w.conn, &all[0])
		} else {
			n, err = w.some(ctx, all)
		}
		if err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// some sends as many statements as one message may carry, at least one, and returns
// how many.
func (w connWire) some(ctx context.Context, all []statement) (n int, err error) {
	var m message
	for n == 0 || n < len(all) && m.size+weight(all[n].args) <= maxMessage {
		m.add(&all[n])
		n++
	}
	rows, err := w.conn.QueryContext(ctx, m.text.String(), m.args...)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for i, answer := range m.answers {
		if i > 0 && !rows.NextResultSet() {
			break
		}
		for rows.Next() {
			if err := answer(rows); err != nil {
				return 0, err
			}
		}
		if err := rows.Err(); err != nil {
			return 0, err
		}
	}
	for rows.NextResultSet() { // what follows the last question may have failed
	}
	return n, rows.Err()
}

// sqlWire sends statements one by one through a caller's *sql.Tx.
type sqlWire struct{ tx *sql.Tx }

func (w sqlWire) send(ctx context.Context, all []statement) error {
	for i := range all {
		if err := one(ctx, w.tx, &all[i]); err != nil {
			return err
		}
	}
	return nil
}

// querier is a connection or a transaction.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// one sends a single statement.
func one(ctx context.Context, to querier, st *statement) error {
	var m message
	m.spell(st)
	if st.scan == nil {
		done, err := to.ExecContext(ctx, m.text.String(), m.args...)
		if err == nil && st.affected != nil {
			*st.affected, err = done.RowsAffected()
		}
		return err
	}
	rows, err := to.QueryContext(ctx, m.text.String(), m.args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := st.scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
