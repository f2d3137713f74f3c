package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/gather"
)

// openFlowSQL writes a flow without members; they count themselves in.
const openFlowSQL = `
INSERT INTO sequencer_flows (id, kind, name, method, policy, phase, state, reason, actor, host, build, options, worker_id, created_at, total, undo_total)
VALUES ($1::uuid, $2::text, $3::text, $4::text, $5::text, 'forward', 'running', $6::text, $7::text, $8::text, $9::bigint, $10::bytea, $11::uuid,
	coalesce($12::timestamptz, now()), 0, 0)
ON CONFLICT DO NOTHING`

// joinFlowSQL counts members in. Lock: the flow, held by this transaction already.
const joinFlowSQL = `UPDATE sequencer_flows SET total = total + $2::int, undo_total = undo_total + $3::int WHERE id = $1::uuid`

// Enqueue implements [storage.Queue].
func (s *Store) Enqueue(ctx context.Context, r storage.EnqueueRequest) (storage.Enqueued, error) {
	e := enqueuing{request: r}
	run := s.tx
	if e.plain() && len(chunks(r.Executions)) == 1 {
		if r.Now.IsZero() && len(r.Executions) <= gather.MaxRows {
			if err := e.prepare(); err != nil {
				return storage.Enqueued{}, explained("enqueue", err)
			}
			return e.result(), s.gather.Enqueue(ctx, r.Executions)
		}
		run = s.alone
	}
	err := run(ctx, "enqueue", r.Now, func(ctx context.Context, q *session) error {
		e = enqueuing{request: r, q: q}
		return e.run(ctx)
	})
	if err != nil {
		return storage.Enqueued{}, err
	}
	return e.result(), nil
}

// insertPlain writes the rows of plain requests, all or, if those of one are there
// already, none, and returns how many it wrote.
func (s *Store) insertPlain(ctx context.Context, rows []storage.Execution, first []int) (int, error) {
	firsts := make([]storage.ID, len(first)) // each tells for its request
	for i, place := range first {
		firsts[i] = rows[place].ID
	}
	var written int64
	err := s.alone(ctx, "enqueue", time.Time{}, func(ctx context.Context, q *session) error {
		written = 0 // a try that failed wrote nothing
		e := enqueuing{request: storage.EnqueueRequest{Executions: rows}, q: q}
		if err := e.prepare(); err != nil {
			return err
		}
		e.queuePlain(rows, firsts, &written)
		return nil
	})
	return int(written), err
}

// enqueuing is an EnqueueRequest under way.
type enqueuing struct {
	request  storage.EnqueueRequest
	q        *session
	receipts []storage.Receipt
	repeated bool // an earlier call wrote the request
	claim    claiming
}

func (e *enqueuing) result() storage.Enqueued {
	done := storage.Enqueued{Receipts: e.receipts}
	if e.request.Claim != nil {
		done.Claimed = e.claim.result()
	}
	return done
}

// plain reports a request whose rows can only be new or a repeat. Nothing depends
// on which, so its statement need not be waited for before the commit.
func (e *enqueuing) plain() bool {
	r := &e.request
	if r.Flow != nil || r.Claim != nil || r.Tick != nil || len(r.Edges) > 0 {
		return false
	}
	for i := range r.Executions {
		if x := &r.Executions[i]; x.UniqueKey != "" || !x.FlowID.IsZero() || len(x.Tags) > 0 {
			return false
		}
	}
	return true
}

// run leaves its last writes and the claim queued.
func (e *enqueuing) run(ctx context.Context) error {
	r, q := &e.request, e.q
	if err := e.prepare(); err != nil {
		return err
	}
	if e.plain() {
		for _, chunk := range chunks(r.Executions) {
			e.queuePlain(chunk, idsOf(chunk[:1]), nil) // where none can be a duplicate, the first tells for all
		}
		return nil
	}
	alive := true
	if r.Claim != nil {
		q.queueAlive(r.Claim.Worker, &alive)
	}
	err := e.admit(ctx)
	if !alive { // whatever else is wrong
		return leaseLost(r.Claim.Worker)
	}
	if err != nil {
		return err
	}
	if r.Claim != nil {
		e.claim.queue(q, *r.Claim)
	}
	return nil
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
	if e.repeated = repeated; repeated {
		_, err = e.explain(ctx, e.request.Executions, e.all())
		return err
	}
	return e.write(ctx, flows)
}

// prepare checks the rows and makes their receipts.
func (e *enqueuing) prepare() error {
	rows := e.request.Executions
	e.receipts = make([]storage.Receipt, len(rows))
	ids := make(map[storage.ID]bool, len(rows))
	for i := range rows {
		x := &rows[i]
		if x.ID.IsZero() || x.Name == "" || ids[x.ID] {
			return fmt.Errorf("%q: an execution needs a name and an id of its own", x.Name)
		}
		ids[x.ID] = true
		e.receipts[i].ID = x.ID
	}
	return nil
}

// all is the set of the request's rows.
func (e *enqueuing) all() map[storage.ID]bool {
	ids := make(map[storage.ID]bool, len(e.request.Executions))
	for i := range e.request.Executions {
		ids[e.request.Executions[i].ID] = true
	}
	return ids
}

func (e *enqueuing) write(ctx context.Context, flows map[storage.ID]*joining) error {
	left, err := e.insert(ctx, e.request.Executions, e.request.Edges)
	if err != nil || e.repeated {
		return err
	}
	return e.join(flows, left)
}

// lockFlows writes the request's flow and returns all flows that the rows name,
// locked. If the flow is there already, an earlier call wrote the request.
func (e *enqueuing) lockFlows(ctx context.Context) (_ map[storage.ID]*joining, repeated bool, _ error) {
	flows := map[storage.ID]*joining{}
	for i := range e.request.Executions {
		if id := e.request.Executions[i].FlowID; !id.IsZero() {
			flows[id] = &joining{}
		}
	}
	var fresh int64
	if f := e.request.Flow; f != nil {
		if f.ID.IsZero() {
			return nil, false, errors.New("a flow needs an id")
		}
		flows[f.ID] = &joining{}
		e.q.queued = append(e.q.queued, statement{sql: openFlowSQL, affected: &fresh, args: []any{
			f.ID.String(), string(f.Kind), textArg(f.Name), f.Method, string(f.Policy), textArg(f.Reason), textArg(f.Actor),
			textArg(f.Host), f.Build, f.Options, idArg(f.WorkerID), at(e.q.now),
		}})
	}
	if len(flows) == 0 {
		return flows, false, nil
	}
	locked, err := (&flowRows{e.q}).LockFlows(ctx, slices.Collect(maps.Keys(flows)))
	for _, f := range locked {
		flows[f.ID].flow = f
	}
	if e.request.Flow != nil {
		flows[e.request.Flow.ID].fresh = true
		repeated = fresh == 0
	}
	return flows, repeated, err
}

// joining is a flow that members are being added to.
type joining struct {
	flow           storage.Flow
	fresh          bool
	forward, undos int
}

// join counts the rows that were written into their flows. A flow that got none
// from the call that opened it is over.
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
		case f.flow.Over():
			return fmt.Errorf("%q: flow %s is over", x.Name, x.FlowID)
		case x.Kind == storage.Undo:
			f.undos++
		default:
			f.forward++
		}
	}
	for id, f := range flows {
		if f.forward+f.undos > 0 {
			e.q.queue(joinFlowSQL, id.String(), f.forward, f.undos)
		} else if f.fresh {
			f.flow.State, f.flow.FinishedAt = f.flow.Verdict(), e.q.now
			queueSave(e.q, f.flow)
		}
	}
	return nil
}
