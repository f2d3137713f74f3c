package process

import (
	"os"
	"strconv"
	"strings"
)

// bootID joins the kernel's boot id with the pid namespace: pids compare only
// where both are equal.
func bootID() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(boot)) + "/" + ns
}

// startOf reads field 22 of /proc/PID/stat (proc(5)), the start time in clock
// ticks since boot. A zombie has ended for our purposes. "" means no such process.
func startOf(pid int) string {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	// Field 2, the command, is in parentheses and may contain anything.
	_, rest, ok := strings.Cut(string(stat[strings.LastIndexByte(string(stat), '('):]), ") ")
	if !ok {
		return ""
	}
	fields := strings.Fields(rest) // from field 3 on
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return ""
	}
	return fields[19]
}
