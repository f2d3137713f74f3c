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

func runGroup(cmd *exec.Cmd, all *groups) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	all.add(cmd)
	defer all.remove(cmd)
	return cmd.Wait()
}

func killGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() }
