// Package process tells one process from another on the same machine, well enough
// to say that one is gone. Host names and pids alone are not: containers share
// the first and repeat the second, and the kernel hands pids out again.
package process

import (
	"os"
	"strconv"
)

// Identity is what a process can say about itself.
type Identity struct {
	Hostname string
	Boot     string // equal only inside one boot and one pid namespace; "" = unknown
	PID      int
	Start    string // when the process began, by the kernel's count; "" = unknown
}

// Self is this process.
func Self() Identity {
	host, _ := os.Hostname()
	id := Identity{Hostname: host, Boot: bootID(), PID: os.Getpid()}
	id.Start = startOf(id.PID)
	return id
}

// Gone reports whether the process other is proved dead by looking from here.
// False means alive or unknown: then only a lease can tell.
func (i Identity) Gone(other Identity) bool {
	return i.Sees(other) && startOf(other.PID) != other.Start
}

// Sees reports whether looking from here can tell what becomes of the process other.
func (i Identity) Sees(other Identity) bool {
	return i.Boot != "" && other.Boot == i.Boot && other.Start != "" && other.PID != 0
}

// String names the process for people.
func (i Identity) String() string {
	return i.Hostname + " pid " + strconv.Itoa(i.PID)
}

// Of is the identity of another process of this machine, for tests.
func Of(self Identity, pid int) Identity {
	self.PID, self.Start = pid, startOf(pid)
	return self
}
