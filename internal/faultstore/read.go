package faultstore

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

var reads = []string{
	"Schema", "Newest", "Executions", "Attempts", "Flows", "Callbacks", "Edges", "Workers", "Locks", "Counts", "Stats", "Audit",
	"Queues", "Pauses", "Schedules",
}

// Reads reports whether a point belongs to a verb that changes nothing: dying there
// leaves behind what dying after the change before it leaves.
func Reads(point string) bool {
	verb, _, _ := strings.Cut(point, "#")
	return slices.Contains(reads, verb)
}

// Chance reports whether it is a matter of time if a point is passed at all: an idle
// pool looks every now and then, a run writes to the disk once a second.
func Chance(point string) bool {
	return strings.HasPrefix(point, "Look#") || strings.HasPrefix(point, "Sync#")
}

func (s *faulty) Newest(ctx context.Context, r storage.NewestRequest) ([]storage.Effective, error) {
	return around(s.counted, "Newest", func() ([]storage.Effective, error) { return s.Store.Newest(ctx, r) })
}

func (s *faulty) Executions(ctx context.Context, f storage.Filter) ([]storage.Execution, error) {
	return around(s.counted, "Executions", func() ([]storage.Execution, error) { return s.Store.Executions(ctx, f) })
}

func (s *faulty) Attempts(ctx context.Context, executions ...storage.ID) ([]storage.Attempt, error) {
	return around(s.counted, "Attempts", func() ([]storage.Attempt, error) { return s.Store.Attempts(ctx, executions...) })
}

func (s *faulty) Flows(ctx context.Context, f storage.FlowFilter) ([]storage.Flow, error) {
	return around(s.counted, "Flows", func() ([]storage.Flow, error) { return s.Store.Flows(ctx, f) })
}

func (s *faulty) Callbacks(ctx context.Context, flow storage.ID) ([]storage.Callback, error) {
	return around(s.counted, "Callbacks", func() ([]storage.Callback, error) { return s.Store.Callbacks(ctx, flow) })
}

func (s *faulty) Edges(ctx context.Context, flow storage.ID) ([]storage.Edge, error) {
	return around(s.counted, "Edges", func() ([]storage.Edge, error) { return s.Store.Edges(ctx, flow) })
}

func (s *faulty) Workers(ctx context.Context, ids ...storage.ID) ([]storage.Worker, error) {
	return around(s.counted, "Workers", func() ([]storage.Worker, error) { return s.Store.Workers(ctx, ids...) })
}

func (s *faulty) Locks(ctx context.Context) ([]storage.LockState, error) {
	return around(s.counted, "Locks", func() ([]storage.LockState, error) { return s.Store.Locks(ctx) })
}

func (s *faulty) Counts(ctx context.Context) ([]storage.Count, error) {
	return around(s.counted, "Counts", func() ([]storage.Count, error) { return s.Store.Counts(ctx) })
}

func (s *faulty) Stats(ctx context.Context, f storage.StatsFilter) ([]storage.Stat, error) {
	return around(s.counted, "Stats", func() ([]storage.Stat, error) { return s.Store.Stats(ctx, f) })
}

func (s *faulty) Audit(ctx context.Context, f storage.AuditFilter) ([]storage.AuditEntry, error) {
	return around(s.counted, "Audit", func() ([]storage.AuditEntry, error) { return s.Store.Audit(ctx, f) })
}

func (s *faulty) Queues(ctx context.Context, now time.Time) ([]storage.QueueState, error) {
	return around(s.counted, "Queues", func() ([]storage.QueueState, error) { return s.Store.Queues(ctx, now) })
}

func (s *faulty) Pauses(ctx context.Context) ([]storage.Pause, error) {
	return around(s.counted, "Pauses", func() ([]storage.Pause, error) { return s.Store.Pauses(ctx) })
}

func (s *faulty) Schedules(ctx context.Context) ([]storage.Schedule, error) {
	return around(s.counted, "Schedules", func() ([]storage.Schedule, error) { return s.Store.Schedules(ctx) })
}
