package mysql

import (
	"context"
	"fmt"
	"slices"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/gather"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// openFlowSQL writes a flow that begins. One that is there was found before; of two
// calls that bring it at once the second fails on the primary key, and then finds it.
const openFlowSQL = `
INSERT INTO sequencer_flows (id, kind, name, method, policy, phase, state, reason, actor, host, build, options, worker_id,
	created_at, total, undo_total, parent_id, root_id, roles, last_id, callbacks)
VALUES (?, ?, ?, ?, ?, 'forward', 'running', ?, ?, ?, ?, ?, ?, @sequencer_now, ?, ?, ?, ?, ?, ?, ?)`

// queueOpen adds the opening of flows to the next flush.
func (q *session) queueOpen(flows []storage.Flow) error {
	for i := range flows {
		f := &flows[i]
		callbacks, err := storage.EncodeCallbacks(f.Callbacks)
		if err != nil {
			return err
		}
		q.queue(openFlowSQL, idArg(f.ID), text(string(f.Kind)), textArg(f.Name), text(f.Method), text(string(f.Policy)),
			textArg(f.Reason), textArg(f.Actor), textArg(f.Host), f.Build, bytesArg(f.Options), idArg(f.WorkerID), f.Total, f.UndoTotal,
			idArg(f.ParentID), idArg(f.RootID), int(f.Roles), idArg(f.LastID), bytesArg(callbacks))
	}
	return nil
}

// Enqueue implements [storage.Queue].
func (s *Store) Enqueue(ctx context.Context, r storage.EnqueueRequest) (storage.Enqueued, error) {
	e := enqueuing{request: r}
	if e.plain() && r.Now.IsZero() && len(r.Executions) <= gather.MaxRows && len(chunks(r.Executions)) == 1 {
		if err := e.prepare(); err != nil {
			return storage.Enqueued{}, explained("enqueue", err)
		}
		return e.result(), s.gather.Enqueue(ctx, r.Executions)
	}
	err := s.tx(ctx, "enqueue", r.Now, func(ctx context.Context, q *session) error {
		e = enqueuing{request: r, q: q}
		return e.run(ctx)
	})
	if err != nil {
		return storage.Enqueued{}, err
	}
	return e.result(), nil
}

// enqueuing is an EnqueueRequest under way.
type enqueuing struct {
	request  storage.EnqueueRequest
	q        *session
	lock     bool // look with locks
	receipts []storage.Receipt
	claim    claiming
}

func (e *enqueuing) result() storage.Enqueued {
	done := storage.Enqueued{Receipts: e.receipts}
	if e.request.Claim != nil {
		done.Claimed = e.claim.result()
	}
	return done
}

// plain reports a request whose rows can only be new or a repeat.
func (e *enqueuing) plain() bool {
	r := &e.request
	if len(r.Flows) > 0 || !r.Into.IsZero() || r.Claim != nil || r.Tick != nil || r.Audit != nil || len(r.Edges) > 0 {
		return false
	}
	for i := range r.Executions {
		if x := &r.Executions[i]; x.Kind != storage.Unlisted || x.UniqueKey != "" || !x.FlowID.IsZero() || len(x.Tags) > 0 {
			return false
		}
	}
	return true
}

// run leaves its last writes queued.
func (e *enqueuing) run(ctx context.Context) error {
	if err := e.prepare(); err != nil {
		return err
	}
	alive := true
	if e.request.Claim != nil {
		e.q.queueAlive(e.request.Claim.Worker, &alive)
	}
	err := e.admit(ctx)
	if !alive { // whatever else is wrong
		return leaseLost(e.request.Claim.Worker)
	}
	if err != nil || e.request.Claim == nil {
		return err
	}
	return e.claim.run(ctx, e.q, *e.request.Claim)
}

// admit writes the request, unless it is there already or its tick is not due.
func (e *enqueuing) admit(ctx context.Context) error {
	if e.request.Tick != nil {
		if refused, err := e.fire(ctx); refused || err != nil {
			return err
		}
	}
	r := &e.request
	left, repeated, err := e.look(ctx)
	if err != nil || repeated {
		return err
	}
	rows := &flowRows{e.q}
	var into *storage.Flow
	if !r.Into.IsZero() {
		f, err := settle.Admit(ctx, rows, r.Into)
		if err != nil {
			return err
		}
		into = &f
	}
	admitted := r.Executions
	if len(left) > 0 {
		admitted = slices.DeleteFunc(slices.Clone(admitted), func(x storage.Execution) bool { return left[x.ID] })
	}
	p, err := settle.Plan(e.q.now, r.Flows, admitted, r.Edges, into)
	if err != nil {
		return err
	}
	if err := e.write(ctx, &p.Insertion); err != nil {
		return err
	}
	if n := len(admitted); r.Audit != nil && n > 0 {
		queueAudit(e.q, r.Audit.Action, r.Audit.Target, r.Audit.Actor, r.Audit.Reason, n)
	}
	if into != nil {
		p.Grow(into)
		queueSave(e.q, *into)
	}
	return settle.Opened(ctx, rows, e.q.now, &p)
}

func (e *enqueuing) flowIDs() idList {
	ids := make(idList, len(e.request.Flows))
	for i := range e.request.Flows {
		ids[i] = e.request.Flows[i].ID
	}
	return ids
}

// prepare checks the rows and makes their receipts.
func (e *enqueuing) prepare() error {
	rows := e.request.Executions
	e.receipts = make([]storage.Receipt, len(rows))
	seen := make(map[storage.ID]bool, len(rows))
	for i := range rows {
		x := &rows[i]
		if x.ID.IsZero() || x.Name == "" || seen[x.ID] {
			return fmt.Errorf("%q: an execution needs a name and an id of its own", x.Name)
		}
		seen[x.ID] = true
		e.receipts[i].ID = x.ID
	}
	return nil
}
