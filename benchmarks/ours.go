package main

import (
	"context"
	"log/slog"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/postgres"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

// ours is Sequencer on each of its stores: how it is opened, and by how many claimers
// a backlog is drained.
var ours = []contender{
	sequencerOn("sqlite", 1, func(ctx context.Context, p place) (storage.Store, error) {
		return sqlite.Open(ctx, p.Address, sqlite.Options{Durability: sqlite.Normal})
	}),
	sequencerOn("postgres", 3, func(ctx context.Context, p place) (storage.Store, error) {
		return postgres.Open(ctx, p.Address, postgres.Options{MaxConns: postgresConns})
	}),
}

func sequencerOn(store string, claimers int, open func(context.Context, place) (storage.Store, error)) contender {
	return contender{
		name: "sequencer", store: store, settings: oursSettings(claimers),
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
			return newOurs(s, claimers)
		},
	}
}

// noop is our operation's input.
type noop struct{ Payload string }

type oursQueue struct {
	seq      *sequencer.Sequencer
	job      func(noop) sequencer.Operation
	claimers int
}

func newOurs(store storage.Store, claimers int) (queue, error) {
	reg := sequencer.NewRegistry()
	job := sequencer.RegisterFuncOf(reg, "noop", func(context.Context, noop) error { return nil })
	seq, err := sequencer.New(store, reg, sequencer.Config{Logger: slog.New(slog.DiscardHandler)})
	return &oursQueue{seq, job, claimers}, err
}

func (q *oursQueue) insert(ctx context.Context, payload []byte) error {
	_, err := q.seq.Dispatch(ctx, q.job(noop{string(payload)}))
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

func (q *oursQueue) left(ctx context.Context) (int, error) {
	counts, err := q.seq.Store().Counts(ctx)
	n := 0
	for _, c := range counts {
		if c.State != storage.Completed {
			n += int(c.N)
		}
	}
	return n, err
}

func (q *oursQueue) close() error { return q.seq.Store().Close() }
