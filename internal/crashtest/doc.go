// Package crashtest runs programs that get killed. A test re-executes its own
// binary as a child, which runs one of the programs given to [Main] and passes
// named points on its way; the child kills itself at the point it was told to, or
// waits there, or the test sends it a signal whenever it likes.
//
// The tests of this package do it to deploy runs and to workers: at each step of the
// store and of the handlers, at random times, while rolling back or rescuing, with
// several processes at once, with one that was stopped and comes back, with
// connections that break ([Proxy]) and servers that crash ([PostgresServer] and
// others, which start one of a test's own).
//
// Runs: program_test.go is what they run, and dump_test.go what they compare: the
// user's tables and what the ledger says of each name must be those of an undisturbed
// run. Workers: shift_test.go is what they do, fleet_test.go keeps several of them
// going, and tally_test.go compares what handlers wrote outside the ledger with what
// the ledger says: one outcome each, no attempt twice, each further attempt explained
// by a worker that was lost, and what was done in a shared transaction exactly once.
// limits_test.go has sixteen workers in four processes share limits and keys.
// ledger_test.go has the table of backends.
//
// Nests: flow_test.go has batches and chains in each other, made by processes that die,
// served by such, cancelled and retried meanwhile; nesttally_test.go compares: each
// callback once a generation, each step after the one before, what members added once.
//
// It is for Linux, where a dead process is known to be dead at once and the next
// run need not wait for a lease. What has to be waited for is a line from a child, or
// the ledger to say that nothing is left; time passes only where a lease must end.
package crashtest
