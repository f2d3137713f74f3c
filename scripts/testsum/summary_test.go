package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestSubtestsAreCountedAndTheirParentsAreNot(t *testing.T) {
	t.Parallel()
	s, out := summarize(`
{"Action":"run","Package":"p/q","Test":"TestA"}
{"Action":"run","Package":"p/q","Test":"TestA/one"}
{"Action":"run","Package":"p/q","Test":"TestA/two"}
{"Action":"pass","Package":"p/q","Test":"TestA/one"}
{"Action":"output","Package":"p/q","Test":"TestA/two","Output":"got 1, want 2\n"}
{"Action":"fail","Package":"p/q","Test":"TestA/two"}
{"Action":"fail","Package":"p/q","Test":"TestA"}
{"Action":"run","Package":"p/q","Test":"TestB"}
{"Action":"run","Package":"p/q","Test":"TestB/one"}
{"Action":"pass","Package":"p/q","Test":"TestB/one"}
{"Action":"fail","Package":"p/q","Test":"TestB"}
{"Action":"fail","Package":"p/q","Elapsed":0.5}
`)
	// TestB failed by itself, after its subtest had passed.
	if s.passed != 2 || s.failed != 2 {
		t.Errorf("got %d passed, %d failed, want 2 and 2\n%s", s.passed, s.failed, out)
	}
	if !strings.Contains(out, "got 1, want 2") {
		t.Errorf("the output of the failed test is missing:\n%s", out)
	}
	if !strings.HasSuffix(out, "\n2 passed, 2 failed\n") {
		t.Errorf("the closing line is not alone at the end:\n%s", out)
	}
}

func TestASkippedTestIsListedWithItsReason(t *testing.T) {
	t.Parallel()
	s, out := summarize(`
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: left out: postgres cannot be reached\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p"}
`)
	if !strings.Contains(out, "p TestA: left out: postgres cannot be reached") {
		t.Errorf("the skip or its reason is missing:\n%s", out)
	}
	if s.ok() {
		t.Error("a run in which no test ran is not a success")
	}
}

func TestWhatGoItselfSaysIsPassedOn(t *testing.T) {
	t.Parallel()
	if _, out := summarize("go: updates to go.mod needed\n"); !strings.Contains(out, "updates to go.mod needed") {
		t.Errorf("got %q", out)
	}
}

// TestRealFailuresAreCounted runs testsum's own path from "go test" to the closing line on modules that break in the ways
// that leave no failed test behind.
func TestRealFailuresAreCounted(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("-short: it builds small modules")
	}
	const pass = "func TestPass(t *testing.T) {}\n"
	for name, c := range map[string]struct {
		test    string
		failed  int
		expects string
	}{
		"control": {pass, 0, "1 passed, 0 failed"},
		"build":   {pass + "var x int = nothing\n", 1, "undefined: nothing"},
		"vet":     {pass + "func TestV(t *testing.T) { t.Errorf(\"%d\", \"x\") }\n", 1, "wrong type"},
		"panic":   {"func TestPanic(t *testing.T) { panic(\"boom\") }\n", 1, "boom"},
		"exit":    {"func TestExit(t *testing.T) { os.Exit(3) }\nvar _ = os.Exit\n", 1, "0 passed, 1 failed"},
		"fatal":   {"func TestFatal(t *testing.T) { t.Fatal(\"reason\") }\n", 1, "reason"},
		"nomod":   {"", 1, "FAIL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			mod := "module example.test\n\ngo 1.26\n"
			if name == "nomod" {
				mod = "modul\n"
			}
			write(t, filepath.Join(dir, "go.mod"), mod)
			src := "package a\n\nimport (\n\t\"testing\"\n"
			if strings.Contains(c.test, "os.Exit") {
				src += "\t\"os\"\n"
			}
			write(t, filepath.Join(dir, "a_test.go"), src+")\n\n"+c.test)

			var out strings.Builder
			s := newSummary(&out)
			runTests(s, dir, []string{"./..."})
			s.print()
			if s.failed != c.failed || !strings.Contains(out.String(), c.expects) {
				t.Errorf("got %d failed, want %d and %q in:\n%s", s.failed, c.failed, c.expects, out.String())
			}
		})
	}
}

func TestModulesAreFoundBelowTheRootsThatExist(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "b", "deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "b", "deep", "go.mod"), "module example.test\n")
	got, err := findModules([]string{filepath.Join(dir, "absent"), filepath.Join(dir, "b")})
	if err != nil || len(got) != 1 || got[0] != filepath.Join(dir, "b", "deep") {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestTheExitCodeSaysWhetherAllPassed(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("-short: it builds the command")
	}
	bin := filepath.Join(t.TempDir(), "testsum")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, c := range map[string]struct {
		body string
		code int
	}{
		"passed": {"", 0},
		"failed": {"t.Fail()", 1},
		"none":   {"t.Skip()", 1},
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "go.mod"), "module example.test\n\ngo 1.26\n")
		write(t, filepath.Join(dir, "a_test.go"), "package a\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) { "+c.body+" }\n")
		cmd := exec.CommandContext(t.Context(), bin, "./...")
		cmd.Dir = dir
		out, _ := cmd.CombinedOutput() // the code is looked at below
		if got := cmd.ProcessState.ExitCode(); got != c.code {
			t.Errorf("%s: exit code %d, want %d\n%s", name, got, c.code, out)
		}
	}
}

func summarize(events string) (*summary, string) {
	var out strings.Builder
	s := newSummary(&out)
	readEvents(s, strings.NewReader(strings.TrimPrefix(events, "\n")))
	s.print()
	return s, out.String()
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
