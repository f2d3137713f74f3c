package storage

import (
	"fmt"
	"time"
)

// Worker is one process part that claims executions: a worker, a deploy run, a
// synchronous call. Everything it holds (running rows, homed rows, locks) lives
// as long as its lease.
type Worker struct {
	ID       ID            `json:"id"`
	Purpose  string        `json:"purpose"` // process, work, rescue, execute, rollback, retry, resolve
	Actor    string        `json:"actor"`
	Hostname string        `json:"host"`
	Boot     string        `json:"boot,omitempty"`    // boot id and pid namespace: equal means a pid can be compared; "" = unknown
	PID      int           `json:"pid"`               // process id
	PIDStart string        `json:"pid_start"`         // start time of that process, against reuse of pids
	Build    int64         `json:"build,omitempty"`   // Config.Build
	Version  string        `json:"version,omitempty"` // text of the build
	Queues   []string      `json:"queues,omitempty"`
	Names    []string      `json:"names,omitempty"` // operations it has registered, for people who ask why an execution waits
	Slots    int           `json:"slots,omitempty"`
	Lease    time.Duration `json:"-"` // granted anew by each Renew

	JoinedAt   time.Time `json:"joined_at,omitzero"`
	LeaseUntil time.Time `json:"lease_until,omitzero"` // zero on a store that sees death directly (SQLite)
	LeftAt     time.Time `json:"left_at,omitzero"`     // by itself, or by a rescuer
	Dead       bool      `json:"dead,omitempty"`       // a rescuer ended it
}

// RenewRequest extends a worker's lease and carries what is worth saying on the way.
type RenewRequest struct {
	Now      time.Time
	Worker   ID
	Lease    time.Duration
	Progress []Progress
}

// Renewed is the answer: running executions of this worker that were asked to stop.
type Renewed struct {
	Cancelled []ID
}

// RescueRequest takes over what dead workers held. A worker is dead when the
// store can prove it (lease over by the store's clock, file lock released) or
// when the caller has proved it and says so in Dead (same boot and pid
// namespace, process gone). A worker that has left counts as dead for what it
// still holds.
//
// Dead workers are marked, their locks freed, and up to Limit of their executions
// (running ones, and pending ones homed with them that belong to no flow) become
// running for Worker at a new, excused delivery, to be finished by it with an
// outcome for the loss. They are returned with the State they were found in, so
// that a lost attempt can be told from one that only waited. What an interrupted
// rescuer held is rescued again from it.
type RescueRequest struct {
	Now    time.Time
	Worker ID
	Dead   []ID
	Limit  int
}

// LockRequest asks for a named lock that lives as long as the worker's lease. With
// an execution, it is held for that delivery of it alone: another one of the same
// worker is refused as anybody else is. Without a worker, which needs an execution and
// For, it is held for the execution, which may wait in another ledger: until Unlock, or
// that long.
type LockRequest struct {
	Now       time.Time
	Name      string
	Worker    ID            // optional…
	Execution ID            // likewise…
	Delivery  int           // …and which of its deliveries
	For       time.Duration // at the latest after this it may be taken over; 0 = not while the worker lives
	Flow      ID            // optional: shown to whoever waits
}

// Validate returns an error unless somebody will hold the lock, or its time will be over.
func (r *LockRequest) Validate() error {
	if r.Worker.IsZero() && (r.Execution.IsZero() || r.For <= 0) {
		return fmt.Errorf("lock %q: without a worker it needs an execution and a time", r.Name)
	}
	return nil
}

// UnlockRequest names a lock as it was taken.
type UnlockRequest struct {
	Name      string
	Worker    ID
	Execution ID
	Delivery  int
}

// LockState is a held lock and its holder.
type LockState struct {
	Name       string    `json:"name"`
	Worker     Worker    `json:"holder"`
	Execution  ID        `json:"execution,omitzero"`
	Delivery   int       `json:"delivery,omitempty"`
	Flow       ID        `json:"flow,omitzero"`
	AcquiredAt time.Time `json:"acquired_at"`
	FreeAt     time.Time `json:"free_at,omitzero"` // from when on it may be taken over; zero = not while the worker lives
}
