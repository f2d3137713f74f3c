package sequencer_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// once puts the first delivery off for a minute.
func once() sequencer.Middleware {
	first := true
	return sequencer.MiddlewareFunc(func(next sequencer.Handler) sequencer.Handler {
		return func(ctx context.Context, a *sequencer.Attempt) error {
			if first {
				first = false
				return sequencer.Deferral(time.Minute, "it is too early")
			}
			return next(ctx, a)
		}
	})
}

func TestQ3_5_ASynchronousCallWaitsForItsTurnUnlessItMustNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.op("early", nil, sequencer.Use(once()))
		l.op("releases", func(context.Context) error { return sequencer.Release(time.Hour) }, sequencer.Tries(3))
		l.op("fails", func(ctx context.Context) error {
			if sequencer.Current(ctx).Number == 1 {
				return errBoom
			}
			return nil
		}, sequencer.Tries(2), sequencer.Backoff(time.Minute))
		l.op("inner", nil)
		l.open()
		began := time.Now()
		for name, after := range map[string]time.Duration{"early": time.Minute, "releases": time.Hour} {
			err := l.ExecuteSync(t.Context(), op(name), sequencer.NoWait())
			put, ok := errors.AsType[*sequencer.DeferredError](err)
			if !ok || put.Name != name || put.After != after || time.Since(began) > 0 {
				t.Errorf("%s: %v after %s, want a *DeferredError of %s at once", name, err, time.Since(began), after)
			}
			rows, rowsErr := l.store.Executions(t.Context(), storage.Filter{Name: name})
			if rowsErr != nil || len(rows) != 1 || rows[0].State != storage.Cancelled || !strings.Contains(rows[0].Reason, "put off") {
				t.Errorf("the ledger holds %+v, %v: nothing may be left to run", rows, rowsErr)
			}
			if sequencer.IsFailure(err) != true {
				t.Error("for whoever called it is no failure")
			}
		}
		if err := l.ExecuteSync(t.Context(), op("early")); err != nil || time.Since(began) > 0 {
			t.Errorf("control: in its turn it is %v", err)
		}
		if err := l.ExecuteSync(t.Context(), op("fails"), sequencer.NoWait()); err != nil || time.Since(began) != time.Minute {
			t.Errorf("%v after %s: a retry is waited for", err, time.Since(began))
		}
		if _, err := l.Dispatch(t.Context(), op("inner"), sequencer.NoWait()); err == nil || !strings.Contains(err.Error(), "NoWait is for ExecuteSync") {
			t.Errorf("a dispatch with it is %v", err)
		}
	})
}

func TestS13_8_WithoutNoWaitTheCallerWaitsAsLongAsItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.op("early", nil, sequencer.Use(once()))
		l.open()
		began := time.Now()
		if err := l.ExecuteSync(t.Context(), op("early")); err != nil || time.Since(began) != time.Minute {
			t.Errorf("%v after %s, want success after a minute", err, time.Since(began))
		}
	})
}
