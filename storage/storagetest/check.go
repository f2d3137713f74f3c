package storagetest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/gosequencer/sequencer/storage"
)

// Check reads the whole ledger and reports every row that contradicts another
// one, or itself. It suits cleanups: it uses a context of its own, writes nothing,
// and accepts a store that is closed already, about which it has nothing to say.
// It expects that nobody writes meanwhile.
func Check(tb testing.TB, store storage.Store) {
	tb.Helper()
	ctx := context.Background()
	c := checker{TB: tb, byID: map[storage.ID]*storage.Execution{}, members: map[storage.ID][]*storage.Execution{}, opened: map[storage.ID]bool{}, again: map[storage.ID]bool{}, stopped: map[storage.ID]bool{}}
	rows, err := all(ctx, store)
	if err != nil {
		if !errors.Is(err, storage.ErrClosed) {
			tb.Errorf("check: executions: %v", err)
		}
		return
	}
	for i := range rows {
		e := &rows[i]
		if c.byID[e.ID] != nil {
			tb.Errorf("check: %s is listed twice", e.ID)
		}
		c.byID[e.ID] = e
		if !e.FlowID.IsZero() {
			c.members[e.FlowID] = append(c.members[e.FlowID], e)
		}
	}
	for i := range rows {
		c.execution(&rows[i])
	}
	c.keys(rows)
	c.attempts(ctx, store, rows)
	flows, err := store.Flows(ctx, storage.FlowFilter{Limit: 10_000})
	if err != nil {
		tb.Errorf("check: flows: %v", err)
	}
	for i := range flows {
		f := &flows[i]
		if !f.ParentID.IsZero() && f.StopState != "" { // its row ends with it, whatever it waits for
			c.stopped[f.ParentID] = true
		}
		if f.Generation > 1 { // edges lead from one flow of a nest to another
			c.again[f.RootID] = true
		}
		if !f.ParentID.IsZero() && !f.Over() && f.Total+f.UndoTotal > 0 {
			c.opened[f.ParentID] = true
		}
	}
	for i := range flows {
		c.flow(ctx, store, &flows[i])
	}
}

// all pages through the executions, oldest first.
func all(ctx context.Context, store storage.Store) ([]storage.Execution, error) {
	const page = 10_000
	var rows []storage.Execution
	f := storage.Filter{Oldest: true, Limit: page}
	for {
		next, err := store.Executions(ctx, f)
		if err != nil {
			return nil, err
		}
		rows = append(rows, next...)
		if len(next) < page {
			return rows, nil
		}
		last := next[len(next)-1]
		f.After = &storage.Cursor{At: last.CreatedAt, ID: last.ID}
	}
}

type checker struct {
	testing.TB
	byID    map[storage.ID]*storage.Execution
	members map[storage.ID][]*storage.Execution
	opened  map[storage.ID]bool // rows that stand for an open flow
	stopped map[storage.ID]bool // rows that stand for a flow that is being stopped
	again   map[storage.ID]bool // outermost flows of nests in which members were taken back
}

// execution checks what one row says of itself (S5.4).
func (c *checker) execution(e *storage.Execution) {
	c.Helper()
	wrong := func(format string, args ...any) {
		c.Helper()
		c.Errorf("check: %s (%s, %s): "+format, append([]any{e.Name, e.ID, e.State}, args...)...)
	}
	if !e.State.Known() {
		wrong("unknown state")
	}
	if e.State.Over() == e.FinishedAt.IsZero() {
		wrong("finished at %v", e.FinishedAt)
	}
	if e.CreatedAt.IsZero() {
		wrong("no creation time")
	}
	if !e.StartedAt.IsZero() && !e.FinishedAt.IsZero() && e.FinishedAt.Before(e.StartedAt) {
		wrong("finished at %v before it started at %v", e.FinishedAt, e.StartedAt)
	}
	if e.Excused > e.Delivery || e.Excused < 0 {
		wrong("%d of %d deliveries excused", e.Excused, e.Delivery)
	}
	switch e.State {
	case storage.Running:
		if e.WorkerID.IsZero() || e.Delivery == 0 || e.Waits != 0 || e.Parked {
			wrong("worker %q, delivery %d, waits %d, parked %v", e.WorkerID, e.Delivery, e.Waits, e.Parked)
		}
	case storage.Pending:
		if (e.Waits > 0) != e.DueAt.IsZero() {
			wrong("waits for %d, due at %v", e.Waits, e.DueAt)
		}
		if e.Waits < 0 {
			wrong("waits for %d", e.Waits)
		}
		if e.RetryFor > 0 && e.Waits == 0 && e.DeadlineAt.IsZero() {
			wrong("may be retried for %v but has no deadline", e.RetryFor)
		}
	case storage.RolledBack:
		if e.UndoError != "" {
			wrong("undone, but undo error %q", e.UndoError)
		}
	case storage.Completed, storage.Failed, storage.Skipped, storage.Cancelled, storage.Interrupted:
	}
}

// keys checks that no unique key has two live holders (Q4.1).
func (c *checker) keys(rows []storage.Execution) {
	c.Helper()
	holders := map[string]*storage.Execution{}
	for i := range rows {
		e := &rows[i]
		if e.UniqueKey == "" || e.State.Over() {
			continue
		}
		if h := holders[e.UniqueKey]; h != nil {
			c.Errorf("check: key %q is held by %s and by %s", e.UniqueKey, h.ID, e.ID)
		}
		holders[e.UniqueKey] = e
	}
}

// attempts checks that the log has one entry per delivery, and none from the future.
func (c *checker) attempts(ctx context.Context, store storage.Store, rows []storage.Execution) {
	c.Helper()
	for chunk := range slices.Chunk(ids(rows), 1_000) {
		log, err := store.Attempts(ctx, chunk...)
		if err != nil {
			c.Errorf("check: attempts: %v", err)
			return
		}
		type key struct {
			id       storage.ID
			delivery int
		}
		seen := map[key]bool{}
		for _, a := range log {
			e := c.byID[a.ExecutionID]
			if e == nil {
				c.Errorf("check: an attempt of the unknown execution %s", a.ExecutionID)
				continue
			}
			if a.Delivery < 0 && a.Delivery >= -e.Delivery && a.Number == 0 { // of a hook
				continue
			}
			if k := (key{a.ExecutionID, a.Delivery}); seen[k] || a.Delivery > e.Delivery || a.Delivery < 1 || a.Number < 0 || a.Number > a.Delivery {
				c.Errorf("check: %s: attempt %d at delivery %d of %d, seen before: %v", e.Name, a.Number, a.Delivery, e.Delivery, seen[k])
			} else {
				seen[k] = true
			}
		}
	}
}

// flow checks counters, verdict and waits of one flow (Q5.15, F6).
func (c *checker) flow(ctx context.Context, store storage.Store, f *storage.Flow) {
	c.Helper()
	members := c.members[f.ID]
	got := storage.Flow{}
	rolledBack := 0
	callbacks := 0
	for _, e := range members {
		switch e.Kind {
		case storage.KindCallback:
			if !e.State.Over() && e.Method != string(storage.RoleFinally) {
				callbacks++
			}
			continue
		case storage.Undo:
			got.UndoTotal++
		default:
			got.Total++
		}
		if e.State == storage.RolledBack && e.Kind != storage.Undo {
			rolledBack++ // it may have been completed or failed before
		} else if e.State.Over() {
			got.Count(e.Kind, e.State, e.AllowedToFail, 1)
		}
	}
	// Members that are over may have been pruned or forgotten; that a retry of another
	// one has opened the flow anew brings none of them back.
	if gone := got.Total+got.UndoTotal < f.Total+f.UndoTotal; !gone {
		c.counters(f, &got, rolledBack)
	} else if got.Open()-rolledBack != f.Open() || got.UndoOpen() != f.UndoOpen() {
		c.Errorf("check: flow %s has %d open members and %d open undoings, its members say %d and %d",
			f.ID, f.Open(), f.UndoOpen(), got.Open()-rolledBack, got.UndoOpen())
	}
	if callbacks != f.CallbacksOpen {
		c.Errorf("check: flow %s has %d open callbacks, its rows say %d", f.ID, f.CallbacksOpen, callbacks)
	}
	if f.Generation < 1 || f.RootID.IsZero() {
		c.Errorf("check: flow %s has generation %d and root %q", f.ID, f.Generation, f.RootID)
	}
	c.nested(f)
	open := f.Open() + f.UndoOpen()
	waits := f.Hollow() // empty: the row that stands for it ends it
	if f.Over() != (open == 0) && !waits {
		c.Errorf("check: flow %s has %d open members and finished at %v", f.ID, open, f.FinishedAt)
	}
	if want := f.Verdict(); f.Over() && f.State != want {
		c.Errorf("check: flow %s is %s, its counters say %s", f.ID, f.State, want)
	}
	if !f.Over() && f.State != storage.Running {
		c.Errorf("check: flow %s is open and %s, want running", f.ID, f.State)
	}
	c.waits(ctx, store, f, members)
}

// nested checks that the row which stands for a flow stands as the flow does.
func (c *checker) nested(f *storage.Flow) {
	c.Helper()
	row := c.byID[f.ParentID]
	if row == nil { // not nested, or forgotten
		return
	}
	switch over := f.Over(); {
	case row.Kind == storage.KindCallback: // a person may have cancelled it alone
	case f.Hollow(): // it ends the flow, not the flow it
	case over && row.State == storage.Pending:
		c.Errorf("check: flow %s is over, and %s, which stands for it, is pending", f.ID, row.ID)
	case !over && row.State.Over() && row.State != storage.Completed:
		c.Errorf("check: flow %s is open, and %s, which stands for it, is %s", f.ID, row.ID, row.State)
	case over && row.State.Over() && row.State != f.Outside() && row.State != storage.Completed:
		c.Errorf("check: flow %s is %s, and %s, which stands for it, is %s", f.ID, f.State, row.ID, row.State)
	}
}

func (c *checker) counters(f, got *storage.Flow, rolledBack int) {
	c.Helper()
	same := got.Total == f.Total && got.FailedAllowed <= f.FailedAllowed && got.Completed <= f.Completed && got.Failed <= f.Failed &&
		got.Completed+got.Failed+got.FailedAllowed+rolledBack == f.Completed+f.Failed+f.FailedAllowed &&
		got.Skipped == f.Skipped && got.Cancelled == f.Cancelled && got.Interrupted == f.Interrupted &&
		got.UndoTotal == f.UndoTotal && got.UndoCompleted == f.UndoCompleted && got.UndoFailed == f.UndoFailed
	if !same {
		type counters struct{ total, completed, failed, allowed, skipped, cancelled, interrupted, undo, undone, undoFailed int }
		list := func(f *storage.Flow) counters {
			return counters{f.Total, f.Completed, f.Failed, f.FailedAllowed, f.Skipped, f.Cancelled, f.Interrupted, f.UndoTotal, f.UndoCompleted, f.UndoFailed}
		}
		c.Errorf("check: flow %s counts %+v, its members say %+v and %d rolled back", f.ID, list(f), list(got), rolledBack)
	}
}

// waits checks that each pending member waits for exactly its open predecessors, or
// for fewer once some were taken back: their edges are settled for good. A callback that
// is taken back begins no generation, so those may be among the open ones at any time.
func (c *checker) waits(ctx context.Context, store storage.Store, f *storage.Flow, members []*storage.Execution) {
	c.Helper()
	if f.Over() && f.CallbacksOpen == 0 {
		return
	}
	edges, err := store.Edges(ctx, f.ID)
	if err != nil {
		c.Errorf("check: edges of %s: %v", f.ID, err)
		return
	}
	open, maybe := map[storage.ID]int{}, map[storage.ID]int{}
	for _, e := range edges {
		if from := c.byID[e.From]; from != nil && !from.State.Over() {
			open[e.To]++
			if from.Kind == storage.KindCallback {
				maybe[e.To]++
			}
		}
	}
	for _, e := range members {
		if c.opened[e.ID] {
			open[e.ID]++
		}
		exact := !c.again[f.RootID] && e.Kind != storage.KindCallback
		if e.State == storage.Pending && !c.stopped[e.ID] && (e.Waits > open[e.ID] || exact && e.Waits < open[e.ID]-maybe[e.ID]) {
			c.Errorf("check: %s waits for %d, but %d of its predecessors are open", e.Name, e.Waits, open[e.ID])
		}
	}
}

// sortSnapshot puts what has no order of its own into one.
func sortSnapshot(s *snapshot) {
	slices.SortFunc(s.Attempts, func(a, b storage.Attempt) int {
		return cmp.Or(bytes.Compare(a.ExecutionID[:], b.ExecutionID[:]), cmp.Compare(a.Delivery, b.Delivery))
	})
	slices.SortFunc(s.Counts, func(a, b storage.Count) int {
		return cmp.Or(cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.State, b.State))
	})
	slices.SortFunc(s.Stats, func(a, b storage.Stat) int {
		return cmp.Or(a.Minute.Compare(b.Minute), cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.Tag, b.Tag), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Ending, b.Ending))
	})
	slices.SortFunc(s.Flows, func(a, b storage.Flow) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	slices.SortFunc(s.Audit, func(a, b storage.AuditEntry) int { return bytes.Compare(a.ID[:], b.ID[:]) })
}
