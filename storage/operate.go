package storage

import "time"

// Action is what a person does to executions, to a lock, or to what can be paused.
type Action string

const (
	ActRetry    Action = "retry"    // failed, cancelled or interrupted → pending, counters zeroed, deadline anew (Q1.19)
	ActCancel   Action = "cancel"   // pending → cancelled; running: asked to stop at its worker's next renewal
	ActComplete Action = "complete" // interrupted → completed: "it did happen"
	ActFail     Action = "fail"     // interrupted → failed: "it did not"
	ActUnlock   Action = "unlock"   // take a lock from its holder
	ActForget   Action = "forget"   // what is over → gone, with its attempts, tags and edges
	ActPause    Action = "pause"    // stop claims or ticks, see Pause; a second pause keeps the first
	ActResume   Action = "resume"   // lift a pause; what is not paused is left alone
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
type Order struct {
	Now    time.Time
	Action Action
	IDs    []ID
	Lock   string // ActUnlock
	Pause  Pause  // ActPause, ActResume: Kind and Name; the rest comes from the order
	Actor  string
	Reason string
	Target string // what the audit entry has in place of the ids, for an order that a filter describes; "" = the ids

	// For ActRetry: the queue the executions wait in from now on ("" = where they
	// were), and the worker that drives them if that queue is private. A member of a
	// flow that is over re-opens it, driven by Home; while its flow is still open a
	// retry is refused.
	Queue string
	Home  ID
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
)

// Reseal puts New in the place of Old, neither empty, as long as the field holds
// just that. A request names a field of a row once.
type Reseal struct {
	ID    ID
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
// migration and members of open flows are never pruned.
type PruneRequest struct {
	Now       time.Time
	Completed time.Duration // 0 = keep for ever
	Failed    time.Duration
	Others    time.Duration
	Limit     int // rows at most
}
