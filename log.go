package sequencer

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"github.com/gosequencer/sequencer/storage"
)

// Attribute keys, the same in every line.
const (
	keyOperation = "operation"
	keyExecution = "execution"
	keyRun       = "run"
	keyMethod    = "method"
	keyState     = "state"
	keyReason    = "reason"
	keyAttempt   = "attempt"
	keyElapsed   = "elapsed"
	keyNext      = "next"
	keyError     = "error"
	keyEvent     = "event"
	keyPanic     = "panic"
)

// logEvent is where all log lines about executions are worded.
func logEvent(ctx context.Context, log *slog.Logger, e Event) {
	text := string(e.Kind)
	switch e.Kind { //nolint:exhaustive // the others are worded by their kind
	case EventRecovered:
		text = "recovered from a dead process"
	case EventWorkerStarted, EventWorkerStopped, EventRunStarted, EventRunEnded, EventRunDetached, EventRolledBack, EventFlowDispatched, EventFlowEnded, EventApprovalNeeded:
		text = strings.ReplaceAll(text, "_", " ")
	}
	attrs := []slog.Attr{
		slog.String(keyOperation, e.Name), slog.String(keyExecution, e.ID), slog.String(keyRun, e.RunID),
		slog.String(keyMethod, e.Method), slog.String(keyState, string(e.State)), slog.String(keyReason, e.Reason),
		slog.Int(keyAttempt, e.Attempt), slog.Duration(keyElapsed, e.Elapsed), slog.Duration(keyNext, e.Next),
		slog.Any(keyError, e.Err),
	}
	log.LogAttrs(ctx, levelOf(&e), text, slices.DeleteFunc(attrs, empty)...)
}

// levelOf is how much an event matters to whoever reads the log.
func levelOf(e *Event) slog.Level {
	switch {
	case e.Kind == EventFailed && e.Allowed: // S23.1
		return slog.LevelWarn
	case e.Kind == EventRunEnded && e.State == storage.Failed: // with how many failed, once
		return slog.LevelError
	}
	switch e.Kind {
	case EventWorkerStarted, EventWorkerStopped, EventRunStarted, EventRunEnded, EventRunDetached, EventSkipped, EventRolledBack, EventApprovalNeeded:
		return slog.LevelInfo
	case EventRecovered, EventWarning, EventRetrying, EventCancelled, EventFenced, EventLockWaiting:
		return slog.LevelWarn
	case EventFailed, EventUndoFailed, EventInterrupted:
		return slog.LevelError
	case EventNoPending, EventFlowDispatched, EventFlowEnded, EventQueued, EventDuplicate, EventStarted, EventProgress, EventReleased, EventCompleted:
	}
	return slog.LevelDebug
}

// empty reports an attribute that says nothing about this event.
func empty(a slog.Attr) bool {
	switch a.Value.Kind() {
	case slog.KindString:
		return a.Value.String() == ""
	case slog.KindInt64:
		return a.Value.Int64() == 0
	case slog.KindDuration:
		return a.Value.Duration() == 0
	default:
		return a.Value.Any() == nil
	}
}
