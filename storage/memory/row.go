package memory

import (
	"bytes"
	"container/heap"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// row is an execution and what the contract does not show of it.
type row struct {
	storage.Execution
	cancel bool // an operator asked its worker to stop
	gone   bool // no longer in the ledger, though a lane may still have an entry
}

// runnable reports whether time alone keeps the row from being claimed.
func (r *row) runnable() bool { return r.State == storage.Pending && r.Waits == 0 && !r.gone }

// private reports whether one process alone serves the row's queue.
func (r *row) private() bool { return strings.HasPrefix(r.Queue, storage.PrivateQueue) }

// copied returns e with slices of its own, so that a caller's later writes reach
// neither the ledger nor what another caller was given.
func copied(e storage.Execution) storage.Execution {
	e.Input, e.Policy = bytes.Clone(e.Input), bytes.Clone(e.Policy)
	e.Checkpoint, e.Result = bytes.Clone(e.Checkpoint), bytes.Clone(e.Result)
	e.Tags = slices.Clone(e.Tags)
	return e
}

func compareIDs(a, b storage.ID) int { return bytes.Compare(a[:], b[:]) }

// insert adds a new row to the ledger.
func (t *tx) insert(r *row) {
	t.rows[r.ID] = r
	if r.Kind == storage.Ordered || r.Kind == storage.Migration {
		t.named[r.Name] = append(t.named[r.Name], r)
	}
	if f := t.flows[r.FlowID]; f != nil {
		f.members = append(f.members, r)
	}
	t.index(r)
	t.noteDue(r)
	t.onRollback(func() { t.remove(r) })
}

// remove takes a row out of the ledger, with its attempts.
func (s *Store) remove(r *row) {
	s.unindex(r)
	r.gone = true
	delete(s.rows, r.ID)
	delete(s.attempts, r.ID)
	without := func(rows []*row) []*row {
		return slices.DeleteFunc(rows, func(o *row) bool { return o == r })
	}
	if named := without(s.named[r.Name]); len(named) > 0 {
		s.named[r.Name] = named
	} else {
		delete(s.named, r.Name)
	}
	if f := s.flows[r.FlowID]; f != nil {
		f.members = without(f.members)
	}
}

// change is the only way an existing row is written: it keeps the journal and
// the indexes in step.
func (t *tx) change(r *row, f func()) {
	was := *r
	t.unindex(r)
	f()
	t.index(r)
	t.noteDue(r)
	t.onRollback(func() {
		t.unindex(r)
		*r = was
		t.index(r)
	})
}

// index enters r in the live set, among the holders of keys and in its lane, or
// in the log of endings.
func (s *Store) index(r *row) {
	if r.State.Over() {
		s.ended = append(s.ended, ending{r, r.FinishedAt})
		return
	}
	s.live[r.ID] = r
	if r.UniqueKey != "" {
		s.holders[r.UniqueKey] = r
	}
	if r.runnable() {
		l := s.lanes[r.Queue]
		if l == nil {
			l = &lane{levels: map[int]*dueHeap{}, parked: map[storage.ID]*row{}}
			s.lanes[r.Queue] = l
		}
		l.add(r)
	}
}

// unindex undoes index, but for lane levels and the log of endings, whose entries
// turn stale and are passed over when they come up.
func (s *Store) unindex(r *row) {
	delete(s.live, r.ID)
	if s.holders[r.UniqueKey] == r {
		delete(s.holders, r.UniqueKey)
	}
	if l := s.lanes[r.Queue]; l != nil {
		delete(l.parked, r.ID)
	}
}

// lane is one queue: a heap by due time and id for each priority, and the parked
// rows apart, which only a claim that knows their names looks at.
type lane struct {
	levels map[int]*dueHeap
	parked map[storage.ID]*row
}

func (l *lane) add(r *row) {
	if r.Parked {
		l.parked[r.ID] = r
		return
	}
	h := l.levels[r.Priority]
	if h == nil {
		h = &dueHeap{}
		l.levels[r.Priority] = h
	}
	heap.Push(h, entry{r, r.DueAt})
}

// priorities returns the lane's levels, first served first.
func (l *lane) priorities() []int { return slices.Sorted(maps.Keys(l.levels)) }

// first returns the level's next row without removing it, after dropping stale
// entries; nil when the level is empty.
func (l *lane) first(queue string, priority int) *row {
	h := l.levels[priority]
	for h.Len() > 0 {
		e := (*h)[0]
		if r := e.row; r.runnable() && !r.Parked && r.Queue == queue && r.Priority == priority && r.DueAt.Equal(e.due) {
			return r
		}
		heap.Pop(h)
	}
	return nil
}

// entry remembers the due time a row had when it was queued; a row that moved on
// since no longer matches.
type entry struct {
	row *row
	due time.Time
}

type dueHeap []entry

func (h dueHeap) Len() int      { return len(h) }
func (h dueHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h dueHeap) Less(i, j int) bool {
	if c := h[i].due.Compare(h[j].due); c != 0 {
		return c < 0
	}
	return compareIDs(h[i].row.ID, h[j].row.ID) < 0
}
func (h *dueHeap) Push(x any) { *h = append(*h, x.(entry)) }
func (h *dueHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = entry{}
	*h = old[:len(old)-1]
	return last
}

// ending is a row and when it ended; stale once the row was taken back or removed.
type ending struct {
	row *row
	at  time.Time
}

func (s *Store) stale(e ending) bool {
	return s.rows[e.row.ID] != e.row || !e.row.State.Over() || !e.row.FinishedAt.Equal(e.at)
}

// capHistory keeps the number of rows that are over at maxHistory.
func (s *Store) capHistory() {
	excess := len(s.rows) - len(s.live) - s.maxHistory
	for n := len(s.ended); excess > 0 && n > 0; n-- {
		e := s.ended[0]
		s.ended = s.ended[1:]
		switch {
		case s.stale(e):
		case s.keepsForEver(e.row):
			s.ended = append(s.ended, e)
		default:
			s.remove(e.row)
			excess--
		}
	}
	// Rows that changed after they were over (an undo, a retry) leave entries behind.
	if len(s.ended) > 2*(len(s.rows)-len(s.live))+1024 {
		seen := make(map[*row]bool, len(s.rows))
		s.ended = slices.DeleteFunc(s.ended, func(e ending) bool {
			gone := s.stale(e) || seen[e.row]
			seen[e.row] = true
			return gone
		})
	}
}

// keepsForEver reports rows that no retention may delete: migrations, approvals,
// members of open flows, and of each ordered operation its newest row and every row that is
// the effective one in some environment (S5.6). Deleting the latter would offer
// the operation again.
func (s *Store) keepsForEver(r *row) bool {
	if r.Kind == storage.Migration || r.Kind == storage.KindApproval {
		return true
	}
	if f := s.flows[r.FlowID]; f != nil && !f.Over() {
		return true
	}
	if r.Kind != storage.Ordered {
		return false
	}
	newest, effective := true, r.State != storage.Cancelled
	for _, o := range s.named[r.Name] {
		if o == r || o.Kind != r.Kind || !o.State.Over() || !newer(&o.Execution, &r.Execution) {
			continue
		}
		newest = false
		// A newer row hides r everywhere, unless it counts nowhere (cancelled) or
		// only in an environment that is not r's.
		if o.State != storage.Cancelled && (!bound(&o.Execution) || bound(&r.Execution) && o.Environment == r.Environment) {
			effective = false
		}
	}
	return newest || effective
}

// bound reports a skip that holds only in one environment (S8.5).
func bound(e *storage.Execution) bool { return e.State == storage.Skipped && e.Environment != "" }

// newer is the order of Newest: live before history, then CreatedAt, then id.
func newer(a, b *storage.Execution) bool {
	if live := !a.State.Over(); live != !b.State.Over() {
		return live
	}
	if c := a.CreatedAt.Compare(b.CreatedAt); c != 0 {
		return c > 0
	}
	return compareIDs(a.ID, b.ID) > 0
}

// get returns a row that must exist.
func (s *Store) get(id storage.ID) (*row, error) {
	r := s.rows[id]
	if r == nil {
		return nil, fmt.Errorf("execution %s: %w", id, storage.ErrNotFound)
	}
	return r, nil
}
