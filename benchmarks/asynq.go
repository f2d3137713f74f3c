package main

import (
	"context"
	"errors"
	"time"

	"github.com/hibiken/asynq"
)

var asynqPeer = contender{
	name: "asynq", store: "redis", prepare: nothingToPrepare, open: openAsynq,
	settings: "100 workers, TaskCheckInterval 10 ms; deletes what is done",
}

type asynqQueue struct {
	redis     asynq.RedisConnOpt
	name      string // of the queue; all keys but a few of the server's contain it
	client    *asynq.Client
	inspector *asynq.Inspector
}

func openAsynq(_ context.Context, p place) (queue, error) {
	opt, err := asynq.ParseRedisURI(p.Address)
	if err != nil {
		return nil, err
	}
	return &asynqQueue{opt, p.Name, asynq.NewClient(opt), asynq.NewInspector(opt)}, nil
}

func (q *asynqQueue) insert(ctx context.Context, payload []byte) error {
	_, err := q.client.EnqueueContext(ctx, asynq.NewTask("noop", payload), asynq.Queue(q.name))
	return err
}

func (q *asynqQueue) work(ctx context.Context, handle handler) error {
	server := asynq.NewServer(q.redis, asynq.Config{
		Concurrency: 100, TaskCheckInterval: 10 * time.Millisecond,
		Queues: map[string]int{q.name: 1}, Logger: silence{},
	})
	err := server.Start(asynq.HandlerFunc(func(_ context.Context, t *asynq.Task) error {
		handle(t.Payload())
		return nil
	}))
	if err != nil {
		return err
	}
	<-ctx.Done()
	server.Shutdown()
	return nil
}

func (q *asynqQueue) left(context.Context) (int, error) {
	queue, err := q.inspector.GetQueueInfo(q.name)
	if err != nil {
		return 0, err
	}
	return queue.Pending + queue.Active + queue.Retry, nil
}

func (q *asynqQueue) close() error { return errors.Join(q.client.Close(), q.inspector.Close()) }

// silence is a logger for asynq.
type silence struct{}

func (silence) Debug(...any) {}
func (silence) Info(...any)  {}
func (silence) Warn(...any)  {}
func (silence) Error(...any) {}
func (silence) Fatal(...any) {}
