package sequencer

import (
	"context"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Operation is the unit of work a user writes. It is a type with exported fields
// for its input and unexported ones for its dependencies:
//
//	type SyncCustomer struct {
//		CustomerID int64 `json:"customer_id"` // input: stored when dispatched, restored for every attempt
//		api        *API                       // dependency: set by the factory, never stored
//	}
//
// Handle does the work. Every attempt gets a fresh value from the factory the
// type was registered with, so nothing a handler leaves in its fields reaches the
// next attempt (S2.7); what has to is for SetResult and Checkpoint. A nil error
// is success; Skip, Release, Fail and RetryAfter say what else an error may mean;
// a panic is a failed attempt (S1.4).
//
// Whatever else an operation needs it declares by having one of the methods
// below. Each method alone is an ability; the interfaces bundle what usually goes
// together, so that `var _ sequencer.Retryable = (*SyncCustomer)(nil)` demands
// the whole bundle. Value and pointer receivers serve alike, because abilities
// are always asked of a pointer. A method that has an ability's name and another
// signature is refused by registration rather than ignored; [NotAbility] says
// that it is meant for something else.
//
// When an ability is asked decides what it may use:
//
//   - at dispatch, of the value handed over, which the factory has not seen: Tries,
//     Backoff, RetryUntil, RetryFor, Timeout, FailOnTimeout, MaxExceptions, Queue,
//     Tags, UniqueID, UniqueFor, UniqueVia, ExecuteAt, MinBuild, ApprovedBy and the markers.
//     They may use the input and must do without dependencies. The answers are
//     stored with the work: deploying other code does not change what is queued (Q0.4);
//   - at each attempt, of the fresh value: Middleware, ShouldRun, Before, After,
//     Failed, Rollback;
//   - while planning a run, of a factory value: DependsOn, Environments and ApprovedBy, and
//     in a preview that evaluates ShouldRun and Estimate;
//   - once at registration, of a factory value, all that answer without a context,
//     so that a constant mistake comes out at start-up (S1.7).
type Operation interface {
	Handle(ctx context.Context) error
}

// Retryable limits and spaces the attempts. It holds on every path: worker,
// batch, chain, deploy run and synchronous execution (S12.6).
type Retryable interface {
	// Tries is the number of attempts, the first included: 3 is one and two retries
	// (S12.1). Undeclared means 1, and a worker that dies is not counted against it;
	// declared, losses count too, so that 1 really means at most once. Zero means no
	// limit and needs a deadline beside it (Q1.8); a negative number is refused.
	Tries() int
	// Backoff is the wait before each retry: one entry is a fixed delay, of several
	// the n-th precedes the n-th retry and the last one repeats (Q1.23). An empty
	// list retries at once (Q1.26); negative entries are refused.
	Backoff() []time.Duration
	// RetryUntil is the instant after which no attempt starts. It is asked once, at
	// dispatch, and stored as a distance from then: work that has to wait its turn,
	// a chain's third step say, gets the same time from the moment it is runnable
	// (Q1.13). The zero time means none. Tries and deadline are both limits and the
	// first one reached ends it (S12.4). Excludes RetryFor.
	RetryUntil() time.Time
}

// RetriedFor is a deadline without a clock of ours: RetryFor is counted by the
// store from the moment the work is runnable. Zero means none; a negative
// duration is refused. Excludes RetryUntil.
type RetriedFor interface {
	RetryFor() time.Duration
}

// Timeoutable limits the handler: not the time in the queue, not the hooks (S12.11).
type Timeoutable interface {
	// Timeout is how long one attempt may take. Zero, like leaving it out, means no
	// limit of its own (S12.15); a negative duration is refused. The handler sees a
	// cancelled context whose cause is ErrTimeout.
	Timeout() time.Duration
	// FailOnTimeout makes a timeout final. Otherwise it counts as an attempt and an
	// error, and is retried within the limits that hold (Q2.4). Default false.
	FailOnTimeout() bool
}

// HasMaxExceptions ends the operation at the n-th error, even when tries remain:
// returned errors, panics and timeouts count, releases and deferrals do not
// (Q1.17). At least 1; undeclared means no such limit. It cannot be reached when
// Tries is smaller, and registration warns of that (Q1.21).
type HasMaxExceptions interface {
	MaxExceptions() int
}

// HasMiddleware wraps each attempt, the first entry outermost and Config.Middleware
// around them all. It is asked of the fresh value at each attempt, so it follows
// the code that runs, not the code that dispatched (Q0.4).
type HasMiddleware interface {
	Middleware() []Middleware
}

// HasTags labels the work for filters, queries and logs (S16.1). Tags are stored
// in clear even for [Encrypted] operations: no secrets. Letters, digits and
// ". _ : / -", at most 128 bytes each.
type HasTags interface {
	Tags() []string
}

// ShouldBeUnique admits one queued or running execution per operation and key; a
// second dispatch is dropped and its Receipt names the holder (S14.1, S14.2).
// Any one of the methods makes the operation unique. The key is free again when
// the execution has ended for good, not between its attempts (Q4.6).
type ShouldBeUnique interface {
	// UniqueID is the key, usually made from the input. Keys of different operations
	// never meet (Q4.2). Empty, or left out, admits one of the operation overall (Q4.3).
	UniqueID() string
	// UniqueFor frees the key of an execution that still waits this long after its
	// dispatch; a running one keeps it. Zero, or left out, means until it has ended
	// (Q4.4); a negative duration is refused.
	UniqueFor() time.Duration
	// UniqueVia names the connection of Config.Connections that holds the key, so that
	// ledgers can share it. Empty, or left out, is the operation's own store, where key and
	// row are one write. Any other needs a positive UniqueFor, after which the key is free
	// however the execution stands, because a crash between the two writes would keep it
	// for ever. A step, a callback, a tick and a retry by hand take it when they run: a
	// tick that finds it held is skipped, the others wait.
	UniqueVia() string
}

// HasLifecycleHooks surrounds the work. Hooks run outside the handler's transaction;
// they cannot undo it (Q9.10). Before has the value of its attempt, the others a fresh
// one. These are called once the outcome is committed: exactly once, unless a process
// dies before they end, then again by another, at most MaxHookDeliveries times (Q9.20).
// They have HookLimit, and [ResultOf] with an empty member and [Resume] read what the
// execution kept.
type HasLifecycleHooks interface {
	// Before runs ahead of the handler, once per attempt. Its error is an ordinary
	// attempt error: recorded, retried by policy (Q9.1).
	Before(ctx context.Context) error
	// After runs once, when the work is completed and durable. Its error is logged and
	// recorded; the operation stays completed (S17.4).
	After(ctx context.Context) error
	// Failed runs once, when the failure is final, never between attempts (S17.7).
	// The cause is never nil: the error itself in the process that had it, a
	// *LostError after a lost worker, else a *RecordedError. Its own error is logged
	// and recorded, and does not replace the cause (S17.5).
	Failed(ctx context.Context, cause error) error
}

// Conditional is asked right before the handler, on the machine that runs it
// (S8.10). False ends the operation as skipped: no failure, no retry, no hooks.
// An error is a failed attempt, unless it is a Skip of its own (S8.7).
type Conditional interface {
	ShouldRun(ctx context.Context) (bool, error)
}

// Estimable can tell how much it has to do, in units of its own, usually rows. It is
// asked by a preview that evaluates (see RunOptions.Evaluate), of a factory value,
// before what comes ahead of it in the plan has run; Resume tells it how far an
// execution that was cut off had come.
type Estimable interface {
	Estimate(ctx context.Context) (int64, error)
}

// Rollbackable can be undone. Rollback gets a fresh value with the input of the
// execution it undoes; ResultOf with an empty member reads what SetResult kept.
type Rollbackable interface {
	Rollback(ctx context.Context) error
}

// Dependent names what must be done before this operation starts, in this run or
// an earlier one (S9.2). Dependencies win over timestamps (S9.1).
type Dependent interface {
	DependsOn() []Dependency
}

// EnvironmentBound restricts the operation to environments by exact, case-sensitive
// name (S8.4). Declared and empty means nowhere; undeclared means everywhere.
type EnvironmentBound interface {
	Environments() []string
}

// Scheduled puts the first attempt off until the instant given; retries follow the
// backoff (S12.10). The zero time and a time in the past mean now.
type Scheduled interface {
	ExecuteAt() time.Time
}

// Queued names the queue the work waits in. What the dispatch says goes first,
// then this, then Config's default (S11.2). An empty name is refused.
type Queued interface {
	Queue() string
}

// BuildBound states the lowest Config.Build that can run this work, so that a
// process of the previous build leaves it alone during a rolling deploy. Zero
// means any; a negative number is refused.
type BuildBound interface {
	MinBuild() int64
}

// NeedsApproval has an operation wait, on every path, until a person has approved it
// (see [Sequencer.Approve] and the commands approve and reject). It asks when its turn
// comes, before its middleware and its condition; waiting costs no attempt, and a deadline
// begins afterwards. An approval is for one execution; of an operation with a timestamp it
// counts, whichever run asked, until the operation has ended once. Rollbacks and
// migrations are not asked about.
type NeedsApproval interface {
	// ApprovedBy is who is asked: a person or a role, any text of a line, at most 128
	// bytes. It may be made from the input; empty means that nobody needs to be. It is
	// stored in clear.
	ApprovedBy() string
}

// The markers are abilities without an answer. They are embedded:
//
//	type ImportUsers struct {
//		sequencer.Async
//		sequencer.Idempotent
//		File string `json:"file"`
//	}
//
// They have no size, no methods and leave no trace in the stored input. Embed
// them first: at the end of a struct a value without size costs a word of
// padding. They are found by looking at embedded types at any depth, so a base
// type may bring them, and two base types may bring the same one. [Mark] gives
// one to a function.
type (
	// Async makes a run and Execute dispatch the operation rather than run it on the
	// spot. ExecuteSync runs it here all the same.
	Async struct{}

	// Encrypted seals the input in the store (S15.1), and with it checkpoints, results,
	// what a rollback works from, and the messages of errors; unique and overlap keys
	// are stored as keyed hashes. Logs, events and the errors that callers get show
	// the kind of an error and not its message (see [ConcealedError]). Without a Sealer
	// in Config, New refuses it. In clear stay name, queue, tags, times, approvers, the keys of
	// limiters, and the reasons of skips and releases: put no secrets there (Q7.3).
	Encrypted struct{}

	// Idempotent says that doing the work twice does no harm. An ordered operation
	// whose worker was lost is then attempted again; without it, and without an
	// effect that shares the ledger's transaction, it waits for a person as
	// interrupted.
	Idempotent struct{}

	// AllowedToFail keeps a failure from failing the flow or the run: it is shown as
	// "failed (allowed)" and blocks neither callbacks nor what comes after.
	AllowedToFail struct{}

	// TxRequire says that the work is not safe without a transaction shared with the
	// ledger: New refuses it where the store has none. It begins when the handler
	// asks for it, in the kind it asks for, as any other. Excludes TxNever.
	TxRequire struct{}

	// TxNever is for work with effects outside the database, or with several commits
	// of its own: Tx answers ErrNoTx, Transact still works. Excludes TxRequire.
	TxNever struct{}

	// Rehearsable says that a rehearsal may run the operation, its hooks and its rollback:
	// all that they change is in the database that they are handed, or does no harm.
	Rehearsable struct{}

	// UniqueUntilStart has a unique operation give its key up when its handler begins for
	// the first time, rather than when it is over: another one may then wait while it
	// runs, and its retries do not take the key back (Q4.7).
	UniqueUntilStart struct{}

	// Asynchronous is [Async] for a struct that has a field of that name.
	Asynchronous = Async

	// ShouldBeEncrypted is [Encrypted] for a struct that has a field of that name.
	ShouldBeEncrypted = Encrypted
)

// Dependency is something that must be done first. It is typed, since an
// operation and a migration may look alike by name (S9.3): make one with [Op] or
// [Migration].
type Dependency struct {
	Kind storage.Kind `json:"kind"` // Ordered or Migration
	Name string       `json:"name"`
}

// Op depends on the operation registered under name, or under it as a former name.
func Op(name string) Dependency { return Dependency{storage.Ordered, name} }

// Migration depends on the migration with this name, as its source lists it.
func Migration(name string) Dependency { return Dependency{storage.Migration, name} }

// String answers "operation seed_admin" or "migration 20240115120000_users.sql".
func (d Dependency) String() string {
	if d.Kind == storage.Migration {
		return "migration " + d.Name
	}
	return "operation " + d.Name
}
