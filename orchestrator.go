package sequencer

import (
	"context"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// RunOptions is what varies from run to run. The zero value runs everything that
// is pending.
type RunOptions struct {
	From   string   // run only what has this timestamp or a later one; inclusive (S3.6)
	Tags   []string // at least one of these; "-tag" excludes; migrations always stay (S16.2)
	Only   []string // just these operations, by name; migrations always stay
	Repeat bool     // offer operations that are done as well (S3.9)
	Sync   bool     // Async operations run in the line
	Async  bool     // every operation runs beside the line; not with Sync
	// Isolate waits for a run that holds the lock, up to WaitLock (0 =
	// DefaultWaitLock). Without it a second run is refused at once, naming the
	// holder. Both end in ErrLocked.
	Isolate  bool
	WaitLock time.Duration
	// Orchestrator overrides Config's for this run.
	Orchestrator Orchestrator
	// Slots is how many executions may run at a time, in this process; 0 =
	// DefaultSlots. A line uses one, its Async operations the others.
	Slots int
	// Detach leaves the operations to workers: each waits in its own queue, and so do
	// rollbacks. Process applies the migrations, waits for what is before each, and
	// returns when none is left, with State running; nil, if nothing has failed so far.
	// Until the run is over no other begins (ErrLocked). There have to be workers.
	Detach bool
	// WaitApproval is how long the run waits for approvals (see NeedsApproval) once it has
	// nothing else to do. Then it is stopped, as by a signal, with an *ApprovalError; what
	// it did stays, the question stays open, and the next run goes on. 0 = not at all; one
	// that is all or nothing does not even begin then.
	WaitApproval time.Duration
	// OutOfOrder overrides Config's for this run.
	OutOfOrder OutOfOrder
	// Evaluate makes Preview also ask ShouldRun and Estimate of the operations (S19.7),
	// which may read whatever their code reads. A run ignores it.
	Evaluate bool
	// Check is shown a plan that is not empty before anything is written; its error
	// is Process's, and nothing has happened. Nil = every plan is welcome.
	Check func(ctx context.Context, p *Plan) error

	narrow  func(p *Plan) // takes tasks out of the plan, see Rehearse
	unasked bool          // nobody's approval is needed, see Rehearse
}

// Orchestrator is a strategy: it arranges the tasks of a plan into a flow. Plan,
// lock, guards, events, execution and rollback are the same for all (S19). There are
// [Sequential], [ParallelBatch], [TransactionalBatch], [AllowedToFailBatch],
// [DependencyGraph] and [QueueScheduled]; others are yours.
type Orchestrator interface {
	// Name is the method that events and the ledger show.
	Name() string
	// Arrange says which tasks wait for which, beyond their dependencies, and what a
	// failure does. It is pure, and is not asked of an empty plan. An error refuses the
	// plan: nothing is run and nothing written.
	Arrange(p *Plan) (Arrangement, error)
}

// Sequential runs one task at a time, in order; the first failure stops the run
// and undoes what it did, newest first (S20). An Async operation starts when its
// turn comes and runs beside the line.
func Sequential() Orchestrator { return sequential{} }

type sequential struct{}

func (sequential) Name() string { return "sequential" }

func (sequential) Arrange(p *Plan) (Arrangement, error) {
	a := Arrangement{Policy: storage.PolicyCompensate, After: make([][]int, len(p.Tasks))}
	last := -1
	for i, t := range p.Tasks {
		if last >= 0 {
			a.After[i] = []int{last}
		}
		if !t.Async {
			last = i
		}
	}
	return a, nil
}
