package settle

import (
	"context"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Ending is a member of a flow, or a callback of it, that is over.
type Ending struct {
	ID            storage.ID
	FlowID        storage.ID
	Name          string
	Kind          storage.Kind
	Method        string // for Kind callback, whose role it is
	State         storage.State
	ForNow        bool
	AllowedToFail bool
	Undoes        storage.ID
	Message       string // its last error, or the reason it was skipped or cancelled

	Adds   []storage.Addition // what it adds, having completed
	inside bool               // its flow ended, which it stands for
	failed storage.ID         // the member that failed this flow
}

// Cancellation is a pending member that will not run, and why.
type Cancellation struct {
	ID     storage.ID
	Reason string
	ForNow bool // because of another member: a resumed flow takes it back
}

// Behind is an edge that leads to a pending row.
type Behind struct {
	storage.Edge
	Kind storage.Kind // of the row
	Name string       // of the row; Surveyor alone tells it
}

// Nested is the end of a row that stands for a flow, or is an approval.
type Nested struct {
	ID     storage.ID
	State  storage.State
	Reason string
	ForNow bool
}

// Insertion is what goes into the ledger at once, all decided: flows with their
// counters and roots, rows with the number of what they wait for, and edges.
type Insertion struct {
	Flows   []storage.Flow
	Members []storage.Execution
	Waits   map[storage.ID]int
	Edges   []storage.Edge
}

// Rows are the steps a backend provides, all inside the caller's transaction.
type Rows interface {
	// LockFlows locks the outermost flows of the flows against other transactions, in
	// id order, then the flows themselves, and returns all of them, each once, in id
	// order.
	LockFlows(ctx context.Context, ids []storage.ID) ([]storage.Flow, error)
	// SaveFlow writes all that the rules change in a flow: counters, phase, state, reason,
	// stop state, worker, finished_at, generation, what fired, what failed, the last
	// member.
	SaveFlow(ctx context.Context, f storage.Flow) error
	// Release lowers Waits of the pending rows behind the edges that leave from, by one
	// per edge; those at zero become due (now + Delay, deadline now + Delay + RetryFor).
	// With needs false, edges with Needs stay unsettled.
	Release(ctx context.Context, now time.Time, from []storage.ID, needs bool) error
	// Leaving returns the edges that leave from and lead to pending rows.
	Leaving(ctx context.Context, from []storage.ID) ([]Behind, error)
	// Cancel makes the pending ones among the members cancelled and returns them, in the
	// order of members: the first is told of as what stopped a flow.
	Cancel(ctx context.Context, now time.Time, members []Cancellation) ([]Ending, error)
	// CancelPending does the same for all pending forward members of a flow but those
	// that stand for a nested one.
	CancelPending(ctx context.Context, now time.Time, flow storage.ID, reason string, forNow bool) ([]Ending, error)
	// PendingNested returns the pending members of a flow that stand for a nested one.
	PendingNested(ctx context.Context, flow storage.ID) ([]storage.ID, error)
	// Undoable returns the completed, undoable forward members of a flow, newest
	// FinishedAt first, then highest Position, complete rows.
	Undoable(ctx context.Context, flow storage.ID) ([]storage.Execution, error)

	// Children locks and returns the flows that executions stand for, in id order.
	Children(ctx context.Context, parents []storage.ID) ([]storage.Flow, error)
	// EndNested ends the row that stands for a flow, or an approval, if it is pending or interrupted, and
	// returns it with the state it was in. Any other, or one that is gone, is left alone:
	// then the Ending is zero.
	EndNested(ctx context.Context, now time.Time, end Nested) (Ending, storage.State, error)
	// Find returns what there is of executions, whatever their state.
	Find(ctx context.Context, ids []storage.ID) ([]Ending, error)
	// Callbacks returns those of a flow.
	Callbacks(ctx context.Context, flow storage.ID) ([]storage.Callback, error)

	// Insert adds to the ledger. A member whose unique key another live row holds goes
	// in without it, and one that is there already is left alone.
	Insert(ctx context.Context, now time.Time, add Insertion) error
	// Held reports which of the unique keys a live row holds; a waiting holder whose
	// UniqueFor has passed does not.
	Held(ctx context.Context, now time.Time, keys []string) ([]bool, error)
	// Hold raises Waits of pending rows by one for each time they are named, and takes
	// their due time and deadline.
	Hold(ctx context.Context, rows []storage.ID) error

	// Fallen returns the forward members of a flow that failed, were cancelled or
	// interrupted.
	Fallen(ctx context.Context, flow storage.ID) ([]Ending, error)
	// Retake makes rows that are over pending again, as an order says, with their unique
	// keys (a *storage.DuplicateError when one is held) and their counters anew. Each
	// waits for the open rows behind its edges, and one more if it stands for an open
	// flow; flows are saved before.
	Retake(ctx context.Context, now time.Time, o storage.Order, ids []storage.ID) error

	// MarkUndone makes a completed execution rolled back.
	MarkUndone(ctx context.Context, now time.Time, target storage.ID) error
	// MarkUndoFailed stores why undoing an execution failed.
	MarkUndoFailed(ctx context.Context, target storage.ID, message string) error
}

// Advancer is a backend that can do the commonest step of flows at once: Advance
// raises Completed in those that go on all the same (forward, with a member still
// open after it, and without a progress callback), and reports of each whether it
// did. What it did not do is settled step by step.
type Advancer interface {
	Advance(ctx context.Context, steps []Step) ([]bool, error)
}

// Step is how many members of a flow completed. Several are of different flows, in
// the order of their ids.
type Step struct {
	Flow storage.ID
	N    int
}

// Surveyor is a backend where each step costs a trip: Blocked returns, by one of them,
// the edges of a flow that lead to rows which are pending and wait. Nobody can claim
// those meanwhile, so what is cancelled because of another need not be followed step by
// step down a long chain.
type Surveyor interface {
	Blocked(ctx context.Context, flow storage.ID) ([]Behind, error)
}

// InOrder puts what a database has cancelled in the order in which it was asked to.
func InOrder(cancelled []Ending, members []Cancellation) []Ending {
	place := make(map[storage.ID]int, len(members))
	for i := range members {
		place[members[i].ID] = i
	}
	slices.SortFunc(cancelled, func(a, b Ending) int { return place[a.ID] - place[b.ID] })
	return cancelled
}
