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
		if o.Action == storage.ActResumeFlow {
			ids, err := settle.Resume(ctx, t, t.now, o)
			if err != nil {
				return err
			}
			for _, id := range ids {
				after = append(after, copied(t.rows[id].Execution))
			}
			t.addAudit(string(o.Action), cmp.Or(o.Target, o.Flow.String()), o.Actor, o.Reason, len(ids))
			return nil
		}
		rows, err := t.ordered(o.IDs)
		if err != nil {
			return err
		}
		switch o.Action {
		case storage.ActRetry:
			err = settle.Retry(ctx, t, t.now, o, executions(rows))
		case storage.ActCancel:
			err = t.cancel(ctx, rows, o)
		case storage.ActComplete:
			err = t.resolve(ctx, rows, storage.Completed)
		case storage.ActFail:
			err = t.resolve(ctx, rows, storage.Failed)
		case storage.ActReschedule:
			err = t.reschedule(rows, o.Delay)
		case storage.ActForget:
			err = t.forgettable(rows)
		case storage.ActApprove, storage.ActReject:
			err = settle.Answer(ctx, t, t.now, o, executions(rows))
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

// reschedule gives pending rows another due time.
func (t *tx) reschedule(rows []*row, delay time.Duration) error {
	if err := settle.Reschedulable(executions(rows)); err != nil {
		return err
	}
	for _, r := range rows {
		t.change(r, func() {
			r.dueAfter(t.now, max(delay, 0))
			r.deadlineAnew()
		})
	}
	return nil
}

// forgettable returns an error unless all rows may be deleted.
func (t *tx) forgettable(rows []*row) error {
	for _, r := range rows {
		if !r.State.Over() {
			return &storage.TransitionError{ID: r.ID, Name: r.Name, From: r.State, To: storage.Forgotten}
		}
		if t.keepsForEver(r) {
			return fmt.Errorf("%s (%s) is kept: a migration, an approval, the newest or effective execution of an ordered operation, or a member of an open flow", r.Name, r.ID)
		}
	}
	return nil
}

// ordered returns the rows an order names, each once.
func (t *tx) ordered(ids []storage.ID) ([]*row, error) {
	var rows []*row
	for _, id := range settle.Distinct(ids) {
		r, err := t.get(id)
		if err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func executions(rows []*row) []storage.Execution {
	list := make([]storage.Execution, len(rows))
	for i, r := range rows {
		list[i] = r.Execution
	}
	return list
}

// cancel ends pending rows and marks running ones, whose workers hear of it with
// their next renewal.
func (t *tx) cancel(ctx context.Context, rows []*row, o storage.Order) error {
	var endings []settle.Ending
	for _, r := range rows {
		switch r.State {
		case storage.Pending:
			if r.Kind == storage.Nested { // it ends with its flow
				continue
			}
			t.cancelRow(r, o.Reason, false)
			endings = append(endings, r.ending())
		case storage.Running:
			t.change(r, func() { r.cancel = true })
		default:
			return &storage.TransitionError{ID: r.ID, Name: r.Name, From: r.State, To: storage.Cancelled}
		}
	}
	if err := settle.CancelNested(ctx, t, t.now, executions(rows), o.Reason); err != nil {
		return err
	}
	_, err := settle.Endings(ctx, t, t.now, endings)
	return err
}

// resolve ends interrupted rows as a person says they ended. Their flows are
// settled anew: the interruption is uncounted, the ending counted.
func (t *tx) resolve(ctx context.Context, rows []*row, to storage.State) error {
	var endings []settle.Ending
	if err := settle.Resolvable(executions(rows)); err != nil {
		return err
	}
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

// addAudit notes what a person did.
func (t *tx) addAudit(action, target, actor, reason string, count int) {
	before := len(t.audit)
	t.onRollback(func() { t.audit = t.audit[:before] })
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
		t.forgetLocks()
		return nil
	})
	return n, err
}
