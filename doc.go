// Package sequencer runs operations: pieces of work that a service must do once
// at deploy time, or again and again in the background, and must never lose.
// Schema migrations and operations run in one timestamp order, from one ledger.
//
// # A first program
//
//	type SeedAdmin struct{}
//
//	func (*SeedAdmin) Handle(ctx context.Context) error {
//		tx, err := sequencer.Tx[*sql.Tx](ctx) // commits together with the record that it ran
//		if err != nil {
//			return err
//		}
//		_, err = tx.ExecContext(ctx, "INSERT INTO users (name) VALUES ('admin')")
//		return err
//	}
//
//	reg := sequencer.NewRegistry()
//	sequencer.Register(reg, "20240115120000_seed_admin", sequencer.Make[SeedAdmin])
//	store, err := sqlite.Open(ctx, "app.db", sqlite.Options{})
//	seq, err := sequencer.New(store, reg, sequencer.Config{Migrations: migrations})
//	report, err := seq.Process(ctx, sequencer.RunOptions{})
//
// # Operations
//
// An [Operation] is a struct with a Handle method, or a function. Its exported
// fields are its input: stored, and restored before each attempt. Everything else
// it needs (tries, timeout, tags, a condition, a rollback…) it declares by small
// optional interfaces such as [Retryable], by embedded markers such as
// [Idempotent], or as a function by options. Registration checks the
// declarations, near misses included, and [New] returns every problem at once.
//
// A name that starts with a timestamp makes an operation ordered: part of runs,
// done once per ledger. Any other is reached by name, as often as wanted.
//
// # The life of an execution
//
// Whichever way an operation is started, it becomes a row of the ledger, an
// execution, which is claimed by a worker (of which a run is one) and goes
// through one pipeline:
//
//	decode → environment → middleware → condition → before → handler → outcome
//	→ commit → events → after or failed hook, which can no longer change anything
//
// The handler's transaction begins when the handler first asks for it with [Tx],
// and its outcome commits with it, so an effect in the ledger's database and the
// record of it cannot be torn apart. A handler that returns an error, panics or
// times out has failed that attempt; what it declared decides about the next.
//
// # Runs
//
// [Sequencer.Process] reads registry, ledger and migrations, makes a [Plan] (the
// same value [Sequencer.Preview] shows), turns it into a flow, a durable graph of
// executions, and works on that until it is over. A failure undoes what the run
// completed, newest first, and that undoing is part of the same flow: whatever
// process dies in the middle, the next one finishes it.
//
// # Queues
//
// [Sequencer.Dispatch] stores an execution in a queue, in the caller's transaction
// with [Sequencer.In]. [Sequencer.Work] serves queues until its context ends. What
// failed is listed by [Sequencer.Failed], and [Sequencer.Retry] and
// [Sequencer.RetryAll] put it back; [Sequencer.Pause] keeps a queue or an operation
// from starting anything; [Sequencer.Why] says what keeps an execution waiting.
// [Schedule] has an operation dispatched at set times, once per tick. What [NeedsApproval]
// waits, on any path, until [Sequencer.Approve] or [Sequencer.Reject] answers.
//
// # Batches and chains
//
// A [Batch] is operations that run in any order, a [Chain] operations that run one
// after the other; each may be inside the other. They are built without effect and
// written by Dispatch in one transaction, with what is called then, at a failure and
// finally: operations too, so whatever process dies, the next one calls them.
// [Flow.Wait] waits for the end, [Flow.Retry] tries again what failed,
// [CurrentBatch] and [CurrentChain] add members from inside, and [ResultOf] reads what
// earlier members kept.
//
// # Promises
//
// What was accepted is run, or visible as failed. One attempt has one committed
// outcome. Delivery is at least once, effects that share the ledger's transaction
// are exactly once. An ordered operation that lost its worker half way and is
// neither [Idempotent] nor transactional waits for a person as interrupted.
//
// Read next: the Operation interfaces in operation.go, attempt.go for the
// pipeline, outcome.go for what an error means, package storage for the ledger.
package sequencer
