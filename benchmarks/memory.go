package main

import (
	"bytes"
	"os"
	"strconv"
)

// peakRSS is the most memory that this process has had resident, in bytes, or 0
// where the system does not tell. Not getrusage: what it says begins, on Linux, with
// what the parent had.
func peakRSS() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, text, _ := bytes.Cut(status, []byte("VmHWM:"))
	text, _, _ = bytes.Cut(text, []byte("kB"))
	kib, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	if err != nil {
		return 0
	}
	return kib << 10
}
