package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// Operate implements [storage.Operator].
func (s *Store) Operate(ctx context.Context, o storage.Order) ([]storage.Execution, error) {
	var after []storage.Execution
	err := s.guarded(ctx, string(o.Action), func(ctx context.Context) error {
		_, err := s.unit(ctx, o.Now, func(ctx context.Context, u *unit) (err error) {
			switch o.Action {
			case storage.ActUnlock:
				return u.breakLock(ctx, &o)
			case storage.ActPause, storage.ActResume:
				return u.pause(ctx, &o)
			default:
			}
			if o.Action == storage.ActResumeFlow {
				after, err = u.resume(ctx, &o)
			} else {
				after, err = u.operate(ctx, &o)
			}
			return err
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return after, nil
}

func (u *unit) operate(ctx context.Context, o *storage.Order) ([]storage.Execution, error) {
	rows, err := u.ordered(ctx, o.IDs)
	if err != nil {
		return nil, err
	}
	switch o.Action {
	case storage.ActRetry:
		err = settle.Retry(ctx, u, u.now, *o, executions(rows))
	case storage.ActCancel:
		err = u.cancel(ctx, rows, o)
	case storage.ActComplete:
		err = u.resolve(ctx, rows, storage.Completed)
	case storage.ActFail:
		err = u.resolve(ctx, rows, storage.Failed)
	case storage.ActReschedule:
		err = u.reschedule(rows, o.Delay)
	case storage.ActForget:
		err = u.forgettable(ctx, rows)
	case storage.ActApprove, storage.ActReject:
		err = settle.Answer(ctx, u, u.now, *o, executions(rows))
	default:
		err = fmt.Errorf("unknown action %q", o.Action)
	}
	if err != nil {
		return nil, err
	}
	after, ids := make([]storage.Execution, len(rows)), make([]string, len(rows))
	for i, r := range rows {
		after[i], ids[i] = copied(r.Execution), r.ID.String()
	}
	u.addAudit(string(o.Action), cmp.Or(o.Target, strings.Join(ids, " ")), o.Actor, o.Reason, len(rows))
	if o.Action == storage.ActForget {
		for _, r := range rows {
			if err := u.dropEdges(ctx, r); err != nil {
				return nil, err
			}
			u.rows[r.ID].now = nil
		}
	}
	return after, nil
}

func (u *unit) resume(ctx context.Context, o *storage.Order) ([]storage.Execution, error) {
	ids, err := settle.Resume(ctx, u, u.now, *o)
	if err != nil {
		return nil, err
	}
	after := make([]storage.Execution, len(ids))
	for i, id := range ids {
		after[i] = copied(u.rows[id].now.Execution)
	}
	u.addAudit(string(o.Action), cmp.Or(o.Target, o.Flow.String()), o.Actor, o.Reason, len(ids))
	return after, nil
}

func executions(rows []*row) []storage.Execution {
	list := make([]storage.Execution, len(rows))
	for i, r := range rows {
		list[i] = r.Execution
	}
	return list
}

// ordered returns the rows an order names, each once.
func (u *unit) ordered(ctx context.Context, ids []storage.ID) ([]*row, error) {
	if err := u.read(ctx, ids...); err != nil {
		return nil, err
	}
	var rows []*row
	flows := make([]storage.ID, 0, len(ids))
	for _, id := range settle.Distinct(ids) {
		r := u.rows[id].now
		if r == nil {
			return nil, fmt.Errorf("execution %s: %w", id, storage.ErrNotFound)
		}
		rows = append(rows, r)
		flows = append(flows, r.FlowID)
	}
	return rows, u.readFlows(ctx, flows...)
}

// flowRead is the flow of a row whose flow is read, nil if it has none.
func (u *unit) flowRead(id storage.ID) *flow {
	if f := u.flows[id]; f != nil && f.there {
		return f
	}
	return nil
}

// homed makes a worker that has left already one whose rows are to be rescued.
func (u *unit) homed(ctx context.Context, home storage.ID) error {
	if home.IsZero() {
		return nil
	}
	_, left, err := u.field(ctx, "left", string(home[:]))
	if left {
		u.commands.add("SADD", u.s.key("lost"), string(home[:]))
	}
	return err
}

// cancel ends pending rows and marks running ones, whose workers hear of it with
// their next renewal.
func (u *unit) cancel(ctx context.Context, rows []*row, o *storage.Order) error {
	var endings []settle.Ending
	for _, r := range rows {
		switch r.State {
		case storage.Pending:
			if r.Kind == storage.Nested { // it ends with its flow
				continue
			}
			u.cancelRow(r, o.Reason, false)
			endings = append(endings, ending(r))
		case storage.Running:
			r.stop = true
		default:
			return &storage.TransitionError{ID: r.ID, Name: r.Name, From: r.State, To: storage.Cancelled}
		}
	}
	if err := settle.CancelNested(ctx, u, u.now, executions(rows), o.Reason); err != nil {
		return err
	}
	_, err := settle.Endings(ctx, u, u.now, endings)
	return err
}

// resolve ends interrupted rows as a person says they ended. Their flows are
// settled anew: the interruption is uncounted, the ending counted.
func (u *unit) resolve(ctx context.Context, rows []*row, to storage.State) error {
	if err := settle.Resolvable(executions(rows)); err != nil {
		return err
	}
	var endings []settle.Ending
	for _, r := range rows {
		if r.State != storage.Interrupted {
			return &storage.TransitionError{ID: r.ID, Name: r.Name, From: r.State, To: to}
		}
		r.State, r.FinishedAt = to, u.now
		if f := u.flowRead(r.FlowID); f != nil {
			f.Resolve(r.Kind, r.AllowedToFail)
			u.saveFlow(f)
		}
		endings = append(endings, ending(r))
	}
	_, err := settle.Resolved(ctx, u, u.now, endings)
	return err
}

// reschedule gives pending rows another due time.
func (u *unit) reschedule(rows []*row, delay time.Duration) error {
	if err := settle.Reschedulable(executions(rows)); err != nil {
		return err
	}
	for _, r := range rows {
		u.dueAfter(r, max(delay, 0))
		deadlineAnew(r)
	}
	return nil
}

// forgettable returns an error unless all rows may be deleted.
func (u *unit) forgettable(ctx context.Context, rows []*row) error {
	for _, r := range rows {
		if !r.State.Over() {
			return &storage.TransitionError{ID: r.ID, Name: r.Name, From: r.State, To: storage.Forgotten}
		}
		keeps, err := u.keepsForEver(ctx, r)
		if err != nil {
			return err
		}
		if keeps {
			return fmt.Errorf("%s (%s) is kept: a migration, an approval, the newest or effective execution of an ordered operation, or a member of an open flow", r.Name, r.ID)
		}
	}
	return nil
}

func (u *unit) breakLock(ctx context.Context, o *storage.Order) error {
	_, held, err := u.field(ctx, "locks", o.Lock)
	if err != nil {
		return err
	}
	if !held {
		return fmt.Errorf("lock %q: %w", o.Lock, storage.ErrNotFound)
	}
	u.commands.add("HDEL", u.s.key("locks"), o.Lock)
	u.addAudit(string(o.Action), o.Lock, o.Actor, o.Reason, 1)
	return nil
}

// private reports whether one process alone serves a queue.
func private(queue string) bool { return strings.HasPrefix(queue, storage.PrivateQueue) }

var errNotOver = errors.New("only an execution with an id that is over can be recorded")
