package storage

import (
	"errors"
	"fmt"
	"time"
)

// Sentinels a store returns, wrapped with what they concern.
var (
	// ErrNotFound: no such execution, flow, worker, lock or schedule.
	ErrNotFound = errors.New("not found")
	// ErrLeaseLost: the worker has left, was declared dead, or its lease is over;
	// nothing was written.
	ErrLeaseLost = errors.New("lease lost")
	// ErrForeignTx: the transaction belongs to another backend or database.
	ErrForeignTx = errors.New("transaction of another backend")
	// ErrConflict: another transaction stood in the way (a deadlock, a lock that was waited
	// for too long, a serialization failure). The transaction has to be rolled back if the
	// server has not done so, nothing of it stays, and the same may succeed another time.
	ErrConflict = errors.New("another transaction was in the way")
	// ErrFlowOver: the flow has ended, or is being stopped, and takes no more members.
	ErrFlowOver = errors.New("flow is over")
	// ErrClosed: the store has been closed.
	ErrClosed = errors.New("store is closed")
)

// SchemaError says that the ledger cannot be used as it is: it is missing, older
// than this binary (run Setup), or so new that this binary must not touch it.
type SchemaError struct{ Schema Schema }

func (e *SchemaError) Error() string {
	switch s := e.Schema; {
	case s.Version == 0:
		return "the database holds no ledger"
	case s.OldestCompatible > s.Want:
		return fmt.Sprintf("the ledger has schema %d and serves binaries from schema %d on; this binary knows schema %d: upgrade it",
			s.Version, s.OldestCompatible, s.Want)
	default:
		return fmt.Sprintf("the ledger has schema %d, this binary wants %d: it has to be set up anew, which upgrades it", s.Version, s.Want)
	}
}

// Missing reports whether there is no ledger at all.
func (e *SchemaError) Missing() bool { return e.Schema.Version == 0 }

// Outdated reports whether the ledger is older than this binary, and Setup upgrades it.
func (e *SchemaError) Outdated() bool {
	return !e.Missing() && e.Schema.OldestCompatible <= e.Schema.Want
}

// DuplicateError names the live execution that holds a unique key.
type DuplicateError struct {
	Name     string
	Key      string
	HolderID ID
}

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("%s is already in flight as execution %s", e.Name, e.HolderID)
}

// LockedError says who holds a lock.
type LockedError struct{ Lock LockState }

func (e *LockedError) Error() string {
	w := e.Lock.Worker
	return fmt.Sprintf("lock %q is held by %s (%s on %s, pid %d) since %s",
		e.Lock.Name, w.Actor, w.Purpose, w.Hostname, w.PID, e.Lock.AcquiredAt.UTC().Format(time.RFC3339))
}

// TransitionError is a move that [Transitions] does not have.
type TransitionError struct {
	ID       ID
	Name     string
	From, To State
}

func (e *TransitionError) Error() string {
	return fmt.Sprintf("execution %s of %s is %s and cannot become %s", e.ID, e.Name, e.From, e.To)
}
