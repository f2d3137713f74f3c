package sequencer

import (
	"context"
	"errors"
	"fmt"
)

// Guard decides whether this process may execute or roll back anything at all,
// as opposed to a condition, which decides about one operation. Package guard has
// the ready-made ones: host name, address, environment, time window, function.
type Guard interface {
	// Name identifies the guard in errors and previews.
	Name() string
	// Allow reports whether work may go on, and if not, why. An error blocks too.
	Allow(ctx context.Context) (ok bool, reason string, err error)
}

// GuardError says which guard blocked and why. It matches ErrGuard.
type GuardError struct {
	Guard  string
	Reason string
	Err    error // what the guard returned, if anything
}

func (e *GuardError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("guard %s could not decide, so it blocks: %v", e.Guard, e.Err)
	}
	return fmt.Sprintf("guard %s blocks: %s", e.Guard, e.Reason)
}

// Is makes errors.Is(err, ErrGuard) true.
func (e *GuardError) Is(target error) bool { return target == ErrGuard }

// Unwrap gives the guard's own error.
func (e *GuardError) Unwrap() error { return e.Err }

// CheckGuards asks every configured guard in order and returns the first that
// blocks as a *GuardError, nil when all allow (S27.1, S27.2).
func (s *Sequencer) CheckGuards(ctx context.Context) error {
	for _, g := range s.cfg.Guards {
		ok, reason, err := askGuard(ctx, g)
		if err != nil || !ok {
			return &GuardError{Guard: g.Name(), Reason: reason, Err: err}
		}
	}
	return nil
}

// askGuard keeps a panicking guard from taking the process down: it blocks.
func askGuard(ctx context.Context, g Guard) (ok bool, reason string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.Join(err, fmt.Errorf("panic: %v", p))
		}
	}()
	return g.Allow(ctx)
}
