package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// event is one line of "go test -json" (go doc test2json), with the fields of the build's own lines.
type event struct {
	Action      string
	Package     string
	Test        string
	Elapsed     float64
	Output      string
	ImportPath  string // of a build event
	FailedBuild string // the ImportPath whose build failed, on the package's closing event
}

type result struct {
	name                    string
	passed, failed, skipped int
	seconds                 float64
	verdict                 string // ok, FAIL, "none" for a package without tests
}

type skip struct{ test, reason string }

// summary adds up events. It keeps a test's output until the test has ended, because only then is it known whether anybody
// wants to read it.
type summary struct {
	out      io.Writer
	results  []*result
	current  map[string]*result // by package, until it has ended
	output   map[string]*strings.Builder
	parents  map[string]bool // tests that have subtests, by key
	blamed   map[string]bool // tests with a failed subtest, by key
	skips    []skip
	passed   int
	failed   int
	buildLog map[string]*strings.Builder
}

func newSummary(out io.Writer) *summary {
	return &summary{
		out:      out,
		current:  map[string]*result{},
		output:   map[string]*strings.Builder{},
		parents:  map[string]bool{},
		blamed:   map[string]bool{},
		buildLog: map[string]*strings.Builder{},
	}
}

func (s *summary) add(e event) {
	switch {
	case e.Action == "build-output":
		buffer(s.buildLog, e.ImportPath).WriteString(e.Output)
	case e.Package == "":
	case e.Test != "":
		s.addTest(e)
	default:
		s.addPackage(e)
	}
}

func (s *summary) addTest(e event) {
	key := e.Package + " " + e.Test
	r := s.open(e.Package)
	switch e.Action {
	case "run":
		markParents(s.parents, key)
	case "output":
		buffer(s.output, key).WriteString(e.Output)
	case "pass":
		if !s.parents[key] {
			r.passed++
		}
		delete(s.output, key)
	case "skip":
		if !s.parents[key] {
			r.skipped++
			s.skips = append(s.skips, skip{key, reason(text(s.output, key))})
		}
		delete(s.output, key)
	case "fail":
		// A parent fails with its subtests and is counted only when none of them did.
		if !s.blamed[key] {
			r.failed++
		}
		markParents(s.blamed, key)
		fmt.Fprintf(s.out, "\n--- FAIL: %s\n%s", key, text(s.output, key))
		delete(s.output, key)
	}
}

func (s *summary) addPackage(e event) {
	r := s.open(e.Package)
	switch e.Action {
	case "output":
		buffer(s.output, e.Package).WriteString(e.Output)
		return
	case "pass":
		r.verdict = "ok"
	case "skip":
		r.verdict = "none"
	case "fail":
		r.verdict = "FAIL"
		fmt.Fprint(s.out, text(s.buildLog, e.FailedBuild))
		s.printUnended(e.Package)
		if r.failed == 0 {
			r.failed++ // a build, TestMain, or a panic: no test ended as failed
		}
		fmt.Fprint(s.out, text(s.output, e.Package))
	default:
		return
	}
	r.seconds = e.Elapsed
	s.passed += r.passed
	s.failed += r.failed
	if r.verdict != "none" {
		fmt.Fprintf(s.out, "%-5s %s (%.1fs)\n", r.verdict, r.name, r.seconds)
	}
	delete(s.output, e.Package)
	delete(s.current, e.Package)
}

// printUnended shows what tests had said that neither passed nor failed: a panic, a deadlock, a timeout.
func (s *summary) printUnended(pkg string) {
	for _, key := range slices.Sorted(maps.Keys(s.output)) {
		if strings.HasPrefix(key, pkg+" ") {
			fmt.Fprintf(s.out, "\n--- not ended: %s\n%s", key, text(s.output, key))
			delete(s.output, key)
		}
	}
}

// blame counts a failure that no test stands for.
func (s *summary) blame(dir, what string, err error) {
	s.failed++
	s.results = append(s.results, &result{name: what + " in " + dir, failed: 1, verdict: "FAIL"})
	fmt.Fprintf(s.out, "FAIL  %s in %s: %v\n", what, dir, err)
}

func (s *summary) ok() bool { return s.failed == 0 && s.passed > 0 }

func (s *summary) print() {
	fmt.Fprintf(s.out, "\n%-60s %7s %7s %7s %8s\n", "PACKAGE", "PASSED", "FAILED", "SKIPPED", "SECONDS")
	for _, r := range s.results {
		if r.verdict == "none" {
			fmt.Fprintf(s.out, "%-60s %7s\n", r.name, "no test")
			continue
		}
		fmt.Fprintf(s.out, "%-60s %7d %7d %7d %8.1f\n", r.name, r.passed, r.failed, r.skipped, r.seconds)
	}
	if len(s.skips) > 0 {
		fmt.Fprintf(s.out, "\nSkipped:\n")
	}
	for _, sk := range s.skips {
		fmt.Fprintf(s.out, "  %s: %s\n", sk.test, sk.reason)
	}
	if s.passed+s.failed == 0 {
		fmt.Fprintln(s.out, "\nNo test ran.")
	}
	fmt.Fprintf(s.out, "\n%d passed, %d failed\n", s.passed, s.failed)
}

func (s *summary) open(pkg string) *result {
	r := s.current[pkg]
	if r == nil {
		r = &result{name: pkg}
		s.current[pkg] = r
		s.results = append(s.results, r)
	}
	return r
}

func buffer(m map[string]*strings.Builder, key string) *strings.Builder {
	if m[key] == nil {
		m[key] = &strings.Builder{}
	}
	return m[key]
}

func text(m map[string]*strings.Builder, key string) string {
	if m[key] == nil {
		return ""
	}
	return m[key].String()
}

// markParents enters the parents of a test: those of "package Test/a/b" are "package Test/a" and "package Test".
func markParents(m map[string]bool, key string) {
	start := strings.IndexByte(key, ' ') // a package path has slashes too
	for i := start; i < len(key); i++ {
		if key[i] == '/' {
			m[key[:i]] = true
		}
	}
}

// reason picks the line in which a test says why it was skipped: "    file_test.go:12: the reason".
func reason(output string) string {
	for line := range strings.Lines(output) {
		if _, why, found := strings.Cut(line, ".go:"); found {
			_, why, _ = strings.Cut(why, ": ")
			return strings.TrimSpace(why)
		}
	}
	return "no reason given"
}
