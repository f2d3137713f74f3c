package storage

import (
	"context"
	"time"
)

// Store speaks to one ledger. All methods are safe for concurrent use, honour
// the context, and return errors that wrap this package's sentinels where a
// caller can act on them; the driver's own codes end here.
//
// Every method but Name, Setup, Schema and Close returns a *SchemaError, having
// written nothing, when the ledger is missing or not usable by this binary.
type Store interface {
	// Name is the kind of backend, for messages: memory, sqlite, postgres, mysql, redis.
	Name() string

	// Setup creates or upgrades the schema. It is idempotent, and safe when
	// several processes call it at once: one does the work, all return after it.
	// A ledger that is too new is a *SchemaError and stays untouched.
	Setup(ctx context.Context) (Schema, error)
	// Schema reads the versions without changing anything.
	Schema(ctx context.Context) (Schema, error)
	// Close releases connections. Calls in flight end with an error.
	Close() error

	Queue
	Leases
	Operator
	Reader
}

// Queue is the path an execution takes.
type Queue interface {
	// Enqueue creates executions, flow and edges. A row with open edges gets no due
	// time. A live holder of a row's unique key makes it a duplicate (see
	// RefuseDuplicates), except a waiting holder whose UniqueFor has passed, which
	// loses the key. Repeating it with the same ids returns the same receipts and
	// changes nothing.
	Enqueue(ctx context.Context, r EnqueueRequest) (Enqueued, error)

	// Claim makes up to Limit due rows running for the worker: state, WorkerID,
	// Delivery+1, StartedAt if it has none. ErrLeaseLost when the worker is not
	// alive. A repeat claims further rows; what a lost answer claimed comes back by
	// rescue.
	Claim(ctx context.Context, r ClaimRequest) (Claimed, error)

	// Finish applies the outcomes whose fence holds, in order, and for each one that
	// is over settles its flow (see Flow), releases its unique key, and adds to the
	// statistics; what Outcome.Hook asks for is written in the same transaction. A row of
	// Kind Hook that is over is deleted instead (Outcome.Drops). What would return to
	// pending, and was asked to stop, ends as cancelled (Outcome.Stopped). Moves that Transitions
	// does not have are a *TransitionError.
	Finish(ctx context.Context, r FinishRequest) (Finished, error)

	// Checkpoint saves a cursor on a running row, and forgets its losses if the cursor
	// moved. A repeat overwrites it.
	Checkpoint(ctx context.Context, r CheckpointRequest) error

	// HoldKey has a running row hold a unique key from now on, as if it had been
	// enqueued with it: until it is over, or until a further call without a key. A *DuplicateError names another live row that
	// holds it, except a waiting one whose UniqueFor has passed, which loses the key;
	// ErrLeaseLost when the fence refuses it. A repeat changes nothing.
	HoldKey(ctx context.Context, r HoldKeyRequest) error

	// StopFlow ends a flow early and returns it as it then stands.
	StopFlow(ctx context.Context, r StopFlowRequest) (Flow, error)
}

// Leases keeps track of who is alive.
type Leases interface {
	// Join registers a worker; its ID must be new.
	Join(ctx context.Context, w Worker) error
	// Renew extends the lease. ErrLeaseLost when it is already over.
	Renew(ctx context.Context, r RenewRequest) (Renewed, error)
	// Leave ends a worker: its locks are freed. What it still held as running is
	// rescued like a dead worker's. A repeat does nothing.
	Leave(ctx context.Context, worker ID) error
	// Rescue takes over what dead workers held.
	Rescue(ctx context.Context, r RescueRequest) ([]Execution, error)

	// Lock takes a named lock, or returns a *LockedError with the holder. A lock
	// whose holder is dead by the store's own proof, or that has been held for as long
	// as it was taken for, is taken over. Taking a lock one already holds succeeds and
	// changes nothing. One without a worker belongs to its execution.
	Lock(ctx context.Context, r LockRequest) error
	// Unlock frees a lock that is held as the request says; any other is left alone.
	// Locks of executions are freed by Outcome.Unlock too.
	Unlock(ctx context.Context, r UnlockRequest) error

	// Take charges limits, all of them or none, or looks at them. A repeat charges
	// again: a lost answer may have spent what was never used.
	Take(ctx context.Context, r TakeRequest) (Taken, error)
}

// Operator is what people do to the ledger.
type Operator interface {
	// Operate carries out an order and returns the executions as they then stand.
	Operate(ctx context.Context, o Order) ([]Execution, error)
	// Record writes finished executions and returns how many were new.
	Record(ctx context.Context, r RecordRequest) (int, error)
	// Prune deletes old history and returns how many rows went. Counters of limits
	// whose window is over go too, uncounted, and locks without a worker whose time is.
	Prune(ctx context.Context, r PruneRequest) (int, error)
	// Reseal makes the changes whose old bytes are still there, and returns how many
	// that were; others, and unknown ids, are left out. A repeat changes nothing.
	Reseal(ctx context.Context, r ResealRequest) (int, error)
	// Announce brings the definitions of schedules up to date.
	Announce(ctx context.Context, r AnnounceRequest) error
}

// Reader asks questions. No answer is an empty slice, never an error.
type Reader interface {
	// Newest is what every plan starts from, so it is kept lean. The whole rows are
	// asked for by id.
	Newest(ctx context.Context, r NewestRequest) ([]Effective, error)
	Executions(ctx context.Context, f Filter) ([]Execution, error)
	// Attempts returns the recorded attempts of executions, oldest first.
	Attempts(ctx context.Context, executions ...ID) ([]Attempt, error)
	// Flows are read without their callbacks.
	Flows(ctx context.Context, f FlowFilter) ([]Flow, error)
	// Callbacks returns those that a flow was enqueued with. An unknown flow has none.
	Callbacks(ctx context.Context, flow ID) ([]Callback, error)
	// Edges returns the edges that lead to members of a flow, or to its callbacks.
	Edges(ctx context.Context, flow ID) ([]Edge, error)
	// Workers returns those that have not left, and with ids also named ones that have.
	Workers(ctx context.Context, ids ...ID) ([]Worker, error)
	Locks(ctx context.Context) ([]LockState, error)
	Counts(ctx context.Context) ([]Count, error)
	// Queues tells how each queue stands at now (zero: the store's clock), by name:
	// every one that holds live rows or is paused, without private ones.
	Queues(ctx context.Context, now time.Time) ([]QueueState, error)
	// Pauses returns what is paused, by kind, then name.
	Pauses(ctx context.Context) ([]Pause, error)
	// Schedules returns all that were ever announced, by name.
	Schedules(ctx context.Context) ([]Schedule, error)
	Stats(ctx context.Context, f StatsFilter) ([]Stat, error)
	Audit(ctx context.Context, f AuditFilter) ([]AuditEntry, error)
}

// Tx is a database transaction in the form its owner uses (*sql.Tx, pgx.Tx).
type Tx interface{ Native() any }

// OwnedTx is a transaction that Sequencer began and must end.
type OwnedTx interface {
	Tx
	Commit(ctx context.Context) error   // ErrConflict: nothing was committed
	Rollback(ctx context.Context) error // after Commit: nil, nothing happens
}

// TxKind is one form of transaction that a store can begin on the ledger's database.
type TxKind struct {
	// Sample is a typed nil of what Native returns, so that a caller can ask by
	// type assertion whether this kind serves, without importing a driver.
	Sample any
	Begin  func(ctx context.Context) (OwnedTx, error)
}

// TxStore is a store whose ledger shares a database with the user's own tables,
// so that a write of ours can commit together with a write of theirs. The Tx
// methods do what their namesakes do, inside the caller's transaction, and leave
// ending it to the caller. A foreign transaction is ErrForeignTx. Where another one is in
// the way that is ErrConflict, since only the caller can begin again.
type TxStore interface {
	Store
	TxKinds() []TxKind
	EnqueueTx(ctx context.Context, tx Tx, r EnqueueRequest) (Enqueued, error)
	FinishTx(ctx context.Context, tx Tx, r FinishRequest) (Finished, error)
	CheckpointTx(ctx context.Context, tx Tx, r CheckpointRequest) error
}

// Syncer is a store whose commits may reach the disk later than they are answered.
// What a power failure may take are the last commits, whole and in order.
type Syncer interface {
	// Sync returns once everything that was committed before the call survives a
	// power failure.
	Sync(ctx context.Context) error
}

// Waker is a store that can tell when work has arrived. A wake-up is a hint:
// polling alone is correct, this only makes it fast.
type Waker interface {
	// Watch calls wake whenever something may have become claimable in one of the
	// queues, from its own goroutine or the caller's of a write, until ctx is done;
	// then it returns nil. It calls wake once when it begins to listen, for what came
	// before. It returns an error when it cannot listen (any more), ErrClosed when the
	// store is closed; whoever watches may call again. wake must not block. Spurious
	// calls are allowed; a missed one costs a poll. What becomes due by time alone is
	// told by Claimed.NextDue, not here.
	Watch(ctx context.Context, queues []string, wake func()) error
}
