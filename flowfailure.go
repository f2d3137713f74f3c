package sequencer

import (
	"context"

	"github.com/gosequencer/sequencer/storage"
)

// Failure is what a member of a flow failed with, as the ledger keeps it: text, not a
// Go error, since it crossed a store. Of an [Encrypted] operation the message is
// withheld.
type Failure struct {
	ID      string // of the execution
	Name    string // of its operation
	Attempt int    // the last one
	Message string
}

// FailureOf is the failure that a Catch callback is called for, also in the members of
// one that is a batch or chain. False in anything else, and outside an attempt. Where
// what failed is a batch or chain inside, it is what failed in that.
func FailureOf(ctx context.Context) (Failure, bool) {
	a := Current(ctx)
	if a.seq == nil {
		return Failure{}, false
	}
	f, ok, err := a.failureOf(ctx)
	if err != nil {
		a.seq.cfg.Logger.WarnContext(ctx, "reading the failure that is to be caught", keyOperation, a.Name, keyExecution, a.ID, keyError, err)
	}
	return f, ok
}

func (a *Attempt) failureOf(ctx context.Context) (Failure, bool, error) {
	place, err := a.place(ctx)
	if err != nil || place == nil {
		return Failure{}, false, err
	}
	callback := place.catches(a.exec)
	if callback == nil || callback.Undoes.IsZero() {
		return Failure{}, false, nil
	}
	row, err := a.seq.row(ctx, callback.Undoes)
	if err != nil {
		return Failure{}, false, err
	}
	if row.Kind == storage.Nested {
		if row, err = a.seq.failedIn(ctx, row); err != nil {
			return Failure{}, false, err
		}
	}
	f := Failure{ID: row.ID.String(), Name: row.Name, Attempt: row.Attempts(), Message: firstOf(row.LastError, row.Reason)}
	attempts, err := a.seq.store.Attempts(ctx, row.ID)
	if err == nil && len(attempts) > 0 { // the whole message, where errors are kept
		last := attempts[len(attempts)-1]
		f.Attempt, f.Message = last.Number, last.Message
	}
	return f, true, err
}

// failedIn goes from the row of a nested flow to what failed in it.
func (s *Sequencer) failedIn(ctx context.Context, row storage.Execution) (storage.Execution, error) {
	outer, err := s.flow(ctx, row.FlowID)
	if err != nil {
		return row, err
	}
	nest, err := s.nest(ctx, outer.RootID)
	if err != nil {
		return row, err
	}
	for {
		inner := nest[row.ID]
		if inner == nil || inner.FailedID.IsZero() {
			return row, nil
		}
		if row, err = s.row(ctx, inner.FailedID); err != nil {
			return row, err
		}
	}
}
