package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// moduleFile reads a file of a module that we require: some peers ship the schema that
// their users should create as a file, and not in a package.
func moduleFile(ctx context.Context, module, path string) (string, error) {
	dir, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return "", fmt.Errorf("find module %s (run this in benchmarks/): %w", module, err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), path))
	return string(text), err
}
