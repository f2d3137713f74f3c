package storagetest

import (
	"errors"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

var holdKeyRules = []rule{
	{"Q4.12 a running row takes a key that it was enqueued without, and holds it like any other until it is over", func(t *testing.T, l *lab) {
		a := l.row("a")
		l.enqueue(a)
		w := l.join()
		e := l.take(w)
		for range 2 { // a repeat changes nothing
			l.must(l.store.HoldKey(t.Context(), holdKey(l, e, "k")), "HoldKey")
		}
		if got := l.get(a.ID); got.UniqueKey != "k" || got.State != storage.Running {
			t.Errorf("the row is %s with key %q", got.State, got.UniqueKey)
		}
		b, c := l.row("b"), l.row("c")
		b.UniqueKey, c.UniqueKey = "k", "k"
		l.same("receipts", l.enqueue(b), []storage.Receipt{{ID: b.ID, Duplicate: true, HolderID: a.ID}})
		l.settle(w, outcome(e, storage.Pending)) // waiting for a retry it keeps the key
		l.same("receipts", l.enqueue(b), []storage.Receipt{{ID: b.ID, Duplicate: true, HolderID: a.ID}})
		l.settle(w, outcome(l.take(w), storage.Completed))
		l.same("receipts after the end", l.enqueue(c), []storage.Receipt{{ID: c.ID}})
	}},
	{"Q4.12 Q4.11 a key that another live row holds is refused with the holder, and nothing changes", func(t *testing.T, l *lab) {
		a, b := l.row("a"), l.row("b")
		b.UniqueKey = "k"
		l.enqueue(a)
		w := l.join()
		e := l.take(w)
		l.enqueue(b)
		l.unchanged("a refused HoldKey", func() {
			err := l.store.HoldKey(t.Context(), holdKey(l, e, "k"))
			duplicate, ok := errors.AsType[*storage.DuplicateError](err)
			if !ok {
				t.Fatalf("got error %v, want a *DuplicateError", err)
			}
			l.same("error", *duplicate, storage.DuplicateError{Name: "a", Key: "k", HolderID: b.ID})
		})
	}},
	{"Q4.4 Q4.12 a waiting holder whose UniqueFor has passed loses the key to a running row", func(t *testing.T, l *lab) {
		a, b := l.row("a"), l.row("b")
		b.UniqueKey, b.UniqueFor, b.Delay = "k", time.Minute, time.Hour
		l.enqueue(a)
		w := l.join()
		e := l.take(w)
		l.enqueue(b)
		l.tick(time.Minute + time.Millisecond)
		l.must(l.store.HoldKey(t.Context(), holdKey(l, e, "k")), "HoldKey")
		if got := l.get(b.ID); got.UniqueKey != "" || got.State != storage.Pending {
			t.Errorf("the former holder is %s with key %q, want pending without one", got.State, got.UniqueKey)
		}
	}},
	{"Q4.7 a running row gives its key up, and does not get it back by waiting", func(t *testing.T, l *lab) {
		a, b := l.row("a"), l.row("b")
		a.UniqueKey, b.UniqueKey = "k", "k"
		l.enqueue(a)
		w := l.join()
		e := l.take(w)
		for range 2 { // a repeat changes nothing
			l.must(l.store.HoldKey(t.Context(), holdKey(l, e, "")), "HoldKey")
		}
		if got := l.get(a.ID); got.UniqueKey != "" || got.State != storage.Running {
			t.Errorf("the row is %s with key %q", got.State, got.UniqueKey)
		}
		l.same("receipts", l.enqueue(b), []storage.Receipt{{ID: b.ID}})
		l.settle(w, outcome(e, storage.Pending))
		if got := l.get(a.ID); got.UniqueKey != "" {
			t.Errorf("while it waits it has the key %q", got.UniqueKey)
		}
		if got := l.get(b.ID); got.UniqueKey != "k" {
			t.Errorf("the next has the key %q", got.UniqueKey)
		}
		fenced := holdKey(l, e, "")
		if err := l.store.HoldKey(t.Context(), fenced); !errors.Is(err, storage.ErrLeaseLost) {
			t.Errorf("got error %v, want %v", err, storage.ErrLeaseLost)
		}
	}},
	{"S5.7 Q4.12 only who holds the row gives it a key", func(t *testing.T, l *lab) {
		a := l.row("a")
		l.enqueue(a)
		w, other := l.join(), l.join()
		e := l.take(w)
		for what, change := range map[string]func(*storage.HoldKeyRequest){
			"another worker":   func(r *storage.HoldKeyRequest) { r.Worker = other },
			"another delivery": func(r *storage.HoldKeyRequest) { r.Delivery++ },
			"another row":      func(r *storage.HoldKeyRequest) { r.ID = l.id() },
		} {
			r := holdKey(l, e, "k")
			change(&r)
			l.unchanged("a fenced HoldKey", func() {
				if err := l.store.HoldKey(t.Context(), r); !errors.Is(err, storage.ErrLeaseLost) {
					t.Errorf("%s: got error %v, want %v", what, err, storage.ErrLeaseLost)
				}
			})
		}
	}},
}

func holdKey(l *lab, e storage.Execution, key string) storage.HoldKeyRequest {
	return storage.HoldKeyRequest{Now: l.now, Worker: e.WorkerID, ID: e.ID, Delivery: e.Delivery, Name: e.Name, Key: key}
}
