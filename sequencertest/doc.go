// Package sequencertest helps to test what uses Sequencer, and operations themselves.
// Nothing in it is global: each test has its own, and tests may run in parallel.
//
// # Does my code dispatch the right thing?
//
// [Recording] is a sequencer that runs nothing and writes nothing. What your code
// dispatches, executes or has a run do is recorded, and asserted about:
//
//	seq, rec := sequencertest.Recording(t, reg)
//	signUp(ctx, seq, "ada")
//	sequencertest.AssertDispatchedOnce(rec, func(o *Welcome) bool { return o.To == "ada" })
//	rec.AssertNothingElse()
//
// # Does my handler do the right thing?
//
// Call Handle. Outside an attempt everything a handler calls is harmless, so a plain
// context serves most tests. [Context] is the inside of a real attempt: with a number, a
// checkpoint of an earlier attempt, a transaction, and a view of what it leaves behind.
//
// # Does all of it work together?
//
// [New] is a sequencer on a ledger in memory, and [Drain] does what waits in its queues,
// one execution after the other, retries and delays included. Nobody has to wait for
// them: package testing/synctest is the clock. Inside synctest.Test hours pass at once,
// for workers, stores and handlers alike, and Drain sleeps through them. Outside of it
// Drain refuses to wait, and [DrainDue] does what is due now.
//
// # Does it survive being killed?
//
// [AssertConverges] runs an operation again and again, kills it at each write to the ledger
// in turn, lets another process recover, and compares how the world looks in the end:
//
//	sequencertest.AssertConverges(t, func(tb testing.TB) sequencertest.World { … })
//
// Tests of stores are in package storage/storagetest.
package sequencertest
