package sequencer

import (
	"context"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"
)

// ability is one optional method. The bundles of operation.go are for readers;
// what is looked up is always the single method.
type ability uint8

const (
	abilityTries ability = iota
	abilityBackoff
	abilityRetryUntil
	abilityRetryFor
	abilityTimeout
	abilityFailOnTimeout
	abilityMaxExceptions
	abilityMiddleware
	abilityTags
	abilityUniqueID
	abilityUniqueFor
	abilityUniqueVia
	abilityBefore
	abilityAfter
	abilityFailed
	abilityShouldRun
	abilityRollback
	abilityDependsOn
	abilityEnvironments
	abilityExecuteAt
	abilityQueue
	abilityMinBuild
	abilityEstimate
	abilityApprovedBy
	abilityCount
)

// abilities says what each method is called, what it must look like, and which
// registration option says the same for a function.
var abilities = [abilityCount]struct {
	method    string
	signature reflect.Type
	option    string
}{
	abilityTries:         {"Tries", reflect.TypeFor[func() int](), "Tries"},
	abilityBackoff:       {"Backoff", reflect.TypeFor[func() []time.Duration](), "Backoff"},
	abilityRetryUntil:    {"RetryUntil", reflect.TypeFor[func() time.Time](), ""},
	abilityRetryFor:      {"RetryFor", reflect.TypeFor[func() time.Duration](), "RetryFor"},
	abilityTimeout:       {"Timeout", reflect.TypeFor[func() time.Duration](), "Timeout"},
	abilityFailOnTimeout: {"FailOnTimeout", reflect.TypeFor[func() bool](), "FailOnTimeout"},
	abilityMaxExceptions: {"MaxExceptions", reflect.TypeFor[func() int](), "MaxExceptions"},
	abilityMiddleware:    {"Middleware", reflect.TypeFor[func() []Middleware](), "Use"},
	abilityTags:          {"Tags", reflect.TypeFor[func() []string](), "Tagged"},
	abilityUniqueID:      {"UniqueID", reflect.TypeFor[func() string](), ""},
	abilityUniqueFor:     {"UniqueFor", reflect.TypeFor[func() time.Duration](), ""},
	abilityUniqueVia:     {"UniqueVia", reflect.TypeFor[func() string](), ""},
	abilityBefore:        {"Before", reflect.TypeFor[func(context.Context) error](), "OnBefore"},
	abilityAfter:         {"After", reflect.TypeFor[func(context.Context) error](), "OnAfter"},
	abilityFailed:        {"Failed", reflect.TypeFor[func(context.Context, error) error](), "OnFailed"},
	abilityShouldRun:     {"ShouldRun", reflect.TypeFor[func(context.Context) (bool, error)](), "When"},
	abilityRollback:      {"Rollback", reflect.TypeFor[func(context.Context) error](), "Undo"},
	abilityDependsOn:     {"DependsOn", reflect.TypeFor[func() []Dependency](), "DependsOn"},
	abilityEnvironments:  {"Environments", reflect.TypeFor[func() []string](), "Environments"},
	abilityExecuteAt:     {"ExecuteAt", reflect.TypeFor[func() time.Time](), ""},
	abilityQueue:         {"Queue", reflect.TypeFor[func() string](), "OnQueue"},
	abilityMinBuild:      {"MinBuild", reflect.TypeFor[func() int64](), "MinBuild"},
	abilityEstimate:      {"Estimate", reflect.TypeFor[func(context.Context) (int64, error)](), "Estimate"},
	abilityApprovedBy:    {"ApprovedBy", reflect.TypeFor[func() string](), "ApprovedBy"},
}

func (a ability) String() string { return abilities[a].method }

// abilitySet is a set of abilities, one bit each.
type abilitySet uint32

func (s abilitySet) has(a ability) bool { return s&(1<<a) != 0 }
func (s *abilitySet) add(a ability)     { *s |= 1 << a }

// abilityMethods finds every method of t that has an ability's name, with
// whatever signature. Each name must stand here as a literal: a variable, a loop
// or a helper that takes the name makes the linker keep every exported method of
// every reachable type in the user's binary (about a quarter more of it).
func abilityMethods(t reflect.Type) (m [abilityCount]reflect.Method) {
	m[abilityTries], _ = t.MethodByName("Tries")
	m[abilityBackoff], _ = t.MethodByName("Backoff")
	m[abilityRetryUntil], _ = t.MethodByName("RetryUntil")
	m[abilityRetryFor], _ = t.MethodByName("RetryFor")
	m[abilityTimeout], _ = t.MethodByName("Timeout")
	m[abilityFailOnTimeout], _ = t.MethodByName("FailOnTimeout")
	m[abilityMaxExceptions], _ = t.MethodByName("MaxExceptions")
	m[abilityMiddleware], _ = t.MethodByName("Middleware")
	m[abilityTags], _ = t.MethodByName("Tags")
	m[abilityUniqueID], _ = t.MethodByName("UniqueID")
	m[abilityUniqueFor], _ = t.MethodByName("UniqueFor")
	m[abilityUniqueVia], _ = t.MethodByName("UniqueVia")
	m[abilityBefore], _ = t.MethodByName("Before")
	m[abilityAfter], _ = t.MethodByName("After")
	m[abilityFailed], _ = t.MethodByName("Failed")
	m[abilityShouldRun], _ = t.MethodByName("ShouldRun")
	m[abilityRollback], _ = t.MethodByName("Rollback")
	m[abilityDependsOn], _ = t.MethodByName("DependsOn")
	m[abilityEnvironments], _ = t.MethodByName("Environments")
	m[abilityExecuteAt], _ = t.MethodByName("ExecuteAt")
	m[abilityQueue], _ = t.MethodByName("Queue")
	m[abilityMinBuild], _ = t.MethodByName("MinBuild")
	m[abilityEstimate], _ = t.MethodByName("Estimate")
	m[abilityApprovedBy], _ = t.MethodByName("ApprovedBy")
	return m
}

// misspelling is a method that is likely meant as an ability: another spelling of
// one, or a marker written as a method.
type misspelling struct {
	method reflect.Method
	means  ability
	marker string // instead of means
}

// misspellings finds the likely ones, with literal names for the same reason.
func misspellings(t reflect.Type) (found []misspelling) {
	spelled := func(means ability) func(reflect.Method, bool) {
		return func(m reflect.Method, ok bool) {
			if ok {
				found = append(found, misspelling{method: m, means: means})
			}
		}
	}
	spelled(abilityUniqueID)(t.MethodByName("UniqueId"))
	spelled(abilityUniqueID)(t.MethodByName("UniqueKey"))
	spelled(abilityTries)(t.MethodByName("Retries"))
	spelled(abilityTries)(t.MethodByName("MaxTries"))
	spelled(abilityTries)(t.MethodByName("MaxAttempts"))
	spelled(abilityBackoff)(t.MethodByName("BackOff"))
	spelled(abilityTimeout)(t.MethodByName("TimeOut"))
	spelled(abilityFailOnTimeout)(t.MethodByName("FailOnTimeOut"))
	spelled(abilityMaxExceptions)(t.MethodByName("MaxErrors"))
	spelled(abilityMiddleware)(t.MethodByName("Middlewares"))
	spelled(abilityRollback)(t.MethodByName("RollBack"))
	spelled(abilityDependsOn)(t.MethodByName("Dependencies"))

	marker := func(name string) func(reflect.Method, bool) {
		return func(m reflect.Method, ok bool) {
			if ok {
				found = append(found, misspelling{method: m, marker: name})
			}
		}
	}
	marker("Async")(t.MethodByName("Async"))
	marker("Async")(t.MethodByName("Asynchronous"))
	marker("Encrypted")(t.MethodByName("Encrypted"))
	marker("Encrypted")(t.MethodByName("ShouldBeEncrypted"))
	marker("Idempotent")(t.MethodByName("Idempotent"))
	marker("AllowedToFail")(t.MethodByName("AllowedToFail"))
	return found
}

// inspect finds the abilities and markers of the type behind r and reports what
// looks like an ability and would never be called.
func (r *registration) inspect() {
	if r.typ == nil { // a function without input has only what its options say
		for _, name := range r.notAbilities {
			r.problemf("NotAbility(%q) on a function without input, which has no methods: remove it", name)
		}
		return
	}
	embedded := embeddedTypes(r.typ)
	r.inspectMarkers(embedded)
	excused := r.inspectMethods(embedded[1:])
	pointer := reflect.PointerTo(r.typ)
	for _, m := range misspellings(pointer) {
		if slices.Contains(r.notAbilities, m.method.Name) {
			excused = append(excused, m.method.Name)
			continue
		}
		r.inspectSpelling(pointer, m)
	}
	for _, name := range r.notAbilities {
		if !slices.Contains(excused, name) {
			r.problemf("%s: NotAbility(%q) names no method of it that is, or resembles, an ability: remove it", r.subjectName(), name)
		}
	}
}

// inspectMethods sorts the methods that have an ability's name into abilities and
// problems, and answers those that NotAbility switched off.
func (r *registration) inspectMethods(embedded []embeddedType) (excused []string) {
	const remedy = "or register with NotAbility(%q) if it is not meant for Sequencer"
	pointer := reflect.PointerTo(r.typ)
	for a, found := range abilityMethods(pointer) {
		a, name, want := ability(a), abilities[a].method, abilities[a].signature
		hidden := ""
		if found.Name == "" {
			if hidden = hiddenIn(embedded, a); hidden == "" {
				continue
			}
		}
		switch {
		case slices.Contains(r.notAbilities, name):
			excused = append(excused, name)
		case hidden != "":
			r.problemf("%s: method %s of the embedded %s is not promoted, because another embedded type or a field has that name too, "+
				"and would never be called\n\tdeclare it on the operation itself, "+remedy,
				r.subjectName(), name, hidden, name)
		case !hasSignature(pointer, found, want):
			r.problemf("%s: method %s has another signature than the ability of that name\n\tfound:  %s%s\n\twanted: %s\n\trename it, "+remedy,
				r.subjectName(), name, signatureText(name, pointer, found), promotedFrom(r.typ, found, embedded, a),
				signatureText(name, nil, reflect.Method{Type: want}), name)
		default:
			r.methods.add(a)
		}
	}
	return excused
}

// inspectSpelling reports m when nothing but its name keeps it from being an
// ability and the ability is not there under its own name.
func (r *registration) inspectSpelling(pointer reflect.Type, m misspelling) {
	const remedy = "or register with NotAbility(%q) if it is not meant for Sequencer"
	found := signatureText(m.method.Name, pointer, m.method)
	switch {
	case m.marker != "":
		if hasSignature(pointer, m.method, reflect.TypeFor[func() bool]()) && !r.marked(m.marker) {
			r.problemf("%s: method %s would never be called, since %s is a marker\n\tembed sequencer.%s in the struct, "+remedy,
				r.subjectName(), found, m.marker, m.marker, m.method.Name)
		}
	case !r.methods.has(m.means) && !r.given.has(m.means) && hasSignature(pointer, m.method, abilities[m.means].signature):
		r.problemf("%s: method %s would never be called, the ability is spelled %s\n\trename it, "+remedy,
			r.subjectName(), found, m.means, m.method.Name)
	}
}

// inspectMarkers looks at embedded types by identity. A method would not do: two
// embedded types that both bring it are ambiguous, and Go drops it silently.
func (r *registration) inspectMarkers(embedded []embeddedType) {
	for _, e := range embedded {
		if mark := markOf(e.typ); mark != nil {
			mark(r)
			continue
		}
		if e.typ.Kind() != reflect.Struct {
			continue
		}
		for f := range e.typ.Fields() {
			if !f.Anonymous && markOf(f.Type) != nil {
				r.problemf("%s: field %s has the type of a marker, which counts only when it is embedded: write %s without a field name",
					r.subjectName(), f.Name, f.Type)
			}
		}
	}
}

// markOf answers what the marker t does to a registration, or nil.
func markOf(t reflect.Type) func(*registration) {
	switch t {
	case reflect.TypeFor[Async]():
		return func(r *registration) { r.async = true }
	case reflect.TypeFor[Encrypted]():
		return func(r *registration) { r.encrypted = true }
	case reflect.TypeFor[Idempotent]():
		return func(r *registration) { r.idempotent = true }
	case reflect.TypeFor[AllowedToFail]():
		return func(r *registration) { r.allowedToFail = true }
	case reflect.TypeFor[TxRequire]():
		return func(r *registration) { r.txRequire = true }
	case reflect.TypeFor[UniqueUntilStart]():
		return func(r *registration) { r.untilStart = true }
	case reflect.TypeFor[TxNever]():
		return func(r *registration) { r.txNever = true }
	case reflect.TypeFor[Rehearsable]():
		return func(r *registration) { r.rehearsable = true }
	}
	return nil
}

func (r *registration) marked(marker string) bool {
	return marker == "Async" && r.async || marker == "Encrypted" && r.encrypted ||
		marker == "Idempotent" && r.idempotent || marker == "AllowedToFail" && r.allowedToFail
}

// embeddedType is a type found inside another by embedding; path is how a reader
// would name it, "" for the outermost.
type embeddedType struct {
	path    string
	typ     reflect.Type // without the pointer
	methods [abilityCount]reflect.Method
}

// embeddedTypes walks from t through embedded fields, nearest first, as Go's
// promotion does; t itself comes first. A type reached twice is listed once.
func embeddedTypes(t reflect.Type) []embeddedType {
	found := []embeddedType{{typ: t}}
	seen := map[reflect.Type]bool{t: true}
	for i := 0; i < len(found); i++ {
		e := found[i]
		if e.typ.Kind() != reflect.Struct {
			continue
		}
		for f := range e.typ.Fields() {
			ft := f.Type
			if ft.Kind() == reflect.Pointer {
				ft = ft.Elem()
			}
			if !f.Anonymous || seen[ft] {
				continue
			}
			seen[ft] = true
			found = append(found, embeddedType{strings.TrimPrefix(e.path+"."+f.Name, "."), ft, abilityMethods(methodHolder(ft))})
		}
	}
	return found
}

// hiddenIn names an embedded type that has ability a although the type around it
// lacks the method: Go promotes neither of two at the same depth, and none that a
// field hides, without a word.
func hiddenIn(embedded []embeddedType, a ability) string {
	for _, e := range embedded {
		if m := e.methods[a]; m.Name != "" && hasSignature(methodHolder(e.typ), m, abilities[a].signature) {
			return e.path
		}
	}
	return ""
}

// methodHolder is the type whose method set is promoted from an embedded t: the
// pointer's, since abilities are asked of addressable values.
func methodHolder(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Interface {
		return t
	}
	return reflect.PointerTo(t)
}

// promotedFrom answers " (promoted from Base)" for a method that t does not declare itself.
func promotedFrom(t reflect.Type, m reflect.Method, embedded []embeddedType, a ability) string {
	if declared(abilityMethods(t)[a]) || declared(m) {
		return ""
	}
	for _, e := range embedded {
		if e.methods[a].Name != "" {
			return " (promoted from " + e.path + ")"
		}
	}
	return ""
}

// declared tells a method with source from the wrapper the compiler makes for a
// promoted one (or for a value receiver's pointer type), which has none.
func declared(m reflect.Method) bool {
	if m.Name == "" || !m.Func.IsValid() {
		return false
	}
	f := runtime.FuncForPC(m.Func.Pointer())
	if f == nil {
		return false
	}
	file, _ := f.FileLine(f.Entry())
	return file != "<autogenerated>"
}

// parameters lists what m takes, without the receiver; holder is nil for a plain
// function type.
func parameters(holder reflect.Type, m reflect.Method) []reflect.Type {
	var in []reflect.Type
	for t := range m.Type.Ins() {
		in = append(in, t)
	}
	if holder != nil && holder.Kind() != reflect.Interface {
		in = in[1:]
	}
	return in
}

func hasSignature(holder reflect.Type, m reflect.Method, want reflect.Type) bool {
	return m.Type.IsVariadic() == want.IsVariadic() &&
		slices.Equal(parameters(holder, m), slices.Collect(want.Ins())) &&
		slices.Equal(slices.Collect(m.Type.Outs()), slices.Collect(want.Outs()))
}

// signatureText prints a method as it is declared. reflect shows a variadic
// parameter as a slice, which can make found and wanted look the same.
func signatureText(name string, holder reflect.Type, m reflect.Method) string {
	var in, out []string
	for _, t := range parameters(holder, m) {
		in = append(in, t.String())
	}
	if last := len(in) - 1; m.Type.IsVariadic() {
		in[last] = "..." + strings.TrimPrefix(in[last], "[]")
	}
	for t := range m.Type.Outs() {
		out = append(out, t.String())
	}
	text := fmt.Sprintf("%s(%s)", name, strings.Join(in, ", "))
	switch len(out) {
	case 0:
		return text
	case 1:
		return text + " " + out[0]
	}
	return text + " (" + strings.Join(out, ", ") + ")"
}
