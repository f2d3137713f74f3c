package gather

import (
	"runtime"
	"sync"
)

// size is how much of a call a parcel takes.
type size struct{ rows, bytes int }

func (s size) fits(more size) bool {
	return s.rows+more.rows <= MaxRows && s.bytes+more.bytes <= maxBytes
}

// together is where callers meet, whatever they bring.
type together[P any] struct {
	calls int // under way at a time
	size  func(P) size
	send  func([]P)

	mu      sync.Mutex // guards the rest
	waiting []P
	working int // goroutines
}

// add hands a parcel over; send will tell its owner.
func (t *together[P]) add(p P) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting = append(t.waiting, p)
	if t.working < t.calls {
		t.working++
		go t.run()
	}
}

func (t *together[P]) run() {
	for {
		parcels := t.take()
		if parcels == nil {
			return
		}
		t.send(parcels)
		runtime.Gosched() // who was told may come again at once, and then share the next call
	}
}

// take removes what one call can carry; nil ends the goroutine.
func (t *together[P]) take() []P {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		t.working--
		return nil
	}
	n, all := 1, t.size(t.waiting[0])
	for n < len(t.waiting) {
		next := t.size(t.waiting[n])
		if !all.fits(next) {
			break
		}
		all.rows += next.rows
		all.bytes += next.bytes
		n++
	}
	parcels := t.waiting[:n:n]
	t.waiting = t.waiting[n:]
	return parcels
}
