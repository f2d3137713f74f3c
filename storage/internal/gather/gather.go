// Package gather lets callers who enqueue at the same time share a statement and its
// commit, for any backend.
package gather

import (
	"context"
	"sync"

	"github.com/gosequencer/sequencer/storage"
)

// Rows is what one statement may gather.
const Rows = 1000

// calls is how many statements may be under way at a time: with two, one is prepared
// while the other waits for the disk.
const calls = 2

// Insert writes the rows of several plain requests, whose first rows are at the
// given places, and reports whether it wrote all of them; a single request that was
// written before counts as written. With several it may also write none of them, or
// all but those of requests that were written before, and report false: each then
// goes by itself.
type Insert func(ctx context.Context, rows []storage.Execution, first []int) (all bool, err error)

// Gather has no timer: a call that finds nobody at it goes at once, and what arrives
// while the statements under way are answered goes together in the next.
type Gather struct {
	insert Insert

	mu      sync.Mutex // guards the rest
	waiting []*parcel
	calls   int // goroutines at work
}

// New makes one that writes with insert, which must end when its store is closed.
func New(insert Insert) *Gather { return &Gather{insert: insert} }

// parcel is one request on its way.
type parcel struct {
	rows []storage.Execution
	done chan error
}

// Enqueue writes the rows of a plain request, at most [Rows]. When ctx ends early
// nobody knows whether they were written, as with any call whose answer is lost.
func (g *Gather) Enqueue(ctx context.Context, rows []storage.Execution) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p := &parcel{rows: rows, done: make(chan error, 1)}
	g.mu.Lock()
	g.waiting = append(g.waiting, p)
	if g.calls < calls {
		g.calls++
		go g.run() //nolint:contextcheck // it serves many callers, and ends when nobody waits
	}
	g.mu.Unlock()
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *Gather) run() {
	for {
		parcels := g.take()
		if parcels == nil {
			return
		}
		g.send(parcels)
	}
}

// take removes what one statement can carry; nil ends the goroutine.
func (g *Gather) take() []*parcel {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 {
		g.calls--
		return nil
	}
	n, rows := 1, len(g.waiting[0].rows)
	for n < len(g.waiting) && rows+len(g.waiting[n].rows) <= Rows {
		rows += len(g.waiting[n].rows)
		n++
	}
	parcels := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	return parcels
}

// send writes parcels in one statement. Where that does not write all of them, one
// is a repeat, or has something that the server refuses: then each goes by itself,
// so that none suffers from another.
func (g *Gather) send(parcels []*parcel) {
	ctx := context.Background()
	if len(parcels) > 1 {
		var rows []storage.Execution
		first := make([]int, len(parcels))
		for i, p := range parcels {
			first[i] = len(rows)
			rows = append(rows, p.rows...)
		}
		if all, err := g.insert(ctx, rows, first); all && err == nil {
			for _, p := range parcels {
				p.done <- nil
			}
			return
		}
	}
	for _, p := range parcels {
		_, err := g.insert(ctx, p.rows, []int{0})
		p.done <- err
	}
}
