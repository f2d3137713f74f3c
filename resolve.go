package sequencer

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// catalog is the content of a registry arranged for lookups, read-only.
type catalog struct {
	all     []*registration          // by name
	ordered []*registration          // by timestamp, then name (S3.4)
	byName  map[string]*registration // former names too
	byType  map[reflect.Type][]*registration
}

// catalog is built at the first lookup after a change, so that the lookups of a
// running program share it without a lock.
func (r *Registry) catalog() *catalog {
	if c := r.index.Load(); c != nil {
		return c
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &catalog{all: slices.Clone(r.content), byName: maps.Clone(r.owner), byType: make(map[reflect.Type][]*registration)}
	slices.SortStableFunc(c.all, func(a, b *registration) int { return cmp.Compare(a.name, b.name) })
	for _, n := range c.all {
		if n.ordered {
			c.ordered = append(c.ordered, n)
		}
		if !n.function && n.typ != nil {
			c.byType[n.typ] = append(c.byType[n.typ], n)
		}
	}
	slices.SortStableFunc(c.ordered, func(a, b *registration) int { return cmp.Compare(a.version, b.version) })
	r.index.Store(c)
	return c
}

// Clone is the registry as it is now: what is added to one of the two is not seen in
// the other. A test adds its own operations to one.
func (r *Registry) Clone() *Registry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &Registry{
		content: slices.Clone(r.content), owner: maps.Clone(r.owner), schedules: slices.Clone(r.schedules),
		problems: slices.Clone(r.problems), notes: slices.Clone(r.notes),
	}
}

// snapshot is the registry as it is now; later additions to r are not seen in it.
func (r *Registry) snapshot() *Registry {
	for {
		c := r.catalog()
		if s := r.snapshotAt(c); s != nil {
			return s
		}
	}
}

// snapshotAt is nil when the registry has changed since c was made.
func (r *Registry) snapshotAt(c *catalog) *Registry {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.index.Load() != c {
		return nil
	}
	s := &Registry{
		content: c.all, owner: c.byName, schedules: slices.Clone(r.schedules),
		problems: slices.Clone(r.problems), notes: slices.Clone(r.notes),
	}
	s.index.Store(c)
	return s
}

// all lists the registrations by name.
func (r *Registry) all() []*registration { return r.catalog().all }

// ordered lists those of deploy runs by timestamp, then name.
func (r *Registry) ordered() []*registration { return r.catalog().ordered }

// names lists the present names, sorted, without former ones.
func (r *Registry) names() []string {
	var names []string
	for _, n := range r.all() {
		names = append(names, n.name)
	}
	return names
}

// lookup finds a registration by its name or a former one.
func (r *Registry) lookup(name string) (*registration, bool) {
	n, ok := r.catalog().byName[name]
	return n, ok
}

// UnknownOperationError says that no registration fits, or several: a name or a
// type that nobody registered, or a type with several names. It matches
// [ErrOperationNotFound].
type UnknownOperationError struct {
	Name       string   // as asked for; "" when a value was handed over
	Type       string   // of the value; "" when a name was asked for
	Candidates []string // the names the type has, or that look like Name
}

func (e *UnknownOperationError) Error() string {
	switch {
	case e.Name != "" && len(e.Candidates) > 0:
		return fmt.Sprintf("operation %q is not registered: do you mean %s?", e.Name, strings.Join(e.Candidates, " or "))
	case e.Name != "":
		return fmt.Sprintf("operation %q is not registered: register it under that name, or correct the name", e.Name)
	case len(e.Candidates) > 0:
		return fmt.Sprintf("operation %s is registered as %s: say which with sequencer.Named", e.Type, strings.Join(e.Candidates, " and "))
	}
	return fmt.Sprintf("operation %s is not registered: register its type under a name", e.Type)
}

// Is makes errors.Is(err, ErrOperationNotFound) true.
func (e *UnknownOperationError) Is(target error) bool { return target == ErrOperationNotFound }

// notFound is the error for a name that is not in the registry, with those that
// look like it.
func notFound(reg *Registry, name string) error {
	return &UnknownOperationError{Name: name, Candidates: similar(name, reg.names())}
}

// similar picks the names that hold what was asked for, or are held by it,
// whatever the case: a name without its timestamp, or with a word too many.
func similar(name string, names []string) []string {
	const most = 3
	var found []string
	asked := strings.ToLower(name)
	for _, n := range names {
		if l := strings.ToLower(n); asked != "" && len(found) < most && (strings.Contains(l, asked) || strings.Contains(asked, l)) {
			found = append(found, n)
		}
	}
	return found
}

// resolve finds what op is registered as. The value it answers is a pointer of
// the registered type, or a *funcOperation, whatever op was wrapped in. The
// request is what all of With's options ask for, the innermost applied first, so
// that the outermost wins.
func (r *Registry) resolve(op Operation) (*registration, Operation, *request, error) {
	reg, value, opts, err := r.find(op)
	if err != nil {
		return nil, nil, nil, err
	}
	q := newRequest(opts)
	if q.err != nil {
		return nil, nil, nil, fmt.Errorf("%s: %w", reg.name, q.err)
	}
	return reg, value, q, nil
}

func (r *Registry) find(op Operation) (*registration, Operation, []DispatchOption, error) {
	inner, opts := unwrap(op)
	switch o := inner.(type) {
	case *namedOperation:
		return r.findNamed(o, opts)
	case *funcOperation:
		reg, ok := r.lookup(o.name)
		if !ok {
			return nil, nil, nil, notFound(r, o.name)
		}
		return reg, o, opts, reg.accepts(o)
	case *Batch, *Chain:
		return nil, nil, nil, inner.(interface{ notAlone() error }).notAlone()
	case *tickOperation:
		return nil, nil, nil, errors.New("what ForTick makes belongs to a Schedule: dispatch the operation itself")
	}
	value, typ, err := pointerTo(inner)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%w was handed over: use a value", err)
	}
	candidates := r.catalog().byType[typ]
	if len(candidates) == 1 {
		return candidates[0], value, opts, nil
	}
	e := &UnknownOperationError{Type: typ.String()}
	for _, c := range candidates {
		e.Candidates = append(e.Candidates, c.name)
	}
	return nil, nil, nil, e
}

func (r *Registry) findNamed(n *namedOperation, opts []DispatchOption) (*registration, Operation, []DispatchOption, error) {
	reg, ok := r.lookup(n.name)
	if !ok {
		return nil, nil, nil, notFound(r, n.name)
	}
	input := n.input
	if op, ok := input.(Operation); ok {
		inner, its := unwrap(op)
		input, opts = inner, slices.Concat(its, opts)
	}
	op, err := reg.shape(input)
	return reg, op, opts, err
}

// accepts refuses a function's value that was made for another registry.
func (r *registration) accepts(f *funcOperation) error {
	switch in := reflect.ValueOf(f.input); {
	case !r.function:
		return fmt.Errorf("%s is registered as %s, not as a function: it belongs to another registry", r.name, r.typ)
	case f.input == nil && r.typ == nil:
		return nil
	case f.input == nil || r.typ == nil || in.Type().Elem() != r.typ:
		return fmt.Errorf("%s is registered with another input: it belongs to another registry", r.name)
	case in.IsNil():
		return fmt.Errorf("dispatch %s with a nil input: hand over a value", r.name)
	}
	return nil
}

// shape makes the operation that r's name stands for out of any input: a value of
// the registered type as it is, nothing as what the factory makes, and anything
// else by way of its JSON, strictly, so that a misspelled field is the caller's
// error rather than a zero on the worker.
func (r *registration) shape(input any) (Operation, error) {
	op, err := r.fresh()
	if err != nil || input == nil {
		return op, err
	}
	if f, ok := input.(*funcOperation); ok {
		return f, r.accepts(f)
	}
	if v := reflect.ValueOf(input); r.typ != nil {
		if v.Kind() == reflect.Pointer && !v.IsNil() {
			v = v.Elem()
		}
		if v.Type() == r.typ {
			return r.adoptValue(op, v), nil
		}
	}
	if o, ok := input.(Operation); ok {
		return nil, fmt.Errorf("%s: the input is an operation of type %T: hand over one of type %s, or its fields", r.name, o, r.typ)
	}
	raw, err := json.Marshal(input)
	if err != nil {
		if r.encrypted {
			return nil, r.inputError(err)
		}
		return nil, fmt.Errorf("%s: encode the input: %w", r.name, err)
	}
	if r.typ == nil {
		return nil, fmt.Errorf("%s: it takes no input: pass nil", r.name)
	}
	if _, given := input.(json.RawMessage); !given {
		err = r.checkText(raw)
	} else if !utf8.Valid(raw) {
		err = r.textError()
	}
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(r.subject(op)); err != nil {
		return nil, r.inputError(err)
	}
	return op, nil
}

// adoptValue wraps a value of the registered type, copied, as fresh would.
func (r *registration) adoptValue(fresh Operation, v reflect.Value) Operation {
	p := reflect.New(r.typ)
	p.Elem().Set(v)
	if f, ok := fresh.(*funcOperation); ok {
		return &funcOperation{f.name, p.Interface(), nil}
	}
	return p.Interface().(Operation)
}

// pointerTo answers op as a pointer and the type it points to: abilities are
// asked of a pointer, because a type handed over by value may declare some with
// pointer receivers.
func pointerTo(op Operation) (Operation, reflect.Type, error) {
	if op == nil {
		return nil, nil, errors.New("a nil operation")
	}
	v := reflect.ValueOf(op)
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil, nil, fmt.Errorf("a nil %T", op)
		}
		return op, v.Type().Elem(), nil
	}
	p := reflect.New(v.Type())
	p.Elem().Set(v)
	return p.Interface().(Operation), v.Type(), nil
}

// funcOperation is a registered function. What RegisterFunc hands out lacks the
// call; what fresh returns has it.
type funcOperation struct {
	name  string
	input any // a pointer; nil where the function takes none
	call  func(ctx context.Context, input any) error
}

func (f *funcOperation) Handle(ctx context.Context) error {
	if f.call == nil {
		return errNotDispatched(f.name)
	}
	return f.call(ctx, f.input)
}

// String leaves out the input, which may be secret.
func (f *funcOperation) String() string { return f.name }

// Input is a pointer to the function's input, nil without one; test helpers read it.
func (f *funcOperation) Input() any { return f.input }

type namedOperation struct {
	name  string
	input any
}

// Named is the operation registered under name with this input: for a type
// registered under several names, and for code that does not import the type.
// Input is a value of the registered type, an [Operation] among them, or anything
// with the same JSON; nil takes the factory's defaults. A wrong shape is an error
// of the dispatch.
func Named(name string, input any) Operation {
	return &namedOperation{strings.TrimSpace(name), input}
}

// String leaves out the input, which may be secret.
func (n *namedOperation) String() string { return n.name }

func (n *namedOperation) Handle(context.Context) error { return errNotDispatched(n.name) }

type withOperation struct {
	op   Operation
	opts []DispatchOption
}

// With gives one member of a batch or chain options of its own. Options nest, and
// the outermost wins.
func With(op Operation, opts ...DispatchOption) Operation {
	return &withOperation{op, slices.Clone(opts)}
}

func (w *withOperation) Handle(context.Context) error {
	return errNotDispatched(fmt.Sprintf("%T", w.op))
}

// unwrap looks through With. The options come innermost first.
func unwrap(op Operation) (Operation, []DispatchOption) {
	w, ok := op.(*withOperation)
	if !ok {
		return op, nil
	}
	inner, opts := unwrap(w.op)
	return inner, append(opts, w.opts...)
}

// Each turns a slice of one type of operation into the slice that Batch and Chain
// take: []*Import is not []Operation.
func Each[T Operation](ops []T) []Operation {
	list := make([]Operation, len(ops))
	for i, op := range ops {
		list[i] = op
	}
	return list
}

func errNotDispatched(what string) error {
	return fmt.Errorf("operation %s only stands for its registration: dispatch or execute it with a Sequencer", what)
}
