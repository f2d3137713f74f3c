package guides_test

import (
	"context"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
)

// SendWebhook is retried.
type SendWebhook struct {
	sequencer.Async
	Order int `json:"order"`

	api *flaky
}

func (w *SendWebhook) Handle(ctx context.Context) error {
	return w.api.Post(ctx, "https://api.example.com/webhook", w.Order)
}

func (*SendWebhook) Tries() int { return 5 }

func (*SendWebhook) Backoff() []time.Duration {
	return []time.Duration{time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute}
}

func (*SendWebhook) RetryUntil() time.Time { return time.Now().Add(time.Hour) }

func TestRetry(t *testing.T) { // S12, Q1
	reg := sequencer.NewRegistry()
	api := &flaky{failures: 2}
	sequencer.Register(reg, "send_webhook", func() *SendWebhook { return &SendWebhook{api: api} })
	example(t, "Retry", reg, sequencer.Config{}, dispatch(&SendWebhook{Order: 7}))
}

// FixedBackoff waits the same time before each attempt: the last entry repeats.
type FixedBackoff struct{ api *flaky }

func (f *FixedBackoff) Handle(ctx context.Context) error { return f.api.Post(ctx, "", nil) }

func (*FixedBackoff) Tries() int { return 4 }

func (*FixedBackoff) Backoff() []time.Duration { return []time.Duration{30 * time.Second} }

func TestFixedBackoff(t *testing.T) { // Q1.24
	reg := sequencer.NewRegistry()
	sequencer.Register(reg, "fixed_backoff", func() *FixedBackoff { return &FixedBackoff{api: &flaky{failures: 9}} })
	example(t, "FixedBackoff", reg, sequencer.Config{}, dispatch(&FixedBackoff{}))
}

// ExponentialBackoff doubles the delay.
type ExponentialBackoff struct{ api *flaky }

func (e *ExponentialBackoff) Handle(ctx context.Context) error { return e.api.Post(ctx, "", nil) }

func (*ExponentialBackoff) Tries() int { return 6 }

func (*ExponentialBackoff) Backoff() []time.Duration {
	return []time.Duration{1 * time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second}
}

func TestExponentialBackoff(t *testing.T) { // Q1.24
	reg := sequencer.NewRegistry()
	sequencer.Register(reg, "exponential_backoff", func() *ExponentialBackoff { return &ExponentialBackoff{api: &flaky{failures: 9}} })
	example(t, "ExponentialBackoff", reg, sequencer.Config{}, dispatch(&ExponentialBackoff{}))
}
