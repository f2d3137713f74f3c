package habits

import (
	"bufio"
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The mark before a block of code, with no line between:
//
//	<!-- example: example_test.go#Example_dispatch -->   the function's body, without its "// Output:"
//	<!-- example: examples/goapi/main.go#main -->        any other function or type: the whole declaration
//	<!-- example: example_test.go#T,T.Handle -->         several, one after the other
//	<!-- example: examples/goapi/operations/a.sql -->    the whole file
//	<!-- no example: why this cannot be one -->
var mark = regexp.MustCompile(`^<!-- (no )?example: (\S.*?) -->$`)

var renew = "copy the example's text, or correct the mark"

func TestTheReadmeQuotesTheExamples(t *testing.T) {
	t.Parallel()
	src, err := os.ReadFile(filepath.Join(root, "README.md"))
	if os.IsNotExist(err) {
		t.Skip("there is no README.md yet")
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range codeBlocks(src) {
		if b.mark == "" && b.language == "go" {
			t.Errorf("README.md:%d: Go code without an \"<!-- example: path#name -->\" above it cannot be kept true", b.line)
		}
		checkBlock(t, "README.md", b)
	}
}

func TestTheGuidesQuoteTheExamplesTheyMark(t *testing.T) {
	t.Parallel()
	docs := filepath.Join(root, "docs")
	err := filepath.WalkDir(docs, func(name string, _ fs.DirEntry, err error) error {
		if os.IsNotExist(err) && name == docs {
			t.Skip("there is no docs/ yet")
		}
		if err != nil || filepath.Ext(name) != ".md" {
			return err
		}
		src, err := os.ReadFile(name)
		for _, b := range codeBlocks(src) {
			checkBlock(t, strings.TrimPrefix(filepath.ToSlash(name), "../../"), b)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkBlock(t *testing.T, where string, b block) {
	t.Helper()
	if b.mark == "" {
		return
	}
	file, name, _ := strings.Cut(b.mark, "#")
	src, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
	if err != nil {
		t.Errorf("%s:%d: %v", where, b.line, err)
		return
	}
	var quotes []string
	for name := range strings.SplitSeq(name, ",") {
		quoted, err := quote(src, name)
		if err != nil {
			t.Errorf("%s:%d: %s: %v", where, b.line, b.mark, err)
			return
		}
		quotes = append(quotes, strings.TrimSpace(quoted))
	}
	want := strings.Join(quotes, "\n\n")
	if got := strings.TrimSpace(b.code); got != want {
		t.Errorf("%s:%d is not what %s says; %s\n--- got\n%s\n--- want\n%s", where, b.line, b.mark, renew, got, want)
	}
}

type block struct {
	line           int
	language, code string
	mark           string // path#name, "-" aside: empty for a block that need not equal anything
}

// codeBlocks reads the fenced blocks of a Markdown text.
func codeBlocks(src []byte) []block {
	var blocks []block
	var open *block
	var exempt bool
	last := ""
	lines := bufio.NewScanner(bytes.NewReader(src))
	lines.Buffer(nil, len(src)+1)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case open != nil && isFence:
			if !exempt {
				blocks = append(blocks, *open)
			}
			open = nil
		case open != nil:
			open.code += line + "\n"
		case isFence:
			open = &block{line: n, language: fence}
			exempt = false
			if m := mark.FindStringSubmatch(last); m != nil {
				exempt = m[1] != ""
				open.mark = m[2]
			}
		}
		last = strings.TrimSpace(line)
	}
	return blocks
}

// quote cuts a declaration out of a Go source: the body of an Example, anything else whole. No name means the whole file.
func quote(src []byte, name string) (string, error) {
	if name == "" {
		return string(src), nil
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "", src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return "", err
	}
	offset := func(p token.Pos) int { return fset.Position(p).Offset }
	for _, decl := range f.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if funcName(d) != name {
				continue
			}
			if strings.HasPrefix(name, "Example") {
				return body(src[offset(d.Body.Lbrace)+1 : offset(d.Body.Rbrace)])
			}
			return string(src[offset(d.Pos()):offset(d.End())]), nil
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if s, ok := spec.(*ast.TypeSpec); ok && s.Name.Name == name {
					return string(src[offset(d.Pos()):offset(d.End())]), nil
				}
			}
		}
	}
	return "", fmt.Errorf("declares no function or type %s", name)
}

// funcName is "Name", or "Type.Name" for a method.
func funcName(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return d.Name.Name
	}
	recv := d.Recv.List[0].Type
	if star, ok := recv.(*ast.StarExpr); ok {
		recv = star.X
	}
	if id, ok := recv.(*ast.Ident); ok {
		return id.Name + "." + d.Name.Name
	}
	return d.Name.Name
}

var output = regexp.MustCompile(`(?m)^\s*// (Unordered output|Output):`)

func body(src []byte) (string, error) {
	if at := output.FindIndex(src); at != nil {
		src = src[:at[0]]
	}
	out, err := format.Source(src) // takes the indentation away
	if err != nil {
		return "", err
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		lines = append(lines, strings.TrimPrefix(line, "\t"))
	}
	// format.Source keeps the indentation of a fragment that begins with one.
	if strings.HasPrefix(string(out), "\t") || strings.HasPrefix(string(out), "\n\t") {
		return strings.Trim(strings.Join(lines, ""), "\n"), nil
	}
	return strings.Trim(string(out), "\n"), nil
}

func TestAQuoteIsCutOutOfItsSource(t *testing.T) {
	t.Parallel()
	src := []byte(`package a

// T is documented.
type T struct{ A int }

func (t *T) Handle() error {
	return nil
}

func Example_x() {
	if ok {
		fmt.Println("hello")
	}
	// Output: hello
}
`)
	for name, want := range map[string]string{
		"T":         "type T struct{ A int }",
		"T.Handle":  "func (t *T) Handle() error {\n\treturn nil\n}",
		"Example_x": "if ok {\n\tfmt.Println(\"hello\")\n}",
		"":          string(src),
	} {
		if got, err := quote(src, name); err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", name, got, err, want)
		}
	}
	if got, err := quote(src, "Absent"); err == nil {
		t.Errorf("got %q for a name that is not declared, want an error", got)
	}
}

func TestCodeBlocksKnowTheirMarks(t *testing.T) {
	t.Parallel()
	got := codeBlocks([]byte("text\n<!-- example: a_test.go#Example -->\n```go\nx()\n```\n" +
		"<!-- no example: needs a server -->\n```go\ny()\n```\n```go\nz()\n```\n<!-- example: a.sql -->\n\n```\nw\n```\n"))
	want := []block{
		{3, "go", "x()\n", "a_test.go#Example"},
		{10, "go", "z()\n", ""},
		{15, "", "w\n", ""}, // an empty line between: not marked
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}
