// Package gather lets callers who come at the same time share a call of the database,
// for any backend.
//
// There is no timer: a call that finds nobody at it goes at once, and what arrives
// while the calls under way are answered goes together in the next.
package gather

import (
	"context"

	"github.com/gosequencer/sequencer/storage"
)

// MaxRows is how many rows one call may gather, and the most that [Gather.Enqueue]
// takes.
const MaxRows = 1000

// maxBytes bounds the inputs of the rows of one call, but for those of one caller.
const maxBytes = 4 << 20

// Write writes the rows of plain requests, whose first rows are at the given places,
// and returns how many it wrote: all, or fewer if one of the requests was written
// before, which its first row tells. A single request that was written before is no
// error.
type Write func(ctx context.Context, rows []storage.Execution, first []int) (written int, err error)

// Gather is where those meet who enqueue. Use [New].
type Gather struct {
	write Write
	meet  together[*parcel]
}

// New makes a place to meet. So many calls are under way at a time: with two, one is
// prepared while the other is waited for; with one, more callers share it. They have a
// context without end: whoever closes the database ends them.
func New(calls int, write Write) *Gather {
	g := &Gather{write: write}
	g.meet.calls = calls
	g.meet.size = func(p *parcel) size { return size{len(p.rows), p.bytes} }
	g.meet.send = g.send
	return g
}

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
	g.meet.add(p)
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// send writes parcels in one call. Where that does not write all of them, one is a
// repeat, or has something that the server refuses: then each goes by itself, so
// that none suffers from another.
func (g *Gather) send(parcels []*parcel) {
	ctx := context.Background()
	if len(parcels) > 1 {
		n := 0
		for _, p := range parcels {
			n += len(p.rows)
		}
		rows := make([]storage.Execution, 0, n)
		first := make([]int, len(parcels))
		for i, p := range parcels {
			first[i] = len(rows)
			rows = append(rows, p.rows...)
		}
		if written, err := g.write(ctx, rows, first); err == nil && written == len(rows) {
			for _, p := range parcels {
				p.done <- nil
			}
			return
		}
	}
	for _, p := range parcels {
		_, err := g.write(ctx, p.rows, []int{0})
		p.done <- err
	}
}
