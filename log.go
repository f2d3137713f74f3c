package sequencer

import (
	"context"
	"log/slog"
)

// logEvent is where all log lines about executions are worded.
func logEvent(ctx context.Context, log *slog.Logger, e Event) {
	level, text := slog.LevelDebug, string(e.Kind)
	switch e.Kind {
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
	attrs := make([]slog.Attr, 0, 8)
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	add("operation", e.Name)
	add("execution", e.ID)
	add("run", e.RunID)
	add("method", e.Method)
	add("state", string(e.State))
	add("reason", e.Reason)
	if e.Attempt > 0 {
		attrs = append(attrs, slog.Int("attempt", e.Attempt))
	}
	if e.Elapsed > 0 {
		attrs = append(attrs, slog.Duration("elapsed", e.Elapsed))
	}
	if e.Next > 0 {
		attrs = append(attrs, slog.Duration("next", e.Next))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.Any("error", e.Err))
	}
	log.LogAttrs(ctx, level, text, attrs...)
}
