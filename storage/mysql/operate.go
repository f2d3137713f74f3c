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

// retrySQL moves locked rows back to the live part, keeping their delivery. Index:
// primary keys, and sequencer_live_unique, which refuses a row whose key another one
// holds. dropSQL takes them out of history.
const (
	retrySQL = `
INSERT INTO sequencer_live (
	id, holder, worker_id, flow_id, undoes, created_at, due_at, started_at, deadline_at, min_build,
	delay_us, retry_for_us, unique_for_us, done, total, priority, position, waits, delivery, excused, errors, losses,
	undoable, allowed_to_fail, for_now, parked, cancel_asked, state, name, kind, method, queue, on_loss, member,
	unique_key, checksum, actor, tags, input, policy, checkpoint, result, last_error, error_group, undo_error)
SELECT
	id, X'00000000000000000000000000000000', IF(LEFT(COALESCE(?, queue), 1) = '@', ?, X'00000000000000000000000000000000'), flow_id, undoes, created_at, @sequencer_now, started_at,
	@sequencer_now + retry_for_us, min_build,
	delay_us, retry_for_us, unique_for_us, done, total, priority, position, 0, delivery, delivery, 0, 0,
	undoable, allowed_to_fail, 0, 0, 0, 'pending', name, kind, method, COALESCE(?, queue), on_loss, member,
	unique_key, checksum, actor, tags, input, policy, checkpoint, result, last_error, error_group, undo_error
FROM sequencer_history FORCE INDEX (PRIMARY) WHERE id IN (?)`
	dropSQL = `DELETE FROM sequencer_history WHERE id IN (?)`
)

// waitAgainSQL counts what retried rows wait for: edges from members that are open.
// Those from others are settled for good. Index: sequencer_edges_to, primary keys.
const waitAgainSQL = `
UPDATE sequencer_live l JOIN (
	SELECT e.to_id, COUNT(*) AS n FROM sequencer_edges e JOIN sequencer_live f ON f.id = e.from_id
	WHERE e.to_id IN (?) GROUP BY e.to_id
) e ON e.to_id = l.id
SET l.waits = e.n, l.due_at = NULL, l.deadline_at = NULL`

// askSQL asks running rows to stop, by primary key; in place.
const askSQL = `UPDATE sequencer_live FORCE INDEX (PRIMARY) SET cancel_asked = 1 WHERE id IN (?) AND state = 'running'`

// resolveSQL ends interrupted rows as a person says they ended, by primary key.
const resolveSQL = `UPDATE sequencer_history SET state = ?, finished_at = @sequencer_now WHERE id IN (?)`

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
		after, err = p.run(ctx)
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
		err = p.retry(ctx, named)
	case storage.ActCancel:
		err = p.cancel(ctx)
	case storage.ActComplete:
		err = p.resolve(ctx, named, storage.Completed)
	case storage.ActFail:
		err = p.resolve(ctx, named, storage.Failed)
	case storage.ActForget:
		err = p.forget(ctx, named)
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
	var named idList
	for _, id := range p.order.IDs {
		if !slices.Contains(named, id) {
			named = append(named, id)
		}
	}
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
	locked, err := (&flowRows{p.q}).LockFlows(ctx, flows)
	for _, f := range locked {
		p.flows[f.ID] = f
	}
	return named, err
}

func (p *operating) retry(ctx context.Context, named idList) error {
	for i := range p.rows {
		x := &p.rows[i]
		if !x.State.Over() || !x.State.CanBecome(storage.Pending) {
			return &storage.TransitionError{ID: x.ID, Name: x.Name, From: x.State, To: storage.Pending}
		}
		if f, member := p.flows[x.FlowID]; member && !f.Over() {
			return fmt.Errorf("%s (%s): its flow %s is still open", x.Name, x.ID, f.ID)
		}
	}
	if err := p.keysAreFree(ctx); err != nil {
		return err
	}
	queue := textArg(p.order.Queue)
	for _, part := range some(named) {
		p.q.queue(retrySQL, queue, p.order.Home[:], queue, part)
		p.q.queue(dropSQL, part)
	}
	for _, part := range some(named) {
		p.q.queue(waitAgainSQL, part)
	}
	for i := range p.rows {
		x := &p.rows[i]
		p.q.arrivals.In(cmp.Or(p.order.Queue, x.Queue))
		if f, member := p.flows[x.FlowID]; member {
			f.TakeBack(x.Kind, x.State, x.AllowedToFail, p.order.Home)
			p.flows[f.ID] = f
		}
	}
	p.saveFlows()
	return nil
}

// keysAreFree returns a *storage.DuplicateError if a live row holds the key of one
// that would come back.
func (p *operating) keysAreFree(ctx context.Context) error {
	var keys textList
	byKey := map[string]*storage.Execution{}
	for i := range p.rows {
		x := &p.rows[i]
		if x.UniqueKey == "" {
			continue
		}
		if first := byKey[x.UniqueKey]; first != nil {
			return &storage.DuplicateError{Name: x.Name, Key: x.UniqueKey, HolderID: first.ID}
		}
		byKey[x.UniqueKey] = x
		keys = append(keys, x.UniqueKey)
	}
	if len(keys) == 0 {
		return nil
	}
	holders, err := (&enqueuing{q: p.q}).holders(ctx, keys)
	if err != nil {
		return err
	}
	var expired idList
	for _, key := range keys {
		h, held := holders[key]
		switch {
		case held && h.expired:
			expired = append(expired, h.id)
		case held:
			return &storage.DuplicateError{Name: byKey[key].Name, Key: key, HolderID: h.id}
		}
	}
	if len(expired) > 0 {
		p.q.queue(expireKeySQL, expired)
	}
	return nil
}

func (p *operating) cancel(ctx context.Context) error {
	var pending []settle.Cancellation
	var running idList
	for i := range p.rows {
		switch x := &p.rows[i]; x.State {
		case storage.Pending:
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
	rows := &flowRows{p.q}
	endings, err := rows.Cancel(ctx, p.q.now, pending)
	if err != nil {
		return err
	}
	if len(endings) != len(pending) {
		return errMoved
	}
	_, err = settle.Endings(ctx, rows, p.q.now, endings)
	return err
}

// resolve ends interrupted rows. Their flows are settled anew: the interruption is
// uncounted here, the ending counted by the rules.
func (p *operating) resolve(ctx context.Context, named idList, to storage.State) error {
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
			ID: x.ID, FlowID: x.FlowID, Name: x.Name, Kind: x.Kind, State: to, ForNow: x.ForNow,
			AllowedToFail: x.AllowedToFail, Undoes: x.Undoes, Message: x.LastError,
		}
	}
	p.saveFlows()
	for _, part := range some(named) {
		p.q.queue(resolveSQL, text(string(to)), part)
	}
	p.q.queueEndMarks(named)
	_, err := settle.Resolved(ctx, &flowRows{p.q}, p.q.now, endings)
	return err
}

func (p *operating) saveFlows() {
	for _, f := range p.flows {
		queueSave(p.q, f)
	}
}
