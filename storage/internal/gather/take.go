package gather

import (
	"context"

	"github.com/gosequencer/sequencer/storage"
)

// TakeAll charges limits for several requests, one after the other in one
// transaction, and answers in their order.
type TakeAll func(ctx context.Context, requests []storage.TakeRequest) ([]storage.Taken, error)

// Takers is where those meet who charge limits, which are often the same few rows:
// together they wait for them once. Use [NewTakers].
type Takers struct {
	all  TakeAll
	meet together[*taker]
}

type taker struct {
	request storage.TakeRequest
	answer  chan taken
}

type taken struct {
	storage.Taken
	err error
}

// NewTakers makes a place to meet. Its calls have a context without end: whoever
// closes the database ends them.
func NewTakers(all TakeAll) *Takers {
	g := &Takers{all: all}
	g.meet.calls = 2
	g.meet.size = func(t *taker) size { return size{rows: len(t.request.Limits)} }
	g.meet.send = g.send
	return g
}

func (g *Takers) send(takers []*taker) {
	requests := make([]storage.TakeRequest, len(takers))
	for i, t := range takers {
		requests[i] = t.request
	}
	answers, err := g.all(context.Background(), requests)
	for i, t := range takers {
		if err != nil {
			t.answer <- taken{err: err}
		} else {
			t.answer <- taken{Taken: answers[i]}
		}
	}
}

// Take charges the limits of a request that is valid and has no instant of its own.
// When ctx ends early nobody knows whether they were charged.
func (g *Takers) Take(ctx context.Context, r storage.TakeRequest) (storage.Taken, error) {
	if err := ctx.Err(); err != nil {
		return storage.Taken{}, err
	}
	t := &taker{request: r, answer: make(chan taken, 1)}
	g.meet.add(t)
	select {
	case a := <-t.answer:
		return a.Taken, a.err
	case <-ctx.Done():
		return storage.Taken{}, ctx.Err()
	}
}
