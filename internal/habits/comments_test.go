package habits

import (
	"strings"
	"testing"
)

func TestEveryPackageHasAComment(t *testing.T) {
	t.Parallel()
	for _, p := range loaded(t).sorted() {
		if problem := commentProblem(p); problem != "" {
			t.Errorf("package %s: %s", p.dir, problem)
		}
	}
}

func commentProblem(p *pkg) string {
	want := "Package " + p.name + " "
	if p.name == "main" {
		want = "" // a command or an example introduces itself as it likes
	}
	found := 0
	for _, f := range p.files {
		if f.ast.Doc == nil || strings.TrimSpace(f.ast.Doc.Text()) == "" {
			continue
		}
		found++
		if !strings.HasPrefix(f.ast.Doc.Text(), want) {
			return f.path + ": the package comment does not begin with \"" + want + "\""
		}
	}
	switch found {
	case 0:
		return "no file has a package comment; it is the first thing to write"
	case 1:
		return ""
	}
	return "several files have a package comment, and godoc prints all of them"
}

func TestAMissingPackageCommentIsCaught(t *testing.T) {
	t.Parallel()
	for src, bad := range map[string]bool{
		"package a":                           true,
		"// Something else.\npackage a":       true,
		"// Package b is another.\npackage a": true,
		"// Package a works.\n\npackage a":    true, // an empty line: not attached
		"// Package a works.\npackage a":      false,
		"// Command x works.\npackage main":   false,
		"package main":                        true,
	} {
		_, f := fileOf(t, src)
		if got := commentProblem(&pkg{name: f.ast.Name.Name, files: []*file{f}}); (got != "") != bad {
			t.Errorf("%q: got %q, want a problem: %v", src, got, bad)
		}
	}
}
