package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/mysql"
	"github.com/gosequencer/sequencer/storage/postgres"
	"github.com/gosequencer/sequencer/storage/redis"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

// slots is how many executions our worker runs at a time.
const slots = 1000

// ours is Sequencer on each of its stores.
var ours = []contender{
	sequencerOn("sqlite", func(ctx context.Context, p place) (storage.Store, error) {
		return sqlite.Open(ctx, p.Address, sqlite.Options{Durability: sqlite.Normal})
	}),
	sequencerOn("postgres", func(ctx context.Context, p place) (storage.Store, error) {
		return postgres.Open(ctx, p.Address, postgres.Options{MaxConns: postgresConns})
	}),
	sequencerOn("redis", func(ctx context.Context, p place) (storage.Store, error) {
		return redis.Open(ctx, p.Address, redis.Options{Ledger: p.Name, Logger: slog.New(slog.DiscardHandler)})
	}),
	sequencerOn("mysql", func(ctx context.Context, p place) (storage.Store, error) {
		return mysql.Open(ctx, p.Address, mysql.Options{})
	}),
}

func sequencerOn(store string, open func(context.Context, place) (storage.Store, error)) contender {
	return contender{
		name: ourName, store: store, settings: fmt.Sprintf("%d slots; keeps what is done", slots),
		prepare: func(ctx context.Context, p place) error {
			s, err := open(ctx, p)
			if err != nil {
				return err
			}
			defer s.Close() //nolint:errcheck // what Setup did is durable
			_, err = s.Setup(ctx)
			return err
		},
		open: func(ctx context.Context, p place) (queue, error) {
			s, err := open(ctx, p)
			if err != nil {
				return nil, err
			}
			return newOurs(s)
		},
	}
}

// noop is our operation's input. strange is one that workers do not know.
type (
	noop    struct{ Payload string }
	strange struct{ Payload string }
)

type oursQueue struct {
	seq    *sequencer.Sequencer
	job    func(noop) sequencer.Operation
	handle handler // of the worker; set before it starts
}

func newOurs(store storage.Store) (queue, error) {
	q := &oursQueue{}
	reg := sequencer.NewRegistry()
	q.job = sequencer.RegisterFuncOf(reg, "noop", func(_ context.Context, in noop) error {
		q.handle([]byte(in.Payload))
		return nil
	})
	var err error
	q.seq, err = sequencer.New(store, reg, sequencer.Config{Logger: slog.New(slog.DiscardHandler)})
	return q, err
}

func (q *oursQueue) work(ctx context.Context, handle handler) error {
	q.handle = handle
	return q.seq.Work(ctx, sequencer.WorkerConfig{Slots: slots})
}

func (q *oursQueue) insert(ctx context.Context, payload []byte) error {
	_, err := q.seq.Dispatch(ctx, q.job(noop{string(payload)}))
	return err
}

// insertStrange implements strangers: the operation is registered here alone.
func (q *oursQueue) insertStrange(ctx context.Context, payloads [][]byte) error {
	reg := sequencer.NewRegistry()
	job := sequencer.RegisterFuncOf(reg, "strange", func(context.Context, strange) error { return nil })
	seq, err := sequencer.New(q.seq.Store(), reg, sequencer.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	all := make([]sequencer.Operation, len(payloads))
	for i, p := range payloads {
		all[i] = job(strange{string(p)})
	}
	_, err = seq.DispatchAll(ctx, all...)
	return err
}

func (q *oursQueue) insertBulk(ctx context.Context, payloads [][]byte) error {
	all := make([]sequencer.Operation, len(payloads))
	for i, p := range payloads {
		all[i] = q.job(noop{string(p)})
	}
	_, err := q.seq.DispatchAll(ctx, all...)
	return err
}

// left counts live rows, and once there are none, what ended otherwise than it should:
// counting all of a history every two milliseconds would be part of the drain.
func (q *oursQueue) left(ctx context.Context) (int, error) {
	queues, err := q.seq.Store().Queues(ctx, time.Time{})
	n := 0
	for _, s := range queues {
		n += int(s.Ready + s.Scheduled + s.Blocked + s.Parked + s.Running)
	}
	if n > 0 || err != nil {
		return n, err
	}
	counts, err := q.seq.Store().Counts(ctx)
	for _, c := range counts {
		if c.State != storage.Completed {
			n += int(c.N)
		}
	}
	return n, err
}

func (q *oursQueue) close() error { return q.seq.Store().Close() }
