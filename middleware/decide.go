package middleware

import (
	"context"
	"errors"
	"time"

	"github.com/gosequencer/sequencer"
)

// SkipWhen ends the execution as skipped, with the reason, when the condition holds
// as the attempt is about to begin (Q3.37).
func SkipWhen(reason string, condition func(ctx context.Context, a *sequencer.Attempt) bool) sequencer.Middleware {
	return before(condition, func() error { return sequencer.Skip(reason) })
}

// ReleaseWhen lets the execution wait, at no cost to it, while the condition holds
// (Q3.38).
func ReleaseWhen(after time.Duration, reason string, condition func(ctx context.Context, a *sequencer.Attempt) bool) sequencer.Middleware {
	return before(condition, func() error { return sequencer.Deferral(after, reason) })
}

func before(condition func(ctx context.Context, a *sequencer.Attempt) bool, verdict func() error) sequencer.Middleware {
	return sequencer.MiddlewareFunc(func(next sequencer.Handler) sequencer.Handler {
		return func(ctx context.Context, a *sequencer.Attempt) error {
			if condition(ctx, a) {
				return verdict()
			}
			return next(ctx, a)
		}
	})
}

// FailOn ends the execution as failed, whatever tries are left, when its attempt
// ends with one of these errors, as errors.Is has it (Q3.40).
func FailOn(targets ...error) sequencer.Middleware {
	return FailOnMatch(func(err error) bool {
		for _, target := range targets {
			if errors.Is(err, target) {
				return true
			}
		}
		return false
	})
}

// FailOnMatch is FailOn for whatever a function recognises.
func FailOnMatch(matches func(error) bool) sequencer.Middleware {
	return sequencer.MiddlewareFunc(func(next sequencer.Handler) sequencer.Handler {
		return func(ctx context.Context, a *sequencer.Attempt) error {
			err := next(ctx, a)
			if sequencer.IsFailure(err) && matches(err) {
				return sequencer.Fail(err)
			}
			return err
		}
	})
}
