package middleware

import (
	"context"

	"github.com/gosequencer/sequencer"
)

// Unwanted keeps members of a stopped batch from running. See [SkipIfBatchCancelled].
type Unwanted struct{}

// SkipIfBatchCancelled ends a member as cancelled, without calling it, when its batch
// was cancelled or failed meanwhile (Q3.39). Members that were waiting then are
// cancelled by the store in any case; this is about those that a worker had already
// taken, or that a person takes back one by one. A run that a batch orchestrator arranged
// is such a batch. Outside of one it does nothing.
func SkipIfBatchCancelled() Unwanted { return Unwanted{} }

// Wrap implements [sequencer.Middleware].
func (Unwanted) Wrap(next sequencer.Handler) sequencer.Handler {
	return func(ctx context.Context, a *sequencer.Attempt) error {
		if b := sequencer.CurrentBatch(ctx); b.Cancelled() {
			return sequencer.Cancel("its batch was stopped")
		}
		return next(ctx, a)
	}
}
