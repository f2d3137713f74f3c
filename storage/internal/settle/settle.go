// Package settle carries out the flow rules of [storage.Flow] for any backend
// that can do a handful of primitive steps inside one transaction. The rules are
// decisions, so they exist once, here; the statements are the backend's own.
//
// The entry points are [Endings], called with the members that a verb ended,
// [Resolved] for those that a person gave another end, [Stop] and [Cancel], [Plan]
// and [Opened] around an Enqueue, and [Retry] and [Resume] for orders. All leave
// every flow they touch saved.
package settle

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Endings applies the rules for members that are over and returns the flows they
// belong to, as they stand afterwards, in id order. Endings of no flow are ignored
// but for what they undo.
func Endings(ctx context.Context, rows Rows, now time.Time, endings []Ending) ([]storage.Flow, error) {
	return apply(ctx, rows, now, endings, (*storage.Flow).Compensates)
}

// Resolved does the same for interrupted members that a person gave another end,
// except that only atomic flows compensate (see [storage.Flow.Resolve]). For a callback
// its interruption was the end that its flow waited for.
func Resolved(ctx context.Context, rows Rows, now time.Time, endings []Ending) ([]storage.Flow, error) {
	endings = slices.DeleteFunc(slices.Clone(endings), func(e Ending) bool { return e.Kind == storage.KindCallback })
	return apply(ctx, rows, now, endings, wholly)
}

func neverUndo(*storage.Flow) bool { return false }

// wholly undoes what must not end by halves, whoever stopped it.
func wholly(f *storage.Flow) bool { return f.Policy == storage.PolicyAtomic && f.Compensates() }

func apply(ctx context.Context, rows Rows, now time.Time, endings []Ending, undo func(*storage.Flow) bool) ([]storage.Flow, error) {
	byFlow := map[storage.ID][]Ending{}
	for _, e := range endings {
		if e.Kind == storage.Undo {
			if err := markUndo(ctx, rows, now, e); err != nil {
				return nil, err
			}
		}
		if !e.FlowID.IsZero() {
			byFlow[e.FlowID] = append(byFlow[e.FlowID], e)
		}
	}
	ids, err := advanced(ctx, rows, now, sorted(maps.Keys(byFlow)), byFlow)
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	w := newWork(rows, now, undo)
	lock := slices.Clone(ids)
	for _, id := range ids {
		w.ended = append(w.ended, byFlow[id]...)
		for _, e := range byFlow[id] {
			for _, a := range e.Adds {
				lock = append(lock, a.Flow)
			}
		}
	}
	if err := w.lock(ctx, lock); err != nil {
		return nil, err
	}
	for _, e := range w.ended {
		for _, a := range e.Adds {
			if err := w.add(ctx, e, a); err != nil {
				return nil, err
			}
		}
	}
	return w.run(ctx)
}

// Distinct drops repeated ids.
func Distinct(ids []storage.ID) []storage.ID {
	seen := make(map[storage.ID]bool, len(ids))
	list := make([]storage.ID, 0, len(ids))
	for _, id := range ids {
		if !seen[id] {
			seen[id] = true
			list = append(list, id)
		}
	}
	return list
}

// sorted are distinct ids in their order.
func sorted(ids func(func(storage.ID) bool)) []storage.ID {
	return slices.Compact(slices.SortedFunc(ids, compareIDs))
}

func compareIDs(a, b storage.ID) int { return bytes.Compare(a[:], b[:]) }

// advanced takes the commonest step where the backend can, and returns the flows
// for which it could not.
func advanced(ctx context.Context, rows Rows, now time.Time, ids []storage.ID, byFlow map[storage.ID][]Ending) ([]storage.ID, error) {
	can, ok := rows.(Advancer)
	if !ok {
		return ids, nil
	}
	var steps []Step
	var left []storage.ID
	for _, id := range ids {
		if slices.ContainsFunc(byFlow[id], func(e Ending) bool { return !plain(e) }) {
			left = append(left, id)
		} else {
			steps = append(steps, Step{id, len(byFlow[id])})
		}
	}
	if len(steps) == 0 {
		return left, nil
	}
	did, err := can.Advance(ctx, steps)
	if err != nil {
		return nil, err
	}
	var from []storage.ID
	for i, s := range steps {
		if did[i] {
			from = append(from, idsOf(byFlow[s.Flow])...)
		} else {
			left = append(left, s.Flow)
		}
	}
	if len(from) > 0 {
		err = rows.Release(ctx, now, from, true)
	}
	return left, err
}

// plain reports the end of a member that lets its flow go on.
func plain(e Ending) bool {
	return e.State == storage.Completed && len(e.Adds) == 0 &&
		e.Kind != storage.Undo && e.Kind != storage.Nested && e.Kind != storage.KindCallback
}

func idsOf(endings []Ending) []storage.ID {
	ids := make([]storage.ID, len(endings))
	for i := range endings {
		ids[i] = endings[i].ID
	}
	return ids
}

// work is the settling of one transaction.
type work struct {
	rows Rows
	now  time.Time
	undo func(*storage.Flow) bool

	flows     map[storage.ID]*storage.Flow // locked
	touched   map[storage.ID]bool          // and to be saved
	over      map[storage.ID]bool          // ended here
	progress  map[storage.ID]bool          // members ended since progress was looked at
	rounds    map[storage.ID]int           // steps of cancelling members that need others
	callbacks map[storage.ID][]storage.Callback
	ended     []Ending // yet to be counted in their flows
}

func newWork(rows Rows, now time.Time, undo func(*storage.Flow) bool) *work {
	return &work{
		rows: rows, now: now, undo: undo,
		flows: map[storage.ID]*storage.Flow{}, touched: map[storage.ID]bool{}, over: map[storage.ID]bool{}, progress: map[storage.ID]bool{},
		callbacks: map[storage.ID][]storage.Callback{}, rounds: map[storage.ID]int{},
	}
}

// lock makes sure that flows, and the outermost ones they are nested in, are locked
// and known. Unknown ids are left out.
func (w *work) lock(ctx context.Context, ids []storage.ID) error {
	var missing []storage.ID
	for _, id := range ids {
		if w.flows[id] == nil && !id.IsZero() {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	flows, err := w.rows.LockFlows(ctx, sorted(slices.Values(missing)))
	w.know(flows)
	return err
}

// know keeps flows that were read. What is known already is newer.
func (w *work) know(flows []storage.Flow) {
	for i := range flows {
		if w.flows[flows[i].ID] == nil {
			w.flows[flows[i].ID] = &flows[i]
		}
	}
}

// run settles what has ended, and what ends because of it, until nothing is left,
// and saves the flows.
func (w *work) run(ctx context.Context) ([]storage.Flow, error) {
	for len(w.ended) > 0 {
		byFlow := map[storage.ID][]Ending{}
		for _, e := range w.ended {
			byFlow[e.FlowID] = append(byFlow[e.FlowID], e)
		}
		w.ended = nil
		ids := sorted(maps.Keys(byFlow))
		if err := w.lock(ctx, ids); err != nil {
			return nil, err
		}
		for _, id := range ids {
			if f := w.flows[id]; f != nil {
				if err := w.settle(ctx, f, byFlow[id]); err != nil {
					return nil, err
				}
			}
		}
	}
	return w.save(ctx)
}

// save writes the flows that were touched and returns them in id order.
func (w *work) save(ctx context.Context) ([]storage.Flow, error) {
	saved := make([]storage.Flow, 0, len(w.touched))
	for _, id := range sorted(maps.Keys(w.touched)) {
		if err := w.rows.SaveFlow(ctx, *w.flows[id]); err != nil {
			return nil, err
		}
		told := *w.flows[id]
		told.Ended = w.over[id] && told.Over()
		saved = append(saved, told)
	}
	return saved, nil
}

// settle applies rules 1 to 3 to one flow, then lets it advance.
func (w *work) settle(ctx context.Context, f *storage.Flow, ended []Ending) error {
	stopped := ""
	for work, byItself := ended, true; len(work) > 0; byItself = false {
		var good, bad []Ending
		for _, e := range work {
			w.count(f, e)
			if f.Stops(e.Kind, e.State, e.AllowedToFail) && (byItself || e.State != storage.Cancelled) && stopped == "" {
				stopped = e.Name + " " + string(e.State)
				f.Halt(e.State)
			}
			if err := w.claimed(ctx, e); err != nil {
				return err
			}
			if storage.Satisfies(e.State, e.ForNow) {
				good = append(good, e)
			} else {
				bad = append(bad, e)
			}
		}
		if stopped != "" { // what waits for members is cancelled; callbacks have edges of their own
			member := func(e Ending) bool { return e.Kind != storage.KindCallback }
			good, bad = slices.DeleteFunc(good, member), slices.DeleteFunc(bad, member)
		}
		if len(good) > 0 {
			if err := w.rows.Release(ctx, w.now, idsOf(good), true); err != nil {
				return err
			}
		}
		work = nil
		if len(bad) > 0 {
			var err error
			if work, err = w.cancelNeeding(ctx, f, bad); err != nil {
				return err
			}
		}
	}
	if stopped != "" {
		if f.Reason == "" {
			f.Reason = stopped
		}
		if err := w.cancelAll(ctx, f, stopped, true); err != nil {
			return err
		}
	}
	return w.advance(ctx, f)
}

// count is rule 1, for one ending.
func (w *work) count(f *storage.Flow, e Ending) {
	w.touched[f.ID] = true
	if e.Kind == storage.KindCallback {
		f.CallbackOver(storage.Role(e.Method))
		return
	}
	f.Count(e.Kind, e.State, e.AllowedToFail, 1)
	if e.Kind == storage.Undo {
		return
	}
	w.progress[f.ID] = true
	if e.State == storage.Failed && !e.AllowedToFail && f.Phase == storage.PhaseForward && f.FailedID.IsZero() {
		f.FailedID = e.ID
		if !e.failed.IsZero() {
			f.FailedID = e.failed
		}
	}
}

// comesBack reports an ending that a resumed flow takes back, and what was cancelled
// because of it with it.
func comesBack(e Ending) bool {
	return e.State == storage.Failed && !e.AllowedToFail || e.State == storage.Interrupted || e.State == storage.Cancelled && e.ForNow
}

// cancelNeeding cancels the members that need one which ended badly, and then
// releases those that merely come after it. In this order, because releasing a
// member that is about to be cancelled would make it claimable for no reason.
// It returns the members of f that were cancelled; those of others are to be settled
// there.
func (w *work) cancelNeeding(ctx context.Context, f *storage.Flow, bad []Ending) ([]Ending, error) {
	behind, err := w.rows.Leaving(ctx, idsOf(bad))
	if err != nil {
		return nil, err
	}
	culprits := make(map[storage.ID]Ending, len(bad))
	for _, e := range bad {
		culprits[e.ID] = e
	}
	list, nested := needing(behind, culprits, map[storage.ID]bool{})
	here, err := w.cancelled(ctx, f, list, nested)
	if err != nil {
		return nil, err
	}
	w.rounds[f.ID]++
	if s, ok := w.rows.(Surveyor); ok && len(here) > 0 && w.deep(f) {
		more, err := w.cancelBlocked(ctx, f, s, here)
		if err != nil {
			return nil, err
		}
		here = append(here, more...)
	}
	return here, w.rows.Release(ctx, w.now, idsOf(bad), false)
}

// needing is who is to be cancelled because of culprits, apart those that stand for a
// flow, each once.
func needing(behind []Behind, culprits map[storage.ID]Ending, seen map[storage.ID]bool) (list, nested []Cancellation) {
	slices.SortFunc(behind, func(a, b Behind) int { // so that every backend names the same culprit
		return cmp.Or(compareIDs(a.To, b.To), compareIDs(a.From, b.From))
	})
	for _, b := range behind {
		if !b.Needs || seen[b.To] {
			continue
		}
		seen[b.To] = true
		from := culprits[b.From]
		c := Cancellation{ID: b.To, Reason: "needs " + from.Name + ", which is " + string(from.State), ForNow: comesBack(from)}
		if b.Kind == storage.Nested {
			nested = append(nested, c)
		} else {
			list = append(list, c)
		}
	}
	return list, nested
}

// cancelled cancels, and returns those that are members of f; those of others are to
// be settled there.
func (w *work) cancelled(ctx context.Context, f *storage.Flow, list, nested []Cancellation) ([]Ending, error) {
	for _, c := range nested { // before their members, which have the same edges
		if err := w.stopNested(ctx, []storage.ID{c.ID}, c.Reason, c.ForNow); err != nil {
			return nil, err
		}
	}
	if len(list) == 0 {
		return nil, nil
	}
	ended, err := w.rows.Cancel(ctx, w.now, list)
	if err != nil {
		return nil, err
	}
	var here []Ending
	for _, e := range ended {
		if e.FlowID == f.ID {
			here = append(here, e)
		} else {
			w.ended = append(w.ended, e)
		}
	}
	return here, nil
}

// What makes a cancellation deep: steps enough to have cost as much as to read all that
// the flow has left, if a step costs what so many rows do.
const (
	deepSteps   = 4
	rowsPerStep = 200
)

func (w *work) deep(f *storage.Flow) bool {
	n := w.rounds[f.ID]
	return n > deepSteps && n*rowsPerStep >= f.Open()
}

// cancelBlocked cancels at once all that needs the cancelled, directly or not, as far as
// nobody can claim it, as if it were done step by step.
func (w *work) cancelBlocked(ctx context.Context, f *storage.Flow, s Surveyor, cancelled []Ending) ([]Ending, error) {
	blocked, err := s.Blocked(ctx, f.ID)
	if err != nil {
		return nil, err
	}
	leaving := make(map[storage.ID][]Behind, len(blocked))
	for _, b := range blocked {
		leaving[b.From] = append(leaving[b.From], b)
	}
	var all, nested []Cancellation
	seen := map[storage.ID]bool{}
	for layer := cancelled; len(layer) > 0; {
		var behind []Behind
		culprits := make(map[storage.ID]Ending, len(layer))
		for _, e := range layer {
			culprits[e.ID] = e
			behind = append(behind, leaving[e.ID]...)
		}
		list, flows := needing(behind, culprits, seen)
		all, nested = append(all, list...), append(nested, flows...)
		names := make(map[storage.ID]string, len(behind))
		for _, b := range behind {
			names[b.To] = b.Name
		}
		layer = layer[:0:0]
		for _, c := range list {
			layer = append(layer, Ending{ID: c.ID, Name: names[c.ID], State: storage.Cancelled, ForNow: c.ForNow})
		}
	}
	return w.cancelled(ctx, f, all, nested)
}

// cancelAll ends what is pending in a flow, in nested ones too, without settling edges:
// what waits for a member of it is in it.
func (w *work) cancelAll(ctx context.Context, f *storage.Flow, reason string, forNow bool) error {
	cancelled, err := w.rows.CancelPending(ctx, w.now, f.ID, reason, forNow)
	if err != nil {
		return err
	}
	for _, c := range cancelled {
		w.count(f, c)
	}
	nested, err := w.rows.PendingNested(ctx, f.ID)
	if err != nil {
		return err
	}
	return w.stopNested(ctx, nested, reason, forNow)
}

// advance applies rule 4 if it is due, then rules 6 and 7.
func (w *work) advance(ctx context.Context, f *storage.Flow) error {
	w.touched[f.ID] = true
	if w.undo(f) {
		targets, err := w.rows.Undoable(ctx, f.ID)
		if err != nil {
			return err
		}
		if len(targets) > 0 {
			add := undoLine(f, targets)
			if err := w.rows.Insert(ctx, w.now, add); err != nil {
				return err
			}
			f.Phase = storage.PhaseUndo
			f.UndoTotal = len(add.Members)
		}
	}
	ends := !f.Over() && f.Open() == 0 && f.UndoOpen() == 0
	if ends {
		f.State = f.Verdict()
		f.FinishedAt = w.now
		w.over[f.ID] = true
	}
	if err := w.fire(ctx, f); err != nil {
		return err
	}
	if ends && !f.ParentID.IsZero() {
		return w.endOutside(ctx, f)
	}
	return nil
}

// undoLine builds rule 4's members: one after the other, whatever becomes of each.
func undoLine(f *storage.Flow, targets []storage.Execution) Insertion {
	add := Insertion{Waits: map[storage.ID]int{}}
	for i, t := range targets {
		m := t.Undo()
		m.ID = storage.UndoID(t.ID)
		m.FlowID = f.ID
		m.Position = f.Total + i
		if i > 0 {
			add.Edges = append(add.Edges, storage.Edge{From: add.Members[i-1].ID, To: m.ID})
			add.Waits[m.ID] = 1
		}
		add.Members = append(add.Members, m)
	}
	return add
}

func markUndo(ctx context.Context, rows Rows, now time.Time, e Ending) error {
	if e.State == storage.Completed {
		return rows.MarkUndone(ctx, now, e.Undoes)
	}
	return rows.MarkUndoFailed(ctx, e.Undoes, strings.TrimSpace(e.Message))
}
