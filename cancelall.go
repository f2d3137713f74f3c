package sequencer

import (
	"context"
	"fmt"

	"github.com/gosequencer/sequencer/storage"
)

// Unfinished lists executions that are not over and that sel selects, those dispatched
// last first: what CancelAll concerns. Limit bounds how much is read.
func (s *Sequencer) Unfinished(ctx context.Context, sel Selection) ([]storage.Execution, error) {
	if err := sel.possible(); err != nil {
		return nil, err
	}
	all := []storage.Execution{}
	err := s.each(ctx, sel, notOver, func(rows []storage.Execution) error {
		all = append(all, rows...)
		return nil
	})
	return all, err
}

// CancelAll withdraws what is not over and what sel selects, a page in one transaction
// and with one audit entry: what waits will not start, what runs is asked to stop.
// What ended meanwhile is left out, and counted; on an error the pages before it are
// done.
func (s *Sequencer) CancelAll(ctx context.Context, sel Selection, reason string) (Selected, error) {
	var r Selected
	if err := sel.deliberate(); err != nil {
		return r, err
	}
	what := sel.text("unfinished")
	o := storage.Order{Action: storage.ActCancel, Actor: s.cfg.Actor, Reason: reason, Target: what}
	err := s.each(ctx, sel, notOver, func(rows []storage.Execution) error {
		done, err := s.order(ctx, o, rows, &r)
		if err != nil {
			return fmt.Errorf("cancelling what is %s: %w", what, err)
		}
		s.freeAllElsewhere(ctx, done)
		return nil
	})
	return r, err
}
