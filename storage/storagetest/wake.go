package storagetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// wakeRules are for a store that can wake. They run by its own clock, because that
// is what it listens by.
var wakeRules = []rule{
	{"W1 whoever watches a queue is woken by what can be claimed in it: enqueued, put back, released, retried, resumed", func(t *testing.T, l *lab) {
		l.wakes()
		woken := l.watch("default")
		a := l.row("a")
		l.enqueueNow(a)
		woken.within(t, "an enqueue")
		w := l.worker()
		w.JoinedAt = time.Time{}
		l.must(l.store.Join(t.Context(), w), "Join")
		take := func() storage.Execution {
			t.Helper()
			got, err := l.store.Claim(t.Context(), storage.ClaimRequest{Worker: w.ID, Queues: []string{"default"}, Limit: 1})
			l.must(err, "Claim")
			if len(got.Executions) != 1 {
				t.Fatalf("claimed %v, want one", names(got.Executions))
			}
			return got.Executions[0]
		}
		end := func(o storage.Outcome) {
			t.Helper()
			_, err := l.store.Finish(t.Context(), storage.FinishRequest{Worker: w.ID, Outcomes: []storage.Outcome{o}})
			l.must(err, "Finish")
		}
		act := func(act storage.Action, p storage.Pause, ids ...storage.ID) {
			t.Helper()
			_, err := l.store.Operate(t.Context(), storage.Order{Action: act, IDs: ids, Pause: p, Actor: "grace@lab"})
			l.must(err, "Operate")
		}
		held := take()
		woken.forget()
		end(outcome(held, storage.Pending))
		woken.within(t, "a row that was put back")
		held = take()
		woken.forget()
		end(failure(held, storage.Failed, "boom"))
		woken.forget()
		act(storage.ActRetry, storage.Pause{}, a.ID)
		woken.within(t, "a retry")
		end(outcome(take(), storage.Completed))

		f := l.draft(storage.PolicyStop, "first", "second needs first")
		r := f.request()
		_, err := l.store.Enqueue(t.Context(), r)
		l.must(err, "Enqueue")
		held = take()
		woken.forget()
		end(outcome(held, storage.Completed))
		woken.within(t, "a member that was released")

		act(storage.ActPause, storage.Pause{Kind: storage.PauseQueue, Name: "default"})
		woken.forget()
		act(storage.ActResume, storage.Pause{Kind: storage.PauseQueue, Name: "default"})
		woken.within(t, "a queue that was resumed")
		act(storage.ActPause, storage.Pause{Kind: storage.PauseOperation, Name: "x"})
		woken.forget()
		act(storage.ActResume, storage.Pause{Kind: storage.PauseOperation, Name: "x"})
		woken.within(t, "an operation that was resumed")
	}},
	{"W1 several may watch, and one is woken for every queue it named", func(t *testing.T, l *lab) {
		l.wakes()
		both, one := l.watch("high", "default"), l.watch("high")
		a := l.row("a")
		a.Queue = "high"
		l.enqueueNow(a)
		both.within(t, "an enqueue")
		one.within(t, "an enqueue")
		l.enqueueNow(l.row("b"))
		both.within(t, "an enqueue into the other queue")
	}},
	{"W2 watching ends without an error when its context does, and with ErrClosed when the store is closed", func(t *testing.T, l *lab) {
		l.wakes()
		ctx, cancel := cancelled(t)
		defer cancel()
		waker := l.store.(storage.Waker)
		l.must(waker.Watch(ctx, []string{"default"}, func() {}), "Watch with a context that is done")
		woken := l.watch("default")
		l.must(l.store.Close(), "Close")
		select {
		case err := <-woken.ended:
			if !errors.Is(err, storage.ErrClosed) {
				t.Errorf("Watch ended with %v, want ErrClosed", err)
			}
		case <-time.After(patience):
			t.Error("Watch goes on after Close")
		}
		woken.over = true
		if err := waker.Watch(t.Context(), nil, func() {}); !errors.Is(err, storage.ErrClosed) {
			t.Errorf("Watch after Close: %v, want ErrClosed", err)
		}
	}},
}

// wakes ends the case of a store that wakes nobody.
func (l *lab) wakes() {
	l.t.Helper()
	if _, ok := l.store.(storage.Waker); !ok {
		l.t.Skip("the store wakes nobody")
	}
}

// patience is how long a wake-up may take.
const patience = 5 * time.Second

// watching is a call of Watch under way.
type watching struct {
	wakes chan struct{}
	ended chan error
	over  bool // its end has been seen
}

// watch begins to watch queues, and ends the case unless it listens.
func (l *lab) watch(queues ...string) *watching {
	l.t.Helper()
	w := &watching{wakes: make(chan struct{}, 1), ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.WithoutCancel(l.t.Context()))
	go func() {
		w.ended <- l.store.(storage.Waker).Watch(ctx, queues, func() {
			select {
			case w.wakes <- struct{}{}:
			default:
			}
		})
	}()
	l.t.Cleanup(func() {
		cancel()
		if w.over {
			return
		}
		select {
		case err := <-w.ended:
			if err != nil {
				l.t.Errorf("Watch ended with %v, want nil after its context", err)
			}
		case <-time.After(patience):
			l.t.Error("Watch goes on after its context")
		}
	})
	w.within(l.t, "the beginning")
	return w
}

// within waits for a wake-up.
func (w *watching) within(t *testing.T, why string) {
	t.Helper()
	select {
	case <-w.wakes:
	case err := <-w.ended:
		w.over = true
		t.Fatalf("Watch ended with %v", err)
	case <-time.After(patience):
		t.Errorf("not woken by %s within %v", why, patience)
	}
}

// forget drops a wake-up that has come.
func (w *watching) forget() {
	select {
	case <-w.wakes:
	default:
	}
}

// enqueueNow enqueues by the store's own clock.
func (l *lab) enqueueNow(rows ...storage.Execution) {
	l.t.Helper()
	_, err := l.store.Enqueue(l.t.Context(), storage.EnqueueRequest{Executions: rows})
	l.must(err, "Enqueue")
}
