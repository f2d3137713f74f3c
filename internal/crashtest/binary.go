//go:build linux

package crashtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// binary is what children run: the test binary itself, or one without the race detector.
var binary = os.Args[0]

// buildLimit is how long building may take on a machine that does much else.
const buildLimit = 5 * time.Minute

// withoutRace builds the package's tests without the race detector for children to run. It
// makes SQLite in pure Go ten times slower, and in processes that are killed it reports to
// nobody. Where there is no go command, as for a test binary that was copied elsewhere,
// children have it too.
func withoutRace() (remove func(), err error) {
	tool, err := exec.LookPath("go")
	if err != nil {
		return func() {}, nil //nolint:nilerr // said above
	}
	dir, err := os.MkdirTemp("", "crashtest-")
	if err != nil {
		return nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) }
	ctx, cancel := context.WithTimeout(context.Background(), buildLimit)
	defer cancel()
	path := filepath.Join(dir, "crashtest.test")
	if out, err := exec.CommandContext(ctx, tool, "test", "-c", "-race=false", "-o", path, ".").CombinedOutput(); err != nil {
		remove()
		return nil, fmt.Errorf("building the children: %w\n%s", err, out)
	}
	binary = path
	return remove, nil
}
