package storage

import "time"

// Filter selects executions; its parts combine with AND, the zero Filter selects
// all. Filters look at the state, so a skipped row is not pending and a rolled
// back one not completed (S32.4).
type Filter struct {
	IDs       []ID
	IDPrefix  string // canonical text, at least 8 characters
	States    []State
	Kinds     []Kind
	Name      string // exact, or a pattern with * (an underscore is literal, S32.5)
	Queue     string
	Tag       string
	FlowID    ID
	Member    string
	Method    string // by which way it came, as Execution.Method
	Undoes    ID
	WorkerID  ID
	Group     string // error group
	UniqueKey string
	Since     time.Time // CreatedAt ≥ Since
	Until     time.Time // CreatedAt < Until

	Oldest bool    // by (CreatedAt, ID) ascending instead of newest first
	After  *Cursor // the page after this row, in the order asked for
	Limit  int     // 0 = 100; at most 10,000
}

// Asks reports whether the states of a filter let it select executions that are not over
// yet, and ones that are.
func (f *Filter) Asks() (live, over bool) {
	for _, s := range f.States {
		live, over = live || !s.Over(), over || s.Over()
	}
	return live || len(f.States) == 0, over || len(f.States) == 0
}

// Cursor is a place in a listing.
type Cursor struct {
	At time.Time
	ID ID
}

// FlowFilter selects flows, newest first.
type FlowFilter struct {
	IDs   []ID
	Kinds []FlowKind
	Root  ID   // of this nest
	Open  bool // not over yet
	Limit int  // 0 = 100
}

// NewestRequest asks for the effective row of each ordered operation and each
// migration: its newest that is neither cancelled nor a skip bound to another
// environment (S5.6). Newest means latest CreatedAt, then highest id; a live row
// always counts as newer than history.
type NewestRequest struct {
	Environment string
}

// Effective is what a plan has to know of an execution. Whole rows are several times
// as large, and a plan looks at one for everything that was ever deployed.
type Effective struct {
	ID         ID
	Name       string
	Kind       Kind
	State      State
	ForNow     bool
	CreatedAt  time.Time
	FinishedAt time.Time
	Checksum   string
}

// Effective is that of one row.
func (e *Execution) Effective() Effective {
	return Effective{
		ID: e.ID, Name: e.Name, Kind: e.Kind, State: e.State, ForNow: e.ForNow,
		CreatedAt: e.CreatedAt, FinishedAt: e.FinishedAt, Checksum: e.Checksum,
	}
}

// Count is the number of executions in one state of one queue.
type Count struct {
	Queue string
	State State
	N     int64
}

// QueueState is how one queue stands.
type QueueState struct {
	Queue     string    `json:"queue"`
	Ready     int64     `json:"ready"`     // pending, due, not parked
	Scheduled int64     `json:"scheduled"` // pending, due later, not parked
	Blocked   int64     `json:"blocked"`   // pending, waits for others of its flow: no due time
	Parked    int64     `json:"parked"`    // pending, for a build that knows it or until its operation is resumed
	Running   int64     `json:"running"`
	Oldest    time.Time `json:"oldest,omitzero"` // due time of the oldest ready row, zero = none
	Paused    bool      `json:"paused,omitempty"`
}

// AuditFilter selects audit entries, newest first.
type AuditFilter struct {
	Target string // contains
	Limit  int    // 0 = 100
}

// Schema tells what the database holds and what this binary wants.
type Schema struct {
	Version          int // 0 = no ledger yet
	OldestCompatible int // the oldest binary's Want that may work on it
	Want             int // this binary's version
}

// Usable reports whether this binary may work on the ledger as it is.
func (s Schema) Usable() bool { return s.Version >= s.Want && s.OldestCompatible <= s.Want }
