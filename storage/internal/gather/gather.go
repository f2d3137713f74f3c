// Package gather lets callers who enqueue at the same time share a call of the
// database, for any backend.
//
// There is no timer: a call that finds nobody at it goes at once, and what arrives
// while the calls under way are answered goes together in the next.
package gather

import (
	"context"
	"runtime"
	"sync"

	"github.com/gosequencer/sequencer/storage"
)

// MaxRows is how many rows one call may gather, and the most that [Gather.Enqueue]
// takes.
const MaxRows = 1000

// maxBytes bounds the inputs of the rows of one call, but for those of one caller.
const maxBytes = 4 << 20

// Write writes rows of plain requests, all or, if one of them is there already, none,
// and returns how many it wrote.
type Write func(ctx context.Context, rows []storage.Execution) (written int, err error)

// Gather is where callers meet. Use [New].
type Gather struct {
	write Write
	calls int

	mu      sync.Mutex // guards the rest
	waiting []*parcel
	working int // goroutines
}

// New makes a place to meet. So many calls are under way at a time: with two, one is
// prepared while the other is waited for; with one, more callers share it. They have a
// context without end: whoever closes the database ends them.
func New(calls int, write Write) *Gather { return &Gather{write: write, calls: calls} }

// parcel is what one caller brought.
type parcel struct {
	rows  []storage.Execution
	bytes int
	done  chan error
}

// Enqueue writes the rows of one plain request: one whose rows can only be new, or a
// repeat, which is no error. When ctx ends early nobody knows whether they were
// written, as with any call whose answer is lost.
func (g *Gather) Enqueue(ctx context.Context, rows []storage.Execution) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p := &parcel{rows: rows, done: make(chan error, 1)}
	for i := range rows {
		p.bytes += len(rows[i].Input)
	}
	g.mu.Lock()
	g.waiting = append(g.waiting, p)
	if g.working < g.calls {
		g.working++
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
		runtime.Gosched() // who was told may come again at once, and then share the next call
	}
}

// take removes what one call can carry; nil ends the goroutine.
func (g *Gather) take() []*parcel {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 {
		g.working--
		return nil
	}
	n, rows, bytes := 1, len(g.waiting[0].rows), g.waiting[0].bytes
	for n < len(g.waiting) && rows+len(g.waiting[n].rows) <= MaxRows && bytes+g.waiting[n].bytes <= maxBytes {
		rows += len(g.waiting[n].rows)
		bytes += g.waiting[n].bytes
		n++
	}
	parcels := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	return parcels
}

// send writes parcels in one call. Where that does not write all of them, one is a
// repeat, or has something that the server refuses: then each goes by itself, so
// that none suffers from another.
func (g *Gather) send(parcels []*parcel) {
	ctx := context.Background()
	if len(parcels) > 1 {
		var rows []storage.Execution
		for _, p := range parcels {
			rows = append(rows, p.rows...)
		}
		if written, err := g.write(ctx, rows); err == nil && written == len(rows) {
			for _, p := range parcels {
				p.done <- nil
			}
			return
		}
	}
	for _, p := range parcels {
		_, err := g.write(ctx, p.rows)
		p.done <- err
	}
}
