// Package crashtest runs programs that get killed. A test re-executes its own
// binary as a child, which runs one of the programs given to [Main] and passes
// named points on its way; the child kills itself at the point it was told to, or
// waits there, or the test sends it a signal whenever it likes.
//
// The tests of this package are the suite that does it to deploy runs: at each
// step of the store and of the handlers, at random times, while rolling back, with
// several processes at once, with one that was stopped and comes back, and with
// connections that break. program_test.go is what they run, and dump_test.go what
// they compare: the user's tables and what the ledger says of each name must be
// those of an undisturbed run.
//
// It is for Linux, where a dead process is known to be dead at once and the next
// run need not wait for a lease. Nothing waits for time to pass; what has to be
// waited for is a line from a child.
package crashtest
