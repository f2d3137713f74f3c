package sequencer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Report is what a run came to, read from the ledger when it was over.
type Report struct {
	RunID     string        `json:"run_id,omitempty"` // "" = nothing was pending
	Method    string        `json:"method"`
	State     storage.State `json:"state"` // completed, failed, interrupted; of a detached run that goes on, running
	Reason    string        `json:"reason,omitempty"`
	Elapsed   time.Duration `json:"elapsed_ns"`
	Tasks     []TaskReport  `json:"tasks"`
	Recovered []string      `json:"recovered,omitempty"` // what was taken over from dead processes first
	Queued    []string      `json:"queued,omitempty"`    // for later, see QueueScheduled
	Plan      *Plan         `json:"-"`

	over   bool // false = stopped while undoing
	atomic bool // all or nothing
}

// TaskReport is what became of one task.
type TaskReport struct {
	ID        string        `json:"id"`
	Kind      storage.Kind  `json:"kind"`
	Name      string        `json:"name"`
	Wave      int           `json:"wave,omitempty"` // as in the plan
	State     storage.State `json:"state"`
	Reason    string        `json:"reason,omitempty"`
	Allowed   bool          `json:"allowed,omitempty"` // its failure was allowed
	Attempts  int           `json:"attempts"`
	Elapsed   time.Duration `json:"elapsed_ns"`
	Error     string        `json:"error,omitempty"`
	UndoError string        `json:"rollback_error,omitempty"`
	Err       error         `json:"-"` // the Go error, if it happened in this process

	undoable bool
}

// Count is the number of tasks of one kind in one of the states.
func (r *Report) Count(kind storage.Kind, states ...storage.State) int {
	n := 0
	for _, t := range r.Tasks {
		if t.Kind == kind && slices.Contains(states, t.State) {
			n++
		}
	}
	return n
}

// Err is nil for a run that completed, else a *RunError (S10.3).
func (r *Report) Err() error {
	if r.State == storage.Completed || r.State == storage.Running && r.Count(storage.Ordered, storage.Failed) == 0 {
		return nil
	}
	e := &RunError{Run: r.RunID, Method: r.Method, State: r.State}
	for _, t := range r.Tasks {
		switch {
		case r.atomic && r.over && t.State == storage.RolledBack:
			e.RolledBack = append(e.RolledBack, t.Name)
		case r.atomic && r.over && t.State == storage.Completed && !t.undoable:
			e.Kept = append(e.Kept, t.Name)
		case t.State == storage.Failed && !t.Allowed, t.State == storage.Interrupted:
			cause := t.Err
			if cause == nil && t.Error != "" {
				cause = errors.New(t.Error)
			}
			if t.State == storage.Interrupted {
				cause = errors.Join(ErrInterrupted, cause)
			}
			e.Failures = append(e.Failures, &ExecutionError{ID: t.ID, Name: t.Name, State: t.State, Cause: withoutOutcome(cause)})
		case t.UndoError != "":
			e.Undo = append(e.Undo, fmt.Errorf("rolling back %s: %s", t.Name, t.UndoError))
		}
	}
	if r.Method == methodGraph {
		e.Waves = r.failedWaves()
	}
	if !r.over && r.State != storage.Running {
		e.Undo = append(e.Undo, errors.New("not all that it did is undone: the next run goes on with that, before anything else"))
	}
	return e
}

// failedWaves counts failures that are not allowed by wave, in order.
func (r *Report) failedWaves() []*WaveError {
	byWave := map[int]*WaveError{}
	for _, t := range r.Tasks {
		if t.State != storage.Failed || t.Allowed || t.Wave == 0 {
			continue
		}
		w := byWave[t.Wave]
		if w == nil {
			w = &WaveError{Wave: t.Wave}
			byWave[t.Wave] = w
		}
		w.Failed++
		w.Names = append(w.Names, t.Name)
	}
	return slices.SortedFunc(maps.Values(byWave), func(a, b *WaveError) int { return a.Wave - b.Wave })
}

// follows notes the plan that the run carried out.
func (r *Report) follows(p *Plan) {
	r.Plan = p
	for i := range min(len(p.Tasks), len(r.Tasks)) {
		r.Tasks[i].Wave = p.Tasks[i].Wave
	}
}

// report reads a run from the ledger.
func (s *Sequencer) report(ctx context.Context, id storage.ID, errs *errorLog) (*Report, error) {
	f, err := s.flow(ctx, id)
	if err != nil {
		return nil, err
	}
	r := &Report{
		RunID: id.String(), Method: f.Method, State: f.State, Reason: f.Reason,
		over: f.Over(), atomic: f.Policy == storage.PolicyAtomic,
	}
	if f.Over() {
		r.Elapsed = f.FinishedAt.Sub(f.CreatedAt)
	} else if !isDetached(&f) { // stopped while undoing: the next run goes on
		r.State = storage.Interrupted
	}
	rows, err := s.members(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if row.Kind == storage.Undo && f.Kind != storage.FlowRollback || row.Kind == storage.Nested {
			continue
		}
		t := TaskReport{
			ID: row.ID.String(), Kind: row.Kind, Name: row.Name, State: row.State, Reason: row.Reason, Allowed: row.AllowedToFail,
			Attempts: row.Attempts(), Error: row.LastError, UndoError: row.UndoError, Err: errs.get(row.ID),
			undoable: row.Undoable,
		}
		if !row.StartedAt.IsZero() && !row.FinishedAt.IsZero() {
			t.Elapsed = row.FinishedAt.Sub(row.StartedAt)
		}
		r.Tasks = append(r.Tasks, t)
	}
	return r, nil
}

// members lists all executions of a flow by position.
func (s *Sequencer) members(ctx context.Context, flow storage.ID) ([]storage.Execution, error) {
	const page = 10_000
	var all []storage.Execution
	f := storage.Filter{FlowID: flow, Oldest: true, Limit: page}
	for {
		rows, err := s.store.Executions(ctx, f)
		if err != nil {
			return nil, err
		}
		all = append(all, rows...)
		if len(rows) < page {
			break
		}
		last := rows[len(rows)-1]
		f.After = &storage.Cursor{At: last.CreatedAt, ID: last.ID}
	}
	slices.SortStableFunc(all, func(a, b storage.Execution) int { return a.Position - b.Position })
	return all, nil
}
