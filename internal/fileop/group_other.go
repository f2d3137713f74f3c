//go:build !unix

package fileop

import (
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// runnable: there is no x bit, the ending tells.
func runnable(info fs.FileInfo) bool {
	return slices.Contains([]string{".exe", ".bat", ".cmd"}, strings.ToLower(filepath.Ext(info.Name())))
}

func runGroup(cmd *exec.Cmd) error { return cmd.Run() }
