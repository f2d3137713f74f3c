package habits

import (
	"bytes"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/gosequencer/sequencer"

// root is where go.mod stands, seen from this package.
var root = filepath.Join("..", "..")

// tree is every package of the main module. Files are opened here and not by "go list", so that go's test cache sees them.
type tree struct {
	fset     *token.FileSet
	packages map[string]*pkg // by directory below root, slashes, "." for the root package
}

type pkg struct {
	dir   string
	name  string
	files []*file // those that a build on this machine takes, without tests
	tests []*file
}

type file struct {
	path    string // below root, slashes
	ast     *ast.File
	imports []string
}

var loadOnce = sync.OnceValues(func() (*tree, error) { return load(root) })

func loaded(t *testing.T) *tree {
	t.Helper()
	tr, err := loadOnce()
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func load(top string) (*tree, error) {
	tr := &tree{fset: token.NewFileSet(), packages: map[string]*pkg{}}
	err := filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, name)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skipDir(name, rel)
		}
		if !strings.HasSuffix(rel, ".go") {
			return nil
		}
		return tr.parse(name, filepath.ToSlash(rel))
	})
	return tr, err
}

// skipDir leaves out what the go command leaves out of a module's "./...".
func skipDir(name, rel string) error {
	base := filepath.Base(rel)
	if rel == "." {
		return nil
	}
	if base == "testdata" || base == "vendor" || base[0] == '.' || base[0] == '_' {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

func (tr *tree) parse(name, rel string) error {
	if base := path.Base(rel); base[0] == '.' || base[0] == '_' {
		return nil
	}
	if ok, err := build.Default.MatchFile(filepath.Split(name)); err != nil || !ok {
		return err
	}
	src, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	f, err := parseFile(tr.fset, rel, src)
	if err != nil {
		return err
	}
	dir := path.Dir(rel)
	p := tr.packages[dir]
	if p == nil {
		p = &pkg{dir: dir}
		tr.packages[dir] = p
	}
	if strings.HasSuffix(rel, "_test.go") {
		p.tests = append(p.tests, f)
		return nil
	}
	p.name = f.ast.Name.Name
	p.files = append(p.files, f)
	return nil
}

func parseFile(fset *token.FileSet, rel string, src []byte) (*file, error) {
	parsed, err := parser.ParseFile(fset, rel, bytes.TrimPrefix(src, []byte("\ufeff")), parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	f := &file{path: rel, ast: parsed}
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		f.imports = append(f.imports, imported)
	}
	return f, nil
}

// fileOf parses a source written in a test.
func fileOf(t *testing.T, src string) (*token.FileSet, *file) {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parseFile(fset, "x.go", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return fset, f
}

// sorted lists the packages that have code besides tests.
func (tr *tree) sorted() []*pkg {
	var list []*pkg
	for _, p := range tr.packages {
		if len(p.files) > 0 {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b *pkg) int { return strings.Compare(a.dir, b.dir) })
	return list
}

func (p *pkg) importPath() string { return path.Join(module, p.dir) }

func (p *pkg) imports() []string {
	var all []string
	for _, f := range p.files {
		all = append(all, f.imports...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (p *pkg) importsAny(paths ...string) bool {
	return slices.ContainsFunc(p.imports(), func(s string) bool { return slices.Contains(paths, s) })
}

func (p *pkg) isInternal() bool { return slices.Contains(strings.Split(p.dir, "/"), "internal") }

// isForTests says whether the package exists for tests: it takes a testing.TB, ours or the user's.
func (p *pkg) isForTests() bool { return p.importsAny("testing") }

// isShipped says whether users link the package into their binaries by importing it or what imports it.
func (p *pkg) isShipped() bool { return p.name != "main" && !p.isForTests() && len(p.files) > 0 }

// within says whether dir is one of the trees or lies below one: "storage" is within "storage", "storage/sqlite" too.
func within(dir string, trees ...string) bool {
	return slices.ContainsFunc(trees, func(tree string) bool {
		return dir == tree || strings.HasPrefix(dir, tree+"/")
	})
}

// dirOf turns an import path of this module into its directory.
func dirOf(imported string) (string, bool) {
	if imported == module {
		return ".", true
	}
	return strings.CutPrefix(imported, module+"/")
}

func isStandard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}
