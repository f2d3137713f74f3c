package mysql

import (
	"context"
	"errors"
	"fmt"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/gather"
)

// openFlowSQL writes a flow with the members it begins with. One that is there was
// found before; of two calls that bring it at once the second fails on the primary
// key, and then finds it.
const openFlowSQL = `
INSERT INTO sequencer_flows (id, kind, name, method, policy, phase, state, reason, actor, host, build, options, worker_id,
	created_at, finished_at, total, undo_total)
VALUES (?, ?, ?, ?, ?, 'forward', ?, ?, ?, ?, ?, ?, ?, @sequencer_now, ?, ?, ?)`

// joinFlowSQL counts members in. Lock: the flow, held by this transaction already.
const joinFlowSQL = `UPDATE sequencer_flows SET total = total + ?, undo_total = undo_total + ? WHERE id = ?`

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
	if r.Flow != nil || r.Claim != nil || r.Tick != nil || len(r.Edges) > 0 {
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
	flows, repeated, err := e.lockFlows(ctx)
	if err != nil {
		return err
	}
	return e.insert(ctx, e.request.Executions, e.request.Edges, flows, repeated)
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

// lockFlows returns all flows that the request names, locked. If the one it brings
// is there already, an earlier call wrote the request.
func (e *enqueuing) lockFlows(ctx context.Context) (_ map[storage.ID]*joining, repeated bool, _ error) {
	flows := map[storage.ID]*joining{}
	for i := range e.request.Executions {
		if id := e.request.Executions[i].FlowID; !id.IsZero() {
			flows[id] = &joining{}
		}
	}
	fresh := e.request.Flow
	if fresh != nil {
		if fresh.ID.IsZero() {
			return nil, false, errors.New("a flow needs an id")
		}
		flows[fresh.ID] = &joining{}
	}
	if len(flows) == 0 {
		return flows, false, nil
	}
	named := make([]storage.ID, 0, len(flows))
	for id := range flows {
		named = append(named, id)
	}
	locked, err := (&flowRows{e.q}).LockFlows(ctx, named)
	for _, f := range locked {
		flows[f.ID].flow = f
	}
	if fresh != nil {
		f := flows[fresh.ID]
		if repeated = !f.flow.ID.IsZero(); !repeated {
			f.flow, f.fresh = *fresh, true
		}
	}
	return flows, repeated, err
}

// joining is a flow that members are being added to.
type joining struct {
	flow           storage.Flow
	fresh          bool
	forward, undos int
}

// join counts the rows that are written into their flows. A flow that gets none from
// the call that opens it is over.
func (e *enqueuing) join(flows map[storage.ID]*joining, left map[storage.ID]bool) error {
	for i := range e.request.Executions {
		x := &e.request.Executions[i]
		if x.FlowID.IsZero() || left[x.ID] {
			continue
		}
		f := flows[x.FlowID]
		switch {
		case f.flow.ID.IsZero():
			return fmt.Errorf("%q: flow %s: %w", x.Name, x.FlowID, storage.ErrNotFound)
		case !f.fresh && f.flow.Over():
			return fmt.Errorf("%q: flow %s is over", x.Name, x.FlowID)
		case x.Kind == storage.Undo:
			f.undos++
		default:
			f.forward++
		}
	}
	for id, f := range flows {
		if f.fresh {
			e.open(f)
		} else if f.forward+f.undos > 0 {
			e.q.queue(joinFlowSQL, f.forward, f.undos, idArg(id))
		}
	}
	return nil
}

func (e *enqueuing) open(j *joining) {
	f := &j.flow
	state, finished := storage.Running, any(nil)
	if j.forward+j.undos == 0 {
		state, finished = (&storage.Flow{Kind: f.Kind}).Verdict(), at(e.q.now)
	}
	e.q.queue(openFlowSQL, idArg(f.ID), text(string(f.Kind)), textArg(f.Name), text(f.Method), text(string(f.Policy)), text(string(state)),
		textArg(f.Reason), textArg(f.Actor), textArg(f.Host), f.Build, bytesArg(f.Options), idArg(f.WorkerID), finished, j.forward, j.undos)
}
