package middleware

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/gosequencer/sequencer"
)

// Exclusive lets one execution with a key run at a time. See [WithoutOverlapping].
type Exclusive struct {
	key    string
	shared bool
	after  time.Duration
	most   time.Duration
	drop   bool
}

// WithoutOverlapping lets only one execution of this operation with this key run at
// a time, on any machine. Others wait, a second and a bit if nothing else is said; it
// gives them no order. The key is held until the outcome is durable, by a handler
// that ignores its end until it returns, and if the worker dies until that is noticed.
func WithoutOverlapping(key any) Exclusive {
	return Exclusive{key: fmt.Sprint(key), after: -1}
}

// Shared leaves the operation's name out of the key: all operations that use the
// same key exclude each other. Encrypted operations, whose keys are stored as hashes,
// exclude each other alone.
func (m Exclusive) Shared() Exclusive {
	m.shared = true
	return m
}

// ReleaseAfter is how long the others wait before they look again.
func (m Exclusive) ReleaseAfter(d time.Duration) Exclusive {
	m.after = max(d, 0)
	return m
}

// ExpireAfter bounds how long the key is held; default as long as it takes. After it
// another may run although the first has not ended.
func (m Exclusive) ExpireAfter(d time.Duration) Exclusive {
	m.most = d
	return m
}

// DontRelease ends the others as skipped, with reason overlapping, instead of
// letting them wait.
func (m Exclusive) DontRelease() Exclusive {
	m.drop = true
	return m
}

// Check implements [sequencer.Checker].
func (m Exclusive) Check(sequencer.Config) error {
	if m.most < 0 {
		return fmt.Errorf("WithoutOverlapping(%q).ExpireAfter(%s): want a duration that is not negative", m.key, m.most)
	}
	return nil
}

// Wrap implements [sequencer.Middleware].
func (m Exclusive) Wrap(next sequencer.Handler) sequencer.Handler {
	return func(ctx context.Context, a *sequencer.Attempt) error {
		key := m.key
		if !m.shared {
			key = a.Name + "/" + key
		}
		err := a.Lock(ctx, key, m.most)
		var held *sequencer.HeldError
		switch {
		case err == nil:
			return next(ctx, a)
		case !errors.As(err, &held):
			return fmt.Errorf("without overlapping %s: %w", key, err)
		case m.drop:
			return sequencer.Skip("overlapping")
		case m.after >= 0:
			return sequencer.Deferral(m.after, held.Error())
		}
		return sequencer.Deferral(time.Second+rand.N(time.Second), held.Error()) // never 0: it would spin (Q3.27)
	}
}
