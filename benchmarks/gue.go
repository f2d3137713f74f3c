package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/vgarvardt/gue/v5"
	"github.com/vgarvardt/gue/v5/adapter/pgxv5"
)

var guePeer = contender{
	name: "gue", store: "postgres", open: openGue,
	settings: "16 workers, RunAtPollStrategy, poll interval 20 ms; deletes what is done",
	prepare: func(ctx context.Context, p place) error {
		schema, err := moduleFile(ctx, "github.com/vgarvardt/gue/v5", "migrations/schema.sql")
		if err != nil {
			return err
		}
		return execPostgres(ctx, p.Address, schema)
	},
}

type gueQueue struct {
	pool   *pgxpool.Pool
	client *gue.Client
}

func openGue(ctx context.Context, p place) (queue, error) {
	pool, err := openPostgres(ctx, p.Address)
	if err != nil {
		return nil, err
	}
	client, err := gue.NewClient(pgxv5.NewConnPool(pool))
	return &gueQueue{pool, client}, err
}

func (q *gueQueue) insert(ctx context.Context, payload []byte) error {
	return q.client.Enqueue(ctx, &gue.Job{Type: "noop", Args: payload})
}

func (q *gueQueue) insertBulk(ctx context.Context, payloads [][]byte) error {
	all := make([]*gue.Job, len(payloads))
	for i, p := range payloads {
		all[i] = &gue.Job{Type: "noop", Args: p}
	}
	return q.client.EnqueueBatch(ctx, all)
}

func (q *gueQueue) work(ctx context.Context, handle handler) error {
	noop := func(_ context.Context, j *gue.Job) error {
		handle(j.Args)
		return nil
	}
	workers, err := gue.NewWorkerPool(q.client, gue.WorkMap{"noop": noop}, 16,
		gue.WithPoolPollStrategy(gue.RunAtPollStrategy), gue.WithPoolPollInterval(20*time.Millisecond),
		gue.WithPoolGracefulShutdown(nil))
	if err != nil {
		return err
	}
	return workers.Run(ctx)
}

func (q *gueQueue) left(ctx context.Context) (n int, err error) {
	return n, q.pool.QueryRow(ctx, "SELECT count(*) FROM gue_jobs").Scan(&n)
}

func (q *gueQueue) close() error {
	q.pool.Close()
	return nil
}
