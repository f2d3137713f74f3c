package scaffold

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// S34.18: every combination compiles and passes vet. Each ability alone, each
// pair, all together and a seeded sample of the rest are compiled in one package.
func TestEveryCombinationOfAbilitiesCompiles(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("-short: compiles a package")
	}
	dir := t.TempDir()
	operations := filepath.Join(dir, "operations")
	now := time.Date(2024, 1, 15, 12, 0, 0, 0, time.UTC)
	for i, flags := range combinations() {
		o := Options{Name: fmt.Sprintf("Combination%d", i), Dir: operations, Now: now, Test: i%10 == 0}
		for _, f := range flags {
			switch f {
			case "tags":
				o.Tags = []string{"billing", "a/b"}
			case "queue":
				o.Queue = "low"
			case "timeout":
				o.Timeout = 90 * time.Second
			default:
				o.Abilities = append(o.Abilities, f)
			}
		}
		if err := o.Check(); err != nil {
			t.Fatal(err)
		}
		// The list is written once, at the end: it would be read and written anew for each.
		name, err := o.place(fmt.Sprintf("combination_%d", i))
		if err != nil {
			t.Fatal(err)
		}
		var w writer
		if err := os.MkdirAll(operations, 0o755); err != nil {
			t.Fatal(err)
		}
		typ := fmt.Sprintf("Combination%d", i)
		w.source(filepath.Join(operations, name+".go"), o.source("operations", typ))
		if o.Test {
			w.source(filepath.Join(operations, name+"_test.go"), testSource("operations", typ))
		}
		if w.err != nil {
			t.Fatalf("%v: %v", flags, w.err)
		}
	}
	last := Options{Name: "Last", Dir: operations, Now: now}
	if _, err := last.Write(); err != nil {
		t.Fatal(err)
	}
	module(t, dir)
	for _, args := range [][]string{{"vet", "./..."}, {"test", "./..."}} {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %v: %v\n%.4000s", args, err, out)
		}
	}
}

func combinations() [][]string {
	var all []string
	for _, a := range Abilities {
		all = append(all, a.Flag)
	}
	all = append(all, "tags", "queue", "timeout")
	list := [][]string{nil, all}
	for i, a := range all {
		list = append(list, []string{a})
		for _, b := range all[i+1:] {
			list = append(list, []string{a, b})
		}
	}
	random := rand.New(rand.NewPCG(34, 18))
	for range 60 {
		var some []string
		for _, a := range all {
			if random.IntN(2) == 0 {
				some = append(some, a)
			}
		}
		list = append(list, some)
	}
	return list
}

// module makes dir a module that uses this repository.
func module(t *testing.T, dir string) {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(mod), "module "+rootPackage, "module example.test/app", 1) +
		"\nrequire " + rootPackage + " v0.0.0\n\nreplace " + rootPackage + " => " + root + "\n"
	for name, content := range map[string]string{"go.mod": text, "go.sum": string(sum)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// S34.19
func TestNamesAreSplitLikePeopleRead(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"SyncWithAPI":    "sync_with_api",
		"HTTPServerSync": "http_server_sync",
		"sync with--api": "sync_with_api",
		"importV2Users":  "import_v2_users",
		"__x__y__":       "x_y",
		"ÀlaCarte":       "ala_carte",
		"deploy linux":   "deploy_linux_operation",
		"UserTest":       "user_test_operation",
		"ID":             "id",
	} {
		words, err := split(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, snake(words)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for _, name := range []string{"", "___", "漢字", "9lives", "straße"} {
		if words, err := split(name); err == nil {
			t.Errorf("%q: got %q, want an error", name, words)
		}
	}
}
