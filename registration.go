package sequencer

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// registration is what the registry knows of one name. It is complete and
// read-only once Register returns, so it is shared without a lock.
//
// Its methods are the one place where an operation is asked for its abilities:
// everything else asks the registration, which answers from the operation's
// method or the option given in its place. The op they take is a pointer value
// of the registered type, as fresh and resolve return it. A panic in user code
// comes back as an error that names operation and ability.
type registration struct {
	name    string
	version int64 // the 14 digits of its timestamp; zero for an unlisted operation
	ordered bool
	former  []string
	callers [4]uintptr // who registered it, innermost first

	typ      reflect.Type // the operation's type without pointer; a function's input type, nil if it has none
	function bool
	fresh    func() (Operation, error) // a new pointer value from the factory, of type *typ or *funcOperation

	async, encrypted, idempotent, allowedToFail, txRequire, txNever  bool
	untilStart, rehearsable                                          bool
	rollbackable, irreversible, conditional, hasMiddleware, hasHooks bool

	methods      abilitySet // abilities that are methods of the type
	given        abilitySet // abilities that options declared
	set          *settings  // what they declared; not to be changed afterwards
	notAbilities []string

	problems []error
	warnings []string

	policies memo[policy]     // of its rows, as they were read last
	hooks    memo[frozenHook] // likewise
}

// abilityError is an answer that cannot be used: one out of range, or a panic.
type abilityError struct {
	name     string
	ability  ability
	cause    error
	panicked bool
}

func (e *abilityError) Error() string { return e.name + ": " + e.cause.Error() }
func (e *abilityError) Unwrap() error { return e.cause }

// has reports whether ability a is declared in either way.
func (r *registration) has(a ability) bool { return r.methods.has(a) || r.given.has(a) }

// subject is the value that carries the ability methods: a function's are its input's.
func (r *registration) subject(op Operation) any {
	if f, ok := op.(*funcOperation); ok {
		return f.input
	}
	return op
}

// catch turns a panic of ability a into *err; deferred directly, so that recover works.
func (r *registration) catch(a ability, err *error) {
	if v := recover(); v != nil {
		if r.encrypted { // it may show the input
			v = fmt.Sprintf("%T (the value is withheld: the operation is encrypted)", v)
		}
		*err = &abilityError{r.name, a, fmt.Errorf("%s panics: %v\n\tat dispatch it is asked of the value handed over, "+
			"which has its input and none of the factory's dependencies", a, v), true}
	}
}

func (r *registration) refuse(a ability, cause error) error {
	if cause == nil {
		return nil
	}
	return &abilityError{r.name, a, cause, false}
}

func (r *registration) tries(op Operation) (n int, declared bool, err error) {
	defer r.catch(abilityTries, &err)
	switch {
	case r.given.has(abilityTries):
		n = r.set.tries
	case r.methods.has(abilityTries):
		n = r.subject(op).(interface{ Tries() int }).Tries()
	default:
		return 0, false, nil
	}
	return n, true, r.refuse(abilityTries, checkTries(n))
}

func (r *registration) backoff(op Operation) (steps []time.Duration, declared bool, err error) {
	defer r.catch(abilityBackoff, &err)
	switch {
	case r.given.has(abilityBackoff):
		steps = r.set.backoff
	case r.methods.has(abilityBackoff):
		steps = r.subject(op).(interface{ Backoff() []time.Duration }).Backoff()
	default:
		return nil, false, nil
	}
	for i, d := range steps {
		if d < 0 {
			return nil, true, r.refuse(abilityBackoff, fmt.Errorf("%s entry %d is %s: use zero to retry at once", abilityBackoff, i+1, d))
		}
	}
	return steps, true, nil
}

// retryUntil answers the zero time for none.
func (r *registration) retryUntil(op Operation) (t time.Time, err error) {
	if !r.methods.has(abilityRetryUntil) {
		return time.Time{}, nil
	}
	defer r.catch(abilityRetryUntil, &err)
	return r.subject(op).(interface{ RetryUntil() time.Time }).RetryUntil(), nil
}

// retryFor answers zero for none.
func (r *registration) retryFor(op Operation) (d time.Duration, err error) {
	defer r.catch(abilityRetryFor, &err)
	switch {
	case r.given.has(abilityRetryFor):
		d = r.set.retryFor
	case r.methods.has(abilityRetryFor):
		d = r.subject(op).(interface{ RetryFor() time.Duration }).RetryFor()
	}
	return d, r.refuse(abilityRetryFor, checkDuration(abilityRetryFor, d))
}

// timeout answers zero for none.
func (r *registration) timeout(op Operation) (d time.Duration, err error) {
	defer r.catch(abilityTimeout, &err)
	switch {
	case r.given.has(abilityTimeout):
		d = r.set.timeout
	case r.methods.has(abilityTimeout):
		d = r.subject(op).(interface{ Timeout() time.Duration }).Timeout()
	}
	return d, r.refuse(abilityTimeout, checkDuration(abilityTimeout, d))
}

func (r *registration) failOnTimeout(op Operation) (final bool, err error) {
	if !r.methods.has(abilityFailOnTimeout) {
		return r.set.failOnTimeout, nil
	}
	defer r.catch(abilityFailOnTimeout, &err)
	return r.subject(op).(interface{ FailOnTimeout() bool }).FailOnTimeout(), nil
}

func (r *registration) maxExceptions(op Operation) (n int, declared bool, err error) {
	defer r.catch(abilityMaxExceptions, &err)
	switch {
	case r.given.has(abilityMaxExceptions):
		n = r.set.maxExceptions
	case r.methods.has(abilityMaxExceptions):
		n = r.subject(op).(interface{ MaxExceptions() int }).MaxExceptions()
	default:
		return 0, false, nil
	}
	if n < 1 {
		return n, true, r.refuse(abilityMaxExceptions, fmt.Errorf("%s is %d: use 1 or more, or leave it out for no such limit", abilityMaxExceptions, n))
	}
	return n, true, nil
}

// queue answers "" only where none is declared.
func (r *registration) queue(op Operation) (name string, err error) {
	defer r.catch(abilityQueue, &err)
	switch {
	case r.given.has(abilityQueue):
		name = r.set.queue
	case r.methods.has(abilityQueue):
		name = strings.TrimSpace(r.subject(op).(interface{ Queue() string }).Queue())
	default:
		return "", nil
	}
	return name, r.refuse(abilityQueue, checkIdentifier("queue", name))
}

// tags answers each tag once.
func (r *registration) tags(op Operation) (tags []string, err error) {
	defer r.catch(abilityTags, &err)
	switch {
	case r.given.has(abilityTags):
		tags = r.set.tags
	case r.methods.has(abilityTags):
		tags = r.subject(op).(interface{ Tags() []string }).Tags()
	}
	tags = addTags(trimAll(tags))
	return tags, r.refuse(abilityTags, checkTags(tags))
}

// unique answers the key, how long a waiting row keeps it (0 = until it is over)
// and the connection that holds it ("" = the operation's own store). Any one of
// the methods declares it; an empty id admits one of the operation overall (Q4.3).
func (r *registration) unique(op Operation) (id string, forD time.Duration, via string, declared bool, err error) {
	if !r.methods.has(abilityUniqueID) && !r.methods.has(abilityUniqueFor) && !r.methods.has(abilityUniqueVia) {
		return "", 0, "", false, nil
	}
	if id, err = r.uniqueID(op); err != nil {
		return "", 0, "", true, err
	}
	if forD, err = r.uniqueFor(op); err != nil {
		return "", 0, "", true, err
	}
	if via, err = r.uniqueVia(op); err == nil && via != "" && forD == 0 {
		err = r.refuse(abilityUniqueVia, fmt.Errorf("%s is %q without an end: "+
			"declare a positive UniqueFor, since a crash would leave a key held elsewhere for ever", abilityUniqueVia, via))
	}
	return id, forD, via, true, err
}

func (r *registration) uniqueID(op Operation) (id string, err error) {
	if !r.methods.has(abilityUniqueID) {
		return "", nil
	}
	defer r.catch(abilityUniqueID, &err)
	return r.subject(op).(interface{ UniqueID() string }).UniqueID(), nil
}

func (r *registration) uniqueFor(op Operation) (d time.Duration, err error) {
	if !r.methods.has(abilityUniqueFor) {
		return 0, nil
	}
	defer r.catch(abilityUniqueFor, &err)
	d = r.subject(op).(interface{ UniqueFor() time.Duration }).UniqueFor()
	return d, r.refuse(abilityUniqueFor, checkDuration(abilityUniqueFor, d))
}

func (r *registration) uniqueVia(op Operation) (via string, err error) {
	if !r.methods.has(abilityUniqueVia) {
		return "", nil
	}
	defer r.catch(abilityUniqueVia, &err)
	return r.subject(op).(interface{ UniqueVia() string }).UniqueVia(), nil
}

// staticVia is where the key is held, if that does not depend on input.
func (r *registration) staticVia() string {
	if !r.methods.has(abilityUniqueVia) {
		return ""
	}
	op, err := r.fresh()
	if err != nil {
		return ""
	}
	via, err := r.uniqueVia(op)
	if err != nil {
		return ""
	}
	return via
}

// executeAt answers the zero time for at once.
func (r *registration) executeAt(op Operation) (t time.Time, err error) {
	if !r.methods.has(abilityExecuteAt) {
		return time.Time{}, nil
	}
	defer r.catch(abilityExecuteAt, &err)
	return r.subject(op).(interface{ ExecuteAt() time.Time }).ExecuteAt(), nil
}

func (r *registration) minBuild(op Operation) (n int64, err error) {
	defer r.catch(abilityMinBuild, &err)
	switch {
	case r.given.has(abilityMinBuild):
		n = r.set.minBuild
	case r.methods.has(abilityMinBuild):
		n = r.subject(op).(interface{ MinBuild() int64 }).MinBuild()
	}
	if n < 0 {
		return n, r.refuse(abilityMinBuild, fmt.Errorf("%s is %d: use zero for any build", abilityMinBuild, n))
	}
	return n, nil
}

func (r *registration) dependsOn(op Operation) (deps []Dependency, err error) {
	defer r.catch(abilityDependsOn, &err)
	switch {
	case r.given.has(abilityDependsOn):
		deps = r.set.dependsOn
	case r.methods.has(abilityDependsOn):
		deps = r.subject(op).(interface{ DependsOn() []Dependency }).DependsOn()
	}
	for _, d := range deps {
		if err := r.checkDependency(d); err != nil {
			return nil, r.refuse(abilityDependsOn, err)
		}
	}
	return deps, nil
}

// environments answers declared with an empty list for "nowhere" (S8.4).
func (r *registration) environments(op Operation) (list []string, declared bool, err error) {
	defer r.catch(abilityEnvironments, &err)
	switch {
	case r.given.has(abilityEnvironments):
		list = r.set.environments
	case r.methods.has(abilityEnvironments):
		list = r.subject(op).(interface{ Environments() []string }).Environments()
	default:
		return nil, false, nil
	}
	for _, e := range list {
		if err := checkIdentifier("environment", e); err != nil {
			return nil, true, r.refuse(abilityEnvironments, err)
		}
	}
	return list, true, nil
}

func (r *registration) middleware(op Operation) (list []Middleware, err error) {
	defer r.catch(abilityMiddleware, &err)
	switch {
	case r.given.has(abilityMiddleware):
		list = r.set.middleware
	case r.methods.has(abilityMiddleware):
		list = r.subject(op).(interface{ Middleware() []Middleware }).Middleware()
	}
	if i := slices.Index(list, nil); i >= 0 {
		return nil, r.refuse(abilityMiddleware, fmt.Errorf("%s entry %d is nil: leave it out", abilityMiddleware, i+1))
	}
	return list, nil
}

// approvedBy answers "" where nobody is asked, which an option cannot say and a method
// that depends on its input may.
func (r *registration) approvedBy(op Operation) (by string, err error) {
	defer r.catch(abilityApprovedBy, &err)
	switch {
	case r.given.has(abilityApprovedBy):
		by = r.set.approvedBy
	case r.methods.has(abilityApprovedBy):
		if by = strings.TrimSpace(r.subject(op).(interface{ ApprovedBy() string }).ApprovedBy()); by == "" {
			return "", nil
		}
	default:
		return "", nil
	}
	return by, r.refuse(abilityApprovedBy, checkApprover(by))
}

// condition answers nil where none is declared, as do the five that follow. Whoever
// calls what they return recovers its panics.
func (r *registration) condition(op Operation) func(context.Context) (bool, error) {
	if !r.methods.has(abilityShouldRun) {
		return r.set.shouldRun
	}
	return r.subject(op).(interface {
		ShouldRun(ctx context.Context) (bool, error)
	}).ShouldRun
}

func (r *registration) estimate(op Operation) func(context.Context) (int64, error) {
	if !r.methods.has(abilityEstimate) {
		return r.set.estimate
	}
	return r.subject(op).(interface {
		Estimate(ctx context.Context) (int64, error)
	}).Estimate
}

func (r *registration) before(op Operation) func(context.Context) error {
	if !r.methods.has(abilityBefore) {
		return r.set.before
	}
	return r.subject(op).(interface {
		Before(ctx context.Context) error
	}).Before
}

func (r *registration) after(op Operation) func(context.Context) error {
	if !r.methods.has(abilityAfter) {
		return r.set.after
	}
	return r.subject(op).(interface {
		After(ctx context.Context) error
	}).After
}

func (r *registration) failed(op Operation) func(context.Context, error) error {
	if !r.methods.has(abilityFailed) {
		return r.set.failed
	}
	return r.subject(op).(interface {
		Failed(ctx context.Context, cause error) error
	}).Failed
}

func (r *registration) rollback(op Operation) func(context.Context) error {
	if !r.methods.has(abilityRollback) {
		return r.set.rollback
	}
	return r.subject(op).(interface {
		Rollback(ctx context.Context) error
	}).Rollback
}

func checkTries(n int) error {
	if n < 0 {
		return fmt.Errorf("%s is %d: use 1 or more, the first attempt included, or leave it out for a single one", abilityTries, n)
	}
	return nil
}

// checkUnlimited refuses tries without end: zero tries stand for no limit only
// beside a deadline (Q1.8, S12.9).
func checkUnlimited(tries int, deadline bool) error {
	if tries == 0 && !deadline {
		return fmt.Errorf("%s is 0, which is no limit, and there is no deadline: declare RetryFor or RetryUntil, or use 1 or more", abilityTries)
	}
	return nil
}

func checkDuration(a ability, d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("%s is %s: use zero, or leave it out, for none", a, d)
	}
	return nil
}

func checkTags(tags []string) error {
	for _, t := range tags {
		if err := checkIdentifier("tag", t); err != nil {
			return err
		}
	}
	return nil
}

func (r *registration) checkDependency(d Dependency) error {
	switch {
	case d.Kind != storage.Ordered && d.Kind != storage.Migration:
		return fmt.Errorf("%s has an entry of kind %q: make it with Op or Migration", abilityDependsOn, d.Kind)
	case d.Name == "":
		return fmt.Errorf("%s has an entry without a name: name it or leave it out", abilityDependsOn)
	case d.Kind == storage.Ordered && (d.Name == r.name || slices.Contains(r.former, d.Name)):
		return fmt.Errorf("%s names the operation itself, which could then never start: remove it", abilityDependsOn)
	}
	return nil
}

func trimAll(list []string) []string {
	trimmed := make([]string, len(list))
	for i, s := range list {
		trimmed[i] = strings.TrimSpace(s)
	}
	return trimmed
}
