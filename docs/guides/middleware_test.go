package guides_test

import (
	"context"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/middleware"
)

// ProcessWebhook shares the limit "api-calls" with everything that names it.
type ProcessWebhook struct {
	sequencer.Async
	Number int `json:"number"`
}

func (*ProcessWebhook) Handle(context.Context) error { return nil }

func (*ProcessWebhook) Middleware() []sequencer.Middleware {
	return []sequencer.Middleware{middleware.RateLimited("api-calls")}
}

func limiters() map[string]sequencer.Limiter {
	return map[string]sequencer.Limiter{"api-calls": sequencer.PerMinute(2)}
}

func TestRateLimit(t *testing.T) { // S13, Q3.7
	reg := sequencer.NewRegistry()
	sequencer.Register(reg, "process_webhook", sequencer.Make[ProcessWebhook])
	example(t, "RateLimit", reg, sequencer.Config{Limiters: limiters()}, dispatch(&ProcessWebhook{Number: 1}, &ProcessWebhook{Number: 2}, &ProcessWebhook{Number: 3}))
}

// UpdateBalance never runs twice at a time for one user.
type UpdateBalance struct {
	sequencer.Async
	User int64 `json:"user"`
}

func (*UpdateBalance) Handle(ctx context.Context) error { return work(ctx, 90*time.Second) }

func (u *UpdateBalance) Middleware() []sequencer.Middleware {
	return []sequencer.Middleware{
		middleware.WithoutOverlapping(u.User).
			ReleaseAfter(time.Minute).
			ExpireAfter(3 * time.Minute),
	}
}

func TestOverlap(t *testing.T) { // Q3.20
	reg := sequencer.NewRegistry()
	sequencer.Register(reg, "update_balance", sequencer.Make[UpdateBalance])
	example(t, "Overlap", reg, sequencer.Config{}, dispatch(&UpdateBalance{User: 1}, &UpdateBalance{User: 1}))
}

// ImportUsers leaves a service in trouble alone.
type ImportUsers struct {
	sequencer.Async
	api *flaky
}

func (i *ImportUsers) Handle(ctx context.Context) error { return i.api.Post(ctx, "", nil) }

func (*ImportUsers) Tries() int { return 20 }

func (*ImportUsers) Middleware() []sequencer.Middleware {
	return []sequencer.Middleware{
		middleware.ThrottleErrors(3, 5*time.Minute).
			Backoff(5 * time.Second).
			By("import-users"),
	}
}

func TestThrottle(t *testing.T) { // Q3.30
	reg := sequencer.NewRegistry()
	api := &flaky{failures: 3}
	sequencer.Register(reg, "import_users", func() *ImportUsers { return &ImportUsers{api: api} })
	example(t, "Throttle", reg, sequencer.Config{}, dispatch(&ImportUsers{}))
}
