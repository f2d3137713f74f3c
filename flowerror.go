package sequencer

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/gosequencer/sequencer/storage"
)

// maxFailures is how many failed members a FlowError lists.
const maxFailures = 100

// FlowError is the end of a batch or chain that did not go well. It matches
// ErrCancelled or ErrInterrupted where that is how it ended, and unwraps to what
// failed in it. The causes are text from the ledger: they happened elsewhere.
type FlowError struct {
	Flow     FlowStatus
	Failures []*ExecutionError // members that failed or were interrupted, nested ones too; the first 100
	Undo     []error           // what could not be rolled back
}

func (e *FlowError) Error() string {
	name := string(e.Flow.Kind)
	if e.Flow.Name != "" {
		name = fmt.Sprintf("%s %q", e.Flow.Kind, e.Flow.Name)
	}
	text := fmt.Sprintf("%s is %s", name, e.Flow.State)
	if e.Flow.Reason != "" && len(e.Failures) == 0 {
		text += " (" + e.Flow.Reason + ")"
	}
	const shown = 3
	var parts []string
	for i, f := range e.Failures {
		if i == shown {
			parts = append(parts, fmt.Sprintf("and %d more", len(e.Failures)-shown))
			break
		}
		parts = append(parts, f.Error())
	}
	for _, u := range e.Undo {
		parts = append(parts, u.Error())
	}
	if len(parts) > 0 {
		text += ": " + strings.Join(parts, "; ")
	}
	return text
}

// Is makes errors.Is true for the sentinel of the flow's state.
func (e *FlowError) Is(target error) bool {
	switch e.Flow.State {
	case storage.Cancelled:
		return target == ErrCancelled
	case storage.Interrupted:
		return target == ErrInterrupted
	default:
		return false
	}
}

// Unwrap gives all failures.
func (e *FlowError) Unwrap() []error {
	all := make([]error, 0, len(e.Failures)+len(e.Undo))
	for _, f := range e.Failures {
		all = append(all, f)
	}
	return append(all, e.Undo...)
}

// flowError is nil for a flow that completed.
func (s *Sequencer) flowError(ctx context.Context, f *storage.Flow) error {
	if f.State == storage.Completed {
		return nil
	}
	e := &FlowError{Flow: statusOf(f)}
	if f.Failed+f.Interrupted+f.UndoFailed == 0 {
		return e
	}
	nest, err := s.nest(ctx, f.RootID)
	if err == nil {
		err = s.failures(ctx, f.ID, nest, e)
	}
	if err != nil {
		return errors.Join(e, fmt.Errorf("reading what failed in it: %w", err))
	}
	return e
}

// failures collects what failed in a flow and in those nested in it.
func (s *Sequencer) failures(ctx context.Context, flow storage.ID, nest map[storage.ID]*storage.Flow, e *FlowError) error {
	rows, err := s.store.Executions(ctx, storage.Filter{
		FlowID: flow, States: []storage.State{storage.Failed, storage.Interrupted}, Oldest: true, Limit: maxFailures,
	})
	if err != nil {
		return err
	}
	for i := range rows {
		row := &rows[i]
		inner := nest[row.ID]
		switch {
		case len(e.Failures) >= maxFailures:
			return nil
		case row.Kind == storage.KindCallback:
		case row.Kind == storage.Undo:
			e.Undo = append(e.Undo, fmt.Errorf("rolling back %s: %s", row.Name, row.LastError))
		case inner != nil:
			if err := s.failures(ctx, inner.ID, nest, e); err != nil {
				return err
			}
		case row.State == storage.Failed && row.AllowedToFail:
		default:
			e.Failures = append(e.Failures, failureOfRow(row))
		}
	}
	return nil
}

func failureOfRow(row *storage.Execution) *ExecutionError {
	var cause error
	if row.LastError != "" {
		cause = errors.New(row.LastError)
	}
	if row.State == storage.Interrupted {
		cause = errors.Join(ErrInterrupted, cause)
	}
	return &ExecutionError{ID: row.ID.String(), Name: row.Name, State: row.State, Cause: cause}
}

// nest is the flows of a nest by the execution that stands for each.
func (s *Sequencer) nest(ctx context.Context, root storage.ID) (map[storage.ID]*storage.Flow, error) {
	const most = 10_000
	flows, err := s.store.Flows(ctx, storage.FlowFilter{Root: root, Limit: most})
	if err != nil {
		return nil, err
	}
	nest := make(map[storage.ID]*storage.Flow, len(flows))
	for i := range flows {
		if !flows[i].ParentID.IsZero() {
			nest[flows[i].ParentID] = &flows[i]
		}
	}
	return nest, nil
}
