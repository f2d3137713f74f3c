package sequencer

import (
	"context"
	"fmt"

	"github.com/gosequencer/sequencer/storage"
)

// Pause keeps workers from claiming from a queue, executions of an operation, or a
// schedule from firing, until Resume lifts it. What runs goes on; delays and
// deadlines keep running (Q10.18). What is paused need not exist yet, and what is
// paused already stays so, with the reason it had. reason goes into the audit log.
func (s *Sequencer) Pause(ctx context.Context, kind storage.PauseKind, name, reason string) error {
	return s.pause(ctx, storage.ActPause, kind, name, reason)
}

// Resume lifts a pause. What is not paused is left alone, without an error.
func (s *Sequencer) Resume(ctx context.Context, kind storage.PauseKind, name, reason string) error {
	return s.pause(ctx, storage.ActResume, kind, name, reason)
}

func (s *Sequencer) pause(ctx context.Context, action storage.Action, kind storage.PauseKind, name, reason string) error {
	p := storage.Pause{Kind: kind, Name: name}
	if err := p.Validate(); err != nil {
		return err
	}
	if err := checkIdentifier(string(kind), name); err != nil {
		return err
	}
	if _, err := s.store.Operate(ctx, storage.Order{Action: action, Pause: p, Actor: s.cfg.Actor, Reason: reason}); err != nil {
		return fmt.Errorf("%s %s: %w", action, p.Target(), err)
	}
	return nil
}

// Pauses lists what is paused, by whom and why.
func (s *Sequencer) Pauses(ctx context.Context) ([]storage.Pause, error) {
	pauses, err := s.store.Pauses(ctx)
	if err != nil && !noLedger(err) {
		return nil, fmt.Errorf("reading pauses: %w", err)
	}
	return pauses, nil
}
