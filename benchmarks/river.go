package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
)

const (
	riverSettings = "FetchCooldown 2 ms, FetchPollInterval 20 ms, 2,000 workers; a job may take 10 s (JobTimeout), RescueStuckJobsAfter 11 s; keeps what is done"
	riverLeft     = `SELECT count(*) FROM river_job WHERE state <> 'completed'`
)

var rivers = []contender{
	{
		name: "river", store: "sqlite", settings: riverSettings,
		prepare: func(ctx context.Context, p place) error {
			db, err := openSQLite(p.Address)
			if err != nil {
				return err
			}
			defer db.Close()
			return migrateRiver(ctx, riversqlite.New(db))
		},
		open: func(_ context.Context, p place) (queue, error) {
			db, err := openSQLite(p.Address)
			if err != nil {
				return nil, err
			}
			return newRiver(riversqlite.New(db), db.Close, func(ctx context.Context) (n int, err error) {
				return n, db.QueryRowContext(ctx, riverLeft).Scan(&n)
			})
		},
	},
	{
		name: "river", store: "postgres", settings: riverSettings,
		prepare: func(ctx context.Context, p place) error {
			pool, err := openPostgres(ctx, p.Address)
			if err != nil {
				return err
			}
			defer pool.Close()
			return migrateRiver(ctx, riverpgxv5.New(pool))
		},
		open: func(ctx context.Context, p place) (queue, error) {
			pool, err := openPostgres(ctx, p.Address)
			if err != nil {
				return nil, err
			}
			closePool := func() error {
				pool.Close()
				return nil
			}
			return newRiver(riverpgxv5.New(pool), closePool, func(ctx context.Context) (n int, err error) {
				return n, pool.QueryRow(ctx, riverLeft).Scan(&n)
			})
		},
	},
}

func migrateRiver[Tx any](ctx context.Context, driver riverdriver.Driver[Tx]) error {
	m, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

type riverArgs struct {
	Payload string `json:"payload"`
}

func (riverArgs) Kind() string { return "noop" }

// riverQueue has one client, which inserts and, once work is called, works too.
type riverQueue[Tx any] struct {
	client   *river.Client[Tx]
	handle   handler // set before the client starts
	count    func(ctx context.Context) (int, error)
	shutDown func() error
}

func newRiver[Tx any](driver riverdriver.Driver[Tx], shutDown func() error, count func(context.Context) (int, error)) (queue, error) {
	q := &riverQueue[Tx]{count: count, shutDown: shutDown}
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(_ context.Context, job *river.Job[riverArgs]) error {
		q.handle([]byte(job.Args.Payload))
		return nil
	}))
	var err error
	q.client, err = river.NewClient(driver, &river.Config{
		FetchCooldown: 2 * time.Millisecond, FetchPollInterval: 20 * time.Millisecond,
		JobTimeout: 10 * time.Second, RescueStuckJobsAfter: 11 * time.Second,
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 2000}},
		Workers: workers, Logger: slog.New(slog.DiscardHandler),
	})
	return q, err
}

func (q *riverQueue[Tx]) insert(ctx context.Context, payload []byte) error {
	_, err := q.client.Insert(ctx, riverArgs{string(payload)}, nil)
	return err
}

func (q *riverQueue[Tx]) insertBulk(ctx context.Context, payloads [][]byte) error {
	params := make([]river.InsertManyParams, len(payloads))
	for i, p := range payloads {
		params[i].Args = riverArgs{string(p)}
	}
	_, err := q.client.InsertManyFast(ctx, params)
	return err
}

func (q *riverQueue[Tx]) work(ctx context.Context, handle handler) error {
	q.handle = handle
	living := context.WithoutCancel(ctx) // the end of Start's context would be an abrupt stop
	if err := q.client.Start(living); err != nil {
		return err
	}
	<-ctx.Done()
	return q.client.Stop(living)
}

func (q *riverQueue[Tx]) left(ctx context.Context) (int, error) { return q.count(ctx) }

func (q *riverQueue[Tx]) close() error { return q.shutDown() }
