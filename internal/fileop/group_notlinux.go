//go:build unix && !linux

package fileop

import "syscall"

func dieWithUs(*syscall.SysProcAttr) {}
