package scaffold

import (
	"fmt"
	"go/format"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const rootPackage = "github.com/gosequencer/sequencer"

// writeGo writes the operation, its test, and the list it belongs to.
func (o *Options) writeGo(w *writer, name, typ string) {
	file := filepath.Join(o.Dir, name+".go")
	pkg, err := readPackage(o.Dir, file)
	if err != nil {
		w.err = err
		return
	}
	if o.Package != "" && pkg.name != "" && pkg.name != o.Package {
		w.err = fmt.Errorf("%s holds package %s, not %s", o.Dir, pkg.name, o.Package)
		return
	}
	if pkg.name == "" {
		pkg.name = o.packageName()
	}
	for n, base := 2, typ; pkg.types[typ] || typ == "Register"; n++ {
		typ = base + strconv.Itoa(n)
	}
	w.source(file, o.source(pkg.name, typ))
	if o.Test {
		w.source(filepath.Join(o.Dir, name+"_test.go"), testSource(pkg.name, typ))
	}
	pkg.operations[name] = typ
	w.source(filepath.Join(o.Dir, listFile), pkg.list())
}

var notPackage = regexp.MustCompile(`[^a-z0-9_]+`)

// packageName is the asked one, else the directory's as far as it can be one.
func (o *Options) packageName() string {
	if o.Package != "" {
		return o.Package
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return "operations"
	}
	name := notPackage.ReplaceAllString(strings.ToLower(filepath.Base(dir)), "")
	if !goPackage.MatchString(name) || name == "main" {
		return "operations"
	}
	return name
}

// source is the Go text of an operation.
func (o *Options) source(pkg, typ string) string {
	imports := map[string]bool{"context": true}
	var markers, methods strings.Builder
	for _, a := range o.chosen() {
		for _, path := range a.imports {
			imports[path] = true
		}
		if a.marker != "" {
			fmt.Fprintf(&markers, "\tsequencer.%s\n", a.marker)
		}
		methods.WriteString(strings.ReplaceAll(a.code, "$T", typ))
	}
	body := "\treturn nil\n"
	if o.has("transaction") {
		body = "\ttx, err := sequencer.Tx[*sql.Tx](ctx)\n\tif err != nil {\n\t\treturn err\n\t}\n" +
			"\t_ = tx // what it writes commits together with the outcome\n\treturn nil\n"
	}
	code := fmt.Sprintf("// %[1]s …\ntype %[1]s struct {\n%[2]s}\n\n// Handle does the work.\nfunc (o *%[1]s) Handle(ctx context.Context) error {\n%[3]s}\n%[4]s",
		typ, markers.String(), body, methods.String())
	return "package " + pkg + "\n\n" + importBlock(imports, strings.Contains(code, "sequencer.")) + code
}

func importBlock(standard map[string]bool, root bool) string {
	var b strings.Builder
	b.WriteString("import (\n")
	for _, path := range slices.Sorted(maps.Keys(standard)) {
		fmt.Fprintf(&b, "\t%q\n", path)
	}
	if root {
		fmt.Fprintf(&b, "\n\t%q\n", rootPackage)
	}
	b.WriteString(")\n\n")
	return b.String()
}

func testSource(pkg, typ string) string {
	return fmt.Sprintf(`package %s

import (
	"testing"

	%q
)

func Test%s(t *testing.T) {
	t.Parallel()
	reg := sequencer.NewRegistry()
	Register(reg)
	if err := reg.Err(); err != nil {
		t.Fatal(err)
	}
}
`, pkg, rootPackage, typ)
}

// source formats and writes Go text.
func (w *writer) source(path, text string) {
	if w.err != nil {
		return
	}
	formatted, err := format.Source([]byte(text))
	if err != nil {
		w.err = fmt.Errorf("%s: %w", path, err) // a fault of ours
		return
	}
	w.write(path, formatted)
}
