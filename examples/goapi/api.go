package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// apiFiles matches what Go keeps in $GOROOT/api: one file per release, one line
// per feature that the release added.
const apiFiles = "go1*.txt"

// apiDir finds the folder. It is called when an operation needs it, not when the
// program starts: status and summary work without one.
type apiDir func(context.Context) (fs.FS, error)

// findAPI returns dir if it is given, else the api folder of the first Go on this
// machine that has one. A toolchain that Go downloaded for itself ships without,
// so every go command on the PATH is asked where it is installed.
func findAPI(dir string) apiDir {
	return func(ctx context.Context) (fs.FS, error) {
		if dir != "" {
			if !hasAPI(dir) {
				return nil, fmt.Errorf("--api %s: there is no %s in it", dir, apiFiles)
			}
			return os.DirFS(dir), nil
		}
		tried := []string{"GOROOT is not set"}
		if root := os.Getenv("GOROOT"); root != "" {
			tried[0] = "GOROOT is " + root
			if dir := filepath.Join(root, "api"); hasAPI(dir) {
				return os.DirFS(dir), nil
			}
		}
		installed := localRoots(ctx)
		for _, root := range installed {
			if dir := filepath.Join(root, "api"); hasAPI(dir) {
				return os.DirFS(dir), nil
			}
		}
		tried = append(tried, "locally installed: "+cmp.Or(strings.Join(installed, ", "), "no go command on the PATH"))
		return nil, fmt.Errorf("found no Go with an api folder (%s; a toolchain that Go downloaded has none): "+
			"name a folder of %s files with --api DIR", strings.Join(tried, "; "), apiFiles)
	}
}

func hasAPI(dir string) bool {
	found, err := fs.Glob(os.DirFS(dir), apiFiles)
	return err == nil && len(found) > 0
}

// localRoots asks each go command on the PATH for its own GOROOT. The first is
// not enough: "go run" with a downloaded toolchain puts that one in front.
func localRoots(ctx context.Context) []string {
	name := "go"
	if runtime.GOOS == "windows" {
		name = "go.exe"
	}
	var roots []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		command := filepath.Join(dir, name)
		if _, err := os.Stat(command); err != nil {
			continue
		}
		cmd := exec.CommandContext(ctx, command, "env", "GOROOT")
		cmd.Dir = os.TempDir() // away from a go.mod that asks for a newer Go
		cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local", "GOROOT=")
		out, err := cmd.Output()
		if root := strings.TrimSpace(string(out)); err == nil && root != "" && !slices.Contains(roots, root) {
			roots = append(roots, root)
		}
	}
	return roots
}

// release is one of the files.
type release struct {
	file  string
	name  string // go1.26
	minor int    // 26; 0 for go1
	year  int
}

// releases lists the files, oldest release first.
func releases(api fs.FS) ([]release, error) {
	files, err := fs.Glob(api, apiFiles)
	if err != nil {
		return nil, err
	}
	var list []release
	for _, file := range files {
		r := release{file: file, name: strings.TrimSuffix(file, ".txt")}
		if digits, ok := strings.CutPrefix(r.name, "go1."); ok {
			if r.minor, err = strconv.Atoi(digits); err != nil {
				return nil, fmt.Errorf("%s: its name is not that of a release", file)
			}
		} else if r.name != "go1" {
			return nil, fmt.Errorf("%s: its name is not that of a release", file)
		}
		r.year = yearOf(r.minor)
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b release) int { return cmp.Compare(a.minor, b.minor) })
	return list, nil
}

// The files do not say when their release came out.
var years = [...]int{
	2012, 2013, 2013, 2014, 2014, 2015, 2016, 2016, 2017, 2017, // go1 to go1.9
	2018, 2018, 2019, 2019, 2020, 2020, 2021, 2021, 2022, 2022, // to go1.19
	2023, 2023, 2024, 2024, 2025, 2025, 2026, // to go1.26
}

func yearOf(minor int) int {
	if minor < len(years) {
		return years[minor]
	}
	return 2013 + minor/2 // newer than this program: there are two a year, in February and August
}

// feature is a line such as
//
//	pkg syscall (linux-386), const AF_UNIX = 1
//	pkg cmp, func Or[$0 comparable](...$0) $0 #60204
type feature struct {
	line     int
	pkg      string
	platform string // "" = all
	symbol   string
}

// features reads one file. Everything that does not start with "pkg " is comment.
func features(api fs.FS, file string) iter.Seq2[feature, error] {
	return func(yield func(feature, error) bool) {
		f, err := api.Open(file)
		if err != nil {
			yield(feature{}, err)
			return
		}
		defer f.Close() //nolint:errcheck // it is only read
		lines := bufio.NewScanner(f)
		for n := 1; lines.Scan(); n++ {
			if text, ok := strings.CutPrefix(lines.Text(), "pkg "); ok && !yield(parseFeature(n, text), nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(feature{}, fmt.Errorf("%s: %w", file, err))
		}
	}
}

func parseFeature(line int, text string) feature {
	head, symbol, _ := strings.Cut(text, ", ")
	pkg, platform, _ := strings.Cut(head, " (")
	symbol, _, _ = strings.Cut(symbol, " #") // the proposal's number
	return feature{line: line, pkg: pkg, platform: strings.TrimSuffix(platform, ")"), symbol: symbol}
}
