package memory

import (
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// drop ends a hook: its row goes, and how it went wrong is told by its target.
func (t *tx) drop(r *row, o *storage.Outcome) {
	if o.Failure != nil {
		note := o.Note()
		note.WorkerID, note.StartedAt, note.FinishedAt = r.WorkerID, t.now.Add(-o.Ran).Truncate(time.Microsecond), t.now
		t.log(note)
	}
	t.remove(r)
	t.onRollback(func() {
		r.gone = false
		t.rows[r.ID] = r
		t.index(r)
	})
}

// insertHooks writes what the outcomes ask for.
func (t *tx) insertHooks(hooks []storage.Execution) {
	for i := range hooks {
		h := &hooks[i]
		if t.rows[h.ID] != nil {
			continue
		}
		r := newRow(*h, t.now)
		if h.State == storage.Running {
			r.State, r.Delivery, r.StartedAt = storage.Running, 1, t.now
		}
		t.insert(r)
	}
}
