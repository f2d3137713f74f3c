//go:build unix

package fileop

import (
	"io/fs"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

func runnable(info fs.FileInfo) bool { return info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 }

// runGroup runs cmd as the leader of a process group of its own. When its context
// ends the whole group is asked to stop and, after the grace period, killed; a
// Ctrl-C at the terminal reaches only us, so that we decide.
func runGroup(cmd *exec.Cmd, all *groups) error {
	runtime.LockOSThread() // the signal at our death hangs on the thread that starts it
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithUs(cmd.SysProcAttr)
	var kill *time.Timer
	cmd.Cancel = func() error {
		kill = time.AfterFunc(grace, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
	}
	err := cmd.Start()
	if err == nil {
		all.add(cmd)
		err = cmd.Wait()
		all.remove(cmd)
	}
	if kill != nil && kill.Stop() && cmd.ProcessState != nil {
		// The leader is gone in time; what it left behind goes as well.
		_ = syscall.Kill(-cmd.ProcessState.Pid(), syscall.SIGKILL)
	}
	return err
}

func killGroup(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
