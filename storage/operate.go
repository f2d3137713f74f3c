package storage

import "time"

// Action is what a person does to executions, or to a lock.
type Action string

const (
	ActRetry    Action = "retry"    // failed, cancelled or interrupted → pending, counters zeroed, deadline anew (Q1.19)
	ActCancel   Action = "cancel"   // pending → cancelled; running: asked to stop at its worker's next renewal
	ActComplete Action = "complete" // interrupted → completed: "it did happen"
	ActFail     Action = "fail"     // interrupted → failed: "it did not"
	ActUnlock   Action = "unlock"   // take a lock from its holder
)

// Order is an operator's write. It is audited in its own transaction, one entry
// however many executions it concerns. Any id that is unknown, or whose state
// does not allow the action, makes it an error that changes nothing.
type Order struct {
	Now    time.Time
	Action Action
	IDs    []ID
	Lock   string // ActUnlock
	Actor  string
	Reason string

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
	Target string    `json:"target"` // execution ids, a lock, a filter
	Count  int       `json:"count"`
	Reason string    `json:"reason,omitempty"`
}

// PruneRequest deletes history that ended before now minus an age, with its
// attempts. The newest row of every ordered operation, every migration and
// members of open flows are never pruned.
type PruneRequest struct {
	Now       time.Time
	Completed time.Duration // 0 = keep for ever
	Failed    time.Duration
	Others    time.Duration
	Limit     int // rows at most
}
