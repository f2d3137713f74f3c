package guides_test

import (
	"context"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
)

// ProcessRefund waits for a person if it is large.
type ProcessRefund struct {
	sequencer.Async
	Order  int `json:"order"`
	Amount int `json:"amount"`
}

func (*ProcessRefund) Handle(context.Context) error { return nil }

// ApprovedBy names who is asked, "" for nobody.
func (r *ProcessRefund) ApprovedBy() string {
	if r.Amount <= 100 {
		return ""
	}
	return "finance"
}

func answerLater(ctx context.Context, seq *sequencer.Sequencer, large, larger string) error {
	time.Sleep(2*time.Hour + 5*time.Second) // sleep: people take their time
	if _, err := seq.Approve(ctx, large, "agreed with the customer"); err != nil {
		return err
	}
	_, err := seq.Reject(ctx, larger, "it was delivered")
	return err
}

func TestApproval(t *testing.T) { // A1, A2
	reg := sequencer.NewRegistry()
	sequencer.Register(reg, "process_refund", sequencer.Make[ProcessRefund])
	example(t, "Approval", reg, sequencer.Config{Actor: "dana@office"}, func(ctx context.Context, seq *sequencer.Sequencer, _ *page) error {
		refunds, err := seq.DispatchAll(ctx, &ProcessRefund{Order: 1, Amount: 20}, &ProcessRefund{Order: 2, Amount: 500}, &ProcessRefund{Order: 3, Amount: 900})
		go func() {
			if err := answerLater(ctx, seq, refunds[1].ID, refunds[2].ID); err != nil {
				t.Error(err)
			}
		}()
		return err
	})
}
