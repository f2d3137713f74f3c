package timeline_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// path is a way by which an execution comes to be, and is served.
type path struct {
	name    string
	ordered bool // the operation has a timestamp
	private bool // it waits in a queue that one process alone serves
	delays  bool // by an option
	defers  bool // which tries more often by itself
	sql     bool // the ledger has to share transactions
	// start makes the execution, and serves it to its end.
	start func(c *cell, s *sequencer.Sequencer)
	// resume does the same after the process of start has died; nil: a worker serves it.
	resume func(c *cell, s *sequencer.Sequencer)
	// declare is for what the registry has to know.
	declare func(c *cell)
}

var paths = []*path{
	{
		name: "run", ordered: true, private: true,
		start:  func(c *cell, s *sequencer.Sequencer) { c.deploy(s, sequencer.RunOptions{}) },
		resume: func(c *cell, s *sequencer.Sequencer) { c.deploy(s, sequencer.RunOptions{}) },
	},
	{
		name: "run, beside the line", ordered: true, private: true,
		start:  func(c *cell, s *sequencer.Sequencer) { c.deploy(s, sequencer.RunOptions{Async: true}) },
		resume: func(c *cell, s *sequencer.Sequencer) { c.deploy(s, sequencer.RunOptions{Async: true}) },
	},
	{
		name: "run, detached", ordered: true,
		start: func(c *cell, s *sequencer.Sequencer) {
			c.deploy(s, sequencer.RunOptions{Detach: true})
			c.around = nil // it had only begun
			c.serve(s)
		},
	},
	{name: "worker", start: func(c *cell, s *sequencer.Sequencer) {
		c.dispatch(s, c.op)
		c.serve(s)
	}},
	{name: "sync", private: true, start: func(c *cell, s *sequencer.Sequencer) {
		err := s.ExecuteSync(c.lasting(), c.op)
		if _, ended := errors.AsType[*sequencer.ExecutionError](err); !ended {
			c.fault(s, err)
		}
	}},
	{name: "batch member", start: func(c *cell, s *sequencer.Sequencer) {
		f, err := s.Batch(named("first"), c.op, named("last")).Dispatch(c.t.Context())
		c.flow(s, f, err)
	}, declare: func(c *cell) { c.nothing("first"); c.nothing("last") }},
	{name: "chain step", start: func(c *cell, s *sequencer.Sequencer) {
		f, err := s.Chain(named("first"), c.op, named("last")).Dispatch(c.t.Context())
		c.flow(s, f, err)
	}, declare: func(c *cell) { c.nothing("first"); c.nothing("last") }},
	{name: "step in a batch", start: func(c *cell, s *sequencer.Sequencer) {
		f, err := s.Batch(s.Chain(named("first"), c.op), named("last")).Dispatch(c.t.Context())
		c.flow(s, f, err)
	}, declare: func(c *cell) { c.nothing("first"); c.nothing("last") }},
	{name: "callback", start: func(c *cell, s *sequencer.Sequencer) {
		f, err := s.Batch(named("first")).Then(c.op).Dispatch(c.t.Context())
		c.flow(s, f, err)
	}, declare: func(c *cell) { c.nothing("first") }},
	{name: "added member", start: func(c *cell, s *sequencer.Sequencer) {
		f, err := s.Batch(named("adds")).Dispatch(c.t.Context())
		c.flow(s, f, err)
	}, declare: func(c *cell) {
		c.helper("adds", func(ctx context.Context) error { return sequencer.CurrentBatch(ctx).Add(ctx, c.op) })
	}},
	{name: "from a handler", start: func(c *cell, s *sequencer.Sequencer) {
		c.dispatch(s, named("sends"))
		c.serve(s)
	}, declare: func(c *cell) {
		c.helper("sends", func(ctx context.Context) error {
			_, err := sequencer.From(ctx).Dispatch(ctx, c.op)
			return err
		})
	}},
	{
		name: "schedule", start: func(c *cell, s *sequencer.Sequencer) { c.serveFor(s, idle+5*time.Minute) }, resume: func(c *cell, s *sequencer.Sequencer) { c.serve(s) },
		declare: func(c *cell) {
			at := time.Now().Add(12 * time.Minute)
			sequencer.Schedule(c.reg, "yearly", fmt.Sprintf("%d %d %d %d *", at.Minute(), at.Hour(), at.Day(), at.Month()), c.op)
		},
	},
	{name: "delayed", delays: true, start: func(c *cell, s *sequencer.Sequencer) {
		c.dispatch(s, c.op, sequencer.Delay(time.Minute))
		c.serve(s)
	}},
	{name: "deferred", delays: true, defers: true, start: func(c *cell, s *sequencer.Sequencer) {
		if _, err := s.Defer(c.t.Context(), c.op, time.Now().Add(time.Minute)); err != nil {
			c.t.Error(err)
		}
		c.serve(s)
	}},
	{name: "retried by hand", delays: true, start: func(c *cell, s *sequencer.Sequencer) {
		r := c.dispatch(s, c.op, sequencer.Delay(time.Hour))
		for _, err := range []error{s.Cancel(c.t.Context(), r.ID, ""), s.Retry(c.t.Context(), r.ID, "")} {
			if err != nil {
				c.t.Error(err)
			}
		}
		c.serve(s)
	}},
	{name: "in a transaction", sql: true, start: func(c *cell, s *sequencer.Sequencer) {
		store := s.Store().(storage.TxStore)
		tx, err := store.TxKinds()[0].Begin(c.t.Context())
		if err != nil {
			c.t.Fatal(err)
		}
		c.dispatch(s.In(tx), c.op)
		if err := tx.Commit(c.t.Context()); err != nil {
			c.t.Fatal(err)
		}
		c.serve(s)
	}},
}
