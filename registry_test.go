package sequencer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEveryProblemNamesItsRegistrationAndTheRemedy(t *testing.T) {
	t.Parallel()
	nothing := func(context.Context) error { return nil }
	for _, c := range []struct {
		rule     string
		register func(*Registry)
		want     []string
	}{
		{"S2.3 an impossible date", func(r *Registry) { Register(r, "20241315120000_seed", Make[plainOp]) }, []string{
			"register 20241315120000_seed at registry_test.go:", "no possible date (month out of range): write YYYYMMDDhhmmss",
		}},
		{"S2.3 a name outside the alphabet", func(r *Registry) { RegisterFunc(r, "a b", nothing) }, []string{
			`register "a b" at registry_test.go:`, "use letters, digits",
		}},
		{"S2.3 no name", func(r *Registry) { RegisterFunc(r, " ", nothing) }, []string{`register "" at`, "the name is empty"}},
		{"a nil factory", func(r *Registry) { Register[plainOp](r, "x", nil) }, []string{"register x at registry_test.go:", "the factory is nil: pass a function"}},
		{"a factory that returns nil", func(r *Registry) { Register(r, "x", func() Operation { return nil }) }, []string{
			"register x at", "the factory returns a nil operation: make it return a new value",
		}},
		{"a factory that returns a typed nil", func(r *Registry) { Register(r, "x", func() *plainOp { return nil }) }, []string{
			"register x at", "the factory returns a nil *sequencer.plainOp: make it return a new value",
		}},
		{"a factory that panics", func(r *Registry) { Register(r, "x", func() *plainOp { panic("no database") }) }, []string{
			"register x at", "the factory panics: no database",
		}},
		{"a factory that returns a stand-in", func(r *Registry) { Register(r, "x", func() Operation { return Named("y", nil) }) }, []string{
			"register x at", "stands for a registered operation: return a type of your own",
		}},
		{"a nil function", func(r *Registry) { RegisterFunc(r, "x", nil) }, []string{"register x at", "the function is nil"}},
		{"a nil function in a transaction", func(r *Registry) { RegisterFunc(r, "x", InTx[any](nil)) }, []string{"register x at", "the function is nil"}},
		{"a nil function with input", func(r *Registry) { RegisterFuncOf[int](r, "x", nil) }, []string{"register x at", "the function is nil"}},
		{"a nil option", func(r *Registry) { RegisterFunc(r, "x", nothing, nil) }, []string{"register x at", "a nil option: leave it out"}},
		{"a nil hook", func(r *Registry) { RegisterFunc(r, "x", nothing, OnAfter(nil)) }, []string{"register x at", "OnAfter(nil): give it a function"}},
		{"S2.5 a former name outside the alphabet", func(r *Registry) { RegisterFunc(r, "x", nothing, FormerNames("a\\b")) }, []string{
			"register x at", `former name "a\\b" contains '\\'`,
		}},
		{"Q1.8 a wrong option", func(r *Registry) { RegisterFunc(r, "x", nothing, Tries(-2)) }, []string{"register x at", "option Tries: Tries is -2: use 1 or more"}},
		{"S1.7 an empty queue", func(r *Registry) { RegisterFunc(r, "x", nothing, OnQueue("")) }, []string{"register x at", "option OnQueue: the queue is empty"}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			reg := NewRegistry()
			c.register(reg)
			wantProblems(t, reg, c.want)
		})
	}
}

func TestANameBelongsToOneRegistration(t *testing.T) {
	t.Parallel()
	reg := NewRegistry()
	nothing := func(context.Context) error { return nil }
	RegisterFunc(reg, "a", nothing, FormerNames("a_old"))
	_, _, line, _ := runtime.Caller(0)
	RegisterFunc(reg, "a", nothing)
	RegisterFunc(reg, "a_old", nothing)
	RegisterFunc(reg, "b", nothing, FormerNames("a"))
	RegisterFunc(reg, "c", nothing, FormerNames("a_old"))
	RegisterFunc(reg, "d", nothing, FormerNames("d"))
	RegisterFunc(reg, " e ", nothing)
	RegisterFunc(reg, "e", nothing)
	at := func(offset int) string { return fmt.Sprintf(" at registry_test.go:%d", line+offset) }
	wantProblems(
		t, reg,
		[]string{"register a" + at(1), `the name "a" is taken by the registration` + at(-1), "choose another"},
		[]string{"register a_old" + at(2), `the name "a_old" is a former name of a, registered` + at(-1)},
		[]string{"register b" + at(3), `the former name "a" is taken by the registration` + at(-1)},
		[]string{"register c" + at(4), `the former name "a_old" is a former name of a`},
		[]string{"register d" + at(5), `the former name "d" is among its own names already`, "remove it"},
		[]string{"register e" + at(7), `the name "e" is taken by the registration` + at(6)},
	)
}

func TestAProblemPointsAtTheCallOfEachWayToRegister(t *testing.T) {
	t.Parallel()
	reg := NewRegistry()
	_, _, line, _ := runtime.Caller(0)
	Register(reg, "", Make[plainOp])
	Register(reg, "", func() plainOp { return plainOp{} })
	RegisterFunc(reg, "", func(context.Context) error { return nil })
	RegisterFuncOf(reg, "", func(context.Context, int) error { return nil })
	RegisterFuncOf(reg, "", func(context.Context, *plainOp) error { return nil })
	for i, problem := range registryProblems(reg) {
		if want := fmt.Sprintf(`register "" at registry_test.go:%d: `, line+1+i); !strings.HasPrefix(problem, want) {
			t.Errorf("got %q, want it to begin with %q", problem, want)
		}
	}
	if n := len(registryProblems(reg)); n != 5 {
		t.Errorf("got %d problems, want 5", n)
	}
}

func TestProblemsAreJoined(t *testing.T) {
	t.Parallel()
	reg := NewRegistry()
	if err := reg.Err(); err != nil {
		t.Errorf("S2.6 an empty registry is no error, got %v", err)
	}
	RegisterFunc(reg, "2fa", nil)
	RegisterFunc(reg, "ok", func(context.Context) error { return nil })
	if lines := strings.Split(reg.Err().Error(), "\n"); len(lines) != 2 {
		t.Errorf("got %q, want one line for the name and one for the function", lines)
	}
}

func TestOperationsAreListedByNameAndRunByTimestamp(t *testing.T) {
	t.Parallel()
	var reg Registry // the zero value serves
	nothing := func(context.Context) error { return nil }
	for _, name := range []string{"zebra", "2024_02_01_000000_b", "20240201000000_a", "20240101000000_z", "alpha"} {
		RegisterFunc(&reg, name, nothing, FormerNames("old_"+name))
	}
	var ordered []string
	for _, r := range reg.ordered() {
		ordered = append(ordered, r.name)
	}
	if diff := cmp.Diff([]string{"20240101000000_z", "20240201000000_a", "2024_02_01_000000_b"}, ordered); diff != "" {
		t.Errorf("S3.4 ordered by timestamp, then name: %s", diff)
	}
	if diff := cmp.Diff([]string{"20240101000000_z", "20240201000000_a", "2024_02_01_000000_b", "alpha", "zebra"}, reg.names()); diff != "" {
		t.Errorf("names without former ones: %s", diff)
	}
	if r, ok := reg.lookup("old_zebra"); !ok || r.name != "zebra" {
		t.Error("S2.5 a former name does not lead to the operation")
	}
}

func TestASnapshotDoesNotSeeLaterAdditions(t *testing.T) {
	t.Parallel()
	reg := NewRegistry()
	nothing := func(context.Context) error { return nil }
	RegisterFunc(reg, "a", nothing)
	snapshot := reg.snapshot()
	RegisterFunc(reg, "b", nothing)
	if diff := cmp.Diff([]string{"a"}, snapshot.names()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"a", "b"}, reg.names()); diff != "" {
		t.Error(diff)
	}
}

func TestPackagesMayRegisterConcurrently(t *testing.T) {
	t.Parallel()
	reg := NewRegistry()
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			RegisterFunc(reg, fmt.Sprint("op", i), func(context.Context) error { return nil })
			if _, ok := reg.lookup(fmt.Sprint("op", i)); !ok {
				t.Errorf("op%d is not found after its registration", i)
			}
		})
	}
	wg.Wait()
	if err := reg.Err(); err != nil || len(reg.names()) != 50 {
		t.Errorf("got %d names and %v, want 50 and none", len(reg.names()), err)
	}
}

func TestAttemptsGetFreshValues(t *testing.T) {
	t.Parallel()
	reg := NewRegistry()
	Register(reg, "pointer", func() *answeringOp { return &answeringOp{Text: "default"} })
	Register(reg, "value", func() pointerOp { return pointerOp{N: 4} })
	for _, name := range []string{"pointer", "value"} {
		r, _ := reg.lookup(name)
		a, err1 := r.fresh()
		b, err2 := r.fresh()
		if err1 != nil || err2 != nil || a == b {
			t.Errorf("S2.7 %s: fresh answeringOp %p, %v and %p, %v", name, a, err1, b, err2)
		}
	}
	flip := false
	Register(reg, "flip", func() Operation {
		if flip {
			return &pointerOp{}
		}
		return plainOp{}
	})
	r, _ := reg.lookup("flip")
	flip = true
	if _, err := r.fresh(); err == nil || !strings.Contains(err.Error(), "flip: the factory returns sequencer.pointerOp now and returned sequencer.plainOp before") {
		t.Errorf("a factory that changes its mind: %v", err)
	}
}

func TestAFunctionReceivesItsInput(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	reg := NewRegistry()
	var got []any
	byValue := RegisterFuncOf(reg, "value", func(_ context.Context, in answeringOp) error { got = append(got, in.Text); return boom })
	byPointer := RegisterFuncOf(reg, "pointer", func(_ context.Context, in *answeringOp) error { got = append(got, in.Text); return boom })
	scalar := RegisterFuncOf(reg, "scalar", func(_ context.Context, in int) error { got = append(got, in); return boom })
	bare := RegisterFunc(reg, "bare", func(context.Context) error { got = append(got, "bare"); return boom })
	if err := reg.Err(); err != nil {
		t.Fatal(err)
	}
	for _, op := range []Operation{byValue(answeringOp{Text: "v"}), byPointer(&answeringOp{Text: "p"}), scalar(7), bare} {
		r, value, _, err := reg.resolve(op)
		if err != nil {
			t.Fatal(err)
		}
		stored, err := r.encode(value, 0)
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := r.decode(stored)
		if err != nil {
			t.Fatal(err)
		}
		f := fresh.(*funcOperation)
		if err := f.call(t.Context(), f.input); !errors.Is(err, boom) {
			t.Errorf("%s answeringOp %v, want its error", r.name, err)
		}
	}
	if diff := cmp.Diff([]any{"v", "p", 7, "bare"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestAFunctionThatWantsATransactionGetsTheErrorOfNone(t *testing.T) {
	t.Parallel()
	called := false
	fn := InTx(func(context.Context, any) error { called = true; return nil })
	if err := fn(t.Context()); !errors.Is(err, ErrNoTx) || called {
		t.Errorf("outside an attempt: %v, called %v, want ErrNoTx and no call", err, called)
	}
}

// A name that is no constant in one MethodByName makes the linker keep every
// exported method of the user's program. The control shows that the linker's dump
// would tell.
func TestRegisteringKeepsDeadCodeElimination(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("-short: links a program")
	}
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string]string{
		"main.go": `package main

import (
	"context"
	"os"
	"reflect"

	"github.com/gosequencer/sequencer"
)

type Op struct{ sequencer.Async }

func (Op) Handle(context.Context) error { return nil }

func control(t reflect.Type) { _, _ = t.MethodByName(os.Args[0]) }

func main() {
	reg := sequencer.NewRegistry()
	sequencer.Register(reg, "op", sequencer.Make[Op], sequencer.Tries(2))
	sequencer.RegisterFuncOf(reg, "fn", func(context.Context, Op) error { return reg.Err() })
	control(reflect.TypeFor[Op]())
}
`,
		"overlay.json": fmt.Sprintf(`{"Replace": {%q: %q}}`, filepath.Join(root, "internal", "deadcodeprobe", "main.go"), filepath.Join(dir, "main.go")),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-overlay", filepath.Join(dir, "overlay.json"),
		"-ldflags=-dumpdep", "-o", filepath.Join(dir, "probe"), "./internal/deadcodeprobe")
	dump, err := build.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, dump[max(0, len(dump)-2000):])
	}
	control := false
	for line := range strings.Lines(string(dump)) {
		from, _, _ := strings.Cut(line, " -> ")
		if !strings.Contains(from, "<ReflectMethod>") {
			continue
		}
		control = control || strings.HasPrefix(from, "main.")
		if strings.HasPrefix(from, "github.com/gosequencer/sequencer.") {
			t.Errorf("switches off dead-code elimination for every user: %s", from)
		}
	}
	if !control {
		t.Error("the control is not marked, so the dump proves nothing")
	}
}
