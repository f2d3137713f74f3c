package sequencer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// snapshot reads what a plan depends on. A ledger that does not exist yet is empty.
func (s *Sequencer) snapshot(ctx context.Context) (snapshot, error) {
	snap := snapshot{environment: s.cfg.Environment, now: time.Now()}
	var err error
	if snap.newest, err = s.store.Newest(ctx, storage.NewestRequest{Environment: s.cfg.Environment}); err != nil && !noLedger(err) {
		return snap, err
	}
	if s.cfg.Migrations != nil {
		if snap.migrations, err = s.cfg.Migrations.Migrations(ctx); err != nil {
			return snap, fmt.Errorf("reading migrations: %w", err)
		}
	}
	return snap, nil
}

// noLedger reports that the database has no ledger, which for a reader is one that
// holds nothing.
func noLedger(err error) bool {
	var schema *storage.SchemaError
	return errors.As(err, &schema) && schema.Missing()
}

// Preview returns the plan that a run with these options would execute. It
// executes and writes nothing, calls no operation code but static abilities (and what
// RunOptions.Evaluate asks for), and reports a guard that would block instead of failing.
func (s *Sequencer) Preview(ctx context.Context, o RunOptions) (*Plan, error) {
	plan, err := s.plan(ctx, o)
	if err != nil {
		return nil, err
	}
	if o.Evaluate {
		if err := s.evaluate(ctx, plan); err != nil {
			return nil, err
		}
	}
	var blocked *GuardError
	if errors.As(s.CheckGuards(ctx), &blocked) {
		plan.Blocked = blocked.Error()
	}
	return plan, nil
}

func (s *Sequencer) plan(ctx context.Context, o RunOptions) (*Plan, error) {
	if o.Sync && o.Async {
		return nil, errors.New("sync and async exclude each other: give one of them")
	}
	snap, err := s.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	plan, err := buildPlan(s.reg, snap, o)
	if err != nil {
		return nil, err
	}
	if o.narrow != nil {
		o.narrow(plan)
	}
	if err := plan.arrange(s.orchestrator(o)); err != nil {
		return nil, err
	}
	return plan, s.notice(ctx, plan)
}

func (s *Sequencer) orchestrator(o RunOptions) Orchestrator {
	if o.Orchestrator != nil {
		return o.Orchestrator
	}
	return s.cfg.Orchestrator
}

// Process does everything that is pending, in order, and returns when all of it
// is over. On failure the report says how far it came and what was undone, and
// the error is a *RunError. With nothing to do it writes nothing, takes no lock,
// and returns an empty report.
func (s *Sequencer) Process(ctx context.Context, o RunOptions) (*Report, error) {
	if err := s.CheckGuards(ctx); err != nil {
		return nil, err
	}
	orphans, err := s.orphans(ctx)
	var schema *storage.SchemaError
	if errors.As(err, &schema) && schema.Outdated() { // by an older release: nothing can be read before it is upgraded
		if err := s.Setup(ctx); err != nil {
			return nil, fmt.Errorf("upgrading the ledger: %w", err)
		}
		orphans, err = s.orphans(ctx)
	}
	if err != nil {
		return nil, err
	}
	plan, err := s.plan(ctx, o)
	if err != nil && len(orphans) == 0 { // what a dead process left may be all that is wrong; under the lock it is settled first
		return nil, err
	}
	if s.cfg.Recorder != nil {
		return s.recordPlan(ctx, plan, err)
	}
	if err == nil && plan.nothing() && len(plan.InFlight) == 0 && len(orphans) == 0 {
		if err := refused(plan, s.outOfOrder(o)); err != nil {
			return nil, err
		}
		s.warn(ctx, plan)
		s.emit(ctx, Event{Kind: EventNoPending, Method: plan.Method})
		return &Report{Method: plan.Method, State: storage.Completed, Plan: plan}, nil
	}
	if err == nil && len(orphans) == 0 {
		if err := unready(plan, o); err != nil {
			return nil, err
		}
	}
	if err == nil && o.Check != nil && !plan.nothing() {
		if err := o.Check(ctx, plan); err != nil {
			return nil, err
		}
	}
	if _, err := s.store.Setup(ctx); err != nil {
		return nil, fmt.Errorf("setting the ledger up: %w", err)
	}
	wait := time.Duration(0)
	if o.Isolate {
		wait = o.WaitLock
		if wait == 0 {
			wait = DefaultWaitLock
		}
	}
	var report *Report
	err = s.hold(ctx, "process", func(ctx context.Context, sess session) error {
		return s.exclusive(ctx, sess, wait, func(ctx context.Context, sess session) error {
			var said []string
			var err error
			report, said, err = s.processAlone(ctx, sess, o)
			if _, late := errors.AsType[*storage.DuplicateError](err); late && report == nil {
				// A process that was killed may have sent its run just before, and a server written
				// it just after this one looked: it is taken over from as well.
				before := said
				report, said, err = s.processAlone(ctx, sess, o)
				said = append(before, said...)
			}
			if report != nil {
				report.Recovered = said
			}
			return err
		})
	})
	return report, err
}

// processAlone takes over from dead processes, which recovered tells of, and runs what is
// pending then. The run lock is held.
func (s *Sequencer) processAlone(ctx context.Context, sess session, o RunOptions) (report *Report, recovered []string, err error) {
	if recovered, err = s.recover(ctx, sess); err != nil {
		return nil, recovered, err
	}
	// The ledger as it is now that nobody else can change it.
	plan, err := s.plan(ctx, o)
	if err != nil {
		return nil, recovered, err
	}
	if err := errors.Join(refused(plan, s.outOfOrder(o)), unready(plan, o)); err != nil {
		return nil, recovered, err
	}
	s.warn(ctx, plan)
	if plan.nothing() {
		s.emit(ctx, Event{Kind: EventNoPending, Method: plan.Method})
	}
	report = &Report{Method: plan.Method, State: storage.Completed, Plan: plan}
	if !plan.Empty() {
		report, err = s.run(ctx, sess, plan, o)
	}
	if err == nil {
		err = errors.Join(s.enqueueLater(ctx, plan, report), s.moveLater(ctx, plan))
	}
	return report, recovered, err
}

func (s *Sequencer) outOfOrder(o RunOptions) OutOfOrder {
	if o.OutOfOrder != "" {
		return o.OutOfOrder
	}
	return s.cfg.OutOfOrder
}

// refused says why a plan must not be run as it is.
func refused(plan *Plan, policy OutOfOrder) error {
	if len(plan.Interrupted) > 0 {
		return &InterruptedError{Names: plan.Interrupted}
	}
	if policy == OutOfOrderRefuse {
		var late []error
		for _, t := range plan.Tasks {
			if t.OutOfOrder {
				late = append(late, fmt.Errorf("%s: %w: give it a newer timestamp, or allow late arrivals", t.Name, ErrOutOfOrder))
			}
		}
		return errors.Join(late...)
	}
	return nil
}

// unready refuses a run that is all or nothing and could not do all, because it does not
// wait for approvals.
func unready(plan *Plan, o RunOptions) error {
	if plan.Empty() || plan.layout.policy != storage.PolicyAtomic || o.WaitApproval > 0 {
		return nil
	}
	if waiting := plan.unapproved(); len(waiting) > 0 {
		return &ApprovalError{Waiting: waiting}
	}
	return nil
}

// warn says what is odd about a plan and does not stop it.
func (s *Sequencer) warn(ctx context.Context, plan *Plan) {
	say := func(name, reason string) {
		s.emit(ctx, Event{Kind: EventWarning, Method: plan.Method, Name: name, Reason: reason})
	}
	for _, t := range plan.Tasks {
		if t.OutOfOrder {
			say(t.Name, "is older than what is already applied, and runs now")
		}
	}
	for _, d := range plan.Drift {
		say(d.Name, "was changed after it was applied")
	}
	for _, name := range plan.InFlight {
		say(name, "is in flight elsewhere, and is not offered again")
	}
}

// run executes a plan as a flow. The run lock is held.
func (s *Sequencer) run(ctx context.Context, sess session, plan *Plan, o RunOptions) (*Report, error) {
	flows, rows, edges, err := s.flowOf(ctx, plan, o)
	if err != nil {
		return nil, err
	}
	flow := &flows[0]
	if !o.Detach {
		flow.WorkerID = sess.worker()
	}
	flow.Host = sess.lease.Worker.Hostname
	sess.run, sess.tasks = flow.ID, len(plan.Tasks)
	if slices.ContainsFunc(plan.Tasks, func(t Task) bool { return t.ApprovedBy != "" }) {
		sess.patience = &patience{most: o.WaitApproval}
	}
	slots := plan.slots(cmp.Or(o.Slots, DefaultSlots))
	began := time.Now()
	started, err := s.store.Enqueue(ctx, storage.EnqueueRequest{
		Flows: flows, Executions: rows, Edges: edges, RefuseDuplicates: true,
		Claim: &storage.ClaimRequest{Worker: sess.worker(), Queues: []string{privateQueue(flow.ID)}, Limit: slots},
	})
	if err != nil {
		return nil, fmt.Errorf("starting the run: %w", err)
	}
	if first := started.Claimed.Executions; len(first) > 0 && !o.Detach {
		sess.line = lineOf(rows, edges, first[0].CreatedAt)
	}
	s.emit(ctx, Event{Kind: EventRunStarted, Method: plan.Method, RunID: flow.ID.String(), Tasks: len(plan.Tasks)})
	var end storage.Flow
	if o.Detach {
		if end, err = s.serveMigrations(ctx, sess, flow.ID, started.Claimed); err == nil {
			end, err = s.detach(ctx, sess, end)
		}
	} else if end, err = s.serveFlow(ctx, sess, flow.ID, slots, started.Claimed); err == nil && !end.Over() {
		end, err = s.interrupt(ctx, flow.ID, sess.patience.reason())
	}
	cutOff := err != nil
	report, reportErr := s.report(context.WithoutCancel(ctx), flow.ID, sess.errs)
	if err = errors.Join(err, reportErr); err == nil {
		report.follows(plan)
		report.Elapsed = time.Since(began)
		err = report.Err()
		if end.State == storage.Interrupted && ctx.Err() != nil {
			err = errors.Join(ErrShutdown, err)
		} else if held := sess.patience.err(); held != nil {
			err = errors.Join(held, err)
		}
	}
	if o.Detach && !cutOff && end.State != storage.Interrupted { // whoever ends it says so
		return report, err
	}
	s.emit(ctx, Event{
		Kind: EventRunEnded, Method: plan.Method, RunID: flow.ID.String(), Tasks: len(plan.Tasks),
		State: end.State, Reason: cmp.Or(end.Reason, failures(&end, len(plan.Tasks))), Err: err, Elapsed: time.Since(began),
	})
	return report, err
}

// failures sums up a run in which others went on when one failed (S23.1).
func failures(f *storage.Flow, tasks int) string {
	if f.State != storage.Failed {
		return ""
	}
	return fmt.Sprintf("%d of %d failed", f.Failed, tasks)
}

// interrupt ends a run that was asked to stop. What it did stays; an undoing that
// had begun is finished by the next run.
func (s *Sequencer) interrupt(ctx context.Context, flow storage.ID, reason string) (storage.Flow, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Lease)
	defer cancel()
	f, err := s.store.StopFlow(ctx, storage.StopFlowRequest{ID: flow, State: storage.Interrupted, Reason: reason})
	if err == nil && !f.Over() {
		f.State = storage.Interrupted
	}
	return f, err
}

// flowOf turns a plan into a flow, rows and edges. A join is an empty flow in it, which
// this process ends when its turn comes.
func (s *Sequencer) flowOf(ctx context.Context, plan *Plan, o RunOptions) ([]storage.Flow, []storage.Execution, []storage.Edge, error) {
	options, err := json.Marshal(runRecord{From: o.From, Tags: o.Tags, Only: o.Only, Repeat: o.Repeat, Detach: o.Detach})
	if err != nil {
		return nil, nil, nil, err
	}
	shape, tasks := plan.layout, len(plan.Tasks)
	flow := storage.Flow{
		ID: storage.NewID(), Kind: storage.FlowRun, Method: plan.Method, Policy: shape.policy, Phase: storage.PhaseForward,
		State: storage.Running, Actor: s.cfg.Actor, Build: s.cfg.Build, Options: options, Total: tasks + shape.joins,
	}
	flows := []storage.Flow{flow}
	rows := make([]storage.Execution, tasks+shape.joins)
	for i := range rows {
		if i < tasks {
			if rows[i], err = s.member(ctx, plan.Tasks[i], plan.Method); err == nil && o.unasked {
				rows[i].Policy, err = changePolicy(rows[i].Policy, func(p *policy) { p.Approver = "" })
			}
			if err != nil {
				return nil, nil, nil, err
			}
			rows[i].Member = rows[i].Name
		} else {
			var inner storage.Flow
			rows[i], inner = s.join(plan.Joins[i-tasks], plan.Method)
			flows = append(flows, inner)
		}
		rows[i].FlowID, rows[i].Position, rows[i].Delay = flow.ID, i, 0
		if !o.Detach || rows[i].Kind == storage.Migration {
			rows[i].Queue = privateQueue(flow.ID)
		}
	}
	edges := make([]storage.Edge, len(shape.arcs))
	for i, a := range shape.arcs {
		edges[i] = storage.Edge{From: rows[a.from].ID, To: rows[a.to].ID, Needs: a.needs}
	}
	for _, e := range shape.arcs { // a join is for a worker that serves what it joins
		if to := &rows[e.to]; to.Queue == "" && rows[e.from].Kind != storage.Migration {
			to.Queue = rows[e.from].Queue
		}
	}
	for i := range rows {
		rows[i].Queue = cmp.Or(rows[i].Queue, s.cfg.Queue)
	}
	return flows, rows, edges, nil
}

// join makes the row of a join, and the empty flow that it stands for.
func (s *Sequencer) join(j Join, method string) (storage.Execution, storage.Flow) {
	row := storage.Execution{
		ID: storage.NewID(), Name: joinName, Kind: storage.Nested, Method: method, Member: j.Name, Actor: s.cfg.Actor,
		Priority: storage.PriorityDefault, OnLoss: storage.LossRetry, Policy: policy{StandsIn: true}.bytes(),
	}
	return row, storage.Flow{
		ID: storage.NewID(), ParentID: row.ID, Kind: storage.FlowBatch, Name: j.Name, Method: method, Policy: storage.PolicyContinue,
		Phase: storage.PhaseForward, State: storage.Running, Actor: s.cfg.Actor, Build: s.cfg.Build,
	}
}

const joinName = "join"

// lineOf finds, for each row that a single one waits for, which waits for nothing
// else, that one: what a store need not look for once the row is over.
func lineOf(rows []storage.Execution, edges []storage.Edge, created time.Time) map[storage.ID]*storage.Execution {
	behind, ahead := make(map[storage.ID]int, len(rows)), make(map[storage.ID]int, len(rows))
	for _, e := range edges {
		behind[e.From]++
		ahead[e.To]++
	}
	byID := make(map[storage.ID]*storage.Execution, len(rows))
	for i := range rows {
		rows[i].CreatedAt = created
		byID[rows[i].ID] = &rows[i]
	}
	line := make(map[storage.ID]*storage.Execution, len(rows))
	for _, e := range edges {
		if behind[e.From] == 1 && ahead[e.To] == 1 {
			line[e.From] = byID[e.To]
		}
	}
	return line
}

// runRecord is what a run's row remembers of its options.
type runRecord struct {
	From   string   `json:"from,omitempty"`
	Tags   []string `json:"tags,omitempty"`
	Only   []string `json:"only,omitempty"`
	Repeat bool     `json:"repeat,omitempty"`
	Detach bool     `json:"detach,omitempty"` // the store does not read it; isDetached does
}

// member makes the row of a task.
func (s *Sequencer) member(ctx context.Context, t Task, method string) (storage.Execution, error) {
	if t.Kind == storage.Ordered {
		if t.Async {
			method = "async"
		}
		row, _, err := s.execution(ctx, Named(t.Name, nil), method)
		return row, err
	}
	row := storage.Execution{
		ID: storage.NewID(), Name: t.Name, Kind: storage.Migration, Method: method, Actor: s.cfg.Actor,
		Priority: storage.PriorityDefault, Input: strconv.AppendInt(nil, t.Version, 10), Checksum: t.Checksum,
		UniqueKey: migrationKey(t.Name), OnLoss: storage.LossInterrupt,
	}
	if t.migration.Transactional { // died half-way means nothing happened
		row.OnLoss = storage.LossRetry
	}
	return row, nil
}
