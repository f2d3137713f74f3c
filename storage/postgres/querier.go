package postgres

import (
	"context"
	"database/sql"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/wake"
)

// scanner is one row of an answer.
type scanner interface{ Scan(dest ...any) error }

// statement is one statement with its arguments. scan is called for each row of
// its answer; nil means that the answer has none. affected, where set, receives
// the number of rows written.
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
func (q *session) queue(sql string, args ...any) {
	q.queued = append(q.queued, statement{sql: sql, args: args})
}

// queueScan adds a query whose rows may come as late as the commit.
func (q *session) queueScan(scan func(scanner) error, sql string, args ...any) {
	q.queued = append(q.queued, statement{sql: sql, args: args, scan: scan})
}

// each sends a query, and what was queued before it, and scans its rows.
func (q *session) each(ctx context.Context, scan func(scanner) error, sql string, args ...any) error {
	q.queueScan(scan, sql, args...)
	return q.flush(ctx)
}

// exec sends a statement and returns the number of rows it wrote.
func (q *session) exec(ctx context.Context, sql string, args ...any) (int64, error) {
	var n int64
	q.queued = append(q.queued, statement{sql: sql, args: args, affected: &n})
	err := q.flush(ctx)
	return n, err
}

// flush sends what is queued.
func (q *session) flush(ctx context.Context) error {
	all := q.queued
	q.queued = q.queued[:0]
	if len(all) == 0 {
		return nil
	}
	return q.send(ctx, all)
}

// openSQL follows BEGIN in every transaction of the store's own. It reads the
// instant of the request, which begins with its transaction; now() is the same one
// in every other statement.
//
// The settings hold until the commit. Plans are cached for as long as a connection
// lives, and those made while a table is small or its statistics are old prefer to
// read all of it, which is ruin when a burst of work follows: so plans are made
// once, without knowing the arguments, and every statement here has an index to
// use. Compiling statements this short costs more than it could ever save.
const openSQL = `SELECT now(), set_config('plan_cache_mode', 'force_generic_plan', true),
	set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)`

// begin queues the beginning of a transaction.
func (q *session) begin() {
	q.queue("BEGIN ISOLATION LEVEL READ COMMITTED")
	q.open()
}

// open queues openSQL; q.now is set once it was sent.
func (q *session) open() {
	q.queueScan(func(r scanner) error {
		var now time.Time
		var skip string
		err := r.Scan(&now, &skip, &skip, &skip)
		if q.now.IsZero() {
			q.now = micro(now)
		}
		return err
	}, openSQL)
}

// pgxWire sends statements of one flush as one pipeline.
type pgxWire struct{ to batcher }

type batcher interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

func (w pgxWire) send(ctx context.Context, all []statement) (err error) {
	batch := &pgx.Batch{QueuedQueries: make([]*pgx.QueuedQuery, 0, len(all))}
	for i := range all {
		batch.Queue(all[i].sql, all[i].args...)
	}
	answers := w.to.SendBatch(ctx, batch)
	defer func() {
		if ended := answers.Close(); err == nil {
			err = ended
		}
	}()
	for i := range all {
		if err := all[i].receive(answers); err != nil {
			return err
		}
	}
	return nil
}

func (st *statement) receive(answers pgx.BatchResults) error {
	if st.scan == nil {
		tag, err := answers.Exec()
		if st.affected != nil {
			*st.affected = tag.RowsAffected()
		}
		return err
	}
	rows, err := answers.Query()
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

// sqlWire sends statements one by one through a caller's *sql.Tx.
type sqlWire struct{ tx *sql.Tx }

func (w sqlWire) send(ctx context.Context, all []statement) error {
	for i := range all {
		if err := w.one(ctx, &all[i]); err != nil {
			return err
		}
	}
	return nil
}

func (w sqlWire) one(ctx context.Context, st *statement) error {
	if st.scan == nil {
		done, err := w.tx.ExecContext(ctx, st.sql, st.args...)
		if err == nil && st.affected != nil {
			*st.affected, err = done.RowsAffected()
		}
		return err
	}
	rows, err := w.tx.QueryContext(ctx, st.sql, st.args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := st.scan(sqlRow{rows}); err != nil {
			return err
		}
	}
	return rows.Err()
}

// arrays reads what database/sql hands over as text. It is only read from.
var arrays = pgtype.NewMap()

// sqlRow scans arrays too, which database/sql alone cannot.
type sqlRow struct{ *sql.Rows }

func (r sqlRow) Scan(dest ...any) error {
	own := make([]any, len(dest))
	for i, d := range dest {
		if list, ok := d.(*[]string); ok {
			d = arrays.SQLScanner(list)
		}
		own[i] = d
	}
	return r.Rows.Scan(own...)
}

// micro brings an instant to the precision that the ledger keeps.
func micro(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// at passes an instant; the zero one as null, which the statements replace by the
// server's clock.
func at(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t
}

// idArg passes an id; none as null.
func idArg(id storage.ID) any {
	if id.IsZero() {
		return nil
	}
	return id.String()
}

// textArg passes a text; none as null.
func textArg(s string) any {
	if s == "" {
		return nil
	}
	return s
}
