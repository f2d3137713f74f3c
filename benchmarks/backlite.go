package main

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/mikestefanello/backlite"
)

var backlitePeer = contender{
	name: "backlite", store: "sqlite", open: openBacklite,
	settings: "2,000 workers, ReleaseAfter 11 s; deletes what is done",
	prepare: func(_ context.Context, p place) error {
		db, err := openSQLite(p.Address)
		if err != nil {
			return err
		}
		defer db.Close()
		client, err := newBacklite(db)
		if err != nil {
			return err
		}
		return client.Install()
	},
}

type backliteTask struct{ Payload string }

// Config implements [backlite.Task].
func (backliteTask) Config() backlite.QueueConfig {
	return backlite.QueueConfig{Name: "noop", MaxAttempts: 3, Timeout: 10 * time.Second}
}

type backliteQueue struct {
	db     *sql.DB
	client *backlite.Client
	handle handler // set before the client starts
}

func newBacklite(db *sql.DB) (*backlite.Client, error) {
	return backlite.NewClient(backlite.ClientConfig{DB: db, NumWorkers: 2000, ReleaseAfter: 11 * time.Second})
}

func openBacklite(_ context.Context, p place) (queue, error) {
	db, err := openSQLite(p.Address)
	if err != nil {
		return nil, err
	}
	q := &backliteQueue{db: db}
	if q.client, err = newBacklite(db); err != nil {
		return nil, err
	}
	q.client.Register(backlite.NewQueue(func(_ context.Context, t backliteTask) error {
		q.handle([]byte(t.Payload))
		return nil
	}))
	return q, nil
}

func (q *backliteQueue) insert(ctx context.Context, payload []byte) error {
	_, err := q.client.Add(backliteTask{string(payload)}).Ctx(ctx).Save()
	return err
}

func (q *backliteQueue) insertBulk(ctx context.Context, payloads [][]byte) error {
	tasks := make([]backlite.Task, len(payloads))
	for i, p := range payloads {
		tasks[i] = backliteTask{string(p)}
	}
	_, err := q.client.Add(tasks...).Ctx(ctx).Save()
	return err
}

func (q *backliteQueue) work(ctx context.Context, handle handler) error {
	q.handle = handle
	living := context.WithoutCancel(ctx) // the end of Start's context would be an abrupt stop
	q.client.Start(living)
	<-ctx.Done()
	stopping, cancel := context.WithTimeout(living, 10*time.Second)
	defer cancel()
	if !q.client.Stop(stopping) {
		return errors.New("backlite did not stop within 10 s")
	}
	return nil
}

func (q *backliteQueue) left(ctx context.Context) (n int, err error) {
	return n, q.db.QueryRowContext(ctx, "SELECT count(*) FROM backlite_tasks").Scan(&n)
}

func (q *backliteQueue) close() error { return q.db.Close() }
