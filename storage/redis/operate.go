package redis

import (
	"cmp"
	"context"
	"errors"
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
	err := s.guarded(ctx, string(o.Action), func(ctx context.Context) error {
		_, err := s.unit(ctx, o.Now, func(ctx context.Context, u *unit) (err error) {
			switch o.Action {
			case storage.ActUnlock:
				return u.breakLock(ctx, &o)
			case storage.ActPause, storage.ActResume:
				return u.pause(ctx, &o)
			default:
			}
			after, err = u.operate(ctx, &o)
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
		err = u.retry(ctx, rows, o)
	case storage.ActCancel:
		err = u.cancel(ctx, rows, o)
	case storage.ActComplete:
		err = u.resolve(ctx, rows, storage.Completed)
	case storage.ActFail:
		err = u.resolve(ctx, rows, storage.Failed)
	case storage.ActForget:
		err = u.forgettable(ctx, rows)
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

// ordered returns the rows an order names, each once.
func (u *unit) ordered(ctx context.Context, ids []storage.ID) ([]*row, error) {
	if err := u.read(ctx, ids...); err != nil {
		return nil, err
	}
	var rows []*row
	flows := make([]storage.ID, 0, len(ids))
	for _, id := range ids {
		r := u.rows[id].now
		if r == nil {
			return nil, fmt.Errorf("execution %s: %w", id, storage.ErrNotFound)
		}
		if !slices.Contains(rows, r) {
			rows = append(rows, r)
			flows = append(flows, r.FlowID)
		}
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

// retry takes rows back to pending. What a row waits for is counted again: edges
// from members that are open, the others are settled for good.
func (u *unit) retry(ctx context.Context, rows []*row, o *storage.Order) error {
	wanted := make([]storage.Execution, len(rows))
	for i, r := range rows {
		if r.State != storage.Failed && r.State != storage.Cancelled && r.State != storage.Interrupted {
			return &storage.TransitionError{ID: r.ID, Name: r.Name, From: r.State, To: storage.Pending}
		}
		if f := u.flowRead(r.FlowID); f != nil && !f.Over() {
			return fmt.Errorf("%s (%s): its flow %s is still open", r.Name, r.ID, f.ID)
		}
		wanted[i] = r.Execution
	}
	if err := u.readHolders(ctx, wanted); err != nil {
		return err
	}
	for _, r := range rows {
		if h := u.holder(&r.Execution); h != nil {
			return &storage.DuplicateError{Name: r.Name, Key: r.UniqueKey, HolderID: h.ID}
		}
		was := r.State
		r.State, r.FinishedAt, r.Reason, r.ForNow, r.Environment = storage.Pending, time.Time{}, "", false, ""
		r.Errors, r.Losses, r.Excused = 0, 0, r.Delivery
		r.Parked, r.stop, r.Waits = false, false, 0
		r.Queue = cmp.Or(o.Queue, r.Queue)
		r.WorkerID = storage.ID{}
		if private(r.Queue) {
			r.WorkerID = o.Home
		}
		u.dueAfter(r, 0)
		deadlineAnew(r)
		u.takeKey(r)
		if f := u.flowRead(r.FlowID); f != nil {
			f.TakeBack(r.Kind, was, r.AllowedToFail, o.Home)
			u.saveFlow(f)
		}
	}
	if err := u.homed(ctx, o.Home); err != nil {
		return err
	}
	return u.waitAgain(ctx, rows)
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

func (u *unit) waitAgain(ctx context.Context, rows []*row) error {
	for _, r := range rows {
		f := u.flowRead(r.FlowID)
		if f == nil {
			continue
		}
		edges, err := u.allEdges(ctx, f)
		if err != nil {
			return err
		}
		waits := 0
		for _, e := range edges {
			if e.To != r.ID {
				continue
			}
			from, err := u.get(ctx, e.From)
			if err != nil {
				return err
			}
			if from != nil && !from.State.Over() {
				waits++
			}
		}
		if waits > 0 {
			r.Waits, r.DueAt, r.DeadlineAt = waits, time.Time{}, time.Time{}
		}
	}
	return nil
}

// allEdges reads all edges of a flow.
func (u *unit) allEdges(ctx context.Context, f *flow) ([]storage.Edge, error) {
	packed, err := u.s.client.HGetAll(ctx, u.s.key("g:"+string(f.ID[:]))).Result()
	if err != nil {
		return nil, err
	}
	var all []storage.Edge
	for name, value := range packed {
		from := idOf(name)
		if _, read := f.edges[from]; !read {
			f.edges[from] = edgesOf(from, value)
		}
	}
	for _, edges := range f.edges {
		all = append(all, edges...)
	}
	return all, nil
}

// dropEdges forgets the edges from and to a row that goes.
func (u *unit) dropEdges(ctx context.Context, r *row) error {
	f := u.flowRead(r.FlowID)
	if f == nil {
		return nil
	}
	if _, err := u.allEdges(ctx, f); err != nil {
		return err
	}
	for from, edges := range f.edges {
		kept := slices.DeleteFunc(slices.Clone(edges), func(e storage.Edge) bool { return e.From == r.ID || e.To == r.ID })
		if len(kept) < len(edges) {
			f.edges[from], f.fresh[from] = kept, true
			u.saveFlow(f)
		}
	}
	return nil
}

// cancel ends pending rows and marks running ones, whose workers hear of it with
// their next renewal.
func (u *unit) cancel(ctx context.Context, rows []*row, o *storage.Order) error {
	var endings []settle.Ending
	for _, r := range rows {
		switch r.State {
		case storage.Pending:
			u.cancelRow(r, o.Reason)
			endings = append(endings, ending(r))
		case storage.Running:
			r.stop = true
		default:
			return &storage.TransitionError{ID: r.ID, Name: r.Name, From: r.State, To: storage.Cancelled}
		}
	}
	_, err := settle.Endings(ctx, u, u.now, endings)
	return err
}

// resolve ends interrupted rows as a person says they ended. Their flows are
// settled anew: the interruption is uncounted, the ending counted.
func (u *unit) resolve(ctx context.Context, rows []*row, to storage.State) error {
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
			return fmt.Errorf("%s (%s) is kept: a migration, the newest or effective execution of an ordered operation, or a member of an open flow", r.Name, r.ID)
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
