package habits

import (
	"go/ast"
	"go/token"
	"slices"
	"testing"
)

// One pipeline is the only caller of an operation, for deploy runs, workers, synchronous calls and rollbacks: what it does
// around the handler (guards, transaction, outcome) then holds on every path.
func TestOnlyTheAttemptCallsHandle(t *testing.T) {
	t.Parallel()
	tr := loaded(t)
	p := tr.packages["."]
	if p == nil {
		t.Skip("there is no root package yet")
	}
	for _, f := range p.files {
		if f.path == "attempt.go" {
			continue
		}
		for _, pos := range handleCalls(f) {
			t.Errorf("%s: calls Handle; only attempt.go does", tr.fset.Position(pos))
		}
	}
}

// handleCalls finds x.Handle(ctx). Other methods of that name have two parameters: a slog.Handler's and a ServeMux's.
func handleCalls(f *file) []token.Pos {
	var calls []token.Pos
	ast.Inspect(f.ast, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Handle" && len(call.Args) == 1 {
			calls = append(calls, sel.Sel.Pos())
		}
		return true
	})
	return calls
}

func TestACallOfHandleIsCaught(t *testing.T) {
	t.Parallel()
	fset, f := fileOf(t, `package a

func f() {
	op.Handle(ctx)
	go func() { _ = r.op.Handle(context.Background()) }()
	handler.Handle(ctx, record)
	mux.Handle("/", page)
}
`)
	var lines []int
	for _, pos := range handleCalls(f) {
		lines = append(lines, fset.Position(pos).Line)
	}
	if want := []int{4, 5}; !slices.Equal(lines, want) {
		t.Errorf("got lines %v, want %v", lines, want)
	}
}
