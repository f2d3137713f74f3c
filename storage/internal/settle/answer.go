package settle

import (
	"context"
	"fmt"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Answer ends approvals as an order says, which found are, see [storage.Order].
func Answer(ctx context.Context, rows Rows, now time.Time, o storage.Order, found []storage.Execution) error {
	to := storage.Completed
	if o.Action == storage.ActReject {
		to = storage.Failed
	}
	for i := range found {
		switch e := &found[i]; {
		case e.Kind != storage.KindApproval:
			return fmt.Errorf("%s (%s) is no approval: it cannot be answered", e.Name, e.ID)
		case e.State != storage.Pending:
			return &storage.TransitionError{ID: e.ID, Name: e.Name, From: e.State, To: to}
		}
	}
	endings := make([]Ending, 0, len(found))
	for i := range found {
		e, _, err := rows.EndNested(ctx, now, Nested{ID: found[i].ID, State: to, Reason: o.Answer()})
		if err != nil {
			return err
		}
		if e.ID.IsZero() { // somebody else was first, after it was read
			return answered(ctx, rows, &found[i], to)
		}
		endings = append(endings, e)
	}
	_, err := Endings(ctx, rows, now, endings)
	return err
}

// answered refuses an answer to an approval that has got another one meanwhile.
func answered(ctx context.Context, rows Rows, e *storage.Execution, to storage.State) error {
	now, err := rows.Find(ctx, []storage.ID{e.ID})
	switch {
	case err != nil:
		return err
	case len(now) == 0:
		return fmt.Errorf("execution %s: %w", e.ID, storage.ErrNotFound)
	default:
		return &storage.TransitionError{ID: e.ID, Name: e.Name, From: now[0].State, To: to}
	}
}
