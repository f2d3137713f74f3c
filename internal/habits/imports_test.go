package habits

import (
	"path"
	"strings"
	"testing"
)

// The arrows of the package layout: cmd → cli, dashboard → sequencer → internal/engine → storage ← storage/<backend>.
// Each rule says what a package must not reach, directly or through others of this module.
var arrows = []struct {
	from, because string
	applies       func(dir string) bool
	forbidden     func(from, to string) bool
}{
	{
		from: "the root package", because: "users who import it must not link the command, the dashboard or a database driver",
		applies: func(dir string) bool { return dir == "." },
		forbidden: func(_, to string) bool {
			// The memory store is part of the root's own promises (a run without a record) and brings no driver.
			return within(to, "cli", "dashboard", "cmd", "seal", "sequencertest") || isBackend(to) && to != "storage/memory"
		},
	},
	{
		from: "internal/engine", because: "the engine knows rows and one function value, never operations or a backend",
		applies: func(dir string) bool { return within(dir, "internal/engine") },
		forbidden: func(_, to string) bool {
			return to == "." || isBackend(to) || within(to, "cli", "dashboard", "middleware", "guard", "migration")
		},
	},
	{
		from: "storage", because: "the contract stands below everything",
		applies: func(dir string) bool { return dir == "storage" || within(dir, "storage/internal") },
		forbidden: func(_, to string) bool {
			return to == "." || isBackend(to) || within(to, "internal/engine", "cli", "dashboard", "middleware", "guard", "migration")
		},
	},
	{
		from: "a backend or the conformance suite", because: "a backend knows rows, never operations, and reads alone",
		applies: func(dir string) bool { return isBackend(dir) || within(dir, "storage/storagetest") },
		forbidden: func(from, to string) bool {
			if to == "." || within(to, "internal/engine", "cli", "dashboard", "middleware", "guard", "migration") {
				return true
			}
			return isBackend(from) && isBackend(to) && backendOf(from) != backendOf(to)
		},
	},
	{
		from: "cli or dashboard", because: "an application that mounts them links only the backends and the cryptography it imports itself",
		applies:   func(dir string) bool { return within(dir, "cli", "dashboard") },
		forbidden: func(_, to string) bool { return isBackend(to) && to != "storage/memory" || within(to, "seal") },
	},
	{
		from: "a pure leaf", because: "it is a calculation, and imports nothing of ours",
		applies:   func(dir string) bool { return within(dir, "internal/backoff", "internal/cron", "internal/graph") },
		forbidden: func(string, string) bool { return true },
	},
}

func isBackend(dir string) bool {
	return within(dir, "storage") && dir != "storage" && !within(dir, "storage/internal", "storage/storagetest")
}

// backendOf returns the first two elements: storage/postgres/internal/x belongs to storage/postgres.
func backendOf(dir string) string {
	parts := strings.SplitN(dir, "/", 3)
	return path.Join(parts[:min(2, len(parts))]...)
}

func TestImportsFollowTheArrows(t *testing.T) {
	t.Parallel()
	tr := loaded(t)
	for _, broken := range brokenArrows(tr) {
		t.Error(broken)
	}
}

func brokenArrows(tr *tree) []string {
	var broken []string
	for _, p := range tr.sorted() {
		for _, rule := range arrows {
			if !rule.applies(p.dir) {
				continue
			}
			chain := tr.reach(p.dir, func(to string) bool { return rule.forbidden(p.dir, to) })
			if chain != nil {
				broken = append(broken, strings.Join(chain, " → ")+": not for "+rule.from+", because "+rule.because)
			}
		}
	}
	return broken
}

// reach returns the shortest chain of imports from a package to one that bad accepts, nil if there is none.
func (tr *tree) reach(from string, bad func(string) bool) []string {
	type step struct {
		dir   string
		chain []string
	}
	seen := map[string]bool{from: true}
	for queue := []step{{from, []string{from}}}; len(queue) > 0; queue = queue[1:] {
		p := tr.packages[queue[0].dir]
		if p == nil {
			continue // imported and not written yet
		}
		for _, imported := range p.imports() {
			dir, ours := dirOf(imported)
			if !ours || seen[dir] {
				continue
			}
			seen[dir] = true
			chain := append(queue[0].chain[:len(queue[0].chain):len(queue[0].chain)], dir)
			if bad(dir) {
				return chain
			}
			queue = append(queue, step{dir, chain})
		}
	}
	return nil
}

func TestTheRootPackageImportsOnlyTheStandardLibrary(t *testing.T) {
	t.Parallel()
	thirdParty(t, ".")
}

func TestStorageImportsOnlyTheStandardLibraryIdsAndInternalLeaves(t *testing.T) {
	t.Parallel()
	thirdParty(t, "storage", "github.com/google/uuid")
	if p := loaded(t).packages["storage"]; p != nil {
		for _, imported := range p.imports() {
			if dir, ours := dirOf(imported); ours && !within(dir, "internal", "storage/internal") {
				t.Errorf("storage imports %s: only internal leaves stand below the contract", dir)
			}
		}
	}
}

func thirdParty(t *testing.T, dir string, allowed ...string) {
	t.Helper()
	p := loaded(t).packages[dir]
	if p == nil {
		t.Skipf("there is no package %s yet", dir)
	}
	for _, f := range p.files {
		for _, imported := range f.imports {
			if _, ours := dirOf(imported); ours || isStandard(imported) || within(imported, allowed...) {
				continue
			}
			t.Errorf("%s imports %s: not in this package; put it behind a small internal one, or let it go", f.path, imported)
		}
	}
}

func TestShippedPackagesReachNoTestCode(t *testing.T) {
	t.Parallel()
	tr := loaded(t)
	for _, p := range tr.sorted() {
		if !p.isShipped() || p.isInternal() {
			continue
		}
		chain := tr.reach(p.dir, func(to string) bool {
			q := tr.packages[to]
			return q != nil && q.isForTests()
		})
		if chain != nil {
			t.Errorf("%s: a package that takes testing.TB ends up in users' binaries", strings.Join(chain, " → "))
		}
	}
}

func TestTheArrowsCatchWhatTheyForbid(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		imports map[string]string // directory → what it imports
		want    string            // the chain reported, "" for none
	}{
		{map[string]string{"internal/engine": ".", ".": "storage"}, "internal/engine → ."},
		{map[string]string{"internal/engine": "internal/x", "internal/x": "storage/sqlite"}, "internal/engine → internal/x → storage/sqlite"},
		{map[string]string{"storage/sqlite": "storage/postgres"}, "storage/sqlite → storage/postgres"},
		{map[string]string{"storage/sqlite": "storage/sqlite/internal/wal"}, ""},
		{map[string]string{"storage/sqlite": "internal/engine"}, "storage/sqlite → internal/engine"},
		{map[string]string{"storage/storagetest": "."}, "storage/storagetest → ."},
		{map[string]string{"storage": "storage/memory"}, "storage → storage/memory"},
		{map[string]string{".": "storage/memory"}, ""},
		{map[string]string{".": "storage/postgres"}, ". → storage/postgres"},
		{map[string]string{"cli": "storage/redis"}, "cli → storage/redis"},
		{map[string]string{"cmd/sequencer": "storage/redis"}, ""},
		{map[string]string{"internal/graph": "storage"}, "internal/graph → storage"},
	} {
		tr := &tree{packages: map[string]*pkg{}}
		for dir, imported := range c.imports {
			tr.packages[dir] = &pkg{dir: dir, files: []*file{{imports: []string{path.Join(module, imported)}}}}
		}
		got := strings.Join(brokenArrows(tr), "\n")
		if c.want == "" && got != "" || !strings.HasPrefix(got, c.want) {
			t.Errorf("%v: got %q, want %q", c.imports, got, c.want)
		}
	}
}
