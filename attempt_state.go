package sequencer

import (
	"fmt"
	"log/slog"

	"github.com/gosequencer/sequencer/storage"
)

// The mutable part of an Attempt: handlers have goroutines, and an abandoned one
// may still be writing while the outcome is decided.

// String names the attempt and shows nothing of its operation's fields, which are
// its input.
func (a *Attempt) String() string {
	return fmt.Sprintf("attempt %d of %s (%s)", a.Number, a.Name, a.ID)
}

// LogValue does the same for structured logs.
func (a *Attempt) LogValue() slog.Value {
	return slog.GroupValue(slog.String(keyOperation, a.Name), slog.String(keyExecution, a.ID), slog.Int(keyAttempt, a.Number))
}

func (a *Attempt) start() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.started = true
}

// Started reports whether the handler was entered: for a middleware, after it has
// called the next one. Where it was not, the attempt costs nothing.
func (a *Attempt) Started() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.started
}

func (a *Attempt) setResult(data []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.result = data
}

func (a *Attempt) takeResult() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.result
}

func (a *Attempt) setProgress(p storage.Progress) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.progress = &p
}

func (a *Attempt) lastProgress() *storage.Progress {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.progress
}

func (a *Attempt) setCheckpoint(c checkpoint) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.exec.Checkpoint, a.advanced = c.data, a.advanced || c.moved
}

// hasAdvanced reports whether a cursor has moved, so that losses before it are over.
func (a *Attempt) hasAdvanced() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.advanced
}

func (a *Attempt) lastCheckpoint() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.exec.Checkpoint
}

// event is an event about this attempt.
func (a *Attempt) event(kind EventKind, fill func(*Event)) Event {
	e := Event{
		Kind: kind, Method: a.exec.Method, RunID: a.RunID, ID: a.ID, Name: a.Name, Operation: a.exec.Kind,
		Attempt: a.Number, State: storage.Running, Position: a.exec.Position, Tasks: a.session.tasks, Tags: a.Tags,
		Allowed: a.exec.AllowedToFail,
	}
	if fill != nil {
		fill(&e)
	}
	return e
}

// endingKinds are the events of a state that an attempt ended in.
var endingKinds = map[storage.State]EventKind{
	storage.Completed: EventCompleted, storage.Failed: EventFailed, storage.Skipped: EventSkipped,
	storage.Cancelled: EventCancelled, storage.Interrupted: EventInterrupted, storage.Pending: EventRetrying,
}

// outcomeKind says which event an outcome is worth.
func (a *Attempt) outcomeKind(o *storage.Outcome, err error) EventKind {
	switch {
	case a.Undo && o.State == storage.Completed:
		return EventRolledBack
	case a.Undo && o.State == storage.Failed:
		return EventUndoFailed
	case o.State == storage.Pending && a.undone:
		return EventRetrying
	case o.State == storage.Pending && (o.Excuse || !IsFailure(err)):
		return EventReleased
	default:
		return endingKinds[o.State]
	}
}

func (a *Attempt) outcomeEvent(kind EventKind, o *storage.Outcome, err error) Event {
	return a.event(kind, func(e *Event) {
		e.State, e.Reason, e.Err, e.Elapsed, e.Next = o.State, o.Reason, err, o.Ran, o.Delay
		if o.Progress != nil {
			e.Done, e.Total = o.Progress.Done, o.Progress.Total
		}
		if o.State == storage.Skipped || o.State == storage.Completed {
			e.Err = nil
		}
	})
}

// elsewhereSkip ends an execution in an environment that is none of its own. It
// holds only here: the same ledger restored elsewhere offers it again (S8.5).
type elsewhereSkip struct{ environment string }

func (e elsewhereSkip) Error() string {
	return fmt.Sprintf("not for environment %q", e.environment)
}

func (e elsewhereSkip) Unwrap() error { return Skip("environment " + e.environment) }

func skipElsewhere(environment string) error { return elsewhereSkip{environment} }
