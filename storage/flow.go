package storage

import (
	"fmt"
	"time"
)

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
	// PolicyAtomic is all or nothing: as compensate, and whatever else stops the flow
	// before all of it was done has what completed undone as well.
	PolicyAtomic FlowPolicy = "atomic"
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
//  2. In PhaseForward a failure that is not allowed, under any policy but
//     PolicyContinue, an interruption under any policy, and under PolicyAtomic a
//     member that is cancelled by itself, cancel every pending forward member, with a
//     reason that names the member. For other endings nothing else is cancelled.
//     Under PolicyAtomic that is a stop: StopState becomes interrupted or cancelled.
//  3. Edges from the member are settled (see [Edge]), transitively through the
//     members that settling cancels.
//  4. When no forward member is open and the flow, not over yet, is compensating (PhaseForward,
//     Interrupted = 0, and either PolicyCompensate, Failed > 0 and no StopState, or
//     PolicyAtomic and Failed > 0 or a stop that cancelled a member): one Undo member is
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
//     or UndoFailed > 0 for a FlowRollback; else StopState if set; else cancelled if
//     a member of a chain was; else completed. Under PolicyAtomic a StopState that
//     cancelled nobody does not count: all was done.
//  7. Callbacks whose role is due are expanded into rows of [KindCallback], in the
//     same transaction. Such a row is no member: it counts in CallbacksOpen alone,
//     nothing cancels it, and its end changes no verdict.
//
// An execution of a flow that is over, taken back to pending by an operator,
// re-opens it: the old ending is uncounted, FinishedAt cleared, State running, and a
// new generation begins, in which catch and finally may fire again.
//
// # Nesting
//
// A flow with a ParentID is nested: the [Nested] execution of that id stands for it
// in the flow around it. That row waits for one more than its edges, is never
// claimed, and ends with the nested flow, in its verdict ([Flow.Verdict]; failed
// becomes completed where failures are allowed, Q6.10). What would cancel it stops
// the nested flow instead. The members of a nested flow that wait for nobody inside
// it wait for what that row waits for: the store adds these edges. An empty nested flow, which no member
// can end, is the exception: its row waits for its edges alone, is claimed as others
// are, and its worker completes it at once.
//
// The row of the outermost flow is the lock of the whole nest for all rules, but for
// a member that completes in a flow that goes on.
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
	ParentID   ID        `json:"parent,omitzero"` // the execution that stands for it in the flow around it
	RootID     ID        `json:"root"`            // the outermost flow; itself when it is not nested. The store's to write
	StopState  State     `json:"-"`
	StopForNow bool      `json:"-"` // stopped because of a failure around it, not by a person
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

	// Generation counts how often the flow was begun: 1, and one more for each order
	// that took members back (Q5.29).
	Generation    int   `json:"generation"`
	Roles         Roles `json:"-"`                      // that it has callbacks for
	Fired         Roles `json:"-"`                      // in this generation; then, for ever
	CallbacksOpen int   `json:"callbacks_open"`         // rows of KindCallback that are not over, finally left out
	FailedID      ID    `json:"failed_member,omitzero"` // the first that failed in this generation and is not allowed to
	LastID        ID    `json:"-"`                      // of a chain: its last member, behind which others are appended

	// Ended is set in the answer of the call that ended the flow, and kept nowhere.
	Ended bool `json:"-"`

	// Callbacks are read by Enqueue only. What a store keeps of them is told by
	// [Reader.Callbacks].
	Callbacks []Callback `json:"-"`
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
	case kind == KindCallback: // no member
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
// the flow again, driven by home. The caller begins the new generation. What stopped
// an atomic flow is kept: it cannot be made whole by the one member that comes back.
func (f *Flow) TakeBack(kind Kind, was State, allowedToFail bool, home ID) {
	f.Count(kind, was, allowedToFail, -1)
	f.State, f.WorkerID, f.FinishedAt = Running, home, time.Time{}
	if f.Policy != PolicyAtomic {
		f.StopState, f.StopForNow, f.Reason = "", false, ""
	}
}

// Regenerate begins a new generation: all callbacks but then may fire once more. A
// progress callback that is open stays the only one.
func (f *Flow) Regenerate() {
	f.Generation++
	f.Fired &^= HasCatch | HasFinally
	f.FailedID = ID{}
}

// Resolve uncounts an interrupted member that a person is about to give another
// end, with which the flow is then settled. A failure that a person establishes
// starts rule 4 under PolicyAtomic alone: elsewhere somebody is at work, so nothing is
// undone by itself.
func (f *Flow) Resolve(kind Kind, allowedToFail bool) {
	if kind == KindCallback {
		return
	}
	f.Count(kind, Interrupted, allowedToFail, -1)
	f.State, f.FinishedAt = Running, time.Time{}
}

// Stops reports rule 2: whether this ending cancels the pending forward members.
func (f *Flow) Stops(kind Kind, ended State, allowedToFail bool) bool {
	if kind == Undo || kind == KindCallback || f.Phase == PhaseUndo {
		return false
	}
	switch ended { //nolint:exhaustive // the others are good ends, or none
	case Interrupted:
		return true
	case Cancelled:
		return f.Policy == PolicyAtomic
	case Failed:
		return !allowedToFail && f.Policy != PolicyContinue
	}
	return false
}

// Halt notes the ending that stopped an atomic flow.
func (f *Flow) Halt(ended State) {
	if f.Policy != PolicyAtomic || f.StopState != "" {
		return
	}
	f.StopState, f.StopForNow = Cancelled, true
	if ended == Interrupted {
		f.StopState = Interrupted
	}
}

// stopped is the stop state that counts.
func (f *Flow) stopped() State {
	if f.Policy == PolicyAtomic && f.Cancelled == 0 {
		return ""
	}
	return f.StopState
}

// Satisfies reports rule 3: whether an edge with Needs is satisfied by this ending.
func Satisfies(ended State, forNow bool) bool {
	return ended == Completed || ended == Skipped && !forNow
}

// Compensates reports rule 4: whether undo members are due now.
func (f *Flow) Compensates() bool {
	if f.Over() || f.Phase != PhaseForward || f.Interrupted > 0 || f.Open() > 0 {
		return false
	}
	switch f.Policy {
	case PolicyCompensate:
		return f.Failed > 0 && f.StopState == ""
	case PolicyAtomic:
		return f.Failed > 0 || f.stopped() != ""
	case PolicyStop, PolicyContinue:
	}
	return false
}

// Undoes reports that what the flow did is undone when it does not end well.
func (f *Flow) Undoes() bool { return f.Policy == PolicyCompensate || f.Policy == PolicyAtomic }

// Verdict is rule 6: the state of a flow with no open member.
func (f *Flow) Verdict() State {
	switch {
	case f.Interrupted > 0 || f.stopped() == Interrupted:
		return Interrupted
	case f.Failed > 0 || f.Kind == FlowRollback && f.UndoFailed > 0:
		return Failed
	case f.stopped() != "":
		return f.StopState
	case f.Kind == FlowChain && f.Cancelled > 0: // Q6.15
		return Cancelled
	default:
		return Completed
	}
}

// Outside is what a flow that is over comes to in the flow around it: its verdict,
// but that a flow whose failures are allowed does not fail it (Q6.10).
func (f *Flow) Outside() State {
	if v := f.Verdict(); v != Failed || f.Policy != PolicyContinue {
		return v
	}
	return Completed
}

// Due returns the roles whose callbacks are due, and notes that they fire. ended
// tells whether members ended since it was asked last. Finally is asked for apart,
// after these have begun.
func (f *Flow) Due(ended bool) []Role {
	var due []Role
	if f.Roles.Has(HasCatch) && !f.Fired.Has(HasCatch) && !f.FailedID.IsZero() {
		f.Fired |= HasCatch
		due = append(due, RoleCatch)
	}
	if f.Roles.Has(HasThen) && !f.Fired.Has(HasThen) && f.Over() && f.State == Completed && f.Failed == 0 && f.Cancelled == 0 {
		f.Fired |= HasThen
		due = append(due, RoleThen)
	}
	if f.Roles.Has(HasProgress) && !f.Fired.Has(HasFinally) && (ended || f.Fired.Has(progressAgain)) {
		if f.Fired >= progressOpen {
			f.Fired |= progressAgain
		} else {
			f.Fired &^= progressAgain
			due = append(due, RoleProgress)
		}
	}
	return due
}

// FinallyDue reports that the flow and its other callbacks are over and finally has
// yet to fire, and notes that it does (Q5.19).
func (f *Flow) FinallyDue() bool {
	if !f.Roles.Has(HasFinally) || f.Fired.Has(HasFinally) || !f.Over() || f.CallbacksOpen > 0 {
		return false
	}
	f.Fired |= HasFinally
	return true
}

// CallbacksBegin counts rows of callbacks that are open from now on.
func (f *Flow) CallbacksBegin(role Role, n int) {
	if role != RoleFinally {
		f.CallbacksOpen += n
	}
	if role == RoleProgress {
		f.Fired += Roles(n) * progressOpen
	}
}

// CallbackOver uncounts one that is over.
func (f *Flow) CallbackOver(role Role) { f.CallbacksBegin(role, -1) }

// Admits reports, as an error that wraps [ErrFlowOver], that the flow takes no
// further members: it is over, is being stopped, or undoes what it did (Q5.28).
func (f *Flow) Admits() error {
	switch {
	case f.Over():
		return fmt.Errorf("flow %s takes no more members, it is %s: %w", f.ID, f.State, ErrFlowOver)
	case f.Hollow():
		return fmt.Errorf("flow %s takes no more members, it began without any: %w", f.ID, ErrFlowOver)
	case f.Stopping():
		return fmt.Errorf("flow %s takes no more members, it is being stopped (%s): %w", f.ID, f.Reason, ErrFlowOver)
	default:
		return nil
	}
}

// Hollow reports a nested flow without members, which the row that stands for it does
// not wait for.
func (f *Flow) Hollow() bool { return !f.ParentID.IsZero() && f.Total+f.UndoTotal == 0 }

// Stopping reports an open flow whose pending members were cancelled: it ends when
// the running ones do.
func (f *Flow) Stopping() bool {
	return f.StopState != "" || f.Phase == PhaseUndo || f.Interrupted > 0 || f.Failed > 0 && f.Policy != PolicyContinue
}

// Retryable reports whether a retry may take back single members though the flow is not
// over: in a batch whose failures are allowed the others run on.
func (f *Flow) Retryable() bool {
	return f.Over() || f.Kind == FlowBatch && f.Policy == PolicyContinue && !f.Stopping()
}

// StopFlowRequest ends a flow early: its pending forward members are cancelled
// with Reason, running ones are left to end, undo members go on. When the last
// open member is over the flow takes State. A flow that is over, or already
// undoing, is left as it is. One that is stopped by a person is audited in the same
// transaction, as AuditStopFlow.
type StopFlowRequest struct {
	Now    time.Time
	ID     ID
	State  State // Cancelled or Interrupted
	Reason string
	Actor  string // the person; "" = nobody's order, which is not audited
}

// AuditStopFlow is the action of the audit entry for a flow that a person stopped.
const AuditStopFlow = "cancel flow"

// AuditRunSchedule is the action of the audit entry for what a person had a schedule
// dispatch between its ticks. Its target is that of a pause of the schedule.
const AuditRunSchedule = "run schedule"
