package habits

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The repository stands alone: it names no path of the machine it was written on, no directory beside it, and no host that
// packages are fetched from, which is for everybody's own configuration to say. The words are put together here so that
// this file does not break the rule.
var outside = func() *regexp.Regexp {
	hosts := []string{"proxy.go" + "lang", "sum.go" + "lang", "registry.npm" + "js", "deb.deb" + "ian", "index.crates", "files.python" + "hosted"}
	return regexp.MustCompile(strings.Join([]string{
		`(^|[^\w./-])/wo` + `rk(/|\b[^\w.-]|$)`,
		`\.\./sha` + `red\b`,
		`\b(` + strings.ReplaceAll(regexp.QuoteMeta(strings.Join(hosts, " ")), " ", "|") + `)\.`,
	}, "|"))
}()

func TestNothingPointsOutsideTheRepository(t *testing.T) {
	t.Parallel()
	// Untracked files are read too: they are about to be committed. What is ignored stays on its machine.
	cmd := exec.CommandContext(t.Context(), "git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root
	list, err := cmd.Output()
	if err != nil {
		t.Skipf("not a git checkout, or no git: %v", err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(list), "\x00"), "\x00") {
		src, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if os.IsNotExist(err) {
			continue // deleted and not yet committed
		}
		if err != nil {
			t.Error(err)
			continue
		}
		if bytes.IndexByte(src, 0) >= 0 {
			continue // not text
		}
		n := 0
		for line := range strings.Lines(string(src)) {
			n++
			if found := outside.FindString(line); found != "" {
				t.Errorf("%s:%d points outside the repository: %q", name, n, strings.TrimSpace(found))
			}
		}
	}
}

func TestWhatPointsOutsideIsCaught(t *testing.T) {
	t.Parallel()
	for line, bad := range map[string]bool{
		"see /wo" + "rk/main/x":                 true,
		"`/wo" + "rk/a`":                        true,
		"cd /wo" + "rk":                         true,
		"read ../sha" + "red/style.md":          true,
		"GOPROXY=https://proxy.go" + "lang.org": true,
		"from deb.deb" + "ian.org":              true,
		"docs/work/x and net/work/x":            false,
		"/worker/1 and /works":                  false,
		"GET /api/work/1":                       false,
		"https://go.dev/ref/mod":                false,
		"github.com/jackc/pgx/v5 v5.12.0":       false,
		"the shared/ folder of a user":          false,
	} {
		if got := outside.MatchString(line); got != bad {
			t.Errorf("%q: caught %v, want %v", line, got, bad)
		}
	}
}
