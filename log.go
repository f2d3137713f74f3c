package sequencer

import (
	"context"
	"log/slog"
	"slices"
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
	level, text := slog.LevelDebug, string(e.Kind)
	switch e.Kind {
	case EventWorkerStarted:
		level, text = slog.LevelInfo, "worker started"
	case EventWorkerStopped:
		level, text = slog.LevelInfo, "worker stopped"
	case EventRunStarted:
		level, text = slog.LevelInfo, "run started"
	case EventRunEnded:
		level, text = slog.LevelInfo, "run ended"
	case EventSkipped:
		level, text = slog.LevelInfo, "skipped"
	case EventRolledBack:
		level, text = slog.LevelInfo, "rolled back"
	case EventRecovered:
		level, text = slog.LevelWarn, "recovered from a dead process"
	case EventWarning, EventRetrying, EventCancelled, EventFenced, EventLockWaiting:
		level = slog.LevelWarn
	case EventFailed, EventUndoFailed, EventInterrupted:
		level = slog.LevelError
	case EventNoPending, EventQueued, EventDuplicate, EventStarted, EventProgress, EventReleased, EventCompleted:
	}
	if !log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String(keyOperation, e.Name), slog.String(keyExecution, e.ID), slog.String(keyRun, e.RunID),
		slog.String(keyMethod, e.Method), slog.String(keyState, string(e.State)), slog.String(keyReason, e.Reason),
		slog.Int(keyAttempt, e.Attempt), slog.Duration(keyElapsed, e.Elapsed), slog.Duration(keyNext, e.Next),
		slog.Any(keyError, e.Err),
	}
	log.LogAttrs(ctx, level, text, slices.DeleteFunc(attrs, empty)...)
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
