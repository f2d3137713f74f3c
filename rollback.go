package sequencer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// RollbackOptions selects more than one operation, and says how careful to be.
type RollbackOptions struct {
	Run     string // everything this run did, by id or a prefix that no other run shares
	Last    bool   // everything the latest run did
	To      string // everything with a timestamp later than this one
	Cascade bool   // roll back first what completed and depends on it; otherwise that is refused (S10.12)
	Force   bool   // roll back although the newest execution failed
	// Isolate waits for a run in progress, as in RunOptions.
	Isolate  bool
	WaitLock time.Duration
}

// Rollback undoes one operation by name, or with name "" what the options select:
// newest first, each with the input it had and the result it kept. It runs as a
// flow, so one that is killed is finished by the next run. The operations are
// pending again afterwards (S5.6). Migrations are never rolled back (S10.8).
func (s *Sequencer) Rollback(ctx context.Context, name string, o RollbackOptions) (*Report, error) {
	if err := s.CheckGuards(ctx); err != nil {
		return nil, err
	}
	orphans, err := s.orphans(ctx)
	if err != nil {
		return nil, err
	}
	if len(orphans) == 0 { // refuse before anything is written; what a dead process left is settled first, under the lock
		if _, err := s.rollbackTargets(ctx, name, o); err != nil {
			return nil, err
		}
	}
	wait := time.Duration(0)
	if o.Isolate {
		if wait = o.WaitLock; wait == 0 {
			wait = DefaultWaitLock
		}
	}
	var report *Report
	err = s.hold(ctx, "rollback", func(ctx context.Context, sess session) error {
		return s.exclusive(ctx, sess, wait, func(ctx context.Context, sess session) error {
			recovered, err := s.recover(ctx, sess)
			if err != nil {
				return err
			}
			targets, err := s.rollbackTargets(ctx, name, o)
			if err != nil {
				return err
			}
			report, err = s.undo(ctx, sess, targets)
			if report != nil {
				report.Recovered = recovered
			}
			return err
		})
	})
	return report, err
}

// PreviewRollback lists what Rollback would undo, in order.
func (s *Sequencer) PreviewRollback(ctx context.Context, name string, o RollbackOptions) ([]string, error) {
	targets, err := s.rollbackTargets(ctx, name, o)
	names := make([]string, len(targets))
	for i, t := range targets {
		names[i] = t.Name
	}
	return names, err
}

// undo runs the targets' rollbacks one after the other, whatever becomes of each.
func (s *Sequencer) undo(ctx context.Context, sess session, targets []storage.Execution) (*Report, error) {
	flow := storage.Flow{
		ID: storage.NewID(), Kind: storage.FlowRollback, Method: "rollback", Policy: storage.PolicyContinue, Phase: storage.PhaseUndo,
		State: storage.Running, Actor: s.cfg.Actor, Host: sess.lease.Worker.Hostname, Build: s.cfg.Build,
		WorkerID: sess.worker(), UndoTotal: len(targets),
	}
	rows := make([]storage.Execution, len(targets))
	var edges []storage.Edge
	for i, t := range targets {
		rows[i] = t.Undo()
		rows[i].ID, rows[i].FlowID, rows[i].Position = storage.NewID(), flow.ID, i
		rows[i].Queue, rows[i].Actor, rows[i].Member = privateQueue(flow.ID), s.cfg.Actor, t.Name
		if i > 0 {
			edges = append(edges, storage.Edge{From: rows[i-1].ID, To: rows[i].ID})
		}
	}
	sess.run, sess.tasks = flow.ID, len(rows)
	began := time.Now()
	s.emit(ctx, Event{Kind: EventRunStarted, Method: flow.Method, RunID: flow.ID.String(), Tasks: len(rows)})
	started, err := s.store.Enqueue(ctx, storage.EnqueueRequest{
		Flows: []storage.Flow{flow}, Executions: rows, Edges: edges, RefuseDuplicates: true,
		Claim: &storage.ClaimRequest{Worker: sess.worker(), Queues: []string{privateQueue(flow.ID)}, Limit: 1},
	})
	if err != nil {
		return nil, fmt.Errorf("starting the rollback: %w", err)
	}
	end, err := s.serveFlow(ctx, sess, flow.ID, 1, started.Claimed)
	report, reportErr := s.report(context.WithoutCancel(ctx), flow.ID, sess.errs)
	if err = errors.Join(err, reportErr); err == nil {
		report.Elapsed = time.Since(began)
		if err = report.Err(); !end.Over() {
			err = errors.Join(ErrShutdown, err)
		}
	}
	s.emit(ctx, Event{Kind: EventRunEnded, Method: flow.Method, RunID: flow.ID.String(), Tasks: len(rows), State: end.State, Err: err, Elapsed: time.Since(began)})
	return report, err
}

// rollbackTargets finds the executions to undo, newest completion first, and
// refuses what cannot be undone before anything is.
func (s *Sequencer) rollbackTargets(ctx context.Context, name string, o RollbackOptions) ([]storage.Execution, error) {
	newest, err := s.newestByName(ctx)
	if err != nil {
		return nil, err
	}
	var targets []storage.Effective
	switch {
	case name != "":
		target, err := s.rollbackTarget(name, newest, o)
		if err != nil {
			return nil, err
		}
		targets = []storage.Effective{target}
	case o.Run != "" || o.Last:
		if targets, err = s.runTargets(ctx, newest, o); err != nil {
			return nil, err
		}
	case o.To != "":
		from, err := parseFrom(o.To)
		if err != nil {
			return nil, err
		}
		for _, reg := range s.reg.ordered() {
			if row, ok := newest[reg.name]; ok && reg.version > from && row.State == storage.Completed {
				targets = append(targets, row)
			}
		}
	default:
		return nil, errors.New("rollback of what? give an operation's name, or a run, the last run, or a timestamp to go back to")
	}
	if targets, err = s.cascade(targets, newest, o.Cascade); err != nil {
		return nil, err
	}
	if targets, err = s.undoable(targets, name != ""); err != nil {
		return nil, err
	}
	rows, err := s.whole(ctx, idsOf(targets, func(e storage.Effective) storage.ID { return e.ID }))
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(rows, func(a, b storage.Execution) int {
		return cmp.Or(b.FinishedAt.Compare(a.FinishedAt), cmp.Compare(b.Position, a.Position))
	})
	return rows, nil
}

// whole reads rows by their ids, in the order given.
func (s *Sequencer) whole(ctx context.Context, ids []storage.ID) ([]storage.Execution, error) {
	const page = 500
	byID := map[storage.ID]storage.Execution{}
	for chunk := range slices.Chunk(ids, page) {
		rows, err := s.store.Executions(ctx, storage.Filter{IDs: chunk, Limit: page})
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			byID[row.ID] = row
		}
	}
	all := make([]storage.Execution, 0, len(ids))
	for _, id := range ids {
		if row, ok := byID[id]; ok {
			all = append(all, row)
		}
	}
	return all, nil
}

func idsOf[Row any](rows []Row, id func(Row) storage.ID) []storage.ID {
	ids := make([]storage.ID, len(rows))
	for i, row := range rows {
		ids[i] = id(row)
	}
	return ids
}

// newestByName is the effective execution of each ordered operation, under its
// present name.
func (s *Sequencer) newestByName(ctx context.Context) (map[string]storage.Effective, error) {
	rows, err := s.store.Newest(ctx, storage.NewestRequest{Environment: s.cfg.Environment})
	if err != nil && !noLedger(err) {
		return nil, err
	}
	newest := map[string]storage.Effective{}
	for _, row := range rows {
		if row.Kind != storage.Ordered {
			continue
		}
		name := row.Name
		if reg, ok := s.reg.lookup(row.Name); ok {
			name = reg.name
		}
		if known, ok := newest[name]; !ok || known.CreatedAt.Before(row.CreatedAt) {
			newest[name] = row
		}
	}
	return newest, nil
}

// rollbackTarget checks one operation named for rollback (S10.10, S10.11).
func (s *Sequencer) rollbackTarget(name string, newest map[string]storage.Effective, o RollbackOptions) (storage.Effective, error) {
	reg, ok := s.reg.lookup(name)
	if !ok {
		return storage.Effective{}, notFound(s.reg, name)
	}
	row, ok := newest[reg.name]
	switch {
	case !ok:
		return row, fmt.Errorf("%s: %w", reg.name, ErrNotExecuted)
	case row.State == storage.RolledBack:
		return row, fmt.Errorf("%s: %w", reg.name, ErrAlreadyRolledBack)
	case row.State != storage.Completed && (!o.Force || row.State != storage.Failed):
		return row, fmt.Errorf("%s: %w: its newest execution is %s", reg.name, ErrNotExecuted, row.State)
	}
	return row, nil
}

// runTargets lists what a run completed and nobody has undone or redone since.
func (s *Sequencer) runTargets(ctx context.Context, newest map[string]storage.Effective, o RollbackOptions) ([]storage.Effective, error) {
	f, err := s.findRun(ctx, o)
	if err != nil {
		return nil, err
	}
	rows, err := s.members(ctx, f.ID)
	if err != nil {
		return nil, err
	}
	var targets []storage.Effective
	for _, row := range rows {
		if row.Kind == storage.Ordered && row.State == storage.Completed && newest[s.present(row.Name)].ID == row.ID {
			targets = append(targets, row.Effective())
		}
	}
	return targets, nil
}

// findRun is the run that the options mean. Runs that began within a minute of each
// other share the first eight characters of their ids: then more are asked for.
func (s *Sequencer) findRun(ctx context.Context, o RollbackOptions) (storage.Flow, error) {
	flows, err := s.store.Flows(ctx, storage.FlowFilter{Kinds: []storage.FlowKind{storage.FlowRun}, Limit: 1000})
	if err != nil && !noLedger(err) {
		return storage.Flow{}, err
	}
	if o.Last {
		if len(flows) == 0 {
			return storage.Flow{}, errors.New("there is no run yet to roll back")
		}
		return flows[0], nil
	}
	flows = slices.DeleteFunc(flows, func(f storage.Flow) bool { return !strings.HasPrefix(f.ID.String(), o.Run) })
	switch {
	case len(flows) == 0:
		return storage.Flow{}, fmt.Errorf("run %q: %w", o.Run, storage.ErrNotFound)
	case len(flows) > 1:
		return storage.Flow{}, fmt.Errorf("run %q may be %s or %s: give more of its id", o.Run, flows[0].ID, flows[1].ID)
	case !flows[0].Over():
		return storage.Flow{}, fmt.Errorf("run %s is not over", flows[0].ID)
	}
	return flows[0], nil
}

// cascade adds what completed and depends on the targets, or refuses.
func (s *Sequencer) cascade(targets []storage.Effective, newest map[string]storage.Effective, allowed bool) ([]storage.Effective, error) {
	chosen := map[string]bool{}
	for _, t := range targets {
		chosen[s.present(t.Name)] = true
	}
	for grown := true; grown; {
		grown = false
		for _, reg := range s.reg.ordered() {
			row, ok := newest[reg.name]
			if !ok || chosen[reg.name] || row.State != storage.Completed {
				continue
			}
			on, err := s.dependsOnAny(reg, chosen)
			if err != nil {
				return nil, err
			}
			if on == "" {
				continue
			}
			if !allowed {
				return nil, fmt.Errorf("%s depends on %s and has completed: roll it back first, or cascade", reg.name, on)
			}
			chosen[reg.name], grown = true, true
			targets = append(targets, row)
		}
	}
	return targets, nil
}

func (s *Sequencer) dependsOnAny(reg *registration, names map[string]bool) (string, error) {
	op, err := reg.fresh()
	if err != nil {
		return "", err
	}
	deps, err := reg.dependsOn(op)
	if err != nil {
		return "", err
	}
	for _, d := range deps {
		if d.Kind == storage.Ordered && names[s.present(d.Name)] {
			return d.Name, nil
		}
	}
	return "", nil
}

// present is the name an operation has now, whatever it was called.
func (s *Sequencer) present(name string) string {
	if reg, ok := s.reg.lookup(name); ok {
		return reg.name
	}
	return name
}

// undoable drops targets without rollback where several were selected (they stay
// completed, S10.2), refuses one that was named, and refuses all of them when one
// is irreversible: what lies before it must not be undone from under it.
func (s *Sequencer) undoable(targets []storage.Effective, named bool) ([]storage.Effective, error) {
	var keep []storage.Effective
	for _, t := range targets {
		reg, ok := s.reg.lookup(t.Name)
		switch {
		case !ok:
			return nil, notFound(s.reg, t.Name)
		case reg.irreversible:
			return nil, fmt.Errorf("%s: %w; nothing was rolled back", reg.name, ErrIrreversible)
		case reg.rollbackable:
			keep = append(keep, t)
		case named:
			return nil, fmt.Errorf("%s: %w: implement Rollback(ctx) error", reg.name, ErrNotRollbackable)
		}
	}
	if len(keep) == 0 {
		return nil, fmt.Errorf("%w: nothing that was selected has one", ErrNotRollbackable)
	}
	return keep, nil
}
