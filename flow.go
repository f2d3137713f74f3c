package sequencer

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Flow is a batch or chain that was dispatched. Its methods read and write the
// ledger; it keeps nothing but the id, so that any process may make one with
// [Sequencer.Flow].
type Flow struct {
	s    *Sequencer
	id   storage.ID
	kind storage.FlowKind
}

// ID is what [Sequencer.Flow] finds it by.
func (f *Flow) ID() string { return f.id.String() }

// Flow finds a batch, a chain or a run by its id, or by a prefix of it of at least 8
// characters that no other recent one has.
func (s *Sequencer) Flow(ctx context.Context, id string) (*Flow, error) {
	found, err := s.findFlow(ctx, id)
	if err != nil {
		return nil, err
	}
	return &Flow{s, found.ID, found.Kind}, nil
}

func (s *Sequencer) findFlow(ctx context.Context, text string) (storage.Flow, error) {
	if id, err := storage.ParseID(text); err == nil {
		return s.flow(ctx, id)
	}
	prefix := strings.ToLower(text)
	if len(prefix) < 8 || !isIDPrefix(prefix) {
		return storage.Flow{}, fmt.Errorf("flow %q: give its id, or at least the first 8 characters of it", text)
	}
	const recent = 10_000
	flows, err := s.store.Flows(ctx, storage.FlowFilter{Limit: recent})
	if err != nil {
		return storage.Flow{}, err
	}
	var found []storage.Flow
	for _, f := range flows {
		if strings.HasPrefix(f.ID.String(), prefix) {
			found = append(found, f)
		}
	}
	switch len(found) {
	case 0:
		return storage.Flow{}, fmt.Errorf("flow %s: %w", text, storage.ErrNotFound)
	case 1:
		return found[0], nil
	}
	return storage.Flow{}, fmt.Errorf("flow id %s is not unique: give more of it", text)
}

// FlowStatus is how a flow stands. Total is the sum of the other counts; a batch or
// chain inside another counts as one member, which is pending until it ends.
type FlowStatus struct {
	ID         string           `json:"id"`
	Kind       storage.FlowKind `json:"kind"`
	Name       string           `json:"name,omitempty"`
	State      storage.State    `json:"state"`            // running, completed, failed, cancelled, interrupted
	Reason     string           `json:"reason,omitempty"` // why it was stopped
	Parent     string           `json:"parent,omitempty"` // the execution that stands for it in the flow around it
	Generation int              `json:"generation"`       // 1, and one more for each Retry
	CreatedAt  time.Time        `json:"created_at"`
	FinishedAt time.Time        `json:"finished_at,omitzero"`

	Total         int `json:"total"`
	Pending       int `json:"pending"`
	Running       int `json:"running"`
	Completed     int `json:"completed"`
	Failed        int `json:"failed"`
	FailedAllowed int `json:"failed_allowed"` // members marked AllowedToFail
	Skipped       int `json:"skipped"`
	Cancelled     int `json:"cancelled"`
	Interrupted   int `json:"interrupted"`
	// Percent of members that ended, rounded down: 100 is over, and nothing else is
	// (Q5.30).
	Percent int `json:"percent"`
}

// Over reports whether all members have ended. Callbacks may still run.
func (st *FlowStatus) Over() bool { return !st.FinishedAt.IsZero() }

// Status reads how the flow stands now.
func (f *Flow) Status(ctx context.Context) (FlowStatus, error) {
	row, err := f.s.flow(ctx, f.id)
	if err != nil {
		return FlowStatus{}, err
	}
	return f.s.flowStatus(ctx, &row)
}

func (s *Sequencer) flowStatus(ctx context.Context, f *storage.Flow) (FlowStatus, error) {
	st := statusOf(f)
	if f.Over() {
		return st, nil
	}
	// No more of them run at a time than workers have slots.
	rows, err := s.store.Executions(ctx, storage.Filter{FlowID: f.ID, States: []storage.State{storage.Running}, Limit: 10_000})
	if err != nil {
		return st, err
	}
	for i := range rows {
		if rows[i].Kind != storage.Undo && rows[i].Kind != storage.KindCallback && st.Pending > 0 {
			st.Pending--
			st.Running++
		}
	}
	return st, nil
}

// statusOf is what a flow's own row tells.
func statusOf(f *storage.Flow) FlowStatus {
	st := FlowStatus{
		ID: f.ID.String(), Kind: f.Kind, Name: f.Name, State: f.State, Reason: f.Reason, Generation: f.Generation,
		Parent: f.ParentID.String(), CreatedAt: f.CreatedAt, FinishedAt: f.FinishedAt,
		Total: f.Total, Pending: f.Open(), Completed: f.Completed, Failed: f.Failed, FailedAllowed: f.FailedAllowed,
		Skipped: f.Skipped, Cancelled: f.Cancelled, Interrupted: f.Interrupted,
	}
	switch {
	case f.Over():
		st.Percent = 100
	case f.Total > 0:
		st.Percent = min((f.Total-f.Open())*100/f.Total, 99)
	}
	return st
}

// Cancel ends the flow early: members that have not started never will (Q5.27). Those
// that run are told by [BatchContext.Cancelled] and end as they do. A flow that is
// over is left as it is, and a deploy run or rollback that its process drives is refused.
// reason goes into the audit log.
func (f *Flow) Cancel(ctx context.Context, reason string) error {
	if err := f.alone(ctx, "cancelling"); err != nil {
		return err
	}
	now, err := f.s.flow(ctx, f.id)
	switch {
	case err != nil:
		return err
	case now.Kind == storage.FlowRollback, now.Kind == storage.FlowRun && !isDetached(&now):
		return fmt.Errorf("flow %s is a %s, which its process drives: stop that", f.id, now.Kind)
	}
	row, err := f.s.store.StopFlow(ctx, storage.StopFlowRequest{
		ID: f.id, State: storage.Cancelled, Reason: orDefault(reason, "cancelled by "+f.s.cfg.Actor), Actor: f.s.cfg.Actor,
	})
	if err != nil {
		return fmt.Errorf("cancelling flow %s: %w", f.id, err)
	}
	f.s.flowsMoved(ctx, []storage.Flow{row})
	return nil
}

// alone refuses what would wait for the transaction of the attempt that calls it.
func (f *Flow) alone(ctx context.Context, doing string) error {
	if f.s.joined(ctx) != nil {
		return fmt.Errorf("%s flow %s inside %s: %w: the ledger may be locked by it; do it before the transaction begins", doing, f.id, Current(ctx).Name, ErrOpenTx)
	}
	return nil
}

// Add puts operations into a batch that is not over, at once; from inside a member use
// [BatchContext.Add]. A batch that has ended, or is being stopped, is ErrFlowOver, and
// nothing is written (Q5.28).
func (f *Flow) Add(ctx context.Context, ops ...Operation) ([]Receipt, error) {
	row, err := f.s.flow(ctx, f.id)
	if err != nil {
		return nil, err
	}
	if row.Kind != storage.FlowBatch {
		return nil, fmt.Errorf("flow %s is a %s: only batches take members from outside; a step of a chain has CurrentChain", f.id, row.Kind)
	}
	in, err := readInherited(row.Options)
	if err != nil {
		return nil, err
	}
	all, err := f.s.arranger(ctx, f.s).add(row.Kind, row.ID, row.Total, ops, in)
	if err != nil {
		return nil, fmt.Errorf("adding to flow %s: %w", f.id, err)
	}
	if len(all.rows) == 0 {
		return nil, nil
	}
	done, err := f.s.writeFlow(ctx, f.s.joined(ctx), storage.EnqueueRequest{
		Into: f.id, Flows: all.flows, Executions: all.rows, Edges: all.edges,
	})
	if err != nil {
		return nil, fmt.Errorf("adding to flow %s: %w", f.id, err)
	}
	if err := f.s.keepDuplicates(ctx, f.s.joined(ctx), all.rows, done.Receipts); err != nil {
		return nil, fmt.Errorf("adding to flow %s: %w", f.id, err)
	}
	return f.s.dispatched(ctx, all.rows, done.Receipts), nil
}

// RetryOptions is how a flow is retried.
type RetryOptions struct {
	Reason string // for the audit log
	// Force also takes back what a person cancelled, and what is interrupted.
	Force bool
}

// Retry takes back the members that failed, and those that were cancelled because of
// that, as a new generation: they wait in their queues again, and Catch and Finally
// may be called once more; Then is called at most once ever (Q5.29, Q6.5). A flow that
// is not over, or that a person cancelled, is refused (see [RetryOptions]), and so are
// deploy runs and rollbacks: the next run does what one has not done.
func (f *Flow) Retry(ctx context.Context, o RetryOptions) error {
	if err := f.alone(ctx, "retrying"); err != nil {
		return err
	}
	now, err := f.s.flow(ctx, f.id)
	switch {
	case err != nil:
		return err
	case now.Kind == storage.FlowRun, now.Kind == storage.FlowRollback:
		return fmt.Errorf("flow %s is a %s: what it has not done is pending, and the next run does it", f.id, now.Kind)
	}
	rows, err := f.s.store.Operate(ctx, storage.Order{
		Action: storage.ActResumeFlow, Flow: f.id, Actor: f.s.cfg.Actor, Reason: o.Reason, Force: o.Force,
	})
	if err != nil {
		return fmt.Errorf("retrying flow %s: %w", f.id, err)
	}
	f.s.queued(ctx, rows)
	return nil
}

// dispatchFlow writes a draft that this sequencer made.
func (s *Sequencer) dispatchFlow(ctx context.Context, d *draft) (*Flow, error) {
	return s.startFlow(ctx, s.joined(ctx), d)
}

func (d inTx) dispatchFlow(ctx context.Context, draft *draft) (*Flow, error) {
	if isNilTx(d.tx) {
		return nil, fmt.Errorf("dispatch of %s in a transaction: %w: it is nil", draft, ErrNoTx)
	}
	return d.s.startFlow(ctx, d.tx, draft)
}

func (s *Sequencer) startFlow(ctx context.Context, tx storage.Tx, d *draft) (*Flow, error) {
	to, err := s.On(firstOf(d.connection, s.connection))
	if err == nil {
		to, err = s.reach(to, tx, d.String())
	}
	if err != nil {
		return nil, fmt.Errorf("dispatch of %s: %w", d, err)
	}
	all, err := to.arranger(ctx, d.by).arrange(d)
	if err != nil {
		return nil, fmt.Errorf("dispatch of %w", err)
	}
	f := &Flow{to, all.flows[0].ID, d.kind}
	if s.cfg.Recorder != nil {
		return f, s.recordFlow(d)
	}
	done, err := to.writeFlow(ctx, tx, storage.EnqueueRequest{Flows: all.flows, Executions: all.rows, Edges: all.edges})
	if err != nil {
		return nil, fmt.Errorf("dispatch of %s: %w", d, err)
	}
	if err := to.keepDuplicates(ctx, tx, all.rows, done.Receipts); err != nil {
		return f, fmt.Errorf("dispatch of %s: it is written, but: %w", d, err)
	}
	to.emit(ctx, Event{
		Kind: EventFlowDispatched, Method: string(d.kind), ID: f.ID(), Name: d.name, State: storage.Running, Tasks: len(d.members), Tags: d.tags,
	})
	to.dispatched(ctx, all.rows, done.Receipts)
	if len(all.rows) == 0 && tx == nil { // nothing will end it but this
		row, err := to.flow(ctx, f.id)
		if err != nil {
			return f, fmt.Errorf("dispatch of %s: it is written, but: %w", d, err)
		}
		row.Ended = true
		to.flowsMoved(ctx, []storage.Flow{row})
	}
	return f, nil
}

// writeFlow enqueues members, some of which may have unique keys elsewhere.
func (s *Sequencer) writeFlow(ctx context.Context, tx storage.Tx, r storage.EnqueueRequest) (storage.Enqueued, error) {
	keys, err := s.claimElsewhere(ctx, r.Executions)
	if err == nil {
		err = keys.duplicatesElsewhere(r.Executions)
	}
	if err != nil {
		return storage.Enqueued{}, err
	}
	done, err := s.write(ctx, tx, r)
	if err != nil {
		s.release(ctx, keys, tx)
	}
	return done, err
}

// recordFlow records the members, in their order; callbacks are not dispatched by it.
func (s *Sequencer) recordFlow(d *draft) error {
	for _, op := range d.members {
		if inner, _ := draftOf(op); inner != nil {
			if err := s.recordFlow(inner); err != nil {
				return err
			}
			continue
		}
		reg, value, _, err := s.reg.resolve(op)
		if err != nil {
			return err
		}
		s.cfg.Recorder.Record(reg.name, value)
	}
	return nil
}

// arranger makes rows for this sequencer's connection.
func (s *Sequencer) arranger(ctx context.Context, by flowDispatcher) *arranger {
	return &arranger{
		row: func(op Operation, method string, in inherited) (storage.Execution, error) {
			row, on, err := s.execution(ctx, With(op, in), method)
			if err == nil && on != s {
				err = fmt.Errorf("%s is to be on connection %s, and what it is in is on %s: one write reaches one connection, dispatch them apart",
					row.Name, on.connection, s.connection)
			}
			return row, err
		},
		connection: s.connection, by: by, queue: s.cfg.Queue, actor: s.cfg.Actor, build: s.cfg.Build,
	}
}
