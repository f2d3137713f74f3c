package middleware

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gosequencer/sequencer"
)

// Throttle keeps attempts away from what fails again and again. See
// [ThrottleErrors].
type Throttle struct {
	errors  int
	window  time.Duration
	backoff *time.Duration
	by      string
	when    func(error) bool
}

// ThrottleErrors is a circuit breaker: once so many attempts have failed within the
// window, no attempt of this operation begins until the window ends. An error stays an
// ordinary one, counted and retried by the operation's own rules (Q3.34); a success
// forgets those before it.
func ThrottleErrors(most int, window time.Duration) Throttle {
	return Throttle{errors: most, window: window}
}

// Backoff is the delay after an error, in place of the operation's own.
func (m Throttle) Backoff(d time.Duration) Throttle {
	m.backoff = &d
	return m
}

// By counts under this key instead of the operation's name: operations that use the
// same one share the circuit.
func (m Throttle) By(key any) Throttle {
	m.by = fmt.Sprint(key)
	return m
}

// When decides which errors count; the others pass by.
func (m Throttle) When(matches func(error) bool) Throttle {
	m.when = matches
	return m
}

// Check implements [sequencer.Checker].
func (m Throttle) Check(sequencer.Config) error {
	switch {
	case m.errors < 1:
		return fmt.Errorf("ThrottleErrors(%d, %s): want at least one error", m.errors, m.window)
	case m.window <= 0:
		return fmt.Errorf("ThrottleErrors(%d, %s): want a window longer than 0", m.errors, m.window)
	case m.backoff != nil && *m.backoff < 0:
		return fmt.Errorf("ThrottleErrors(%d, %s).Backoff(%s): want 0 or more", m.errors, m.window, *m.backoff)
	}
	return nil
}

// Wrap implements [sequencer.Middleware].
func (m Throttle) Wrap(next sequencer.Handler) sequencer.Handler {
	return func(ctx context.Context, a *sequencer.Attempt) error {
		key := m.by
		if key == "" {
			key = "op:" + a.Name
		}
		circuit := a.Bucket("throttle:"+key, sequencer.Limit{N: m.errors, Per: m.window})
		before, err := circuit.Look(ctx)
		if err != nil {
			return fmt.Errorf("throttle %s: %w", key, err)
		}
		if before.Wait > 0 {
			return sequencer.Deferral(afterWindow(before.Wait), fmt.Sprintf("circuit %s is open after %d errors", key, m.errors))
		}
		err = next(ctx, a)
		switch {
		case err == nil:
			if a.Started() && before.Used[0] > 0 { // inner middleware may have turned it away
				m.note(ctx, circuit.Reset(ctx))
			}
			return nil
		case !sequencer.IsFailure(err) || m.when != nil && !m.when(err) || stopped(ctx):
			return err
		}
		_, taken := circuit.Take(context.WithoutCancel(ctx)) // a timeout has ended ctx, and is an error too
		m.note(ctx, taken)
		if m.backoff != nil {
			return sequencer.RetryAfter(err, *m.backoff)
		}
		return err
	}
}

// stopped reports that the attempt was made to end: what it says of that tells nothing
// about whom it called.
func stopped(ctx context.Context) bool {
	cause := context.Cause(ctx)
	return errors.Is(cause, sequencer.ErrShutdown) || errors.Is(cause, sequencer.ErrCancelled) || errors.Is(cause, sequencer.ErrLeaseLost)
}

// keyError is the attribute of log lines; the attempt's logger adds the others.
const keyError = "error"

// note logs what the circuit could not count: the attempt's own outcome is worth
// more.
func (m Throttle) note(ctx context.Context, err error) {
	if err != nil {
		sequencer.Log(ctx).WarnContext(ctx, "circuit was not updated", keyError, err)
	}
}
