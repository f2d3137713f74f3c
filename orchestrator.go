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
	// Slots is how many executions may run at a time; 0 = DefaultSlots. A line
	// uses one, its Async operations the others.
	Slots int
	// OutOfOrder overrides Config's for this run.
	OutOfOrder OutOfOrder
	// Check is shown a plan that is not empty before anything is written; its error
	// is Process's, and nothing has happened. Nil = every plan is welcome.
	Check func(ctx context.Context, p *Plan) error
}

// Orchestrator is a strategy: it arranges the tasks of a plan into a flow. Plan,
// lock, guards, events, execution and rollback are the same for all.
type Orchestrator interface {
	// Name is the method that events and the ledger show.
	Name() string
	// Arrange says which tasks wait for which, beyond their dependencies, and what
	// a failure does. It is pure.
	Arrange(p *Plan) Arrangement
}

// Arrangement is the shape of a flow.
type Arrangement struct {
	Policy storage.FlowPolicy
	// After lists, for each task, the indexes of tasks that must be over before it
	// may start, however they ended. Dependencies are added to it by themselves.
	After [][]int
}

// Sequential runs one task at a time, in order; the first failure stops the run
// and undoes what it did, newest first (S20). An Async operation starts when its
// turn comes and runs beside the line.
func Sequential() Orchestrator { return sequential{} }

type sequential struct{}

func (sequential) Name() string { return "sequential" }

func (sequential) Arrange(p *Plan) Arrangement {
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
	return a
}
