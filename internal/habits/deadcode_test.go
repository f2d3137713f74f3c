package habits

import (
	"bytes"
	"fmt"
	"go/ast"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// One reachable reflect.Value.MethodByName or Type.Method with a name that is not a constant makes the linker keep every
// exported method of every type in the program: a quarter more binary for every user, as text/template and html/template
// do it. The linker marks such functions, and these tests read the marks.

// TestNoShippedPackageSwitchesOffDeadCodeElimination builds a program that refers to every exported function and method of
// every package that users import.
func TestNoShippedPackageSwitchesOffDeadCodeElimination(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("-short: links a program")
	}
	src := programOf(loaded(t))
	name := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(name, src, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, line := range reflectMarks(t, root, name) {
		t.Errorf("switches off dead-code elimination for every user: %s", line)
	}
}

// Commands and examples are programs of users, and only they instantiate generic functions.
func TestNoProgramOfOursSwitchesOffDeadCodeElimination(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("-short: links programs")
	}
	found := false
	for _, p := range loaded(t).sorted() {
		if p.name != "main" || !within(p.dir, "cmd", "examples") {
			continue
		}
		found = true
		for _, line := range reflectMarks(t, root, "./"+p.dir) {
			t.Errorf("%s: %s", p.dir, line)
		}
	}
	if !found {
		t.Skip("there is no program yet")
	}
}

func TestASwitchedOffEliminationIsCaught(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("-short: links programs")
	}
	for call, bad := range map[string]bool{
		`MethodByName(os.Args[0])`: true,
		`MethodByName("String")`:   false,
	} {
		dir := t.TempDir()
		src := "package main\n\nimport (\n\t\"os\"\n\t\"reflect\"\n)\n\nfunc main() { println(reflect.ValueOf(os.Stdin)." + call + ".IsValid()) }\n"
		for name, content := range map[string]string{"go.mod": "module example.test\n\ngo 1.26\n", "main.go": src} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := len(reflectMarks(t, dir, ".")) > 0; got != bad {
			t.Errorf("%s: caught %v, want %v", call, got, bad)
		}
	}
}

// reflectMarks links a program and returns the lines of the linker's dependency dump that carry the mark.
func reflectMarks(t *testing.T, dir, target string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-ldflags=-dumpdep", "-o", filepath.Join(t.TempDir(), "program"), target)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("build %s: %v\n%s", target, err, out[max(0, len(out)-4000):])
	}
	if !bytes.Contains(out, []byte("main.main ")) {
		t.Fatalf("the linker's dump of %s (%d bytes) does not mention main.main", target, len(out))
	}
	var marks []string
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "ReflectMethod") {
			marks = append(marks, strings.TrimSpace(line))
		}
	}
	return marks
}

// programOf writes a main package that keeps every exported function and method of the shipped packages reachable. Generic
// ones have no code until somebody names their types and are left out.
func programOf(tr *tree) []byte {
	var imports, refs bytes.Buffer
	for i, p := range tr.sorted() {
		if !p.isShipped() || p.isInternal() {
			continue
		}
		alias := fmt.Sprintf("p%d", i)
		names := exported(p)
		if len(names) == 0 {
			alias = "_"
		}
		fmt.Fprintf(&imports, "\t%s %q\n", alias, p.importPath())
		for _, name := range names {
			fmt.Fprintf(&refs, "\t%s,\n", strings.ReplaceAll(name, "@", alias))
		}
	}
	return fmt.Appendf(nil, "package main\n\nimport (\n\t\"runtime\"\n\n%s)\n\nvar keep = []any{\n%s}\n\nfunc main() { runtime.KeepAlive(keep) }\n", &imports, &refs)
}

// exported lists a package's functions as "@.Name" and its methods as "(*@.Type).Name".
func exported(p *pkg) []string {
	generic := map[string]bool{}
	for _, f := range p.files {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok && spec.TypeParams != nil {
				generic[spec.Name.Name] = true
			}
			return true
		})
	}
	var names []string
	for _, f := range p.files {
		for _, decl := range f.ast.Decls {
			d, ok := decl.(*ast.FuncDecl)
			if !ok || !d.Name.IsExported() || d.Type.TypeParams != nil {
				continue
			}
			typ, method, isMethod := strings.Cut(funcName(d), ".")
			switch {
			case d.Recv == nil:
				names = append(names, "@."+d.Name.Name)
			case isMethod && ast.IsExported(typ) && !generic[typ]:
				names = append(names, "(*@."+typ+")."+method)
			}
		}
	}
	return names
}

func TestTheProgramNamesWhatIsExportedAndHasCode(t *testing.T) {
	t.Parallel()
	_, f := fileOf(t, `package a

type T struct{}
type G[X any] struct{}
type hidden struct{}

func New() {}
func Make[X any]() {}
func private() {}
func (T) Value() {}
func (*T) Pointer() {}
func (*G[X]) Generic() {}
func (hidden) Method() {}
`)
	got := fmt.Sprint(exported(&pkg{files: []*file{f}}))
	if want := "[@.New (*@.T).Value (*@.T).Pointer]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
