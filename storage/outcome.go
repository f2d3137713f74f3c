package storage

import "time"

// EnqueueRequest creates executions, and the flow and edges that join them, in
// one transaction.
type EnqueueRequest struct {
	Now        time.Time
	Flow       *Flow // nil = no flow
	Executions []Execution
	Edges      []Edge

	// RefuseDuplicates makes the first duplicate unique key an error
	// (*DuplicateError) that writes nothing. Otherwise a duplicate row is left
	// out and its Receipt names the holder.
	RefuseDuplicates bool

	// Tick, when set, fires a tick of a schedule. When the schedule is not paused and At
	// is later than its LastTick, LastTick becomes At, LastID the first execution's id,
	// and the rows are written, in one transaction; without executions LastTick alone
	// moves on (a tick that is skipped). Otherwise nothing is written and every receipt
	// is a Duplicate whose HolderID is LastID, whatever RefuseDuplicates says; but a
	// repeat, told by its ids, gets its own receipts again. An unknown schedule is
	// ErrNotFound. Rows left out for their unique keys are receipts as always, and the
	// tick counts as fired all the same.
	Tick *Tick

	// Claim, when set, also claims from the rows just written (or any others its
	// queues hold) in the same transaction.
	Claim *ClaimRequest
}

// Receipt tells what became of one execution of an EnqueueRequest.
type Receipt struct {
	ID        ID
	Duplicate bool
	HolderID  ID // of the live execution with the same unique key
}

// Enqueued is the answer to an EnqueueRequest; Receipts are in its order.
type Enqueued struct {
	Receipts []Receipt
	Claimed  Claimed
}

// ClaimRequest asks for runnable executions.
type ClaimRequest struct {
	Now    time.Time
	Worker ID
	Queues []string // strictly in this order; inside one by priority, due time, id
	Limit  int      // at most this many; ≥ 1
	Names  []string // parked rows of these names are claimable too, unless the operation is paused
	Build  int64    // of the claimant; parked rows with a higher MinBuild stay parked, others are claimed regardless
}

// Claimed holds what a claim got. Of each execution the store returns at least
// ID, Name, Kind, Method, Queue, Input, Policy, OnLoss, Tags, Undoable,
// AllowedToFail, Checksum, FlowID, Member, Position, Undoes, MinBuild,
// CreatedAt, DueAt, StartedAt, DeadlineAt, the counters, Checkpoint and Result;
// state is running.
type Claimed struct {
	Executions []Execution
	// NextDue is how long until a further row of these queues becomes runnable by
	// time alone: 0 = now (Limit was reached), negative = none is scheduled.
	NextDue time.Duration
	// PausedNames are the operations that are paused, sorted; the caller parks the rows
	// of them that it got (Outcome.Park, Excuse). It is only filled when the request
	// names a queue that is not private.
	PausedNames []string
}

// FinishRequest records outcomes of attempts, settles the flows they belong to,
// and optionally claims the next work, in one transaction. A repeat is harmless:
// what was applied is fenced out the second time.
type FinishRequest struct {
	Now      time.Time
	Worker   ID
	Outcomes []Outcome
	Claim    *ClaimRequest // its Now and Worker are taken from the FinishRequest
}

// Outcome is what one attempt came to, decided before the store sees it.
type Outcome struct {
	ID       ID
	Delivery int // the fence: applied only while the row is running, held by the worker, at this delivery
	State    State

	// Of is the row as its claim gave it, or nil. The fence says that it has not moved
	// since, so a store may take from Of what cannot change while a row runs (Name,
	// Kind, Queue, FlowID, AllowedToFail, Undoes, DueAt, Excused) instead of reading it
	// again.
	Of *Execution

	Delay    time.Duration // State Pending: runnable again this much later
	Excuse   bool          // this delivery costs no attempt
	Park     bool          // State Pending: this build cannot run it; claimable only through ClaimRequest.Names
	Rewind   bool          // the retry deadline starts anew (manual retry)
	Errors   int           // new value of the counter
	Losses   int           // new value of the counter
	Reason   string        // skipped, cancelled
	ForNow   bool
	Env      string   // the skip holds only in this environment
	Failure  *Failure // recorded as an Attempt; nil for a clean end
	Result   []byte   // nil leaves the row's
	Ran      time.Duration
	Progress *Progress // last value, nil leaves the row's

	// Unlock names locks that the worker holds for this delivery. They are freed whether
	// or not the outcome is applied: the attempt is over.
	Unlock []string
}

// Progress is how far an attempt has come, in units of its own.
type Progress struct {
	ID       ID
	Delivery int
	Done     int64
	Total    int64 // 0 = unknown
}

// Finished is the answer to a FinishRequest.
type Finished struct {
	// Applied says, in the order of the outcomes, which were written. False means
	// the row was no longer this worker's at this delivery: the result is void.
	Applied []bool
	// Flows are the flows that the outcomes touched, as they stand after the
	// transaction, in id order. One that merely went on, from one completed member to
	// the next, may be left out.
	Flows   []Flow
	Claimed Claimed
}

// CheckpointRequest saves a handler's cursor. ErrLeaseLost when the fence refuses it.
type CheckpointRequest struct {
	Now      time.Time
	Worker   ID
	ID       ID
	Delivery int
	Data     []byte
}
