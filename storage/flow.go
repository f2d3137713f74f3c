package storage

import "time"

// FlowKind says what a flow stands for.
type FlowKind string

const (
	FlowRun      FlowKind = "run"      // one deploy run
	FlowRollback FlowKind = "rollback" // an explicit rollback; its members are of Kind Undo
	FlowBatch    FlowKind = "batch"
	FlowChain    FlowKind = "chain"
)

// FlowPolicy says what a member's failure does to the others.
type FlowPolicy string

const (
	PolicyStop       FlowPolicy = "stop"       // pending members are cancelled
	PolicyContinue   FlowPolicy = "continue"   // only members that need it are cancelled
	PolicyCompensate FlowPolicy = "compensate" // as stop; once nothing runs any more, what completed is undone
)

// FlowPhase is forward until compensation begins, then undo.
type FlowPhase string

const (
	PhaseForward FlowPhase = "forward"
	PhaseUndo    FlowPhase = "undo"
)

// Edge makes To wait for From. When From is over, To.Waits drops by one; at zero
// To becomes runnable (after its Delay, its deadline set from its RetryFor).
type Edge struct {
	From, To ID
	// Needs: To may run only if From ended well (completed, or skipped for good).
	// Otherwise To is cancelled, and what waits for To is settled in turn. An edge
	// without Needs only orders: any end of From releases it.
	Needs bool
}

// Flow is one durable graph of executions.
//
// The rules that [Store.Finish] applies for each member that is over, in the
// transaction that records it:
//
//  1. Counters: the member moves from open (Total minus all endings) to its
//     ending. A failure of a member AllowedToFail counts as FailedAllowed. Members
//     of Kind Undo count in the Undo… fields instead.
//  2. A failure that is not allowed, under PolicyStop or PolicyCompensate in
//     PhaseForward, and an interruption under any policy, cancel every pending
//     forward member, with a reason that names the member. Under PolicyContinue,
//     for allowed failures, and for undo members, nothing else is cancelled.
//  3. Edges from the member are settled (see [Edge]), transitively through the
//     members that settling cancels.
//  4. When no forward member is open and the flow is compensating (PolicyCompensate,
//     PhaseForward, Failed > 0, Interrupted = 0, no StopState): one Undo member is
//     created for each Undoable member that is completed, newest FinishedAt first
//     (ties: higher Position first), joined into a line by edges without Needs; the
//     phase becomes undo. Its ID is UndoID(target); Name, Kind Undo, Member, Queue,
//     Priority, Input, Policy, OnLoss, Tags, Actor, Checksum, Result (what the
//     target kept for its rollback) and AllowedToFail come from the target; Method
//     is "rollback", Position continues the flow's, UniqueKey is the target's
//     OrderedKey for Kind Ordered, else none. With nothing to undo the phase stays
//     forward.
//  5. An undo member that completed makes the execution it undoes rolled_back; one
//     that ended any other way leaves it completed and stores its last error (or
//     reason) in the target's UndoError.
//  6. When no member is open at all, the flow is over: FinishedAt is set and State
//     is interrupted if a member was, or StopState says so; else failed if Failed > 0
//     or UndoFailed > 0 for a FlowRollback; else StopState if set; else completed.
//
// An execution of a flow that is over, taken back to pending by an operator,
// re-opens it: the old ending is uncounted, FinishedAt cleared, State running.
type Flow struct {
	ID      ID         `json:"id"`
	Kind    FlowKind   `json:"kind"`
	Name    string     `json:"name,omitempty"`
	Method  string     `json:"method"` // the orchestrator
	Policy  FlowPolicy `json:"policy"`
	Phase   FlowPhase  `json:"phase"`
	State   State      `json:"state"` // running, completed, failed, cancelled, interrupted
	Reason  string     `json:"reason,omitempty"`
	Actor   string     `json:"actor,omitempty"`
	Host    string     `json:"host,omitempty"`
	Build   int64      `json:"build,omitempty"`
	Options []byte     `json:"-"` // JSON, opaque to the store

	WorkerID   ID        `json:"worker,omitzero"` // the process that drives it; zero = any worker
	StopState  State     `json:"-"`
	CreatedAt  time.Time `json:"created_at"`
	FinishedAt time.Time `json:"finished_at,omitzero"`

	Total         int `json:"total"`
	Completed     int `json:"completed"`
	Failed        int `json:"failed"`
	FailedAllowed int `json:"failed_allowed"`
	Skipped       int `json:"skipped"`
	Cancelled     int `json:"cancelled"`
	Interrupted   int `json:"interrupted"`
	UndoTotal     int `json:"undo_total"`
	UndoCompleted int `json:"undo_completed"`
	UndoFailed    int `json:"undo_failed"` // any end of an undo member but completed
}

// Open is the number of forward members that are not over.
func (f *Flow) Open() int {
	return f.Total - f.Completed - f.Failed - f.FailedAllowed - f.Skipped - f.Cancelled - f.Interrupted
}

// UndoOpen is the number of undo members that are not over.
func (f *Flow) UndoOpen() int { return f.UndoTotal - f.UndoCompleted - f.UndoFailed }

// Over reports whether the flow has ended.
func (f *Flow) Over() bool { return !f.FinishedAt.IsZero() }

// Count moves one member's ending into the counters; by is +1, or −1 when an
// operator takes the member back. It is shared by all backends so that rule 1
// has one text.
func (f *Flow) Count(kind Kind, ended State, allowedToFail bool, by int) {
	switch {
	case kind == Undo && ended == Completed:
		f.UndoCompleted += by
	case kind == Undo:
		f.UndoFailed += by
	case ended == Completed || ended == RolledBack:
		f.Completed += by
	case ended == Failed && allowedToFail:
		f.FailedAllowed += by
	case ended == Failed:
		f.Failed += by
	case ended == Skipped:
		f.Skipped += by
	case ended == Cancelled:
		f.Cancelled += by
	case ended == Interrupted:
		f.Interrupted += by
	}
}

// TakeBack uncounts a member that an operator takes back to pending, and opens
// the flow again, driven by home.
func (f *Flow) TakeBack(kind Kind, was State, allowedToFail bool, home ID) {
	f.Count(kind, was, allowedToFail, -1)
	f.State, f.StopState, f.Reason, f.WorkerID, f.FinishedAt = Running, "", "", home, time.Time{}
}

// Resolve uncounts an interrupted member that a person is about to give another
// end, with which the flow is then settled. A failure that a person establishes
// does not start rule 4: somebody is at work, so nothing is undone by itself.
func (f *Flow) Resolve(kind Kind, allowedToFail bool) {
	f.Count(kind, Interrupted, allowedToFail, -1)
	f.State, f.FinishedAt = Running, time.Time{}
}

// Stops reports rule 2: whether this ending cancels the pending forward members.
func (f *Flow) Stops(kind Kind, ended State, allowedToFail bool) bool {
	if kind == Undo || f.Phase == PhaseUndo {
		return false
	}
	if ended == Interrupted {
		return true
	}
	return ended == Failed && !allowedToFail && f.Policy != PolicyContinue
}

// Satisfies reports rule 3: whether an edge with Needs is satisfied by this ending.
func Satisfies(ended State, forNow bool) bool {
	return ended == Completed || ended == Skipped && !forNow
}

// Compensates reports rule 4: whether undo members are due now.
func (f *Flow) Compensates() bool {
	return f.Policy == PolicyCompensate && f.Phase == PhaseForward &&
		f.Failed > 0 && f.Interrupted == 0 && f.StopState == "" && f.Open() == 0
}

// Verdict is rule 6: the state of a flow with no open member.
func (f *Flow) Verdict() State {
	switch {
	case f.Interrupted > 0 || f.StopState == Interrupted:
		return Interrupted
	case f.Failed > 0 || f.Kind == FlowRollback && f.UndoFailed > 0:
		return Failed
	case f.StopState != "":
		return f.StopState
	default:
		return Completed
	}
}

// StopFlowRequest ends a flow early: its pending forward members are cancelled
// with Reason, running ones are left to end, undo members go on. When the last
// open member is over the flow takes State. A flow that is over, or already
// undoing, is left as it is.
type StopFlowRequest struct {
	Now    time.Time
	ID     ID
	State  State // Cancelled or Interrupted
	Reason string
}
