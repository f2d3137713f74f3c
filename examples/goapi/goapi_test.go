package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The test binary is also the program, for tests that kill it.
func TestMain(m *testing.M) {
	if os.Getenv("GOAPI_TEST_AS_PROGRAM") != "" {
		main()
	}
	os.Exit(m.Run())
}

// goapi runs the program in this process.
func goapi(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

// mustRun is goapi for what has to succeed.
func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errOut := goapi(t, args...)
	if code != 0 {
		t.Fatalf("goapi %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errOut)
	}
	return out
}

// fixture writes an api folder of a few releases and returns it with the number of
// its lines that start with "pkg ".
func fixture(t *testing.T, releases int) (dir string, count int) {
	t.Helper()
	dir = t.TempDir()
	for minor := range releases {
		name := "go1.txt"
		if minor > 0 {
			name = fmt.Sprintf("go1.%d.txt", minor)
		}
		var text strings.Builder
		text.WriteString("# a comment, and the word pkg \n\npkg both, func InEveryRelease()\n")
		count++
		for n := range 300 {
			fmt.Fprintf(&text, "pkg some/p%02d (plan9-386), const C%d_%d = %d\n", n%(20+minor), minor, n, n)
			count++
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// Neither is a release.
	for _, name := range []string{"except.txt", "README"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("pkg not, func Counted()\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir, count
}

// tables is everything the program's own tables hold.
func tables(t *testing.T, path string) map[string][]string {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	all := map[string][]string{}
	for table, row := range map[string]string{
		"releases": "format('%d %s %d %d', minor, name, year, features)",
		"features": "format('%d %d %s %s %s', release, line, package, platform, symbol)",
		"growth":   "format('%s %d %d', package, recent, features)",
		"report":   "text",
	} {
		all[table] = column(t, db, "SELECT "+row+" FROM "+table+" ORDER BY 1")
	}
	return all
}

func column(t *testing.T, db *sql.DB, query string) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		all = append(all, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestARunImportsEveryFeatureAndTheNextOneHasNothingToDo(t *testing.T) {
	t.Parallel()
	api, count := fixture(t, 7)
	db := filepath.Join(t.TempDir(), "goapi.db")

	out := mustRun(t, "process", "--db", db, "--api", api)
	headline := fmt.Sprintf("7 releases, %d features, 27 packages", count)
	if !strings.Contains(out, headline) {
		t.Errorf("the summary lacks %q:\n%s", headline, out)
	}
	want := fmt.Sprintf(`{"releases":7,"features":%d,"packages":27}`+"\n", count)
	if got := mustRun(t, "summary", "--json", "--db="+db); got != want {
		t.Errorf("summary --json\n got %s\nwant %s", got, want)
	}
	if plain := mustRun(t, "summary", "--db", db); !strings.HasSuffix(out, plain) {
		t.Errorf("the run ended with\n%s\nsummary says\n%s", out, plain)
	}

	if batch := mustRun(t, "batch", "list", "--db", db); !strings.Contains(batch, "import of features") || !strings.Contains(batch, "100%") {
		t.Errorf("batch list says\n%s", batch)
	}

	before := tables(t, db)
	code, again, errOut := goapi(t, "process", "--db", db) // the folder is not needed any more
	if said := strings.ToLower(again + errOut); code != 0 || !strings.Contains(said, "nothing") || !strings.Contains(said, "pending") {
		t.Errorf("the second run: exit code %d\n%s%s", code, again, errOut)
	}
	if diff := cmp.Diff(before, tables(t, db)); diff != "" {
		t.Errorf("the second run changed (-before +after):\n%s", diff)
	}
}

func TestTheGoOfThisMachineIsImportedAsAWhole(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("-short: imports 150,000 lines")
	}
	api, err := findAPI("")(t.Context())
	if err != nil {
		t.Skip(err)
	}
	files, err := fs.Glob(api, apiFiles)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, name := range files {
		text, err := fs.ReadFile(api, name)
		if err != nil {
			t.Fatal(err)
		}
		count += bytes.Count(append([]byte("\n"), text...), []byte("\npkg "))
	}
	db := filepath.Join(t.TempDir(), "goapi.db")
	mustRun(t, "process", "--db", db)
	var got summary
	if err := json.Unmarshal([]byte(mustRun(t, "summary", "--json", "--db", db)), &got); err != nil {
		t.Fatal(err)
	}
	if got.Features != count || got.Releases != len(files) {
		t.Errorf("imported %d features of %d releases, the folder has %d of %d", got.Features, got.Releases, count, len(files))
	}
}

func TestWithoutAnAPIFolderTheErrorSaysWhatWasTriedAndWhatHelps(t *testing.T) {
	root := t.TempDir() // as a downloaded toolchain: no api in it
	t.Setenv("GOROOT", root)
	t.Setenv("PATH", "")
	code, out, errOut := goapi(t, "process", "--db", filepath.Join(t.TempDir(), "goapi.db"))
	if code == 0 {
		t.Errorf("exit code 0\n%s", out)
	}
	for _, want := range []string{root, "locally installed", "--api DIR"} {
		if !strings.Contains(out+errOut, want) {
			t.Errorf("the error does not mention %s:\n%s%s", want, out, errOut)
		}
	}
}

// "go run" with a toolchain that Go downloaded sets GOROOT to it and puts its bin in
// front of the PATH.
func TestBehindADownloadedToolchainTheInstalledGoIsFound(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the go commands of this test are shell scripts")
	}
	downloaded, installed := t.TempDir(), t.TempDir()
	for _, root := range []string{downloaded, installed} {
		script := "#!/bin/sh\n[ -z \"$GOROOT\" ] && [ \"$GOTOOLCHAIN $*\" = 'local env GOROOT' ] && echo " + root + "\n"
		if err := os.WriteFile(filepath.Join(root, "go"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	folder := filepath.Join(installed, "api")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "go1.7.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOROOT", downloaded)
	t.Setenv("PATH", downloaded+string(filepath.ListSeparator)+installed)
	api, err := findAPI("")(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list, err := releases(api)
	if err != nil || len(list) != 1 || list[0].name != "go1.7" {
		t.Errorf("found %v, %v", list, err)
	}
}

func TestAFolderWithoutReleasesIsRefusedByName(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	code, out, errOut := goapi(t, "process", "--db", filepath.Join(t.TempDir(), "goapi.db"), "--api", empty)
	if code == 0 || !strings.Contains(out+errOut, empty) {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
}

func TestSummaryBeforeTheFirstRunSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"summary"}, {"summary", "--json"}} {
		code, _, errOut := goapi(t, append(args, "--db", filepath.Join(t.TempDir(), "goapi.db"))...)
		if code != 1 || !strings.Contains(errOut, `"process" first`) {
			t.Errorf("%v: exit code %d, %s", args, code, errOut)
		}
	}
}

// Nothing in the program knows of this test: it is killed wherever it happens to
// be, five times, from its start to its end.
func TestCrashKilledAtAnyMomentTheNextRunEndsWithTheSameTables(t *testing.T) {
	t.Parallel()
	api, _ := fixture(t, 7)
	start := func(db string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "process", "--db", db, "--api", api)
		cmd.Env = append(os.Environ(), "GOAPI_TEST_AS_PROGRAM=1")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}

	undisturbed := filepath.Join(t.TempDir(), "goapi.db")
	began := time.Now()
	if err := start(undisturbed).Wait(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	want := tables(t, undisturbed)

	const kills = 5
	for i := range kills {
		// A moment in the i-th fifth of the time.
		after := time.Duration((float64(i) + rand.Float64()) / kills * float64(took))
		db := filepath.Join(t.TempDir(), "goapi.db")
		ctx, cancel := context.WithTimeout(t.Context(), after)
		cmd := start(db)
		<-ctx.Done()
		cancel()
		if err := cmd.Process.Kill(); err != nil {
			t.Logf("kill after %s of %s: %v", after, took, err)
		}
		t.Logf("killed after %s of %s: %v", after, took, cmd.Wait())

		code, out, errOut := goapi(t, "process", "--db", db, "--api", api)
		if code != 0 {
			t.Fatalf("the run after a kill at %s of %s: exit code %d\n%s%s", after, took, code, out, errOut)
		}
		if diff := cmp.Diff(want, tables(t, db)); diff != "" {
			t.Errorf("killed after %s of %s, then run again (-undisturbed +killed):\n%s", after, took, diff)
		}
	}
}

func TestALineIsTakenApart(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]feature{
		"archive/tar, const TypeBlock ideal-char":         {pkg: "archive/tar", symbol: "const TypeBlock ideal-char"},
		"syscall (linux-386-cgo), const AF_UNIX = 1":      {pkg: "syscall", platform: "linux-386-cgo", symbol: "const AF_UNIX = 1"},
		"cmp, func Or[$0 comparable](...$0) $0 #60204":    {pkg: "cmp", symbol: "func Or[$0 comparable](...$0) $0"},
		"bytes, method (*Buffer) Peek(int) (int, error)":  {pkg: "bytes", symbol: "method (*Buffer) Peek(int) (int, error)"},
		"crypto, type Decapsulator interface { A, B } #1": {pkg: "crypto", symbol: "type Decapsulator interface { A, B }"},
	} {
		want.line = 3
		if got := parseFeature(3, text); got != want {
			t.Errorf("%s\n got %+v\nwant %+v", text, got, want)
		}
	}
}

func TestReleasesHaveYearsAlsoThoseToCome(t *testing.T) {
	t.Parallel()
	for minor, want := range map[int]int{0: 2012, 4: 2014, 5: 2015, 11: 2018, 18: 2022, 26: 2026, 27: 2026, 28: 2027} {
		if got := yearOf(minor); got != want {
			t.Errorf("go1.%d: got %d, want %d", minor, got, want)
		}
	}
}
