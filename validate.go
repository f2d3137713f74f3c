package sequencer

import (
	"errors"
	"fmt"
	"reflect"
	"time"
)

// examine finds out what the operation declares and whether that makes sense.
func (r *registration) examine() {
	r.inspect()
	for a := range abilityCount {
		if r.methods.has(a) && r.given.has(a) {
			r.problemf("%s: method %s and option %s say the same: keep one of them, or register with NotAbility(%q)",
				r.subjectName(), a, abilities[a].option, a)
		}
	}
	if r.has(abilityRetryUntil) && r.has(abilityRetryFor) {
		r.problemf("%s: RetryUntil and RetryFor are both declared, and a deadline has one source: keep RetryFor, "+
			"and remove RetryUntil or register with NotAbility(\"RetryUntil\")", r.subjectName())
	}
	if r.txRequire && r.txNever {
		r.problemf("%s: TxRequire and TxNever exclude one another: keep one of them", r.subjectName())
	}
	switch unique := r.has(abilityUniqueID) || r.has(abilityUniqueFor) || r.has(abilityUniqueVia); {
	case r.untilStart && !unique:
		r.problemf("%s: it is marked UniqueUntilStart and is not unique: declare UniqueID, or drop the mark", r.subjectName())
	case r.untilStart && r.version != 0:
		r.problemf("%s: it is marked UniqueUntilStart, and an operation with a timestamp has its name as key until it is over: drop the mark", r.subjectName())
	}
	r.rollbackable = r.has(abilityRollback)
	if r.irreversible && r.rollbackable {
		r.problemf("%s: Irreversible and a rollback exclude one another: keep one of them", r.subjectName())
	}
	r.conditional = r.has(abilityShouldRun)
	r.hasMiddleware = r.has(abilityMiddleware)
	r.hasHooks = r.has(abilityBefore) || r.has(abilityAfter) || r.has(abilityFailed)
	if r.typ != nil {
		for _, problem := range checkInput(r.typ, r.function) {
			r.problemf("%s: %s", r.subjectName(), problem)
		}
	}
	r.validate()
}

// questions are the abilities that answer without a context.
var questions = []func(*registration, Operation) error{
	(*registration).checkAttempts,
	func(r *registration, op Operation) error { _, _, err := r.backoff(op); return err },
	func(r *registration, op Operation) error { _, err := r.retryUntil(op); return err },
	func(r *registration, op Operation) error { _, err := r.retryFor(op); return err },
	func(r *registration, op Operation) error { _, err := r.timeout(op); return err },
	func(r *registration, op Operation) error { _, err := r.failOnTimeout(op); return err },
	func(r *registration, op Operation) error { _, _, err := r.maxExceptions(op); return err },
	func(r *registration, op Operation) error { _, err := r.queue(op); return err },
	func(r *registration, op Operation) error { _, err := r.tags(op); return err },
	func(r *registration, op Operation) error { _, _, _, _, err := r.unique(op); return err },
	func(r *registration, op Operation) error { _, err := r.executeAt(op); return err },
	func(r *registration, op Operation) error { _, err := r.minBuild(op); return err },
	func(r *registration, op Operation) error { _, err := r.dependsOn(op); return err },
	func(r *registration, op Operation) error { _, _, err := r.environments(op); return err },
	func(r *registration, op Operation) error { _, err := r.middleware(op); return err },
	func(r *registration, op Operation) error { _, err := r.approvedBy(op); return err },
}

// checkAttempts refuses tries that cannot be meant: fewer than none, and no limit
// without a deadline.
func (r *registration) checkAttempts(op Operation) error {
	tries, declared, err := r.tries(op)
	if err != nil || !declared {
		return err
	}
	until, err := r.retryUntil(op)
	if err != nil {
		return err
	}
	d, err := r.retryFor(op)
	if err != nil {
		return err
	}
	return r.refuse(abilityTries, checkUnlimited(tries, d > 0 || !until.IsZero()))
}

// validate asks for every answer once. One that cannot be used is a problem if it
// is constant; if it comes from the input it waits for the dispatch (S1.7). A
// second value, with something in every field, tells the two apart: `return s.Tag`
// is empty for the factory's value and not for that one.
func (r *registration) validate() {
	op, err := r.fresh()
	if err != nil {
		return // the factory's own trouble, reported when the type was learnt
	}
	var probe Operation
	for _, ask := range questions {
		bad := unusable(ask(r, op))
		if bad == nil {
			continue
		}
		if probe == nil {
			probe = r.filled(op)
		}
		switch {
		case unusable(ask(r, probe)) == nil:
		case r.given.has(bad.ability):
			r.problemf("option %s: %w", abilities[bad.ability].option, bad.cause)
		default:
			r.problemf("%s: %w", r.subjectName(), bad.cause)
		}
	}
	tries, limited, err := r.tries(op)
	if err != nil || !limited || tries == 0 {
		return
	}
	if n, bounded, err := r.maxExceptions(op); err == nil && bounded && tries < n {
		r.warnings = append(r.warnings, fmt.Sprintf("%s: MaxExceptions %d is never reached, because Tries %d ends it before", r.where(), n, tries))
	}
}

// unusable picks the error of an answer out of range. A panic is none: the
// ability depends on input that a factory value does not have.
func unusable(err error) *abilityError {
	if bad, ok := errors.AsType[*abilityError](err); ok && !bad.panicked {
		return bad
	}
	return nil
}

// filled answers a fresh value with something in its empty input fields.
func (r *registration) filled(op Operation) Operation {
	probe, err := r.fresh()
	if err != nil {
		return op
	}
	if s := r.subject(probe); s != nil {
		fill(reflect.ValueOf(s).Elem(), 0)
	}
	return probe
}

// fill sets what it knows how to and leaves the rest alone, as it leaves the
// factory's defaults.
func fill(v reflect.Value, depth int) {
	const deepest = 4 // types may contain themselves
	if depth > deepest {
		return
	}
	if v.Kind() == reflect.Struct && v.Type() != reflect.TypeFor[time.Time]() {
		for f, field := range v.Fields() {
			if f.Tag.Get("json") != "-" {
				fill(field, depth+1)
			}
		}
		return
	}
	if !v.CanSet() || !v.IsZero() {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		v.Set(reflect.ValueOf(time.Now().Add(time.Hour)))
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(1)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth+1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), depth+1)
	default:
	}
}
