package main

import (
	"context"
	"errors"
	"sync"
)

// The works of the floors. What is named floor inserts row by row and keeps what is
// done in its table, the other two differ in the one thing they are named for.
var (
	floorWorks     = []string{"insert", "drain", "first"}
	ledgerWorks    = []string{"drain"}
	coalescedWorks = []string{"insert-8", "insert-64"}
)

// together runs as many claimers at once and waits for all.
func together(claimers int, claim func() error) error {
	errs := make([]error, claimers)
	var wait sync.WaitGroup
	for i := range claimers {
		wait.Go(func() { errs[i] = claim() })
	}
	wait.Wait()
	return errors.Join(errs...)
}

// coalescer lets callers that insert at the same time share a statement. Nobody waits
// for company: a writer that is free takes whoever is there.
type coalescer struct {
	calls   chan call
	writers sync.WaitGroup
}

type call struct {
	payload []byte
	done    chan<- error
}

func newCoalescer(writers int, write func(ctx context.Context, payloads [][]byte) error) *coalescer {
	c := &coalescer{calls: make(chan call, batch)}
	for range writers {
		c.writers.Go(func() {
			for first := range c.calls {
				calls := c.gather(first)
				payloads := make([][]byte, len(calls))
				for i := range calls {
					payloads[i] = calls[i].payload
				}
				err := write(context.Background(), payloads)
				for i := range calls {
					calls[i].done <- err
				}
			}
		})
	}
	return c
}

func (c *coalescer) gather(first call) []call {
	calls := []call{first}
	for len(calls) < batch {
		select {
		case next, ok := <-c.calls:
			if !ok {
				return calls
			}
			calls = append(calls, next)
		default:
			return calls
		}
	}
	return calls
}

func (c *coalescer) insert(payload []byte) error {
	done := make(chan error, 1)
	c.calls <- call{payload, done}
	return <-done
}

// close waits for the writers. Nobody may insert any more.
func (c *coalescer) close() {
	close(c.calls)
	c.writers.Wait()
}

// coalesced is a floor whose single inserts share statements.
type coalesced struct {
	floor
	callers *coalescer
}

// floor is what coalesced builds on.
type floor interface {
	queue
	bulk
}

func coalesce(f floor, err error, writers int) (queue, error) {
	if err != nil {
		return nil, err
	}
	return &coalesced{f, newCoalescer(writers, f.insertBulk)}, nil
}

func (c *coalesced) insert(_ context.Context, payload []byte) error { return c.callers.insert(payload) }

func (c *coalesced) close() error {
	c.callers.close()
	return c.floor.close()
}
