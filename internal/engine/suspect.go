package engine

import "github.com/gosequencer/sequencer/storage"

// An execution that lost several workers in a row may be what they died of. All that
// was in hand with it counts as lost too, and what is due at the same moment is
// claimed together again, so that a poison pill would take its neighbours with it to
// the limit of losses. So a suspect is attempted alone: the pool claims nothing more,
// waits until what it has in hand is recorded, and makes the attempt. A pill then dies
// by itself; anybody else completes and is none.

// suspectIt keeps e for its turn. One is kept, others go back for now, to whoever is
// free: each of them held here would be lost with it.
func (r *run) suspectIt(e *storage.Execution) {
	r.mu.Lock()
	taken := r.suspect != nil
	if !taken {
		r.suspect = e
	}
	r.mu.Unlock()
	if taken {
		r.Quota.giveBack(1)
		r.putBack(e, false)
		return
	}
	r.mine[e.ID] = true
}

// confront attempts the suspect once nothing else is in hand. A pool that stops lets
// it go.
func (r *run) confront() {
	switch {
	case r.suspect == nil || r.alone:
	case r.shut:
		e := r.suspect
		r.acquit(e.ID)
		delete(r.mine, e.ID)
		r.putBack(e, false)
	case r.running == 0 && len(r.outcomes) == 0 && r.writing == 0 && !r.unsure:
		r.alone = true
		r.begin(r.suspect)
	}
}

// acquit ends the turn of the suspect, if it is the one named.
func (r *run) acquit(id storage.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.suspect != nil && r.suspect.ID == id {
		r.suspect, r.alone = nil, false
	}
}

// waiting is how many executions are in hand and not begun.
func (r *run) waiting() int {
	if r.suspect != nil && !r.alone {
		return 1
	}
	return 0
}
