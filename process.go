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
// executes and writes nothing, calls no operation code but static abilities, and
// reports a guard that would block instead of failing.
func (s *Sequencer) Preview(ctx context.Context, o RunOptions) (*Plan, error) {
	plan, err := s.plan(ctx, o)
	if err != nil {
		return nil, err
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
	plan.Method = s.orchestrator(o).Name()
	return plan, nil
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
		return s.recordPlan(plan, err)
	}
	if err == nil && plan.Empty() && len(plan.InFlight) == 0 && len(orphans) == 0 {
		if err := refused(plan, s.outOfOrder(o)); err != nil {
			return nil, err
		}
		s.warn(ctx, plan)
		s.emit(ctx, Event{Kind: EventNoPending, Method: plan.Method})
		return &Report{Method: plan.Method, State: storage.Completed, Plan: plan}, nil
	}
	if err == nil && o.Check != nil && !plan.Empty() {
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
			recovered, err := s.recover(ctx, sess)
			if err != nil {
				return err
			}
			// The ledger as it is now that nobody else can change it.
			if plan, err = s.plan(ctx, o); err != nil {
				return err
			}
			if err := refused(plan, s.outOfOrder(o)); err != nil {
				return err
			}
			s.warn(ctx, plan)
			if plan.Empty() {
				s.emit(ctx, Event{Kind: EventNoPending, Method: plan.Method})
				report = &Report{Method: plan.Method, State: storage.Completed, Plan: plan, Recovered: recovered}
				return nil
			}
			report, err = s.run(ctx, sess, plan, o)
			if report != nil {
				report.Recovered = recovered
			}
			return err
		})
	})
	return report, err
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
	flow, rows, edges, err := s.flowOf(ctx, plan, o)
	if err != nil {
		return nil, err
	}
	flow.WorkerID = sess.worker()
	flow.Host = sess.lease.Worker.Hostname
	sess.run, sess.tasks = flow.ID, len(rows)
	slots := plan.slots(cmp.Or(o.Slots, DefaultSlots))
	began := time.Now()
	started, err := s.store.Enqueue(ctx, storage.EnqueueRequest{
		Flow: &flow, Executions: rows, Edges: edges, RefuseDuplicates: true,
		Claim: &storage.ClaimRequest{Worker: sess.worker(), Queues: []string{privateQueue(flow.ID)}, Limit: slots},
	})
	if err != nil {
		return nil, fmt.Errorf("starting the run: %w", err)
	}
	if first := started.Claimed.Executions; len(first) > 0 {
		sess.line = lineOf(rows, edges, first[0].CreatedAt)
	}
	s.emit(ctx, Event{Kind: EventRunStarted, Method: plan.Method, RunID: flow.ID.String(), Tasks: len(rows)})
	end, err := s.serveFlow(ctx, sess, flow.ID, slots, started.Claimed)
	if err == nil && !end.Over() {
		end, err = s.interrupt(ctx, flow.ID)
	}
	report, reportErr := s.report(context.WithoutCancel(ctx), flow.ID, sess.errs)
	if err = errors.Join(err, reportErr); err == nil {
		report.Plan, report.Elapsed = plan, time.Since(began)
		err = report.Err()
		if end.State == storage.Interrupted && ctx.Err() != nil {
			err = errors.Join(ErrShutdown, err)
		}
	}
	s.emit(ctx, Event{
		Kind: EventRunEnded, Method: plan.Method, RunID: flow.ID.String(), Tasks: len(rows),
		State: end.State, Reason: end.Reason, Err: err, Elapsed: time.Since(began),
	})
	return report, err
}

// interrupt ends a run that was asked to stop. What it did stays; an undoing that
// had begun is finished by the next run.
func (s *Sequencer) interrupt(ctx context.Context, flow storage.ID) (storage.Flow, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Lease)
	defer cancel()
	f, err := s.store.StopFlow(ctx, storage.StopFlowRequest{ID: flow, State: storage.Interrupted, Reason: "the run was stopped"})
	if err == nil && !f.Over() {
		f.State = storage.Interrupted
	}
	return f, err
}

// flowOf turns a plan into rows and edges.
func (s *Sequencer) flowOf(ctx context.Context, plan *Plan, o RunOptions) (storage.Flow, []storage.Execution, []storage.Edge, error) {
	shape := s.orchestrator(o).Arrange(plan)
	options, err := json.Marshal(runRecord{From: o.From, Tags: o.Tags, Only: o.Only, Repeat: o.Repeat})
	if err != nil {
		return storage.Flow{}, nil, nil, err
	}
	flow := storage.Flow{
		ID: storage.NewID(), Kind: storage.FlowRun, Method: plan.Method, Policy: shape.Policy, Phase: storage.PhaseForward,
		State: storage.Running, Actor: s.cfg.Actor, Build: s.cfg.Build, Options: options, Total: len(plan.Tasks),
	}
	rows := make([]storage.Execution, len(plan.Tasks))
	var edges []storage.Edge
	for i, t := range plan.Tasks {
		if rows[i], err = s.member(ctx, t, plan.Method); err != nil {
			return flow, nil, nil, err
		}
		rows[i].FlowID, rows[i].Member, rows[i].Position = flow.ID, t.Name, i
		rows[i].Queue, rows[i].Delay = privateQueue(flow.ID), 0
	}
	for i, t := range plan.Tasks {
		for _, d := range t.needs {
			edges = append(edges, storage.Edge{From: rows[d].ID, To: rows[i].ID, Needs: true})
		}
		for _, d := range shape.After[i] {
			if !slices.Contains(t.needs, d) {
				edges = append(edges, storage.Edge{From: rows[d].ID, To: rows[i].ID})
			}
		}
	}
	return flow, rows, edges, nil
}

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

// recordPlan is Process with a Recorder: operations that would run are recorded,
// except where their environment is another (S33.5).
func (s *Sequencer) recordPlan(plan *Plan, err error) (*Report, error) {
	if err != nil {
		return nil, err
	}
	for _, t := range plan.Tasks {
		reg, ok := s.reg.lookup(t.Name)
		if !ok || t.Kind != storage.Ordered || t.Elsewhere {
			continue
		}
		op, err := reg.fresh()
		if err != nil {
			return nil, err
		}
		s.cfg.Recorder.Record(t.Name, op)
	}
	return &Report{Method: plan.Method, State: storage.Completed, Plan: plan}, nil
}
