package middleware

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/gosequencer/sequencer"
)

// jitter spreads those who wait for one window to end, so that they do not all come
// back in the same moment (Q3.17).
const jitter = 3 * time.Second

func afterWindow(wait time.Duration) time.Duration { return wait + rand.N(jitter) }

// Limited lets an attempt begin only when a limiter has room. See [RateLimited].
type Limited struct {
	limiter string
	by      string
	after   *time.Duration
	drop    bool
}

// RateLimited asks the limiter of that name in Config.Limiters. Without room the
// execution waits until the window ends, and up to three seconds more. An attempt
// that was let in has used its place whatever becomes of it (Q3.16).
func RateLimited(limiter string) Limited { return Limited{limiter: limiter} }

// By counts under this key instead of the limiter's own.
func (m Limited) By(key any) Limited {
	m.by = fmt.Sprint(key)
	return m
}

// ReleaseAfter is how long to wait without room, in place of the end of the window;
// 0 = look again at once.
func (m Limited) ReleaseAfter(d time.Duration) Limited {
	m.after = &d
	return m
}

// DontRelease ends the execution as skipped, with reason rate_limited, instead of
// letting it wait.
func (m Limited) DontRelease() Limited {
	m.drop = true
	return m
}

// Check implements [sequencer.Checker].
func (m Limited) Check(cfg sequencer.Config) error {
	if m.after != nil && *m.after < 0 {
		return fmt.Errorf("RateLimited(%q).ReleaseAfter(%s): want 0 or more", m.limiter, *m.after)
	}
	if err := cfg.CheckLimiter(m.limiter); err != nil {
		return fmt.Errorf("RateLimited: %w", err)
	}
	return nil
}

// Wrap implements [sequencer.Middleware].
func (m Limited) Wrap(next sequencer.Handler) sequencer.Handler {
	return func(ctx context.Context, a *sequencer.Attempt) error {
		bucket, err := a.Limit(m.limiter, m.by)
		if err != nil {
			return err
		}
		wait, err := bucket.Take(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("rate limit %s: %w", m.limiter, err)
		case wait == 0:
			return next(ctx, a)
		case m.drop:
			return sequencer.Skip("rate_limited")
		case m.after != nil:
			return sequencer.Deferral(*m.after, "rate limit "+bucket.String())
		case wait < 0:
			return sequencer.Deferral(time.Minute, "rate limit "+bucket.String()+": it lets nothing in")
		}
		return sequencer.Deferral(afterWindow(wait), "rate limit "+bucket.String())
	}
}
