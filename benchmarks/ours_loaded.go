package main

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/middleware"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/postgres"
	"github.com/gosequencer/sequencer/storage/redis"
)

// oursLoaded is Sequencer with an operation that declares what costs something: a
// unique key, a rate limit that has room, two tags, and hooks before and after. What
// it may cost beside the plain one is half the rate.
var oursLoaded = []contender{
	loadedOn("postgres", func(ctx context.Context, p place) (storage.Store, error) {
		return postgres.Open(ctx, p.Address, postgres.Options{MaxConns: postgresConns})
	}),
	loadedOn("redis", func(ctx context.Context, p place) (storage.Store, error) {
		return redis.Open(ctx, p.Address, redis.Options{Ledger: p.Name, Logger: slog.New(slog.DiscardHandler)})
	}),
}

func loadedOn(store string, open func(context.Context, place) (storage.Store, error)) contender {
	c := sequencerOn(store, open)
	c.name, c.works = "sequencer, loaded", []string{"insert-64", "insert-bulk", "drain"}
	c.settings = fmt.Sprintf("%d slots; each job is unique, rate limited, tagged, and has hooks before and after", slots)
	c.open = func(ctx context.Context, p place) (queue, error) {
		s, err := open(ctx, p)
		if err != nil {
			return nil, err
		}
		return newLoaded(s)
	}
	return c
}

// loaded is its input.
type loaded struct{ Payload string }

// UniqueID is the number of the job, with which its payload begins.
func (l loaded) UniqueID() string { return l.Payload[:min(len(l.Payload), payloadNumber)] }

// newLoaded registers it under the name and with the queue of the plain one.
func newLoaded(store storage.Store) (queue, error) {
	q := &oursQueue{}
	reg := sequencer.NewRegistry()
	nothing := func(context.Context) error { return nil }
	job := sequencer.RegisterFuncOf(reg, "noop", func(_ context.Context, in loaded) error {
		q.handle([]byte(in.Payload))
		return nil
	},
		sequencer.Tagged("benchmark", "loaded"), sequencer.OnBefore(nothing), sequencer.OnAfter(nothing),
		sequencer.Use(middleware.RateLimited("all")))
	q.job = func(n noop) sequencer.Operation { return job(loaded(n)) }
	var err error
	q.seq, err = sequencer.New(store, reg, sequencer.Config{
		Logger:   slog.New(slog.DiscardHandler),
		Limiters: map[string]sequencer.Limiter{"all": sequencer.Limit{N: math.MaxInt32, Per: time.Minute}},
	})
	return q, err
}
