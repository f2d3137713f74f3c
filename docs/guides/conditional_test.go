package guides_test

import (
	"context"
	"testing"

	"github.com/gosequencer/sequencer"
)

// ProcessPremiumFeatures is queued when it is executed, because it is Async.
type ProcessPremiumFeatures struct{ sequencer.Async }

func (*ProcessPremiumFeatures) Handle(context.Context) error { return nil }

// ProcessDailyReport runs where it is executed.
type ProcessDailyReport struct{}

func (*ProcessDailyReport) Handle(context.Context) error { return nil }

type customer struct{ premium, processedToday bool }

func executeIf(ctx context.Context, seq *sequencer.Sequencer, user customer) error {
	if err := seq.ExecuteIf(ctx, user.premium, &ProcessPremiumFeatures{}); err != nil {
		return err
	}
	return seq.ExecuteUnless(ctx, user.processedToday, &ProcessDailyReport{})
}

func conditional() *sequencer.Registry {
	reg := sequencer.NewRegistry()
	sequencer.Register(reg, "process_premium_features", sequencer.Make[ProcessPremiumFeatures])
	sequencer.Register(reg, "process_daily_report", sequencer.Make[ProcessDailyReport])
	return reg
}

func TestExecuteIf(t *testing.T) { // S31
	example(t, "ExecuteIf", conditional(), sequencer.Config{}, func(ctx context.Context, seq *sequencer.Sequencer, out *page) error {
		err := executeIf(ctx, seq, customer{premium: true})
		out.say("executeIf has returned")
		return err
	})
}

func executeSync(ctx context.Context, seq *sequencer.Sequencer) error {
	return seq.ExecuteSync(ctx, &ProcessPremiumFeatures{}) // here and now, although it is Async
}

func TestExecuteSync(t *testing.T) { // S31.3
	example(t, "ExecuteSync", conditional(), sequencer.Config{}, func(ctx context.Context, seq *sequencer.Sequencer, out *page) error {
		err := executeSync(ctx, seq)
		out.say("executeSync has returned")
		return err
	})
}
