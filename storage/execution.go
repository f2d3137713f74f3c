package storage

import "time"

// Kind says what an execution row stands for.
type Kind string

const (
	Ordered   Kind = "ordered"   // an operation with a timestamp: part of deploy runs, once per ledger
	Unlisted  Kind = "unlisted"  // an operation reached only by name: dispatched, executed
	Migration Kind = "migration" // a schema migration of the user's; goose's table is the truth, this row its history
	Undo      Kind = "undo"      // the rollback of another execution, named by Undoes
	Hook      Kind = "hook"      // a call of another execution's after or failed hook, see Execution.Hook

	Nested       Kind = "nested"   // a flow inside another one; it has no handler, see Flow
	KindCallback Kind = "callback" // what a flow started by itself: its Method is the Role
	KindApproval Kind = "approval" // the question whether the execution that Undoes names, or else the ordered operation, may run; see ApprovalQueue and ApprovalID
)

// OnLoss says what becomes of an execution whose worker died while it ran. It is
// fixed at dispatch, so that whoever rescues the row needs none of its code.
type OnLoss string

const (
	LossRetry     OnLoss = "retry"     // attempt it again, within tries and MaxLost
	LossInterrupt OnLoss = "interrupt" // ordered and neither idempotent nor transactional: wait for a person
	LossFail      OnLoss = "fail"      // executed for a caller who is gone
	LossCancel    OnLoss = "cancel"    // as retry, but nobody serves its queue any more: offer it again instead
)

// PrivateQueue starts the names of queues that one process alone serves: a
// run's own line, a synchronous call. Names of users cannot contain it. A row of
// such a queue that goes back to pending keeps its WorkerID: that worker is its
// home.
const PrivateQueue = "@"

// ApprovalQueue is where approvals wait for a person. Nobody serves it: they are ended
// by ActApprove and ActReject, and withdrawn by ActCancel.
const ApprovalQueue = PrivateQueue + "approvals"

// Priorities of an execution inside its queue; 1 is served first.
const (
	PriorityHighest = 1
	PriorityDefault = 2
	PriorityLowest  = 4
)

// Limits on what a row carries, equal on all backends.
const (
	MaxName  = 128     // bytes of an operation, queue, tag or limiter name
	MaxInput = 8 << 20 // bytes of input, checkpoint or result
)

// Execution is one row of the ledger. Enqueue reads the fields of the first two
// groups (and Result, for Kind Undo); the others are the store's to write.
type Execution struct {
	ID     ID     `json:"id"`
	Name   string `json:"name"`
	Kind   Kind   `json:"kind"`
	Method string `json:"method"` // how it was asked for: sync, async, sequential, rollback…
	Actor  string `json:"actor,omitempty"`

	Queue         string        `json:"queue"`
	Priority      int           `json:"priority"`
	Delay         time.Duration `json:"-"`                // runnable this long after it is enqueued, or after its last edge is settled
	RetryFor      time.Duration `json:"-"`                // deadline this long after it becomes runnable; 0 = none
	Input         []byte        `json:"-"`                // opaque: the codec's format byte first
	Policy        []byte        `json:"-"`                // opaque: tries, backoff, timeout…; nil when nothing is declared
	UniqueKey     string        `json:"unique,omitempty"` // at most one live row holds a key; "" = none
	UniqueFor     time.Duration `json:"-"`                // a waiting row gives its key up after this; 0 = while it is live
	OnLoss        OnLoss        `json:"on_loss"`
	MinBuild      int64         `json:"min_build,omitempty"` // the lowest build that may claim it
	Tags          []string      `json:"tags,omitempty"`
	Undoable      bool          `json:"undoable,omitempty"`        // it can be rolled back
	AllowedToFail bool          `json:"allowed_to_fail,omitempty"` // its failure does not fail the flow
	Checksum      string        `json:"checksum,omitempty"`        // of an SQL migration's text
	FlowID        ID            `json:"flow,omitzero"`
	Member        string        `json:"member,omitempty"` // its name inside the flow
	Position      int           `json:"position"`         // its place in the plan; display and tie-break only
	Undoes        ID            `json:"undoes,omitzero"`  // for Kind Undo; for Kind Hook whose hook it is; for Kind Approval what it is asked for; of a catch callback the member that failed
	WorkerID      ID            `json:"worker,omitzero"`  // who holds it; on a pending row: its home, which alone serves its queue

	State       State     `json:"state"`
	Reason      string    `json:"reason,omitempty"`      // why skipped or cancelled
	ForNow      bool      `json:"for_now,omitempty"`     // skipped, but offered again by the next run (S8.6); cancelled because of another member, so that a resumed flow takes it back
	Environment string    `json:"environment,omitempty"` // a skip that holds only in this environment (S8.5)
	CreatedAt   time.Time `json:"created_at"`
	DueAt       time.Time `json:"due_at,omitzero"`     // zero while edges are open
	StartedAt   time.Time `json:"started_at,omitzero"` // of the first attempt (Q9.16)
	FinishedAt  time.Time `json:"finished_at,omitzero"`
	DeadlineAt  time.Time `json:"deadline_at,omitzero"`
	Waits       int       `json:"waits,omitempty"` // open edges that lead here, and 1 for a nested flow that is open; Enqueue counts them
	Delivery    int       `json:"delivery"`        // claims so far; the fence
	Excused     int       `json:"excused"`         // deliveries that cost no attempt: deferral, shutdown, manual retry
	Errors      int       `json:"errors"`          // attempts that returned an error, panicked or timed out
	Losses      int       `json:"losses"`          // attempts lost in a row, with their worker or to ErrConflict
	Parked      bool      `json:"parked,omitempty"`
	Done        int64     `json:"done,omitempty"` // progress
	Total       int64     `json:"total,omitempty"`
	Checkpoint  []byte    `json:"-"`
	Result      []byte    `json:"-"`
	LastError   string    `json:"error,omitempty"`          // of the latest failed attempt, shortened; also why an undo failed
	ErrorGroup  string    `json:"error_group,omitempty"`    // groups equal causes
	UndoError   string    `json:"rollback_error,omitempty"` // why undoing this completed execution failed
}

// Overdue reports whether its deadline has passed: no attempt of it begins any more. At
// the very instant one may (Q1.6). What undoes it has no deadline.
func (e *Execution) Overdue(now time.Time) bool {
	return !e.DeadlineAt.IsZero() && now.After(e.DeadlineAt) && e.Kind != Undo && e.Kind != Hook
}

// Attempts is the number of attempts that count against tries.
func (e *Execution) Attempts() int { return e.Delivery - e.Excused }

// Left guesses how long a running execution will take from now on, by how far it has
// come since it started; 0 = nobody can tell. What it waited or was interrupted for
// since then counts as work.
func (e *Execution) Left(now time.Time) time.Duration {
	if e.State != Running || e.StartedAt.IsZero() {
		return 0
	}
	return Left(e.Done, e.Total-e.Done, now.Sub(e.StartedAt))
}

// Left is how long todo takes when done took ran; 0 = nobody can tell.
func Left(done, todo int64, ran time.Duration) time.Duration {
	if done <= 0 || todo <= 0 || ran <= 0 {
		return 0
	}
	return time.Duration(float64(ran) / float64(done) * float64(todo))
}

// Undo is the execution that undoes e, without id, flow and position. It carries
// the input e had and the result e kept, which is what a rollback works from.
func (e *Execution) Undo() Execution {
	u := Execution{
		Name: e.Name, Kind: Undo, Method: "rollback", Member: e.Member, Actor: e.Actor,
		Queue: e.Queue, Priority: e.Priority, Input: e.Input, Policy: e.Policy, OnLoss: e.OnLoss,
		Tags: e.Tags, Checksum: e.Checksum, Result: e.Result, Undoes: e.ID, AllowedToFail: e.AllowedToFail,
	}
	if e.Kind == Ordered {
		u.UniqueKey = OrderedKey(e.Name)
	}
	return u
}

// Methods of rows of Kind Hook: which hook they call.
const (
	MethodAfter  = "after"
	MethodFailed = "failed"
)

// Hook is the row that calls a hook of e, after the delivery at which e was claimed has
// ended it ([Outcome].Hook). It waits in e's queue unless its WorkerID says who has it at
// once. Its Position is that delivery, and its id is derived from both, so that a
// repeated step makes no second one. It has no key, tags or flow: nothing but its own
// end depends on it.
func (e *Execution) Hook(method string) Execution {
	return Execution{
		ID: HookID(e.ID, e.Delivery), Name: e.Name, Kind: Hook, Method: method, Actor: e.Actor, Queue: e.Queue, Priority: PriorityHighest,
		Input: e.Input, OnLoss: LossRetry, MinBuild: e.MinBuild, Position: e.Delivery, Undoes: e.ID,
	}
}

// OrderedKey is the unique key of an ordered operation and of its undoing, so
// that two deploys, or a deploy and a rollback, cannot both hold it.
func OrderedKey(name string) string { return "op:" + name }

// Attempt is an attempt that did not end well, or a hook of an execution that did not. A
// clean success writes none.
type Attempt struct {
	ExecutionID ID        `json:"execution"`
	Delivery    int       `json:"delivery"` // negative for a hook: of the delivery that it followed
	Number      int       `json:"attempt"`  // counted against tries; starts at 1; 0 for a hook
	WorkerID    ID        `json:"worker,omitzero"`
	StartedAt   time.Time `json:"started_at"`
	FinishedAt  time.Time `json:"finished_at"`
	Failure
}

// Failure says how an attempt went wrong.
type Failure struct {
	Outcome string `json:"outcome"`           // error, panic, timeout, lost, conflict, released, deadline, hook
	Type    string `json:"type"`              // Go type of the error
	Message string `json:"message"`           // at most 8 KiB
	Trace   string `json:"trace,omitempty"`   // stack of a panic, else the chain of wrapped errors
	Context string `json:"context,omitempty"` // JSON object, "" = none
	Group   string `json:"group,omitempty"`
}
