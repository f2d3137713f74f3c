package sequencer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// RehearseOptions says what is rehearsed, and by what it is judged.
type RehearseOptions struct {
	RunOptions
	// Fingerprint tells for each table, or whatever else operations change, what it is
	// like; two that are equal are the same. Nil = nothing is compared.
	Fingerprint func(ctx context.Context) (map[string]string, error)
}

// Rehearsal is what a rehearsal came to.
type Rehearsal struct {
	Steps []RehearsalStep `json:"steps"`
	// NotRehearsed lists what is pending and was left out.
	NotRehearsed []NotRehearsed `json:"not_rehearsed,omitempty"`
	Compared     bool           `json:"compared"` // there was a fingerprint
}

// RehearsalStep is what became of one task.
type RehearsalStep struct {
	Kind          storage.Kind  `json:"kind"`
	Name          string        `json:"name"`
	State         storage.State `json:"state"` // of the way forward
	Elapsed       time.Duration `json:"elapsed_ns"`
	Error         string        `json:"error,omitempty"`
	Back          bool          `json:"back,omitempty"` // it was rolled back, and run again
	RollbackError string        `json:"rollback_error,omitempty"`
	AgainError    string        `json:"again_error,omitempty"` // it could not be run again
	Left          []string      `json:"left,omitempty"`        // what was not as before once it was rolled back
}

// NotRehearsed is a task that was left out, and why.
type NotRehearsed struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// ErrRehearsal is what a rehearsal that found something wrong is.
var ErrRehearsal = errors.New("the rehearsal found something wrong")

// Err is nil if all that was rehearsed went forward, came back to its start, and could
// be run again; else an error that is ErrRehearsal.
func (r *Rehearsal) Err() error {
	var wrong []error
	note := func(step *RehearsalStep, what, problem string) {
		if problem != "" {
			wrong = append(wrong, fmt.Errorf("%w: %s %s: %s", ErrRehearsal, step.Name, what, problem))
		}
	}
	for i := range r.Steps {
		step := &r.Steps[i]
		note(step, "failed", step.Error)
		note(step, "could not be rolled back", step.RollbackError)
		note(step, "could not be run again after it was rolled back", step.AgainError)
		if len(step.Left) > 0 {
			note(step, "was rolled back and left differences in", strings.Join(step.Left, ", "))
		}
	}
	return errors.Join(wrong...)
}

// Rehearse runs what is pending, one task after the other: each operation forward, back,
// and forward again, to see whether its rollback returns to where it began. It must be
// called on a copy of the database that nobody needs, because it does not clean up:
// nothing here can tell one from the original.
//
// Migrations are applied, never rolled back. Of the operations only those run that are
// safe to: marked [Rehearsable], or [TxRequire] without hooks, whose effects are all in
// the copy; the others, and what depends on them, are listed. The first that fails ends
// the rehearsal, as it would end a run. The error is about the rehearsal; what it found
// wrong is in the answer, see [Rehearsal.Err].
func (s *Sequencer) Rehearse(ctx context.Context, o RehearseOptions) (*Rehearsal, error) {
	if _, err := s.store.Setup(ctx); err != nil {
		return nil, fmt.Errorf("setting the ledger up: %w", err)
	}
	o.Sync, o.Async, o.Orchestrator, o.Check = true, false, Sequential(), nil
	o.unasked = true // what happens to a copy concerns nobody
	r := &Rehearsal{Compared: o.Fingerprint != nil}
	seen := map[string]bool{} // true = it was rehearsed
	for {
		plan, err := s.plan(ctx, o.RunOptions)
		if err != nil {
			return nil, err
		}
		next := s.nextRehearsal(plan, seen, r)
		if next == nil {
			return r, nil
		}
		step, err := s.rehearseOne(ctx, *next, o)
		if err != nil {
			return nil, err
		}
		r.Steps = append(r.Steps, step)
		if step.Error+step.RollbackError+step.AgainError != "" {
			return r, nil
		}
	}
}

// nextRehearsal is the first task that was not looked at yet and may be rehearsed.
func (s *Sequencer) nextRehearsal(plan *Plan, seen map[string]bool, r *Rehearsal) *Task {
	for i := range plan.Tasks {
		t := &plan.Tasks[i]
		key := string(t.Kind) + " " + t.Name
		if _, looked := seen[key]; looked {
			continue
		}
		why := s.unrehearsable(plan, t)
		if seen[key] = why == ""; seen[key] {
			return t
		}
		r.NotRehearsed = append(r.NotRehearsed, NotRehearsed{t.Name, why})
	}
	return nil
}

// unrehearsable says why a task cannot be rehearsed, "" if it can.
func (s *Sequencer) unrehearsable(plan *Plan, t *Task) string {
	if len(t.needs) > 0 { // what was rehearsed is done
		return "it needs " + plan.Tasks[t.needs[0]].Name + ", which was not rehearsed"
	}
	if t.Kind == storage.Migration {
		return ""
	}
	reg, ok := s.reg.lookup(t.Name)
	switch {
	case !ok || reg.rehearsable:
		return ""
	case reg.txRequire && (reg.has(abilityBefore) || reg.has(abilityAfter) || reg.has(abilityFailed)):
		return "its hooks are outside the transaction: mark it rehearsable if they may run"
	case reg.txRequire:
		return ""
	}
	return "nothing says that it is safe: mark it rehearsable, or TxRequire if all it does is in the ledger's transaction"
}

// rehearseOne takes one task forward, back and forward again.
func (s *Sequencer) rehearseOne(ctx context.Context, t Task, o RehearseOptions) (RehearsalStep, error) {
	step := RehearsalStep{Kind: t.Kind, Name: t.Name}
	o.narrow = func(p *Plan) {
		p.Tasks = slices.DeleteFunc(p.Tasks, func(other Task) bool { return other.Kind != t.Kind || other.Name != t.Name })
		for i := range p.Tasks {
			p.Tasks[i].needs = nil
		}
	}
	before, err := o.fingerprint(ctx)
	if err != nil {
		return step, err
	}
	report, err := s.Process(ctx, o.RunOptions)
	if problem, ours := problemOf(err); !ours {
		return step, err
	} else if step.Error = problem; report != nil && len(report.Tasks) == 1 {
		step.State, step.Elapsed = report.Tasks[0].State, report.Tasks[0].Elapsed
	}
	if step.State != storage.Completed || t.Kind == storage.Migration || !t.Undoable {
		return step, nil
	}
	step.Back = true
	_, err = s.Rollback(ctx, t.Name, RollbackOptions{})
	if problem, ours := problemOf(err); !ours {
		return step, err
	} else if step.RollbackError = problem; problem != "" {
		return step, nil
	}
	after, err := o.fingerprint(ctx)
	if err != nil {
		return step, err
	}
	step.Left = differing(before, after)
	_, err = s.Process(ctx, o.RunOptions)
	problem, ours := problemOf(err)
	if !ours {
		return step, err
	}
	step.AgainError = problem
	return step, nil
}

func (o *RehearseOptions) fingerprint(ctx context.Context) (map[string]string, error) {
	if o.Fingerprint == nil {
		return nil, nil //nolint:nilnil // nothing is compared
	}
	found, err := o.Fingerprint(ctx)
	if err != nil {
		err = fmt.Errorf("comparing the database: %w", err)
	}
	return found, err
}

// problemOf is what a run found wrong with the work; ours is false for an error of
// another kind.
func problemOf(err error) (problem string, ours bool) {
	if err == nil {
		return "", true
	}
	run, ours := errors.AsType[*RunError](err)
	if !ours || run.State == storage.Interrupted {
		return "", false
	}
	return errors.Join(run.Unwrap()...).Error(), true
}

// differing lists what two fingerprints disagree about.
func differing(before, after map[string]string) []string {
	names := map[string]bool{}
	for name := range before {
		names[name] = true
	}
	for name := range after {
		names[name] = true
	}
	maps.DeleteFunc(names, func(name string, _ bool) bool {
		was, had := before[name]
		is, has := after[name]
		return had == has && was == is
	})
	return slices.Sorted(maps.Keys(names))
}
