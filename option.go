package sequencer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// RegisterOption says at registration what an operation has no method for, which
// is above all what a function needs. Saying it twice, by option and by a method
// of the same meaning, is an error rather than a question of precedence.
type RegisterOption interface{ register(*registration) }

// DispatchOption concerns one dispatch, or each one of a schedule. It wins over
// what the operation says; of several that say the same the last, that is the
// outermost, wins.
type DispatchOption interface {
	dispatch(*request)
	ScheduleOption
}

// Option serves in both places.
type Option interface {
	RegisterOption
	DispatchOption
}

type registerOption func(*registration)

func (o registerOption) register(r *registration) { o(r) }

type dispatchOption func(*request)

func (o dispatchOption) dispatch(q *request)  { o(q) }
func (o dispatchOption) schedule(d *schedule) { d.opts = append(d.opts, o) }

type option struct {
	registerOption
	dispatchOption
}

// settings is what options declared at registration; which of them were given is
// in registration.given.
type settings struct {
	tries         int
	backoff       []time.Duration
	retryFor      time.Duration
	timeout       time.Duration
	failOnTimeout bool
	maxExceptions int
	middleware    []Middleware
	tags          []string
	before        func(context.Context) error
	after         func(context.Context) error
	failed        func(context.Context, error) error
	shouldRun     func(context.Context) (bool, error)
	estimate      func(context.Context) (int64, error)
	rollback      func(context.Context) error
	dependsOn     []Dependency
	environments  []string
	queue         string
	minBuild      int64
	approvedBy    string
}

// request collects what the options of one dispatch ask for. Make one with
// newRequest.
type request struct {
	tries      *int
	queue      string // "" = not asked for
	tags       []string
	retryFor   *time.Duration // also replaces the operation's RetryUntil; 0 = no deadline
	delay      time.Duration
	at         time.Time
	scheduled  bool   // Delay or At was given, so ExecuteAt is not asked
	priority   int    // 0 = not asked for
	connection string // "" = not asked for
	deferred   bool   // by Defer
	key        string // in the place of UniqueID; "" = not asked for
	noWait     bool
	member     string // its name among others of its flow; "" = not asked for
	flow       inherited
	err        error
}

// newRequest applies opts in order. Everything that is wrong with them is joined
// in err and names no operation; the caller does.
func newRequest(opts []DispatchOption) *request {
	q := &request{}
	for _, o := range opts {
		if o == nil {
			q.check(errors.New("a nil option: leave it out"))
			continue
		}
		o.dispatch(q)
	}
	return q
}

func (q *request) check(err error) {
	if err != nil {
		q.err = errors.Join(q.err, err)
	}
}

// Tries limits the attempts, the first included. See [Retryable].
func Tries(n int) Option {
	return option{
		func(r *registration) { r.set.tries = n; r.given.add(abilityTries) },
		func(q *request) { q.tries = &n; q.check(checkTries(n)) },
	}
}

// OnQueue names the queue to wait in. See [Queued].
func OnQueue(name string) Option {
	name = strings.TrimSpace(name)
	return option{
		func(r *registration) { r.set.queue = name; r.given.add(abilityQueue) },
		func(q *request) { q.queue = name; q.check(checkIdentifier("queue", name)) },
	}
}

// Tagged adds tags, at a dispatch to those the operation has. See [HasTags].
func Tagged(tags ...string) Option {
	tags = trimAll(tags)
	return option{
		func(r *registration) { r.set.tags = append(r.set.tags, tags...); r.given.add(abilityTags) },
		func(q *request) { q.tags = addTags(q.tags, tags); q.check(checkTags(tags)) },
	}
}

// RetryFor sets a deadline this long after the work becomes runnable; at a
// dispatch it takes the place of the operation's RetryUntil as well. Zero means
// none. See [RetriedFor].
func RetryFor(d time.Duration) Option {
	return option{
		func(r *registration) { r.set.retryFor = d; r.given.add(abilityRetryFor) },
		func(q *request) { q.retryFor = &d; q.check(checkDuration(abilityRetryFor, d)) },
	}
}

// Backoff sets the waits before retries: one entry is a fixed delay, the last of
// several repeats, none retries at once. See [Retryable].
func Backoff(steps ...time.Duration) RegisterOption {
	steps = slices.Clone(steps)
	return registerOption(func(r *registration) { r.set.backoff = steps; r.given.add(abilityBackoff) })
}

// Timeout limits one attempt of the handler; zero means no limit. See [Timeoutable].
func Timeout(d time.Duration) RegisterOption {
	return registerOption(func(r *registration) { r.set.timeout = d; r.given.add(abilityTimeout) })
}

// FailOnTimeout makes a timeout final. See [Timeoutable].
func FailOnTimeout() RegisterOption {
	return registerOption(func(r *registration) { r.set.failOnTimeout = true; r.given.add(abilityFailOnTimeout) })
}

// MaxExceptions ends the operation at its n-th error. See [HasMaxExceptions].
func MaxExceptions(n int) RegisterOption {
	return registerOption(func(r *registration) { r.set.maxExceptions = n; r.given.add(abilityMaxExceptions) })
}

// OnBefore runs fn ahead of each attempt's handler. See [HasLifecycleHooks].
func OnBefore(fn func(ctx context.Context) error) RegisterOption {
	return registerOption(func(r *registration) { r.setOnce(abilityBefore, fn == nil); r.set.before = fn })
}

// OnAfter runs fn once the work is completed. See [HasLifecycleHooks].
func OnAfter(fn func(ctx context.Context) error) RegisterOption {
	return registerOption(func(r *registration) { r.setOnce(abilityAfter, fn == nil); r.set.after = fn })
}

// OnFailed runs fn when the failure is final. See [HasLifecycleHooks].
func OnFailed(fn func(ctx context.Context, cause error) error) RegisterOption {
	return registerOption(func(r *registration) { r.setOnce(abilityFailed, fn == nil); r.set.failed = fn })
}

// When skips the work if fn answers false. See [Conditional].
func When(fn func(ctx context.Context) (bool, error)) RegisterOption {
	return registerOption(func(r *registration) { r.setOnce(abilityShouldRun, fn == nil); r.set.shouldRun = fn })
}

// Estimate tells by fn how much there is to do. See [Estimable].
func Estimate(fn func(ctx context.Context) (int64, error)) RegisterOption {
	return registerOption(func(r *registration) { r.setOnce(abilityEstimate, fn == nil); r.set.estimate = fn })
}

// Undo makes a function an operation that can be rolled back, by fn. See [Rollbackable].
func Undo(fn func(ctx context.Context) error) RegisterOption {
	return registerOption(func(r *registration) { r.setOnce(abilityRollback, fn == nil); r.set.rollback = fn })
}

// Irreversible says that undoing the operation is not merely unwritten but wrong: a
// rollback that would reach or pass it is refused as a whole. Excludes Rollback and
// Undo.
func Irreversible() RegisterOption {
	return registerOption(func(r *registration) { r.irreversible = true })
}

// Use wraps each attempt in m, the first outermost; repeated options add. See [HasMiddleware].
func Use(m ...Middleware) RegisterOption {
	m = slices.Clone(m)
	return registerOption(func(r *registration) {
		r.set.middleware = append(r.set.middleware, m...)
		r.given.add(abilityMiddleware)
	})
}

// DependsOn names what must be done first; repeated options add. See [Dependent].
func DependsOn(deps ...Dependency) RegisterOption {
	deps = slices.Clone(deps)
	return registerOption(func(r *registration) {
		r.set.dependsOn = append(r.set.dependsOn, deps...)
		r.given.add(abilityDependsOn)
	})
}

// Environments restricts the operation to these; repeated options add, and none
// at all means nowhere. See [EnvironmentBound].
func Environments(names ...string) RegisterOption {
	names = trimAll(names)
	return registerOption(func(r *registration) {
		r.set.environments = append(r.set.environments, names...)
		r.given.add(abilityEnvironments)
	})
}

// MinBuild states the lowest build that can run it. See [BuildBound].
func MinBuild(n int64) RegisterOption {
	return registerOption(func(r *registration) { r.set.minBuild = n; r.given.add(abilityMinBuild) })
}

// ApprovedBy has the operation wait until by, a person or a role, lets it run. See
// [NeedsApproval].
func ApprovedBy(by string) RegisterOption {
	by = strings.TrimSpace(by)
	return registerOption(func(r *registration) { r.set.approvedBy = by; r.given.add(abilityApprovedBy) })
}

// Mark gives a function the marker M, as embedding does for a type:
// Mark[sequencer.Encrypted]().
func Mark[M Async | Encrypted | Idempotent | AllowedToFail | TxRequire | TxNever | UniqueUntilStart | Rehearsable]() RegisterOption {
	return registerOption(func(r *registration) {
		var m M
		switch any(m).(type) {
		case Async:
			r.async = true
		case Encrypted:
			r.encrypted = true
		case Idempotent:
			r.idempotent = true
		case AllowedToFail:
			r.allowedToFail = true
		case TxRequire:
			r.txRequire = true
		case TxNever:
			r.txNever = true
		case UniqueUntilStart:
			r.untilStart = true
		case Rehearsable:
			r.rehearsable = true
		}
	})
}

// Invalid refuses the registration because of err, unless that is nil. It is for
// packages whose own functions register operations.
func Invalid(err error) RegisterOption {
	return registerOption(func(r *registration) {
		if err != nil {
			r.problemf("%w", err)
		}
	})
}

// NotAbility says that these methods are the user's own: they are neither called
// nor complained about, whatever their signature. Naming one that is not there is
// an error, so that the list cannot go stale. It speaks of the methods of a
// function's input too.
func NotAbility(methods ...string) RegisterOption {
	methods = slices.Clone(methods)
	return registerOption(func(r *registration) { r.notAbilities = append(r.notAbilities, methods...) })
}

// FormerNames lists names the operation had before. What the ledger holds under
// them counts as this operation's (S2.5), and they stay taken.
func FormerNames(names ...string) RegisterOption {
	names = trimAll(names)
	return registerOption(func(r *registration) {
		for _, n := range names {
			if err := checkIdentifier("former name", n); err != nil {
				r.problemf("%w", err)
				continue
			}
			r.former = append(r.former, n)
		}
	})
}

// Delay puts the first attempt off by d, counted by the store. It takes the place
// of ExecuteAt and of an earlier At; zero means at once, less is refused.
func Delay(d time.Duration) DispatchOption {
	return dispatchOption(func(q *request) {
		q.delay, q.at, q.scheduled = d, time.Time{}, true
		if d < 0 {
			q.check(fmt.Errorf("a delay of %s is negative: use zero to start at once", d))
		}
	})
}

// At puts the first attempt off until t. It takes the place of ExecuteAt and of
// an earlier Delay; the zero time and one in the past mean at once.
func At(t time.Time) DispatchOption {
	return dispatchOption(func(q *request) { q.delay, q.at, q.scheduled = 0, t, true })
}

// NoWait has ExecuteSync return a *[DeferredError] when the execution is put off, by
// middleware, by its unique key or by its own Release, instead of waiting for its turn.
// The execution ends as cancelled then. It still waits for its retries. A dispatch, which
// waits in a queue, is refused with it.
func NoWait() DispatchOption {
	return dispatchOption(func(q *request) { q.noWait = true })
}

// Priority orders work within its queue: 1 is served first, 4 last, 2 is the
// default. Levels are few on purpose, a claim looks at each of them.
func Priority(level int) DispatchOption {
	return dispatchOption(func(q *request) {
		q.priority = level
		if level < storage.PriorityHighest || level > storage.PriorityLowest {
			q.check(fmt.Errorf("priority %d does not exist: use %d (served first) to %d, the default is %d",
				level, storage.PriorityHighest, storage.PriorityLowest, storage.PriorityDefault))
		}
	})
}

// OnConnection names the store of Config.Connections that takes the work;
// "default" is the one given to New.
func OnConnection(name string) DispatchOption {
	return dispatchOption(func(q *request) {
		q.connection = name
		if name == "" {
			q.check(errors.New("the connection is empty: name one of Config.Connections, or leave OnConnection out"))
		}
	})
}

// As names a member of a batch or chain among the others, for [ResultOf]; by default
// it has its operation's name.
func As(member string) DispatchOption {
	return dispatchOption(func(q *request) {
		q.member = strings.TrimSpace(member)
		q.check(checkIdentifier("member", q.member))
	})
}

// setOnce declares ability a by a function. Unlike values, of which the last may
// win, a second function would lose the first one's effect without a trace.
func (r *registration) setOnce(a ability, isNil bool) {
	switch name := abilities[a].option; {
	case isNil:
		r.problemf("%s(nil): give it a function or leave it out", name)
	case r.given.has(a):
		r.problemf("%s is given twice: make one function of the two", name)
	}
	r.given.add(a)
}
