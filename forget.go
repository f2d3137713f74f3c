package sequencer

import (
	"context"
	"fmt"

	"github.com/gosequencer/sequencer/storage"
)

// Forget deletes an execution that is over, with its attempts and tags. It is named
// by id, or by operation: its newest execution that failed. What runs know an ordered operation by is kept, and so is a member of a
// flow that is not over; flows keep their counts (Q10.24). reason goes into the
// audit log.
func (s *Sequencer) Forget(ctx context.Context, nameOrID, reason string) error {
	row, err := s.failedOne(ctx, nameOrID)
	if err != nil {
		return err
	}
	if row.State != storage.Failed && row.State != storage.Interrupted && row.Name == s.present(nameOrID) {
		return fmt.Errorf("%s has not failed: to forget an execution that ended otherwise, give its id", nameOrID)
	}
	if _, err := s.store.Operate(ctx, storage.Order{
		Action: storage.ActForget, IDs: []storage.ID{row.ID}, Actor: s.cfg.Actor, Reason: reason,
	}); err != nil {
		return fmt.Errorf("forgetting %s: %w", row.Name, err)
	}
	return nil
}

// ForgetAll deletes what sel selects, a page in one transaction and with one audit
// entry. What is kept is left out, and counted by reason; on an error the pages
// before it are done.
func (s *Sequencer) ForgetAll(ctx context.Context, sel Selection, reason string) (Selected, error) {
	var r Selected
	if err := sel.deliberate(); err != nil {
		return r, err
	}
	o := storage.Order{Action: storage.ActForget, Actor: s.cfg.Actor, Reason: reason, Target: sel.String()}
	err := s.each(ctx, sel, haveFailed, func(rows []storage.Execution) error {
		page, err := s.forgettable(ctx, rows, &r)
		if err != nil {
			return err
		}
		if _, err = s.order(ctx, o, page, &r); err != nil {
			return fmt.Errorf("forgetting what %s: %w", sel, err)
		}
		return nil
	})
	return r, err
}

// forgettable leaves out what a store would refuse to delete.
func (s *Sequencer) forgettable(ctx context.Context, rows []storage.Execution, r *Selected) ([]storage.Execution, error) {
	open, err := s.flowsOpen(ctx, rows)
	if err != nil {
		return nil, err
	}
	page := make([]storage.Execution, 0, len(rows))
	for _, row := range rows {
		switch {
		case row.Kind == storage.Ordered:
			r.leave("runs know an ordered operation by it")
		case open[row.FlowID]:
			r.leave("its flow is not over")
		default:
			page = append(page, row)
		}
	}
	return page, nil
}
