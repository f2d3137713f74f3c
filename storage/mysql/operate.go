package mysql

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// orderedLiveSQL and orderedHistorySQL read the rows of an order by primary key. Lock:
// the rows, before their flows, as in every transaction that settles flows.
const (
	orderedLiveSQL    = `SELECT ` + liveColumns + ` FROM sequencer_live l FORCE INDEX (PRIMARY) WHERE l.id IN (?) ORDER BY l.id FOR UPDATE`
	orderedHistorySQL = `SELECT ` + historyColumns + ` FROM sequencer_history l FORCE INDEX (PRIMARY) WHERE l.id IN (?) ORDER BY l.id FOR UPDATE`
)

// rescheduleSQL gives pending rows, which are locked, another due time, by primary key.
const rescheduleSQL = `
UPDATE sequencer_live FORCE INDEX (PRIMARY) SET due_at = @sequencer_now + ?, deadline_at = @sequencer_now + ? + retry_for_us WHERE id IN (?)`

// askSQL asks running rows to stop, by primary key; in place.
const askSQL = `UPDATE sequencer_live FORCE INDEX (PRIMARY) SET cancel_asked = 1 WHERE id IN (?) AND state = 'running'`

// resolveSQL ends interrupted rows as a person says they ended, by primary key.
const resolveSQL = `UPDATE sequencer_history FORCE INDEX (PRIMARY) SET state = ?, finished_at = @sequencer_now WHERE id IN (?)`

// breakLockSQL frees a lock by primary key.
const breakLockSQL = `DELETE FROM sequencer_locks WHERE name = ?`

const auditSQL = `INSERT INTO sequencer_audit (id, at, actor, action, target, count, reason) VALUES (?, @sequencer_now, ?, ?, ?, ?, ?)`

// Operate implements [storage.Operator].
func (s *Store) Operate(ctx context.Context, o storage.Order) ([]storage.Execution, error) {
	var after []storage.Execution
	err := s.tx(ctx, string(o.Action), o.Now, func(ctx context.Context, q *session) error {
		switch o.Action {
		case storage.ActUnlock:
			return breakLock(ctx, q, o)
		case storage.ActPause, storage.ActResume:
			return pause(ctx, q, o)
		default:
		}
		p := operating{q: q, order: o}
		var err error
		if o.Action == storage.ActResumeFlow {
			after, err = p.resume(ctx)
		} else {
			after, err = p.run(ctx)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return after, nil
}

func breakLock(ctx context.Context, q *session, o storage.Order) error {
	n, err := q.exec(ctx, breakLockSQL, text(o.Lock))
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("lock %q: %w", o.Lock, storage.ErrNotFound)
	}
	queueAudit(q, string(o.Action), o.Lock, o.Actor, o.Reason, 1)
	return nil
}

func queueAudit(q *session, action, target, actor, reason string, count int) {
	q.queue(auditSQL, idArg(storage.NewID()), text(actor), text(action), text(target), count, textArg(reason))
}

// operating is an Order about executions under way.
type operating struct {
	q     *session
	order storage.Order
	rows  []storage.Execution // as they are before it, in the order's order, and locked
	flows map[storage.ID]storage.Flow
}

func (p *operating) run(ctx context.Context) ([]storage.Execution, error) {
	named, err := p.load(ctx)
	if err != nil {
		return nil, err
	}
	switch p.order.Action {
	case storage.ActRetry:
		err = settle.Retry(ctx, &flowRows{p.q}, p.q.now, p.order, p.rows)
	case storage.ActCancel:
		err = p.cancel(ctx)
	case storage.ActComplete:
		err = p.resolve(ctx, named, storage.Completed)
	case storage.ActFail:
		err = p.resolve(ctx, named, storage.Failed)
	case storage.ActReschedule:
		err = p.reschedule(named)
	case storage.ActForget:
		err = p.forget(ctx, named)
	case storage.ActApprove, storage.ActReject:
		err = settle.Answer(ctx, &flowRows{q: p.q}, p.q.now, p.order, p.rows)
	default:
		err = fmt.Errorf("unknown action %q", p.order.Action)
	}
	if err != nil {
		return nil, err
	}
	spelled := make([]string, len(named))
	for i, id := range named {
		spelled[i] = id.String()
	}
	queueAudit(p.q, string(p.order.Action), cmp.Or(p.order.Target, strings.Join(spelled, " ")), p.order.Actor, p.order.Reason, len(named))
	if p.order.Action == storage.ActForget {
		return p.rows, nil
	}
	return p.read(ctx, named)
}

func (p *operating) resume(ctx context.Context) ([]storage.Execution, error) {
	if err := p.q.flush(ctx); err != nil { // q.now
		return nil, err
	}
	taken, err := settle.Resume(ctx, &flowRows{p.q}, p.q.now, p.order)
	if err != nil {
		return nil, err
	}
	queueAudit(p.q, string(p.order.Action), cmp.Or(p.order.Target, p.order.Flow.String()), p.order.Actor, p.order.Reason, len(taken))
	return p.read(ctx, taken)
}

// read returns rows in the order of their ids in the order.
func (p *operating) read(ctx context.Context, named idList) ([]storage.Execution, error) {
	var rows []storage.Execution
	for _, part := range some(named) {
		p.q.queueScan(scanAll(&rows), orderedLiveSQL, part)
		p.q.queueScan(scanAll(&rows), orderedHistorySQL, part)
	}
	if err := p.q.flush(ctx); err != nil {
		return nil, err
	}
	place := make(map[storage.ID]int, len(named))
	for i, id := range named {
		place[id] = i
	}
	slices.SortFunc(rows, func(a, b storage.Execution) int { return cmp.Compare(place[a.ID], place[b.ID]) })
	return rows, nil
}

// load reads the rows and then their flows, and locks both.
func (p *operating) load(ctx context.Context) (idList, error) {
	named := idList(settle.Distinct(p.order.IDs))
	rows, err := p.read(ctx, named)
	if err != nil {
		return nil, err
	}
	for i, id := range named {
		if i >= len(rows) || rows[i].ID != id {
			return nil, fmt.Errorf("execution %s: %w", id, storage.ErrNotFound)
		}
	}
	p.rows = rows
	p.flows = map[storage.ID]storage.Flow{}
	var flows []storage.ID
	for i := range rows {
		if !rows[i].FlowID.IsZero() {
			flows = append(flows, rows[i].FlowID)
		}
	}
	locked, err := (&flowRows{q: p.q}).LockFlows(ctx, flows)
	for _, f := range locked {
		p.flows[f.ID] = f
	}
	return named, err
}

func (p *operating) cancel(ctx context.Context) error {
	var pending []settle.Cancellation
	var running idList
	for i := range p.rows {
		switch x := &p.rows[i]; x.State {
		case storage.Pending:
			if x.Kind == storage.Nested { // it ends with its flow
				continue
			}
			pending = append(pending, settle.Cancellation{ID: x.ID, Reason: p.order.Reason})
		case storage.Running:
			running = append(running, x.ID)
		default:
			return &storage.TransitionError{ID: x.ID, Name: x.Name, From: x.State, To: storage.Cancelled}
		}
	}
	for _, part := range some(running) {
		p.q.queue(askSQL, part)
	}
	rows := &flowRows{q: p.q}
	endings, err := rows.Cancel(ctx, p.q.now, pending)
	if err != nil {
		return err
	}
	if len(endings) != len(pending) {
		return errMoved
	}
	if err := settle.CancelNested(ctx, rows, p.q.now, p.rows, p.order.Reason); err != nil {
		return err
	}
	_, err = settle.Endings(ctx, rows, p.q.now, endings)
	return err
}

func (p *operating) reschedule(named idList) error {
	if err := settle.Reschedulable(p.rows); err != nil {
		return err
	}
	delay := max(p.order.Delay, 0).Microseconds()
	for _, part := range some(named) {
		p.q.queue(rescheduleSQL, delay, delay, part)
	}
	if delay == 0 {
		for i := range p.rows {
			p.q.arrivals.In(p.rows[i].Queue)
		}
	}
	return nil
}

// resolve ends interrupted rows. Their flows are settled anew: the interruption is
// uncounted here, the ending counted by the rules.
func (p *operating) resolve(ctx context.Context, named idList, to storage.State) error {
	if err := settle.Resolvable(p.rows); err != nil {
		return err
	}
	endings := make([]settle.Ending, len(p.rows))
	for i := range p.rows {
		x := &p.rows[i]
		if x.State != storage.Interrupted {
			return &storage.TransitionError{ID: x.ID, Name: x.Name, From: x.State, To: to}
		}
		if f, member := p.flows[x.FlowID]; member {
			f.Resolve(x.Kind, x.AllowedToFail)
			p.flows[f.ID] = f
		}
		endings[i] = settle.Ending{
			ID: x.ID, FlowID: x.FlowID, Name: x.Name, Kind: x.Kind, Method: x.Method, State: to, ForNow: x.ForNow,
			AllowedToFail: x.AllowedToFail, Undoes: x.Undoes, Message: x.LastError,
		}
	}
	p.saveFlows()
	for _, part := range some(named) {
		p.q.queue(resolveSQL, text(string(to)), part)
	}
	p.q.queueEndMarks(named)
	_, err := settle.Resolved(ctx, &flowRows{q: p.q}, p.q.now, endings)
	return err
}

func (p *operating) saveFlows() {
	for _, f := range p.flows {
		queueSave(p.q, f)
	}
}
