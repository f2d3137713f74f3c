package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// What one statement may gather, and how many of them are under way at a time: with
// two, one is prepared while the other waits for the disk.
const (
	gatherRows  = 1000
	gatherCalls = 2
)

// gather lets callers who enqueue at the same time share a statement and its
// commit. There is no timer: a call that finds nobody at it goes at once, and what
// arrives while the statements under way are answered goes together in the next.
type gather struct {
	store *Store

	mu      sync.Mutex // guards the rest
	waiting []*parcel
	calls   int // goroutines at work
}

// parcel is one plain EnqueueRequest on its way.
type parcel struct {
	rows []storage.Execution
	done chan error
}

// enqueue writes the rows of a plain request. When ctx ends early nobody knows
// whether they were written, as with any call whose answer is lost.
func (g *gather) enqueue(ctx context.Context, rows []storage.Execution) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p := &parcel{rows: rows, done: make(chan error, 1)}
	g.mu.Lock()
	g.waiting = append(g.waiting, p)
	if g.calls < gatherCalls {
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

func (g *gather) run() {
	for {
		parcels := g.take()
		if parcels == nil {
			return
		}
		g.send(parcels)
	}
}

// take removes what one statement can carry; nil ends the goroutine.
func (g *gather) take() []*parcel {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 {
		g.calls--
		return nil
	}
	n, rows := 1, len(g.waiting[0].rows)
	for n < len(g.waiting) && rows+len(g.waiting[n].rows) <= gatherRows {
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
func (g *gather) send(parcels []*parcel) {
	ctx := context.Background() // Close ends it, see guarded
	if len(parcels) == 1 {
		parcels[0].done <- g.store.insertPlain(ctx, parcels, nil)
		return
	}
	rows, written := 0, int64(0)
	for _, p := range parcels {
		rows += len(p.rows)
	}
	if err := g.store.insertPlain(ctx, parcels, &written); err == nil && written == int64(rows) {
		for _, p := range parcels {
			p.done <- nil
		}
		return
	}
	for i := range parcels {
		parcels[i].done <- g.store.insertPlain(ctx, parcels[i:i+1], nil)
	}
}

// insertPlain writes the rows of plain requests, all or, if those of one are there
// already, none, and counts what it wrote.
func (s *Store) insertPlain(ctx context.Context, parcels []*parcel, written *int64) error {
	rows := parcels[0].rows
	if len(parcels) > 1 {
		rows = nil
		for _, p := range parcels {
			rows = append(rows, p.rows...)
		}
	}
	firsts := make([]storage.ID, len(parcels)) // each tells for its request
	for i, p := range parcels {
		firsts[i] = p.rows[0].ID
	}
	return s.alone(ctx, "enqueue", time.Time{}, func(ctx context.Context, q *session) error {
		if written != nil {
			*written = 0 // a try that failed wrote nothing
		}
		e := enqueuing{request: storage.EnqueueRequest{Executions: rows}, q: q}
		if err := e.prepare(); err != nil {
			return err
		}
		e.queuePlain(rows, firsts, written)
		return nil
	})
}
