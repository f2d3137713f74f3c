package storage

import "time"

// Action is what a person does to executions, to a lock, or to what can be paused.
type Action string

const (
	ActRetry      Action = "retry"       // failed, cancelled or interrupted → pending, counters zeroed, deadline anew (Q1.19)
	ActCancel     Action = "cancel"      // pending → cancelled; running: asked to stop, see Outcome.Stopped; its worker hears of it with its next renewal
	ActComplete   Action = "complete"    // interrupted → completed: "it did happen"
	ActFail       Action = "fail"        // interrupted → failed: "it did not"
	ActUnlock     Action = "unlock"      // take a lock from its holder
	ActReschedule Action = "reschedule"  // pending and waiting for nobody → due at another time (S28.13)
	ActForget     Action = "forget"      // what is over → gone, with its attempts, tags and edges
	ActPause      Action = "pause"       // stop claims or ticks, see Pause; a second pause keeps the first
	ActResumeFlow Action = "resume flow" // what failed in a flow, and what was cancelled because of it → pending (Q5.29, Q6.5)
	ActResume     Action = "resume"      // lift a pause; what is not paused is left alone
	ActApprove    Action = "approve"     // an approval that is pending → completed
	ActReject     Action = "reject"      // an approval that is pending → failed
)

// Forgotten is what the *TransitionError of a refused ActForget has as To. No row
// is ever in it.
const Forgotten = "forgotten"

// Order is an operator's write. It is audited in its own transaction, one entry
// however many executions it concerns. Any id that is unknown, or whose state
// does not allow the action, makes it an error that changes nothing. A pause or a
// resume that finds nothing to change is neither an error nor audited.
//
// ActForget refuses, with a *TransitionError to Forgotten, a row that is not over,
// and with another error a row that Prune would never take (see PruneRequest).
// Flows keep their counts (Q10.24). The rows come back as they were.
//
// ActApprove and ActReject are answers to approvals, which keep what [Order.Answer]
// says as their Reason. They refuse, with a *TransitionError, one that is not pending
// any more, so that the first answer counts; and with another error what is no approval.
type Order struct {
	Now    time.Time
	Action Action
	IDs    []ID
	Lock   string // ActUnlock
	Pause  Pause  // ActPause, ActResume: Kind and Name; the rest comes from the order
	Actor  string
	Reason string
	Target string // what the audit entry has in place of the ids, for an order that a filter describes; "" = the ids

	// For ActReschedule: how long after now the executions are due from now on, 0 or less =
	// at once. A deadline is counted anew. What waits for others of its flow is refused.
	Delay time.Duration

	// For ActRetry and ActResumeFlow: the queue the executions wait in from now on ("" =
	// where they were), and the worker that drives them if that queue is private. A
	// member of a flow that is over re-opens it, and the flows around it, driven by Home;
	// in a chain what was cancelled because of a member comes back with it. While its
	// flow is still open a retry is refused, but in a batch whose failures are allowed.
	Queue string
	Home  ID

	// For ActResumeFlow. It takes back each member that failed and is not allowed to, and
	// each one that was cancelled because of another; in the flows around it the latter
	// alone, in nested ones alike. With Force also what a person cancelled, and what is
	// interrupted; without, a flow that has such ends as its state is refused, as is one
	// that is open, undone, or has nothing to take back. The executions come back in the
	// order of their ids.
	Flow  ID
	Force bool
}

// Answer is the Reason that an approval has after the order: who answered what, and why.
func (o *Order) Answer() string {
	text := "approved by " + o.Actor
	if o.Action == ActReject {
		text = "rejected by " + o.Actor
	}
	if o.Reason != "" {
		text += ": " + o.Reason
	}
	return text
}

// RecordRequest writes executions that are already over, as an import does. A
// name that has any row already is left out. A repeat writes nothing.
type RecordRequest struct {
	Now        time.Time
	Executions []Execution // State, CreatedAt, StartedAt and FinishedAt are taken as given
	Actor      string
	Reason     string
}

// AuditEntry is one action of a person.
type AuditEntry struct {
	ID     ID        `json:"id"`
	At     time.Time `json:"at"`
	Actor  string    `json:"actor"`
	Action string    `json:"action"`
	Target string    `json:"target"` // execution ids, a lock, a filter, what was paused
	Count  int       `json:"count"`
	Reason string    `json:"reason,omitempty"`
}

// Field names opaque bytes of an execution.
type Field string

// The opaque bytes that a row has.
const (
	FieldInput      Field = "input"
	FieldCheckpoint Field = "checkpoint"
	FieldResult     Field = "result"

	// FieldCallbacks is that of a flow: all its callbacks as EncodeCallbacks makes them.
	FieldCallbacks Field = "callbacks"
)

// Reseal puts New in the place of Old, neither empty, as long as the field holds
// just that. A request names a field of a row once.
type Reseal struct {
	ID    ID // of an execution; with FieldCallbacks of a flow
	Field Field
	Old   []byte
	New   []byte
}

// ResealRequest changes bytes of rows in any state, running ones too, and nothing
// else of them: the same content, encrypted with another key. It is audited in its
// own transaction as one entry, if anything was written.
type ResealRequest struct {
	Now     time.Time
	Changes []Reseal
	Actor   string
	Reason  string
	Target  string // what the audit entry says it was about
}

// PruneRequest deletes history that ended before now minus an age, with its
// attempts. The newest and the effective row of every ordered operation, every
// migration, every approval and members of open flows are never pruned.
type PruneRequest struct {
	Now       time.Time
	Completed time.Duration // 0 = keep for ever
	Failed    time.Duration
	Others    time.Duration
	Limit     int // rows at most
}
