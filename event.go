package sequencer

import (
	"context"
	"errors"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// EventKind says what happened.
type EventKind string

// Events of a run, then of one execution. Those about an ending are sent after it
// is durable: whoever hears them reads the same in the ledger, and cannot change
// it any more (S6.3, S29).
const (
	EventRunStarted  EventKind = "run_started"
	EventRunEnded    EventKind = "run_ended"
	EventRunDetached EventKind = "run_detached" // its process has done its part, the others are left to workers
	EventNoPending   EventKind = "no_pending"
	EventLockWaiting EventKind = "lock_waiting" // Err says who holds it
	EventWarning     EventKind = "warning"      // Reason says what
	EventRecovered   EventKind = "recovered"    // a dead process's run was taken over; Reason says how

	EventWorkerStarted EventKind = "worker_started" // ID is the worker's, Tasks its slots, Reason its queues
	EventWorkerStopped EventKind = "worker_stopped" // Reason says why

	EventFlowDispatched EventKind = "flow_dispatched" // a batch or chain, ID is its, Tasks its members; in a transaction as queued
	EventFlowEnded      EventKind = "flow_ended"      // all members of a batch or chain have ended

	EventQueued    EventKind = "queued" // in a transaction: written, and gone if that rolls back
	EventDuplicate EventKind = "duplicate"
	EventStarted   EventKind = "started"
	EventProgress  EventKind = "progress"
	EventRetrying  EventKind = "retrying" // an attempt failed, or was undone by the database, with Err, and another one follows after Next; EventFailed is for the last (Q9.4, Q9.8)
	EventReleased  EventKind = "released"
	// An execution waits for its approval, Reason says whose: once when it is asked for, and
	// once in each run that finds the question open. Approvals lists those.
	EventApprovalNeeded EventKind = "approval_needed"
	EventCompleted      EventKind = "completed"
	EventSkipped        EventKind = "skipped"
	EventFailed         EventKind = "failed" // final
	EventCancelled      EventKind = "cancelled"
	EventInterrupted    EventKind = "interrupted"
	EventRolledBack     EventKind = "rolled_back" // an undo completed
	EventUndoFailed     EventKind = "rollback_failed"
	EventFenced         EventKind = "fenced" // a result came too late and was discarded
)

// EndsAttempt reports whether events of this kind say how an attempt ended, or a delivery
// that was no attempt: the outcomes that are counted.
func (k EventKind) EndsAttempt() bool {
	switch k {
	case EventCompleted, EventFailed, EventRetrying, EventReleased, EventSkipped, EventCancelled, EventInterrupted, EventRolledBack,
		EventUndoFailed, EventFenced:
		return true
	default:
		return false
	}
}

// Event is a fact.
type Event struct {
	Kind      EventKind
	At        time.Time // process clock
	Method    string    // orchestrator or path
	RunID     string    // "" outside a run
	ID        string    // execution, or flow or worker in their events; "" for run events
	Name      string
	Operation storage.Kind
	Attempt   int
	State     storage.State
	Reason    string
	Err       error
	Elapsed   time.Duration
	Next      time.Duration
	Done      int64 // progress
	Total     int64
	Position  int // of the task in its plan
	Tasks     int // in the plan
	Tags      []string
	Allowed   bool // the operation is AllowedToFail
}

// Observer hears events, in order, on the goroutine that caused them: keep it
// short. A panic is logged and swallowed.
type Observer func(ctx context.Context, e Event)

// emit tells every observer, and the log.
func (s *Sequencer) emit(ctx context.Context, e Event) {
	e.At = time.Now()
	if s.cfg.Logger.Enabled(ctx, levelOf(&e)) {
		logEvent(ctx, s.cfg.Logger, s.redacted(e))
	}
	for _, o := range s.cfg.Observers {
		s.tell(ctx, o, e)
	}
	if local, ok := ctx.Value(observerKey{}).(Observer); ok {
		s.tell(ctx, local, e)
	}
}

// heard reports whether anybody would hear of such an event. Where many are made, at
// full speed, that is asked before one is.
func (s *Sequencer) heard(ctx context.Context, kind EventKind) bool {
	return len(s.cfg.Observers) > 0 || s.cfg.Logger.Enabled(ctx, levelOf(&Event{Kind: kind})) || ctx.Value(observerKey{}) != nil
}

// redacted is an event whose texts may be logged.
func (s *Sequencer) redacted(e Event) Event {
	e.Reason = s.redact(e.Reason)
	if e.Err != nil && s.cfg.Redact != nil {
		e.Err = errors.New(s.redact(e.Err.Error()))
	}
	return e
}

func (s *Sequencer) redact(text string) string {
	if r := s.cfg.Redact; r != nil {
		return r(text)
	}
	return text
}

func (s *Sequencer) tell(ctx context.Context, o Observer, e Event) {
	defer func() {
		if p := recover(); p != nil {
			s.cfg.Logger.ErrorContext(ctx, "observer panicked", keyEvent, e.Kind, keyPanic, p)
		}
	}()
	o(ctx, e)
}

type observerKey struct{}

// WithObserver adds an observer for the calls made with this context only, such
// as the progress display of one run.
func WithObserver(ctx context.Context, o Observer) context.Context {
	if outer, ok := ctx.Value(observerKey{}).(Observer); ok {
		inner := o
		o = func(ctx context.Context, e Event) { outer(ctx, e); inner(ctx, e) }
	}
	return context.WithValue(ctx, observerKey{}, o)
}
