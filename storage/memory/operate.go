package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// Operate implements [storage.Operator].
func (s *Store) Operate(ctx context.Context, o storage.Order) ([]storage.Execution, error) {
	var after []storage.Execution
	err := s.write(ctx, o.Now, func(t *tx) error {
		if o.Action == storage.ActUnlock {
			return t.breakLock(o)
		}
		if o.Action == storage.ActPause || o.Action == storage.ActResume {
			return t.pause(o)
		}
		rows, err := t.ordered(o.IDs)
		if err != nil {
			return err
		}
		switch o.Action {
		case storage.ActRetry:
			err = t.retry(rows, o)
		case storage.ActCancel:
			err = t.cancel(ctx, rows, o)
		case storage.ActComplete:
			err = t.resolve(ctx, rows, storage.Completed)
		case storage.ActFail:
			err = t.resolve(ctx, rows, storage.Failed)
		case storage.ActForget:
			err = t.forgettable(rows)
		default:
			err = fmt.Errorf("operate: unknown action %q", o.Action)
		}
		if err != nil {
			return err
		}
		ids := make([]string, len(rows))
		for i, r := range rows {
			ids[i] = r.ID.String()
			after = append(after, copied(r.Execution))
		}
		t.addAudit(string(o.Action), cmp.Or(o.Target, strings.Join(ids, " ")), o.Actor, o.Reason, len(rows))
		if o.Action == storage.ActForget {
			for _, r := range rows {
				t.dropEdges(r)
				t.remove(r)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return after, nil
}

// forgettable returns an error unless all rows may be deleted.
func (t *tx) forgettable(rows []*row) error {
	for _, r := range rows {
		if !r.State.Over() {
			return &storage.TransitionError{ID: r.ID, Name: r.Name, From: r.State, To: storage.Forgotten}
		}
		if t.keepsForEver(r) {
			return fmt.Errorf("%s (%s) is kept: a migration, the newest or effective execution of an ordered operation, or a member of an open flow", r.Name, r.ID)
		}
	}
	return nil
}

// ordered returns the rows an order names, each once.
func (t *tx) ordered(ids []storage.ID) ([]*row, error) {
	var rows []*row
	for _, id := range ids {
		r, err := t.get(id)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(rows, r) {
			rows = append(rows, r)
		}
	}
	return rows, nil
}

// retry takes rows back to pending. What a row waits for is counted again: edges
// from members that are open, the others are settled for good.
func (t *tx) retry(rows []*row, o storage.Order) error {
	for _, r := range rows {
		if !retryable(r.State) {
			return &storage.TransitionError{ID: r.ID, Name: r.Name, From: r.State, To: storage.Pending}
		}
		if f := t.flows[r.FlowID]; f != nil && !f.Over() {
			return fmt.Errorf("retry %s (%s): its flow %s is still open", r.Name, r.ID, f.ID)
		}
	}
	for _, r := range rows {
		if h := t.holder(r.Execution); h != nil {
			return &storage.DuplicateError{Name: r.Name, Key: r.UniqueKey, HolderID: h.ID}
		}
		was := r.State
		t.change(r, func() {
			r.State, r.FinishedAt, r.Reason, r.ForNow, r.Environment = storage.Pending, time.Time{}, "", false, ""
			r.Errors, r.Losses, r.Excused = 0, 0, r.Delivery
			r.Parked, r.cancel, r.Waits = false, false, 0
			r.Queue = cmp.Or(o.Queue, r.Queue)
			r.WorkerID = storage.ID{}
			if r.private() {
				r.WorkerID = o.Home
			}
			r.dueAfter(t.now, 0)
			r.deadlineAnew()
		})
		if f := t.flows[r.FlowID]; f != nil {
			t.changeFlow(f, func() {
				f.TakeBack(r.Kind, was, r.AllowedToFail, o.Home)
			})
		}
	}
	for _, r := range rows {
		f := t.flows[r.FlowID]
		if f == nil {
			continue
		}
		waits := 0
		for _, e := range f.edges {
			if from := t.rows[e.From]; e.To == r.ID && from != nil && !from.State.Over() {
				waits++
			}
		}
		if waits > 0 {
			t.change(r, func() { r.Waits, r.DueAt, r.DeadlineAt = waits, time.Time{}, time.Time{} })
		}
	}
	return nil
}

func retryable(s storage.State) bool {
	return s == storage.Failed || s == storage.Cancelled || s == storage.Interrupted
}

// cancel ends pending rows and marks running ones, whose workers hear of it with
// their next renewal.
func (t *tx) cancel(ctx context.Context, rows []*row, o storage.Order) error {
	var endings []settle.Ending
	for _, r := range rows {
		switch r.State {
		case storage.Pending:
			t.cancelRow(r, o.Reason)
			endings = append(endings, r.ending())
		case storage.Running:
			t.change(r, func() { r.cancel = true })
		default:
			return &storage.TransitionError{ID: r.ID, Name: r.Name, From: r.State, To: storage.Cancelled}
		}
	}
	_, err := settle.Endings(ctx, t, t.now, endings)
	return err
}

// resolve ends interrupted rows as a person says they ended. Their flows are
// settled anew: the interruption is uncounted, the ending counted.
func (t *tx) resolve(ctx context.Context, rows []*row, to storage.State) error {
	var endings []settle.Ending
	for _, r := range rows {
		if r.State != storage.Interrupted {
			return &storage.TransitionError{ID: r.ID, Name: r.Name, From: r.State, To: to}
		}
		t.change(r, func() { r.State, r.FinishedAt = to, t.now })
		if f := t.flows[r.FlowID]; f != nil {
			t.changeFlow(f, func() {
				f.Resolve(r.Kind, r.AllowedToFail)
			})
		}
		endings = append(endings, r.ending())
	}
	_, err := settle.Resolved(ctx, t, t.now, endings)
	return err
}

func (t *tx) breakLock(o storage.Order) error {
	if _, held := t.locks[o.Lock]; !held {
		return fmt.Errorf("lock %q: %w", o.Lock, storage.ErrNotFound)
	}
	delete(t.locks, o.Lock)
	t.addAudit(string(o.Action), o.Lock, o.Actor, o.Reason, 1)
	return nil
}

// addAudit is the last step of an order, so nothing after it can fail.
func (t *tx) addAudit(action, target, actor, reason string, count int) {
	t.audit = append(t.audit, storage.AuditEntry{
		ID: storage.NewID(), At: t.now, Actor: actor, Action: action, Target: target, Count: count, Reason: reason,
	})
}

// Record implements [storage.Operator].
func (s *Store) Record(ctx context.Context, r storage.RecordRequest) (int, error) {
	n := 0
	err := s.write(ctx, r.Now, func(t *tx) error {
		known := map[string]bool{}
		for _, e := range t.rows {
			known[e.Name] = true
		}
		var names []string
		for _, e := range r.Executions {
			if !e.State.Over() || e.ID.IsZero() {
				return fmt.Errorf("record %q: only an execution with an id that is over can be recorded, this is %q", e.Name, e.State)
			}
			if known[e.Name] || t.rows[e.ID] != nil {
				continue
			}
			known[e.Name] = true
			names = append(names, e.Name)
			t.insert(&row{Execution: recorded(e, t.now)})
		}
		if n = len(names); n > 0 {
			t.addAudit("record", strings.Join(names, " "), r.Actor, r.Reason, n)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// recorded brings given instants to the ledger's precision.
func recorded(e storage.Execution, now time.Time) storage.Execution {
	e = copied(e)
	for _, at := range []*time.Time{&e.CreatedAt, &e.DueAt, &e.StartedAt, &e.FinishedAt, &e.DeadlineAt} {
		if !at.IsZero() {
			*at = clock(*at)
		}
	}
	if e.CreatedAt.IsZero() {
		e.CreatedAt = now
	}
	if e.FinishedAt.IsZero() {
		e.FinishedAt = e.CreatedAt
	}
	e.Priority = cmp.Or(e.Priority, storage.PriorityDefault)
	return e
}

// Prune implements [storage.Operator].
func (s *Store) Prune(ctx context.Context, r storage.PruneRequest) (int, error) {
	n := 0
	err := s.write(ctx, r.Now, func(t *tx) error {
		age := map[storage.State]time.Duration{storage.Completed: r.Completed, storage.Failed: r.Failed}
		var old []*row
		for _, e := range t.rows {
			keep, named := age[e.State]
			if !named {
				keep = r.Others
			}
			if e.State.Over() && keep > 0 && e.FinishedAt.Before(t.now.Add(-keep)) && !t.keepsForEver(e) {
				old = append(old, e)
			}
		}
		slices.SortFunc(old, func(a, b *row) int {
			return cmp.Or(a.FinishedAt.Compare(b.FinishedAt), compareIDs(a.ID, b.ID))
		})
		if r.Limit > 0 && len(old) > r.Limit {
			old = old[:r.Limit]
		}
		for _, e := range old {
			t.remove(e)
		}
		n = len(old)
		t.forgetLimits()
		return nil
	})
	return n, err
}
