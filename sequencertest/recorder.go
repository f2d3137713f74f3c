package sequencertest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gosequencer/sequencer"
)

// Recorder keeps, in order, what would have been executed or queued (S33). A condition
// or an environment that says no keeps an operation out. It is safe for concurrent
// use, and a failed assertion is an error of the test it was made for.
type Recorder struct {
	tb testing.TB

	mu   sync.Mutex // guards the rest
	seen []*entry
	all  bool
}

// entry is one recorded operation.
type entry struct {
	name     string
	op       sequencer.Operation
	asserted bool // some assertion was about it
}

// Recording is a sequencer that runs nothing and writes nothing, and the recorder of
// what it would have done. Dispatch, DispatchAll, Execute and ExecuteSync record, and so
// does Process, for what is pending on an empty ledger.
func Recording(tb testing.TB, reg *sequencer.Registry) (*sequencer.Sequencer, *Recorder) {
	tb.Helper()
	rec := NewRecorder(tb)
	return New(tb, reg, sequencer.Config{Recorder: rec}), rec
}

// NewRecorder is a recorder for Config.Recorder of a sequencer of your own.
func NewRecorder(tb testing.TB) *Recorder {
	tb.Helper()
	return &Recorder{tb: tb}
}

// Record implements [sequencer.Recorder].
func (r *Recorder) Record(name string, op sequencer.Operation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, &entry{name: name, op: op})
}

// RecordAll has also those recorded that their condition or environment would skip.
func (r *Recorder) RecordAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = true
}

// RecordsAll implements the optional part of [sequencer.Recorder].
func (r *Recorder) RecordsAll() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all
}

// Reset forgets what was recorded.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = nil
}

// Names lists what was recorded by name, in order.
func (r *Recorder) Names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := []string{}
	for _, e := range r.seen {
		names = append(names, e.name)
	}
	return names
}

// Of lists what was recorded of type T, in order: pointers to operations as they were
// handed over, or inputs of functions.
//
//	sequencertest.Of[*Welcome](rec)
func Of[T any](r *Recorder) []T {
	values := []T{}
	for _, f := range found[T](r, nil) {
		values = append(values, f.value)
	}
	return values
}

// InputsOf lists the inputs of the function registered under name, in order.
func InputsOf[In any](r *Recorder, name string) []In {
	values := []In{}
	for _, f := range found[In](r, nil) {
		if f.name == name {
			values = append(values, f.value)
		}
	}
	return values
}

// AssertDispatched fails unless an operation of this type was recorded that where
// accepts; nil accepts all. It looks at values as [Of] does.
func AssertDispatched[T any](r *Recorder, where func(T) bool) {
	r.tb.Helper()
	if len(assert(r, where)) == 0 {
		r.tb.Errorf("no %s%s was dispatched; there was %s", typeName[T](), condition(where), r)
	}
}

// AssertDispatchedOnce fails unless exactly one was.
func AssertDispatchedOnce[T any](r *Recorder, where func(T) bool) {
	r.tb.Helper()
	AssertDispatchedTimes(r, 1, where)
}

// AssertDispatchedTimes fails unless exactly n were.
func AssertDispatchedTimes[T any](r *Recorder, n int, where func(T) bool) {
	r.tb.Helper()
	if got := len(assert(r, where)); got != n {
		r.tb.Errorf("%d of %s%s were dispatched, want %d; there was %s", got, typeName[T](), condition(where), n, r)
	}
}

// AssertNotDispatched fails if one was.
func AssertNotDispatched[T any](r *Recorder, where func(T) bool) {
	r.tb.Helper()
	AssertDispatchedTimes(r, 0, where)
}

// AssertNamed fails unless the operation of this name was recorded n times. It is for
// functions without input; types say more to [AssertDispatched].
func (r *Recorder) AssertNamed(name string, n int) {
	r.tb.Helper()
	r.mu.Lock()
	got := 0
	for _, e := range r.seen {
		if e.name == name {
			e.asserted = true
			got++
		}
	}
	r.mu.Unlock()
	if got != n {
		r.tb.Errorf("%s was dispatched %d times, want %d; there was %s", name, got, n, r)
	}
}

// AssertNothing fails if anything was recorded.
func (r *Recorder) AssertNothing() {
	r.tb.Helper()
	if len(r.Names()) > 0 {
		r.tb.Errorf("nothing was to be dispatched; there was %s", r)
	}
}

// AssertNothingElse fails if something was recorded that no assertion so far found.
func (r *Recorder) AssertNothingElse() {
	r.tb.Helper()
	r.mu.Lock()
	rest := slices.DeleteFunc(slices.Clone(r.seen), func(e *entry) bool { return e.asserted })
	r.mu.Unlock()
	if len(rest) > 0 {
		r.tb.Errorf("nothing else was to be dispatched; there was %s", list(rest))
	}
}

// String lists names, and no input, which may be secret.
func (r *Recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return list(r.seen)
}

func list(seen []*entry) string {
	if len(seen) == 0 {
		return "nothing"
	}
	var names []string
	for _, e := range seen {
		names = append(names, e.name)
	}
	return strings.Join(names, ", ")
}

// one is an entry as a value of the type that was asked for.
type one[T any] struct {
	*entry
	value T
}

// found are the entries of type T that where accepts.
func found[T any](r *Recorder, where func(T) bool) []one[T] {
	r.mu.Lock()
	seen := slices.Clone(r.seen)
	r.mu.Unlock()
	var all []one[T]
	for _, e := range seen {
		v, ok := any(e.op).(T)
		if !ok {
			v, ok = sequencer.InputOf[T](&sequencer.Attempt{Operation: e.op})
		}
		if ok && (where == nil || where(v)) {
			all = append(all, one[T]{e, v})
		}
	}
	return all
}

// assert is found for an assertion, which thereby has been about them.
func assert[T any](r *Recorder, where func(T) bool) []one[T] {
	all := found(r, where)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range all {
		f.asserted = true
	}
	return all
}

func typeName[T any]() string { return strings.TrimPrefix(fmt.Sprintf("%T", new(T)), "*") }

func condition[T any](where func(T) bool) string {
	if where == nil {
		return ""
	}
	return " as asked for"
}
