package habits

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// A test that sleeps in real time is slow on a fast machine and wrong on a slow one. In a synctest bubble time is free;
// with another process there is something to wait for. What remains says why, in a comment on the line or above it:
//
//	// sleep: the server's clock must pass the lease, and it cannot be faked
//	time.Sleep(lease)
func TestTestsSleepOnlyInBubbles(t *testing.T) {
	t.Parallel()
	tr := loaded(t)
	for _, p := range tr.packages {
		files := p.tests
		if p.isForTests() {
			files = slices.Concat(p.files, p.tests)
		}
		for _, f := range files {
			for _, pos := range sleeps(tr.fset, f) {
				t.Errorf("%s: sleeps outside a synctest bubble and has no \"// sleep: reason\" comment", tr.fset.Position(pos))
			}
		}
	}
}

// sleeps finds time.Sleep and a bare <-time.After that are neither written inside a synctest.Test call nor explained.
func sleeps(fset *token.FileSet, f *file) []token.Pos {
	timeName, bubbleName := importName(f, "time"), importName(f, "testing/synctest")
	explained := map[int]bool{}
	for _, group := range f.ast.Comments {
		for _, c := range group.List {
			if why, ok := strings.CutPrefix(c.Text, "// sleep:"); ok && strings.TrimSpace(why) != "" {
				explained[fset.Position(c.Pos()).Line] = true
				explained[fset.Position(group.End()).Line+1] = true
			}
		}
	}
	limits := map[ast.Stmt]bool{} // <-time.After as a case of a select: the limit of a wait for something else
	var found []token.Pos
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if isSelector(call.Fun, bubbleName, "Test") {
				return false
			}
			if isSelector(call.Fun, timeName, "Sleep") {
				found = append(found, call.Pos())
			}
		}
		if clause, ok := n.(*ast.CommClause); ok {
			limits[clause.Comm] = true
		}
		if stmt, ok := n.(*ast.ExprStmt); ok && !limits[stmt] && receivesAfter(stmt, timeName) {
			found = append(found, stmt.Pos())
		}
		return true
	})
	return slices.DeleteFunc(found, func(pos token.Pos) bool { return explained[fset.Position(pos).Line] })
}

func receivesAfter(stmt *ast.ExprStmt, timeName string) bool {
	receive, ok := stmt.X.(*ast.UnaryExpr)
	if !ok || receive.Op != token.ARROW {
		return false
	}
	call, ok := receive.X.(*ast.CallExpr)
	return ok && isSelector(call.Fun, timeName, "After")
}

// importName returns the name under which a file knows a package, "" if it does not.
func importName(f *file, path string) string {
	for _, spec := range f.ast.Imports {
		if strings.Trim(spec.Path.Value, "\"`") != path {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path[strings.LastIndex(path, "/")+1:]
	}
	return ""
}

func isSelector(e ast.Expr, pkg, name string) bool {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok || pkg == "" || sel.Sel.Name != name {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && x.Name == pkg
}

func TestASleepIsCaught(t *testing.T) {
	t.Parallel()
	fset, f := fileOf(t, `package a

import (
	clock "time"
	"testing/synctest"
)

func f() {
	clock.Sleep(1)
	clock.Sleep(2) // sleep:
	clock.Sleep(3) // sleep: the kernel gives no other sign
	// sleep: a reason
	// on two lines
	clock.Sleep(4)
	synctest.Test(t, func(t *testing.T) { clock.Sleep(5) })
	<-clock.After(6)
	select {
	case <-clock.After(7):
		clock.Sleep(8)
	case <-done:
	}
	time.Sleep(9)
}
`)
	var lines []int
	for _, pos := range sleeps(fset, f) {
		lines = append(lines, fset.Position(pos).Line)
	}
	if want := []int{9, 10, 16, 19}; !slices.Equal(lines, want) {
		t.Errorf("got lines %v, want %v", lines, want)
	}
}
