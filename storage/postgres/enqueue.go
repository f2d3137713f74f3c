package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/gather"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// openFlowSQL writes a flow that begins.
const openFlowSQL = `
INSERT INTO sequencer_flows (id, kind, name, method, policy, phase, state, reason, actor, host, build, options, worker_id, created_at,
	total, undo_total, parent_id, root_id, roles, last_id, callbacks)
VALUES ($1::uuid, $2::text, $3::text, $4::text, $5::text, 'forward', 'running', $6::text, $7::text, $8::text, $9::bigint, $10::bytea, $11::uuid,
	coalesce($12::timestamptz, now()), $13::int, $14::int, $15::uuid, $16::uuid, $17::int, $18::uuid, $19::bytea)
ON CONFLICT DO NOTHING`

// filledSQL counts the members of a flow that this transaction opened, once it is
// known who they are.
const filledSQL = `UPDATE sequencer_flows SET total = $2::int, undo_total = $3::int, last_id = $4::uuid WHERE id = $1::uuid`

// queueOpen adds the opening of a flow to the next flush; written counts it, if set.
func queueOpen(q *session, f *storage.Flow, written *int64) error {
	callbacks, err := storage.EncodeCallbacks(f.Callbacks)
	if err != nil {
		return err
	}
	q.queued = append(q.queued, statement{sql: openFlowSQL, affected: written, args: []any{
		f.ID.String(), string(f.Kind), textArg(f.Name), f.Method, string(f.Policy), textArg(f.Reason), textArg(f.Actor),
		textArg(f.Host), f.Build, f.Options, idArg(f.WorkerID), at(q.now), f.Total, f.UndoTotal,
		idArg(f.ParentID), f.RootID.String(), int(f.Roles), idArg(f.LastID), callbacks,
	}})
	return nil
}

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
	if len(r.Flows) > 0 || !r.Into.IsZero() || r.Claim != nil || r.Tick != nil || r.Audit != nil || len(r.Edges) > 0 {
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
	planned, into, err := e.open(ctx)
	if err != nil {
		return err
	}
	if e.repeated {
		_, err = e.explain(ctx, e.request.Executions, e.all())
		return err
	}
	return e.write(ctx, planned, into)
}

// open writes the request's flows, and locks the one it goes into. If a flow is there
// already, an earlier call wrote the request. What it returns is decided as if all
// rows were admitted.
func (e *enqueuing) open(ctx context.Context) (settle.Planned, *storage.Flow, error) {
	r, q := &e.request, e.q
	var none settle.Planned
	var into *storage.Flow
	if !r.Into.IsZero() {
		present := false
		if err := q.each(ctx, func(scanner) error { present = true; return nil }, presentIDsSQL, idArray(idsOf(r.Executions))); err != nil {
			return none, nil, err
		}
		if e.repeated = present; present {
			return none, nil, nil
		}
		f, err := settle.Admit(ctx, &flowRows{q}, r.Into)
		if err != nil {
			return none, nil, err
		}
		into = &f
	}
	p, err := settle.Plan(q.now, r.Flows, r.Executions, r.Edges, into)
	if err != nil || len(p.Flows) == 0 {
		return p, into, err
	}
	fresh := make([]int64, len(p.Flows))
	for i := range p.Flows {
		if err := queueOpen(q, &p.Flows[i], &fresh[i]); err != nil {
			return p, into, err
		}
	}
	err = q.flush(ctx)
	e.repeated = fresh[0] == 0 // one transaction wrote all of them
	return p, into, err
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

// write inserts the rows, and decides anew if some of them were left out.
func (e *enqueuing) write(ctx context.Context, p settle.Planned, into *storage.Flow) error {
	r, q := &e.request, e.q
	left, err := e.insert(ctx, r.Executions, p.Waits)
	if err != nil || e.repeated {
		return err
	}
	if len(left) > 0 {
		admitted := slices.DeleteFunc(slices.Clone(r.Executions), func(x storage.Execution) bool { return left[x.ID] })
		again, err := settle.Plan(q.now, r.Flows, admitted, r.Edges, into)
		if err != nil {
			return err
		}
		e.unwait(&p, &again)
		for i := range again.Flows {
			f := &again.Flows[i]
			q.queue(filledSQL, f.ID.String(), f.Total, f.UndoTotal, idArg(f.LastID))
		}
		p = again
	}
	if n := len(r.Executions) - len(left); r.Audit != nil && n > 0 {
		queueAudit(q, r.Audit.Action, r.Audit.Target, r.Audit.Actor, r.Audit.Reason, n)
	}
	queueEdges(q, p.Members, p.Edges)
	if into != nil {
		p.Grow(into)
		queueSave(q, *into)
	}
	return settle.Opened(ctx, &flowRows{q}, q.now, &p)
}

// unwait lowers what rows were written to wait for, where it is less than that.
func (e *enqueuing) unwait(written, decided *settle.Planned) {
	var ids []storage.ID
	for i := range decided.Members {
		x := &decided.Members[i]
		if written.Waits[x.ID] != decided.Waits[x.ID] {
			ids = append(ids, x.ID)
			e.q.arrivals.In(x.Queue)
		}
	}
	if len(ids) > 0 {
		e.q.queue(unwaitSQL, e.q.now, idArray(ids), column(ids, func(id *storage.ID) int32 { return int32(written.Waits[*id] - decided.Waits[*id]) }))
	}
}
