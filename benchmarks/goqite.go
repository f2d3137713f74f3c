package main

import (
	"context"
	"database/sql"
	"time"

	"maragu.dev/goqite"
	"maragu.dev/goqite/jobs"
)

var goqitePeer = contender{
	name: "goqite", store: "sqlite", open: openGoqite,
	settings: "100 jobs at once, PollInterval 10 ms; deletes what is done",
	prepare: func(ctx context.Context, p place) error {
		schema, err := moduleFile(ctx, "maragu.dev/goqite", "schema_sqlite.sql")
		if err != nil {
			return err
		}
		return execSQLite(ctx, p, schema)
	},
}

type goqiteQueue struct {
	db    *sql.DB
	queue *goqite.Queue
}

func openGoqite(_ context.Context, p place) (queue, error) {
	db, err := openSQLite(p.Address)
	if err != nil {
		return nil, err
	}
	return &goqiteQueue{db, goqite.New(goqite.NewOpts{DB: db, Name: "bench"})}, nil
}

func (q *goqiteQueue) insert(ctx context.Context, payload []byte) error {
	_, err := jobs.Create(ctx, q.queue, "noop", goqite.Message{Body: payload})
	return err
}

func (q *goqiteQueue) insertBulk(ctx context.Context, payloads [][]byte) error {
	tx, err := q.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, p := range payloads {
		if _, err := jobs.CreateTx(ctx, tx, q.queue, "noop", goqite.Message{Body: p}); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (q *goqiteQueue) work(ctx context.Context, handle handler) error {
	runner := jobs.NewRunner(jobs.NewRunnerOpts{Limit: 100, PollInterval: 10 * time.Millisecond, Queue: q.queue})
	runner.Register("noop", func(_ context.Context, payload []byte) error {
		handle(payload)
		return nil
	})
	runner.Start(ctx)
	return nil
}

func (q *goqiteQueue) left(ctx context.Context) (n int, err error) {
	return n, q.db.QueryRowContext(ctx, "SELECT count(*) FROM goqite").Scan(&n)
}

func (q *goqiteQueue) close() error { return q.db.Close() }
