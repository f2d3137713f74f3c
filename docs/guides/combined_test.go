package guides_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/middleware"
)

// SyncCustomer brings one customer up to date in a service that is not ours.
type SyncCustomer struct {
	sequencer.Async
	Customer int64 `json:"customer"`
	Tenant   int64 `json:"tenant"`

	api *flaky
	out *page
}

func (*SyncCustomer) Tries() int { return 3 }

func (*SyncCustomer) Backoff() []time.Duration {
	return []time.Duration{10 * time.Second, 30 * time.Second, time.Minute}
}

func (*SyncCustomer) RetryUntil() time.Time { return time.Now().Add(time.Hour) }

func (*SyncCustomer) Timeout() time.Duration { return time.Minute }

func (*SyncCustomer) FailOnTimeout() bool { return false }

func (*SyncCustomer) MaxExceptions() int { return 5 }

func (*SyncCustomer) Middleware() []sequencer.Middleware {
	return []sequencer.Middleware{
		middleware.RateLimited("external-api"),
		middleware.ThrottleErrors(5, 5*time.Minute).Backoff(30 * time.Second),
	}
}

func (s *SyncCustomer) UniqueID() string { return fmt.Sprint("sync-customer-", s.Customer) }

func (*SyncCustomer) UniqueFor() time.Duration { return 5 * time.Minute }

func (s *SyncCustomer) Tags() []string {
	return []string{"api-sync", "customer", fmt.Sprint("tenant:", s.Tenant)}
}

func (s *SyncCustomer) Before(context.Context) error {
	s.out.say("customer %d: running", s.Customer)
	return nil
}

func (s *SyncCustomer) After(context.Context) error {
	s.out.say("customer %d: completed", s.Customer)
	return nil
}

func (s *SyncCustomer) Failed(_ context.Context, cause error) error {
	s.out.say("customer %d: failed: %v", s.Customer, cause)
	return nil
}

func (s *SyncCustomer) Handle(ctx context.Context) error {
	return s.api.Post(ctx, "https://api.example.com/sync", s.Customer)
}

func TestCombined(t *testing.T) { // S43
	reg := sequencer.NewRegistry()
	out, api := new(page), &flaky{failures: 1}
	sequencer.Register(reg, "sync_customer", func() *SyncCustomer { return &SyncCustomer{api: api, out: out} })
	cfg := sequencer.Config{Limiters: map[string]sequencer.Limiter{"external-api": sequencer.PerMinute(60)}}
	example(t, "Combined", reg, cfg, func(ctx context.Context, seq *sequencer.Sequencer, shown *page) error {
		out.into = shown
		for range 2 {
			if _, err := seq.Dispatch(ctx, &SyncCustomer{Customer: 42, Tenant: 7}); err != nil {
				return err
			}
		}
		return nil
	})
}
