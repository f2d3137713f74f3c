package sequencer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Registry holds the operations of a program under their names. It is an ordinary
// value: no globals, no init functions; several packages may add to one, from
// several goroutines. New reads it once, later additions are not seen. An empty
// registry is no error (S2.6).
//
// A name that starts with a digit is an ordered operation, part of deploy runs,
// and must begin with its timestamp, as 20240115120000_seed_admin or
// 2024_01_15_120000_seed_admin. Any other name is unlisted: reached by Dispatch,
// Execute and flows alone (S2.9).
type Registry struct {
	mu      sync.Mutex // guards what follows, up to index
	content []*registration
	owner   map[string]*registration // of every name and former name

	schedules []*schedule
	problems  []error
	notes     []string

	index atomic.Pointer[catalog] // of content; nil after a change
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry { return &Registry{} }

// Err returns the problems so far, joined, each with the file and line of its
// registration; New returns the same. It serves a test of the registry alone.
func (r *Registry) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.problems...)
}

// known are all names by which rows may ask for an operation of this registry.
func (r *Registry) known() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.owner))
}

// warnings are what works and is probably not meant.
func (r *Registry) warnings() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.notes)
}

// Register adds a type of operation under a name. The factory makes the value for
// each attempt: it injects the dependencies and may set defaults, which the input
// then overwrites. A type may be registered by value or by pointer and under
// several names; with several, dispatch it by [Named].
//
// The factory is called once here, to check what the operation declares. Whatever
// is wrong comes back from New, all at once.
func Register[T Operation](reg *Registry, name string, factory func() T, opts ...RegisterOption) {
	r := newRegistration(name, opts)
	if factory == nil {
		r.problemf("%w: pass a function, for example sequencer.Make[T]", errNoFactory)
		r.fresh = func() (Operation, error) { return nil, fmt.Errorf("%s: %w", r.name, errNoFactory) }
	} else {
		r.adopt(func() Operation { return factory() })
	}
	reg.add(r)
}

// errNoFactory is why a registration cannot make values. New returns it once, for
// the registration, whatever else stumbles over it.
var errNoFactory = errors.New("the factory is nil")

// RegisterFunc makes a function an operation. The value it returns can be
// dispatched like any other and holds only the name.
func RegisterFunc(reg *Registry, name string, fn func(context.Context) error, opts ...RegisterOption) Operation {
	r := newRegistration(name, opts)
	r.function = true
	if fn == nil {
		r.problemf("the function is nil")
	}
	call := func(ctx context.Context, _ any) error { return fn(ctx) }
	r.fresh = func() (Operation, error) { return &funcOperation{name: r.name, call: call}, nil }
	r.examine()
	reg.add(r)
	return &funcOperation{name: r.name}
}

// RegisterFuncOf makes a function with input an operation; the function returned
// makes values to dispatch. What is said of an operation's fields holds for In,
// which may also carry ability methods, such as UniqueID and Tags.
func RegisterFuncOf[In any](reg *Registry, name string, fn func(context.Context, In) error, opts ...RegisterOption) func(In) Operation {
	r := newRegistration(name, opts)
	r.function = true
	if fn == nil {
		r.problemf("the function is nil")
	}
	// The input travels as a pointer to a struct whether In is one or not, so that
	// abilities with pointer receivers are found and decoding has a target.
	fresh := func() any { return new(In) }
	call := func(ctx context.Context, in any) error { return fn(ctx, *in.(*In)) }
	wrap := func(in In) Operation { return &funcOperation{name: r.name, input: &in} }
	r.typ = reflect.TypeFor[In]()
	if r.typ.Kind() == reflect.Pointer {
		r.typ = r.typ.Elem()
		fresh = func() any { return reflect.New(r.typ).Interface() }
		call = func(ctx context.Context, in any) error { return fn(ctx, in.(In)) }
		wrap = func(in In) Operation { return &funcOperation{name: r.name, input: in} }
	}
	r.fresh = func() (Operation, error) { return &funcOperation{r.name, fresh(), call}, nil }
	r.examine()
	reg.add(r)
	return wrap
}

// Make is the factory of a type without dependencies:
// Register(reg, "cleanup", sequencer.Make[Cleanup]).
func Make[T any]() *T { return new(T) }

// InTx makes a function that takes a transaction, as goose's do, an ordinary one:
// it runs in the transaction of its attempt and commits with the outcome. T is
// whatever kind Tx knows in the store at hand. A nil function stays nil.
func InTx[T any](fn func(ctx context.Context, tx T) error) func(context.Context) error {
	if fn == nil {
		return nil
	}
	return func(ctx context.Context) error {
		tx, err := Tx[T](ctx)
		if err != nil {
			return err
		}
		return fn(ctx, tx)
	}
}

// undeclared is what all registrations without options share.
var undeclared settings

// newRegistration notes who calls, two frames up, reads the name and applies the
// options.
func newRegistration(name string, opts []RegisterOption) *registration {
	r := &registration{name: strings.TrimSpace(name), set: &undeclared}
	runtime.Callers(3, r.callers[:])
	if len(opts) > 0 {
		r.set = new(settings)
	}
	version, err := parseName(r.name)
	if err != nil {
		r.problemf("%w", err)
	}
	r.version, r.ordered = version, version != 0
	for _, o := range opts {
		if o == nil {
			r.problemf("a nil option: leave it out")
			continue
		}
		o.register(r)
	}
	return r
}

// adopt learns the type from a first value of the factory.
func (r *registration) adopt(factory func() Operation) {
	r.fresh = func() (Operation, error) {
		op, typ, err := fromFactory(factory)
		if err == nil && typ != r.typ && r.typ != nil {
			err = fmt.Errorf("the factory returns %s now and returned %s before: one name has one type", typ, r.typ)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.name, err)
		}
		return op, nil
	}
	op, err := r.fresh()
	switch op.(type) {
	case nil:
		r.problemf("%w", errors.Unwrap(err))
	case *funcOperation, *namedOperation, *withOperation, *tickOperation:
		r.problemf("the factory returns what %s made, which stands for a registered operation: return a type of your own", op)
	default:
		r.typ = reflect.TypeOf(op).Elem()
		r.examine()
	}
}

// fromFactory calls the user's factory and refuses what it should not return.
func fromFactory(factory func() Operation) (op Operation, typ reflect.Type, err error) {
	defer func() {
		if v := recover(); v != nil {
			op, err = nil, fmt.Errorf("the factory panics: %v", v)
		}
	}()
	if op, typ, err = pointerTo(factory()); err != nil {
		return nil, nil, fmt.Errorf("the factory returns %w: make it return a new value each time", err)
	}
	return op, typ, nil
}

// add claims the names and files the registration, problems or not: the others
// are still worth checking against it.
func (r *Registry) add(n *registration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.claim(n, n.name, "name")
	for _, former := range n.former {
		r.claim(n, former, "former name")
	}
	r.content = append(r.content, n)
	r.problems = append(r.problems, n.problems...)
	r.notes = append(r.notes, n.warnings...)
	r.index.Store(nil)
}

// claim makes a name n's; it may be nobody else's, not even as a former name,
// since the ledger could then not tell whose its rows are (S2.3, S2.5).
func (r *Registry) claim(n *registration, name, what string) {
	if name == "" {
		return // reported already, and it would be everybody's
	}
	if r.owner == nil {
		r.owner = make(map[string]*registration)
	}
	switch o := r.owner[name]; {
	case o == nil:
		r.owner[name] = n
	case o == n:
		n.problemf("the %s %q is among its own names already: remove it from FormerNames", what, name)
	case o.name == name:
		n.problemf("the %s %q is taken by the registration at %s: choose another", what, name, o.place())
	default:
		n.problemf("the %s %q is a former name of %s, registered at %s: choose another", what, name, o.name, o.place())
	}
}

// registrars are packages of ours that register operations for their callers.
const registrars = "github.com/gosequencer/sequencer/backfill."

// place is where it was registered, for people.
func (r *registration) place() string {
	walk := runtime.CallersFrames(r.callers[:])
	at, more := walk.Next()
	for more && strings.HasPrefix(at.Function, registrars) {
		at, more = walk.Next()
	}
	return fmt.Sprintf("%s:%d", filepath.Base(at.File), at.Line)
}

func (r *registration) where() string {
	name := r.name
	if checkIdentifier("name", name) != nil {
		name = fmt.Sprintf("%.40q", name)
	}
	return fmt.Sprintf("register %s at %s", name, r.place())
}

func (r *registration) problemf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	r.problems = append(r.problems, fmt.Errorf("%s: %w", r.where(), err))
}

// subjectName is whose methods and fields a problem is about.
func (r *registration) subjectName() string {
	switch {
	case r.typ == nil:
		return "function"
	case r.function:
		return "input " + r.typ.String()
	}
	return r.typ.String()
}
