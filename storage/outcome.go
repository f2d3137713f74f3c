package storage

import "time"

// EnqueueRequest creates executions, and the flows and edges that join them, in
// one transaction.
type EnqueueRequest struct {
	Now        time.Time
	Flows      []Flow // one nest, outermost first; none = no flow
	Executions []Execution
	Edges      []Edge

	// Into is an open flow that executions join, and Flows are nested in. One that takes
	// no more members is [ErrFlowOver], and nothing is written (Q5.28).
	Into ID

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

	// Audit, when set, tells who asked for this by hand: its Actor, Action, Target and
	// Reason make an entry in the same transaction, with the number of executions that
	// were written as its Count. A request that writes none is not audited, nor is a
	// repeat.
	Audit *AuditEntry

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

// Written is how many executions of a request that is no repeat were written: all that
// are no duplicates.
func Written(receipts []Receipt) int {
	n := 0
	for i := range receipts {
		if !receipts[i].Duplicate {
			n++
		}
	}
	return n
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

// LockedFor is after how long a claimant may look again for a row that it found locked.
const LockedFor = 10 * time.Millisecond

// Claimed holds what a claim got. Of each execution the store returns at least
// ID, Name, Kind, Method, Queue, Input, Policy, OnLoss, Tags, Undoable,
// AllowedToFail, Checksum, FlowID, Member, Position, Undoes, MinBuild,
// CreatedAt, DueAt, StartedAt, DeadlineAt, the counters, Checkpoint and Result;
// state is running.
type Claimed struct {
	Executions []Execution
	// NextDue is how long until a further row of these queues becomes runnable by
	// time alone: 0 = now (Limit was reached), negative = none is scheduled. A row that
	// is due and was passed over, because another transaction holds it locked, counts
	// as one that is due in LockedFor: nothing else would tell when it is free.
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

	// Next is what the caller, who wrote the flow, expects Claim to find: the only row
	// behind the one outcome, in the private queue that Claim names, as it was enqueued
	// and with the CreatedAt it got. A store may take it, before whatever else is due,
	// and take from Next what cannot change while a row waits, instead of looking for
	// it and reading it; but only if it finds that this row waits for nothing else, was
	// never claimed, and has no other beside it.
	Next *Execution
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
	Env      string     // the skip holds only in this environment
	Failure  *Failure   // recorded as an Attempt; nil for a clean end
	Result   []byte     // nil leaves the row's
	Adds     []Addition // State Completed: what it adds to flows of its nest
	Ran      time.Duration
	Progress *Progress // last value, nil leaves the row's
	Watched  []string  // tags of the row, each once, whose statistics are to count this too

	// Hook, when set, is written if the outcome is applied and the row is over: who will
	// call the operation's after or failed hook (see Execution.Hook). Where its WorkerID is
	// the request's Worker, that worker has it at once: it is running, at delivery 1. Else
	// it waits in its queue, at home with its WorkerID where that is private.
	Hook *Execution

	// Unlock names locks that the worker holds for this delivery. They are freed whether
	// or not the outcome is applied: the attempt is over.
	Unlock []string
}

// Stopped is what a store writes instead of an outcome that would return the execution to
// pending, when somebody has asked it to stop meanwhile ([ActCancel]): it ends as
// cancelled, and what else the outcome says of the attempt stays. Hooks, which nobody can
// stop, are returned all the same.
func (o Outcome) Stopped() Outcome { //nolint:gocritic // it is changed
	o.State, o.Reason, o.ForNow, o.Env = Cancelled, string(Cancelled), false, ""
	o.Delay, o.Park, o.Rewind = 0, false, false
	return o
}

// Drops reports the end of a hook, whose row leaves the ledger without a trace but its
// Failure: that is an Attempt of the execution whose hook it is, at the negative of the
// delivery it followed. Outcomes of hooks that are over must have Of.
func (o *Outcome) Drops() bool { return o.Of != nil && o.Of.Kind == Hook && o.State.Over() }

// Hooks are the rows that the outcomes which were applied ask for, as a store writes
// them: running for the worker, or pending.
func (r *FinishRequest) Hooks(applied []bool) []Execution {
	var hooks []Execution
	for i := range r.Outcomes {
		o := &r.Outcomes[i]
		if o.Hook == nil || !applied[i] || !o.State.Over() {
			continue
		}
		h := *o.Hook
		h.State, h.Delivery = Pending, 0
		if h.WorkerID == r.Worker {
			h.State, h.Delivery = Running, 1
		}
		hooks = append(hooks, h)
	}
	return hooks
}

// Note is the Attempt that a hook's Failure becomes, but for its instants and worker.
func (o *Outcome) Note() Attempt {
	return Attempt{ExecutionID: o.Of.Undoes, Delivery: -o.Of.Position, Failure: *o.Failure}
}

// Added is what the outcome adds to flows: nothing, unless it completes.
func (o *Outcome) Added() []Addition {
	if o.State != Completed {
		return nil
	}
	return o.Adds
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
	// Stopped says, in the same order, which of them found that somebody had asked for the
	// end of the execution, which would have gone back to pending, and were written as
	// [Outcome.Stopped]. nil where there is none.
	Stopped []bool
	// Flows are the flows that the outcomes touched, as they stand after the
	// transaction, in id order. One that merely went on, from one completed member to
	// the next, may be left out.
	Flows   []Flow
	Claimed Claimed
}

// Stop notes that outcome i of n was written as Stopped.
func (f *Finished) Stop(i, n int) {
	if f.Stopped == nil {
		f.Stopped = make([]bool, n)
	}
	f.Stopped[i] = true
}

// Became is the outcome of the request at place i as it was written, nil if it is void.
func (f *Finished) Became(i int, o *Outcome) *Outcome {
	switch {
	case i >= len(f.Applied) || !f.Applied[i]:
		return nil
	case f.Stopped != nil && f.Stopped[i]:
		stopped := o.Stopped()
		return &stopped
	default:
		return o
	}
}

// CheckpointRequest saves a handler's cursor. ErrLeaseLost when the fence refuses it.
type CheckpointRequest struct {
	Now      time.Time
	Worker   ID
	ID       ID
	Delivery int
	Data     []byte

	// Moved says that the cursor is another than the one before. Then the row's Losses
	// become 0: whoever dies while it runs gets further all the same, so it is not what
	// kills them (Q2.17).
	Moved bool
}
