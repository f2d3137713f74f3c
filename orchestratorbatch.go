package sequencer

import (
	"fmt"
	"strings"

	"github.com/gosequencer/sequencer/storage"
)

// What the batches are called in events and in the ledger.
const (
	methodBatch         = "batch"
	methodTransactional = "transactional_batch"
	methodAllowedToFail = "allowed_to_fail_batch"
)

// ParallelBatch runs the operations between two migrations side by side, as many as
// RunOptions.Slots allows (S21). Operations wait for what they depend on. The first
// failure cancels what has not started; what runs is waited for, and nothing is undone.
func ParallelBatch() Orchestrator { return batch{methodBatch, storage.PolicyStop} }

// AllowedToFailBatch runs operations as [ParallelBatch] does, and goes on when one
// fails (S23): only what depends on it is cancelled, and what comes after a migration
// that failed. An operation marked [AllowedToFail] does not affect the outcome; any other
// that fails makes the run fail once all is over. Nothing is undone.
func AllowedToFailBatch() Orchestrator { return batch{methodAllowedToFail, storage.PolicyContinue} }

type batch struct {
	name   string
	policy storage.FlowPolicy
}

func (b batch) Name() string { return b.name }

func (b batch) Arrange(*Plan) (Arrangement, error) { return Arrangement{Policy: b.policy}, nil }

// TransactionalBatch runs operations as [ParallelBatch] does, all or nothing (S22).
// When one fails, when the run is stopped, cancelled or killed before all is done, what
// completed is undone once nothing runs any more, newest completion first; where the
// process is gone by then, the next one does it before anything else. Operations
// without Rollback, and migrations, stay: [RunError].Kept names them. Where an
// operation was interrupted a person must decide about it first.
func TransactionalBatch() TransactionalOrchestrator { return TransactionalOrchestrator{} }

// TransactionalOrchestrator is what [TransactionalBatch] makes.
type TransactionalOrchestrator struct{ strict bool }

// Strict refuses a plan in which an operation has no Rollback: ErrNotRollbackable.
func (t TransactionalOrchestrator) Strict() TransactionalOrchestrator {
	t.strict = true
	return t
}

// Name is "transactional_batch".
func (TransactionalOrchestrator) Name() string { return methodTransactional }

// Arrange has nobody wait for anybody.
func (t TransactionalOrchestrator) Arrange(p *Plan) (Arrangement, error) {
	var without []string
	for i := range p.Tasks {
		if task := &p.Tasks[i]; t.strict && task.Kind == storage.Ordered && !task.Undoable {
			without = append(without, task.Name)
		}
	}
	if len(without) > 0 {
		return Arrangement{}, fmt.Errorf("%w: %s (give it Rollback(ctx) error, or do without strict)", ErrNotRollbackable, strings.Join(without, ", "))
	}
	return Arrangement{Policy: storage.PolicyAtomic}, nil
}
