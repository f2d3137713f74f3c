// Package storage is the contract between Sequencer and a database: the rows,
// the states they may take, and the verbs that move them.
//
// # The ledger
//
// A store keeps one row per execution, from dispatch to its final state, under
// one id. Rows that are not over yet are the live part of the ledger, rows that
// are over its history; how a backend parts them (two tables, one table with
// partial indexes) is its own affair and no caller can tell. Beside them stand
// attempts that did not end well, flows and their edges, workers, locks, pauses,
// schedules, audit entries and statistics.
//
// # What every verb promises
//
//   - Each call is atomic: all of it is durable, or none of it.
//   - An execution is claimed by one worker. Each claim raises Delivery, which
//     never goes down; a write about an attempt names the delivery it belongs
//     to, and changes nothing when the row has moved on. That is the fence that
//     keeps a paused or rescued worker from overwriting newer truth.
//   - Moves between states follow [Transitions]; any other is refused.
//   - Instants that several processes compare come from one clock: the server's
//     where there is one. A request's Now is therefore zero in production; SQLite
//     and memory, where the process clock is the right one, and tests fill it.
//     Everything relative travels as a duration.
//   - A verb may be repeated after a lost answer; each says what a repeat does.
//
// # Flows
//
// A flow is a durable graph of executions: a deploy run, a rollback, later a
// chain or a batch. It is stored as a row with counters, members that carry the
// flow's id, and edges. A member with open edges has Waits > 0 and cannot be
// claimed. [Store.Finish] settles edges, counters and what they set off in the
// transaction that records the outcome, so a crash leaves a flow either before
// or after a step, never inside one. See [Flow] for the rules.
//
// The public suite in package storagetest is the truth about this contract:
// every backend runs it, and so can yours.
package storage
