package sequencer

import (
	"cmp"
	"encoding"
	"encoding/json"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"
)

// checkInput says what JSON would lose or refuse in an input of type t, which is
// better known at start-up than on a worker: an exported *sql.DB, say, is stored
// as {} or null and then overwrites what the factory injected. Of each field it
// tells the first problem only: behind an exported *http.Client there are dozens.
func checkInput(t reflect.Type, function bool) []string {
	w := inputWalk{fine: make(map[reflect.Type]bool), function: function}
	if t.Kind() == reflect.Struct && !function {
		// An operation starts small and grows: what an embedded type's encoding
		// swallows may be a field that does not exist yet.
		if by := borrowedEncoding(t); by != "" {
			return []string{fmt.Sprintf("the embedded %s has its own encoding, which takes the place of the whole input: "+
				"give it a field name", by)}
		}
	}
	return w.value(inputPlace{declared: t}, t)
}

// inputPlace is where a type stands in the input.
type inputPlace struct {
	path     string // "" is the input itself
	declared reflect.Type
}

const keepOut = "unexport it, or tag it `json:\"-\"`"

func (p inputPlace) problem(what, remedy string) []string {
	name := "the input"
	if p.path != "" {
		name = "input field " + p.path
	}
	return []string{fmt.Sprintf("%s (%s) %s: %s", name, p.declared, what, remedy)}
}

// inputWalk remembers the types in which it found nothing, or is just looking:
// types may contain themselves.
type inputWalk struct {
	fine     map[reflect.Type]bool
	function bool
}

// value answers the problems of type t at a place: of the input itself all that
// its fields have, below it the first.
func (w *inputWalk) value(at inputPlace, t reflect.Type) (problems []string) {
	if w.fine[t] {
		return nil
	}
	w.fine[t] = true
	defer func() {
		if len(problems) > 0 {
			delete(w.fine, t) // the next field of this type is told of as well
		}
	}()
	switch writes, reads := encodesItself(t); {
	case writes && !reads:
		return at.problem("can be written as JSON and not read back", "add UnmarshalJSON or UnmarshalText, "+keepOut)
	case writes:
		if by := borrowedEncoding(t); by != "" && t.NumField() > 1 {
			return at.problem("is encoded by its embedded "+by+" alone, and its other fields are lost", "give "+by+" a field name")
		}
		return nil
	}
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Complex64, reflect.Complex128:
		if at.path == "" {
			return at.problem("cannot be stored", "make it a struct, or register a function by RegisterFunc")
		}
		return at.problem("cannot be stored", keepOut)
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return at.problem("cannot be restored, because JSON does not tell which type it had", "use a concrete type, "+keepOut)
		}
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return w.value(at, t.Elem())
	case reflect.Map:
		if !isMapKey(t.Key()) {
			return at.problem("has keys that JSON cannot write", "use strings or integers, "+keepOut)
		}
		return w.value(at, t.Elem())
	case reflect.Struct:
		return w.structure(at, t)
	default: // text, numbers, booleans
	}
	return nil
}

// structure checks a struct that has no encoding of its own.
func (w *inputWalk) structure(at inputPlace, t reflect.Type) []string {
	if by := borrowedEncoding(t); by != "" { // and of another, or t would be encoded by this one
		return at.problem("embeds "+by+", whose value JSON then cannot see", "give it a field name")
	}
	fields, excluded, problems := flatten(t, at.path)
	operation := at.path == "" && !w.function // may well have no input
	if len(fields) == 0 && !excluded && t.Size() > 0 && !operation {
		problems = append(problems, at.problem("has no exported fields, so nothing of it is stored and restoring loses what the factory has set", keepOut)...)
	}
	for problem := range w.fields(fields) {
		problems = append(problems, problem)
		if at.path != "" {
			break
		}
	}
	return problems
}

// inputField is a field as encoding/json sees it, those of embedded structs
// standing in their place.
type inputField struct {
	inputPlace
	name   string // in JSON
	depth  int    // of embedding
	tagged bool
}

// fields answers the problems of a struct's fields, at most one of each.
func (w *inputWalk) fields(fields []inputField) iter.Seq[string] {
	byName := make(map[string][]inputField)
	for _, f := range fields {
		byName[f.name] = append(byName[f.name], f)
	}
	return func(yield func(string) bool) {
		for _, f := range fields {
			same := byName[f.name]
			delete(byName, f.name)
			if len(same) == 0 {
				continue
			}
			winner, lost := dominant(same)
			problems := []string{fmt.Sprintf("input fields %s share the JSON name %q, and JSON drops them all: give them different names by tag", lost, f.name)}
			if lost == "" {
				problems = w.value(winner.inputPlace, winner.declared)
			}
			if len(problems) > 0 && !yield(problems[0]) {
				return
			}
		}
	}
}

// dominant picks the field that JSON uses of several with one name: the least
// deep, and at one depth the only tagged one. Otherwise it names the lost ones.
func dominant(same []inputField) (winner inputField, lost string) {
	least := slices.MinFunc(same, func(a, b inputField) int { return a.depth - b.depth }).depth
	same = slices.DeleteFunc(slices.Clone(same), func(f inputField) bool { return f.depth > least })
	tagged := slices.DeleteFunc(slices.Clone(same), func(f inputField) bool { return !f.tagged })
	switch {
	case len(same) == 1:
		return same[0], ""
	case len(tagged) == 1:
		return tagged[0], ""
	}
	var paths []string
	for _, f := range same {
		paths = append(paths, f.path)
	}
	return inputField{}, strings.Join(paths, " and ")
}

// flatten lists the fields of struct t, those of embedded structs in their place,
// level by level: a type met at one level is not entered again below it.
// Excluded tells that some are kept out by tag.
func flatten(t reflect.Type, path string) (fields []inputField, excluded bool, problems []string) {
	entered := map[reflect.Type]bool{t: true}
	for depth, level := 0, []inputPlace{{path, t}}; len(level) > 0; depth++ {
		var next []inputPlace
		for _, s := range level {
			for f := range s.declared.Fields() {
				at := inputPlace{strings.TrimPrefix(s.path+"."+f.Name, "."), f.Type}
				tag := f.Tag.Get("json")
				name, _, _ := strings.Cut(tag, ",")
				embedded := embeddedStruct(f)
				switch {
				case tag == "-":
					excluded = true
				case embedded == nil && f.IsExported(), embedded != nil && name != "":
					fields = append(fields, inputField{at, cmp.Or(name, f.Name), depth, name != ""})
				case embedded == nil || entered[embedded]:
				case !f.IsExported() && f.Type.Kind() == reflect.Pointer:
					if hasInput(embedded) { // without any it is a fine way to hold dependencies
						problems = append(problems, at.problem("cannot be restored, because JSON does not allocate an embedded pointer to an unexported type",
							"embed it by value, or tag it `json:\"-\"`")...)
					}
				default:
					next = append(next, inputPlace{at.path, embedded})
				}
			}
		}
		for _, s := range next {
			entered[s.declared] = true
		}
		level = next
	}
	return fields, excluded, problems
}

// embeddedStruct answers the struct that f embeds, by value or by pointer, or nil.
func embeddedStruct(f reflect.StructField) reflect.Type {
	t := f.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if !f.Anonymous || t.Kind() != reflect.Struct {
		return nil
	}
	return t
}

// hasInput reports whether struct t has a field that JSON would store; a marker is none.
func hasInput(t reflect.Type) bool {
	for f := range t.Fields() {
		if f.IsExported() && f.Type.Size() > 0 && f.Tag.Get("json") != "-" {
			return true
		}
	}
	return false
}

// encodesItself reports whether t, or a pointer to it, has an encoding that
// encoding/json uses in both directions.
func encodesItself(t reflect.Type) (writes, reads bool) {
	p := reflect.PointerTo(t)
	writes = p.Implements(reflect.TypeFor[json.Marshaler]()) || p.Implements(reflect.TypeFor[encoding.TextMarshaler]())
	reads = p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
	return writes, reads
}

// borrowedEncoding names the embedded type whose encoding JSON would use for the
// whole of struct t, or that competes with another such. A struct that declares
// an encoding itself knows what it does.
func borrowedEncoding(t reflect.Type) (by string) {
	if t.Kind() != reflect.Struct || ownEncoding(t) {
		return ""
	}
	for _, e := range embeddedTypes(t)[1:] {
		if writes, reads := encodesItself(e.typ); !writes && !reads {
			continue
		}
		if by == "" || strings.HasPrefix(e.path, by+".") { // the innermost is the one with the methods
			by = e.path
		}
	}
	return by
}

// ownEncoding reports whether t declares both directions itself. Method names are
// literals for the reason given at abilityMethods.
func ownEncoding(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	value := func(m reflect.Method, _ bool) bool { return declared(m) }
	toJSON := value(t.MethodByName("MarshalJSON")) || value(p.MethodByName("MarshalJSON"))
	fromJSON := value(t.MethodByName("UnmarshalJSON")) || value(p.MethodByName("UnmarshalJSON"))
	if toJSON && fromJSON {
		return true
	}
	toText := value(t.MethodByName("MarshalText")) || value(p.MethodByName("MarshalText"))
	fromText := value(t.MethodByName("UnmarshalText")) || value(p.MethodByName("UnmarshalText"))
	_, promoted := p.MethodByName("MarshalJSON")
	return toText && fromText && !promoted
}

func isMapKey(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return true
	default:
		return t.Implements(reflect.TypeFor[encoding.TextMarshaler]())
	}
}
