package gather

import "sync"

// maxCalls is how many calls are under way at a time: with two, one is prepared
// while the other is waited for.
const maxCalls = 2

// size is how much of a call a parcel takes.
type size struct{ rows, bytes int }

func (s size) fits(more size) bool {
	return s.rows+more.rows <= MaxRows && s.bytes+more.bytes <= maxBytes
}

// together is where callers meet, whatever they bring.
type together[P any] struct {
	size func(P) size
	send func([]P)

	mu      sync.Mutex // guards the rest
	waiting []P
	calls   int // goroutines at work
}

// add hands a parcel over; send will tell its owner.
func (t *together[P]) add(p P) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting = append(t.waiting, p)
	if t.calls < maxCalls {
		t.calls++
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
	}
}

// take removes what one call can carry; nil ends the goroutine.
func (t *together[P]) take() []P {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		t.calls--
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
