package sequencer

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Sentinels for errors.Is. Each error that matches one names what it concerns.
var (
	ErrOperationNotFound  = errors.New("operation is not registered")
	ErrCircularDependency = errors.New("circular dependency")
	ErrUnknownDependency  = errors.New("unknown dependency")
	ErrDependencyExcluded = errors.New("dependency is left out of this run")
	ErrNeverExecuted      = errors.New("operation never completed")
	ErrNotRollbackable    = errors.New("operation has no rollback")
	ErrIrreversible       = errors.New("operation is irreversible")
	ErrNotExecuted        = errors.New("operation has not completed")
	ErrAlreadyRolledBack  = errors.New("operation is already rolled back")
	ErrGuard              = errors.New("blocked by a guard")
	ErrLocked             = errors.New("another run holds the lock")
	ErrLeaseLost          = storage.ErrLeaseLost
	ErrTimeout            = errors.New("timed out")
	ErrMaxAttempts        = errors.New("all attempts are used up")
	ErrDeadline           = errors.New("retry deadline has passed")
	ErrLost               = errors.New("worker died during the attempt")
	ErrCancelled          = errors.New("cancelled")
	ErrShutdown           = errors.New("shutting down")
	ErrAbandoned          = errors.New("too many abandoned handlers")
	ErrDuplicate          = errors.New("already in flight")
	ErrSkipped            = errors.New("skipped")
	ErrInterrupted        = errors.New("interrupted")
	ErrOutOfOrder         = errors.New("older than what is applied")
	ErrNoTx               = errors.New("no transaction")
	ErrOpenTx             = errors.New("a transaction is open")
	ErrTimestamp          = errors.New("not a possible timestamp")
	ErrUnknownKey         = errors.New("unknown key")
	ErrDecrypt            = errors.New("cannot be decrypted")
	ErrEmptyChain         = errors.New("a chain without steps")
	ErrUniqueConflict     = errors.New("its unique key is held by another execution")
	ErrFlowOver           = storage.ErrFlowOver
	ErrDecode             = errors.New("stored input does not fit the operation")
	ErrBatchFailed        = errors.New("batch failed")
)

// CycleError prints a dependency cycle as a → b → a. It matches ErrCircularDependency.
type CycleError struct{ Path []string }

func (e *CycleError) Error() string {
	return "circular dependency: " + strings.Join(e.Path, " → ")
}

// Is makes errors.Is(err, ErrCircularDependency) true.
func (e *CycleError) Is(target error) bool { return target == ErrCircularDependency }

// DependencyError says which dependency of which operation stands in the way. It
// matches ErrUnknownDependency or ErrDependencyExcluded.
type DependencyError struct {
	Name      string // the operation that depends
	DependsOn Dependency
	Err       error  // the sentinel
	Remedy    string // what to do about it
}

func (e *DependencyError) Error() string {
	return fmt.Sprintf("%s depends on %s: %v (%s)", e.Name, e.DependsOn, e.Err, e.Remedy)
}

// Unwrap gives the sentinel.
func (e *DependencyError) Unwrap() error { return e.Err }

// InterruptedError lists what a dead process left half done and a person must
// decide about before the next run. It matches ErrInterrupted.
type InterruptedError struct{ Names []string }

func (e *InterruptedError) Error() string {
	return fmt.Sprintf("%s: a process died while running it and repeating it is not known to be safe; "+
		"look at what it did, then `retry` it, or `resolve` it as completed or failed", strings.Join(e.Names, ", "))
}

// Is makes errors.Is(err, ErrInterrupted) true.
func (e *InterruptedError) Is(target error) bool { return target == ErrInterrupted }

// DetachedError refuses a run, a rollback or a retry because a detached run is not
// over. It matches ErrLocked.
type DetachedError struct {
	Run   string
	Since time.Time
}

func (e *DetachedError) Error() string {
	return fmt.Sprintf("run %s of %s is not over: its operations are with workers", e.Run, e.Since.Format(time.DateTime))
}

// Is makes errors.Is(err, ErrLocked) true.
func (e *DetachedError) Is(target error) bool { return target == ErrLocked }

// ExecutionError is how a synchronous execution ended when not well. It unwraps to
// the handler's error, never to an outcome of it: a skip inside is not a skip of
// whoever called.
type ExecutionError struct {
	ID    string
	Name  string
	State storage.State
	Cause error // ErrSkipped, ErrCancelled, ErrInterrupted, or the failure
}

func (e *ExecutionError) Error() string {
	switch {
	case e.Cause == nil:
		return fmt.Sprintf("%s is %s", e.Name, e.State)
	case e.State == storage.Failed:
		return fmt.Sprintf("%s failed: %v", e.Name, e.Cause)
	case errors.As(e.Cause, new(*DeferredError)):
		return fmt.Sprintf("%s is %v", e.Name, e.Cause)
	default: // the cause begins with the state
		return fmt.Sprintf("%s: %v", e.Name, e.Cause)
	}
}

// Unwrap gives the cause.
func (e *ExecutionError) Unwrap() error { return e.Cause }

// DeferredError is the cause with which a synchronous execution ended that was put off
// and must not wait, see [NoWait].
type DeferredError struct {
	Name   string
	After  time.Duration // when to try again
	Reason string        // what it would have waited for
}

func (e *DeferredError) Error() string {
	text := fmt.Sprintf("put off for %s", e.After)
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text
}

// PanicError is a panic in user code, with the stack it came from.
type PanicError struct {
	Value any
	Stack string
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap gives the panic's value where it was an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// RunError is the end of a run that did not go well: what failed, and what went
// wrong while undoing it. Unwrapping reaches both (S10.3). Of a batch that failed it
// matches ErrBatchFailed.
type RunError struct {
	Run      string
	Method   string // the orchestrator
	State    storage.State
	Failures []*ExecutionError
	Undo     []error
	Waves    []*WaveError // of a dependency graph, the waves with failures
	// RolledBack and Kept are of a transactional batch: what was undone, and what
	// completed and stays because it has no rollback (S22.5).
	RolledBack, Kept []string
}

func (e *RunError) Error() string {
	var parts []string
	for _, w := range e.Waves {
		parts = append(parts, w.Error())
	}
	for _, f := range e.Failures {
		parts = append(parts, f.Error())
	}
	for _, u := range e.Undo {
		parts = append(parts, u.Error())
	}
	if len(parts) == 0 {
		parts = append(parts, string(e.State))
	}
	if len(e.Kept) > 0 {
		parts = append(parts, "not undone, because it has no rollback: "+strings.Join(e.Kept, ", "))
	}
	return strings.Join(parts, "; ")
}

// Is makes errors.Is(err, ErrBatchFailed) true.
func (e *RunError) Is(target error) bool {
	switch e.Method {
	case methodBatch, methodTransactional, methodAllowedToFail:
		return target == ErrBatchFailed && e.State == storage.Failed
	}
	return false
}

// Unwrap gives all failures.
func (e *RunError) Unwrap() []error {
	var all []error
	for _, w := range e.Waves {
		all = append(all, w)
	}
	for _, f := range e.Failures {
		all = append(all, f)
	}
	return append(all, e.Undo...)
}

// WaveError says in which wave of a dependency graph operations failed (S24.4).
type WaveError struct {
	Wave   int // from 1
	Failed int
	Names  []string
}

func (e *WaveError) Error() string {
	return fmt.Sprintf("wave %d: %d failed (%s)", e.Wave, e.Failed, strings.Join(e.Names, ", "))
}
