// Command testsum runs the tests of one or more modules and says what ran.
//
//	go run ./scripts/testsum [-modules dir,dir] [go test flags] packages
//
// It runs "go test -json" with the arguments in the module of the working directory, then "go vet", "go build" and
// "go test" in each module under the directories of -modules (those that exist). While it works it prints one line per
// package and the output of what failed; at the end a table of packages, every test that was skipped with its reason, and,
// last and alone on its line, "N passed, N failed".
//
// A test with subtests is not counted itself, its subtests are. What fails without a test to blame (a package that does
// not compile, a panic in TestMain, a vet complaint) counts as one failure. The exit code is 1 when anything failed or when
// no test ran at all, 0 otherwise.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	args := os.Args[1:]
	var roots []string
	if len(args) >= 2 && args[0] == "-modules" {
		roots, args = strings.Split(args[1], ","), args[2:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: testsum [-modules dir,dir] [go test flags] packages")
		os.Exit(2)
	}
	modules, err := findModules(roots)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(2)
	}
	s := newSummary(os.Stdout)
	runTests(s, ".", args)
	for _, dir := range modules {
		runTool(s, dir, "vet", "./...")
		runTool(s, dir, "build", "-o", os.DevNull, "./...")
		runTests(s, dir, []string{"./..."})
	}
	s.print()
	if !s.ok() {
		os.Exit(1)
	}
}

// findModules lists the directories with a go.mod below roots; a root that does not exist holds none.
func findModules(roots []string) ([]string, error) {
	var dirs []string
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) && path == root {
				return nil
			}
			if err == nil && d.Name() == "go.mod" {
				dirs = append(dirs, filepath.Dir(path))
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("look for modules below %s: %w", root, err)
		}
	}
	return dirs, nil
}

func runTests(s *summary, dir string, args []string) {
	cmd := exec.Command("go", append([]string{"test", "-C", dir, "-json"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.blame(dir, "go test", err)
		return
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		s.blame(dir, "go test", err)
		return
	}
	failed := s.failed
	readEvents(s, out)
	// The exit code is believed over the events: a run that died in the middle has not passed.
	if err := cmd.Wait(); err != nil && s.failed == failed {
		s.blame(dir, "go test", err)
	}
}

// readEvents feeds the lines of "go test -json" to s. What is not JSON is what go itself has to say, and is passed on.
func readEvents(s *summary, r io.Reader) {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		var e event
		switch {
		case len(line) == 0:
		case json.Unmarshal(line, &e) != nil:
			fmt.Fprint(s.out, string(line))
		default:
			s.add(e)
		}
		if err != nil {
			return
		}
	}
}

func runTool(s *summary, dir string, args ...string) {
	cmd := exec.Command("go", append([]string{args[0], "-C", dir}, args[1:]...)...)
	cmd.Stdout, cmd.Stderr = s.out, s.out
	if err := cmd.Run(); err != nil {
		s.blame(dir, "go "+args[0], err)
		return
	}
	fmt.Fprintf(s.out, "ok    go %s in %s\n", args[0], dir)
}
