package sequencer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Limiter says how often attempts may begin. It is defined once, under a name, in
// Config.Limiters, and asked for each attempt; a [Limit] is the plain one.
type Limiter interface {
	// Limits are those that this attempt has to find room in, all of them at once;
	// none means that it is not limited.
	Limits(a *Attempt) []Limit
}

// Limit allows N attempts in a window of fixed length, which opens with the first
// one (Q3.12): around the end of a window up to 2 N may come close together. N = 0
// allows none.
type Limit struct {
	N   int
	Per time.Duration

	key func(a *Attempt) string
}

// PerSecond allows n a second.
func PerSecond(n int) Limit { return Limit{N: n, Per: time.Second} }

// PerMinute allows n a minute.
func PerMinute(n int) Limit { return Limit{N: n, Per: time.Minute} }

// PerHour allows n an hour.
func PerHour(n int) Limit { return Limit{N: n, Per: time.Hour} }

// PerDay allows n in 24 hours.
func PerDay(n int) Limit { return Limit{N: n, Per: 24 * time.Hour} }

// By gives each key a window of its own, as in
//
//	sequencer.PerMinute(60).By(func(a *sequencer.Attempt) string {
//		return a.Operation.(*SyncCustomer).Tenant
//	})
//
// Without it all attempts that use the limiter share one.
func (l Limit) By(key func(a *Attempt) string) Limit {
	l.key = key
	return l
}

// Limits makes a Limit a Limiter.
func (l Limit) Limits(*Attempt) []Limit { return []Limit{l} }

// LimiterFunc makes a function a Limiter. It decides for each attempt.
type LimiterFunc func(a *Attempt) []Limit

// Limits calls f.
func (f LimiterFunc) Limits(a *Attempt) []Limit { return f(a) }

// AllOf is a Limiter of several limits, which an attempt is counted in together, or
// in none of them (Q3.13).
func AllOf(limits ...Limit) Limiter {
	return LimiterFunc(func(*Attempt) []Limit { return limits })
}

func (l Limit) check() error {
	return storage.Limit{Name: "limit", N: l.N, Window: l.Per}.Validate()
}

// checkLimiters finds what can be found without an attempt.
func (c *Config) checkLimiters() error {
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(c.Limiters)) {
		if err := checkIdentifier("limiter", name); err != nil {
			problems = append(problems, fmt.Errorf("config Limiters: %w", err))
		}
		switch l := c.Limiters[name].(type) {
		case nil:
			problems = append(problems, fmt.Errorf("config Limiters[%s] is nil: want a limit, as in sequencer.PerMinute(60)", name))
		case Limit:
			if err := l.check(); err != nil {
				problems = append(problems, fmt.Errorf("config Limiters[%s]: %w", name, err))
			}
		}
	}
	return errors.Join(problems...)
}

// CheckLimiter is for the Check of a middleware: it returns an error unless
// Config.Limiters has the name.
func (c *Config) CheckLimiter(name string) error {
	if c.Limiters[name] != nil {
		return nil
	}
	known := strings.Join(slices.Sorted(maps.Keys(c.Limiters)), ", ")
	return fmt.Errorf("limiter %q is not defined: there is %s (Config.Limiters)", name, orDefault(known, "none"))
}

// Bucket counts in the store, for all processes that share it.
type Bucket struct {
	store  storage.Store
	limits []storage.Limit
}

// Limit is the bucket of a limiter in Config.Limiters for this attempt. by, if not
// "", takes the place of the limits' own keys.
func (a *Attempt) Limit(name, by string) (Bucket, error) {
	if err := a.seq.cfg.CheckLimiter(name); err != nil {
		return Bucket{}, err
	}
	b := Bucket{store: a.seq.store}
	for _, l := range a.seq.cfg.Limiters[name].Limits(a) {
		key := by
		if key == "" && l.key != nil {
			key = l.key(a)
		}
		b.add(name, key, l)
	}
	return b, nil
}

// Bucket is a bucket of its own, known by key to all operations.
func (a *Attempt) Bucket(key string, l Limit) Bucket {
	b := Bucket{store: a.seq.store}
	b.add("@bucket", key, l) // no limiter has such a name
	return b
}

func (b *Bucket) add(name, by string, l Limit) {
	if len(by) > storage.MaxLimitKey {
		sum := sha256.Sum256([]byte(by))
		by = hex.EncodeToString(sum[:])
	}
	limit := storage.Limit{Name: name, By: by, N: l.N, Window: l.Per.Truncate(time.Microsecond)}
	if !slices.Contains(b.limits, limit) {
		b.limits = append(b.limits, limit)
	}
}

// Take counts one and returns 0, or, where there is no room, counts nothing and
// returns how long until there may be some; negative means never.
func (b Bucket) Take(ctx context.Context) (time.Duration, error) {
	taken, err := b.ask(ctx, storage.TakeOne)
	return taken.Wait, err
}

// Look returns how it stands and counts nothing: Wait as in Take, and how many have
// been counted in each limit's window.
func (b Bucket) Look(ctx context.Context) (storage.Taken, error) { return b.ask(ctx, storage.TakeLook) }

// Reset forgets what was counted.
func (b Bucket) Reset(ctx context.Context) error {
	_, err := b.ask(ctx, storage.TakeReset)
	return err
}

func (b Bucket) ask(ctx context.Context, action storage.TakeAction) (storage.Taken, error) {
	if len(b.limits) == 0 {
		return storage.Taken{}, nil
	}
	return b.store.Take(ctx, storage.TakeRequest{Limits: b.limits, Action: action})
}

// String names the bucket for people, as in "api-calls: 60 per 1m0s".
func (b Bucket) String() string {
	var all []string
	for _, l := range b.limits {
		text := fmt.Sprintf("%d per %s", l.N, l.Window)
		if l.By != "" {
			text += " for " + l.By
		}
		all = append(all, text)
	}
	if len(b.limits) == 0 {
		return "no limit"
	}
	return strings.TrimPrefix(b.limits[0].Name+": ", "@bucket: ") + strings.Join(all, ", ")
}
