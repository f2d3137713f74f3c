package memory

import (
	"context"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Claim implements [storage.Queue].
func (s *Store) Claim(ctx context.Context, r storage.ClaimRequest) (storage.Claimed, error) {
	var got storage.Claimed
	err := s.write(ctx, r.Now, func(t *tx) (err error) {
		got, err = t.claim(r)
		return err
	})
	return got, err
}

func (t *tx) claim(r storage.ClaimRequest) (storage.Claimed, error) {
	if err := t.alive(r.Worker); err != nil {
		return storage.Claimed{}, err
	}
	got := storage.Claimed{NextDue: -1}
	if storage.AsksPauses(r.Queues) {
		got.PausedNames = t.pausedNames()
		r.Queues = without(r.Queues, func(q string) bool { return t.isPaused(storage.PauseQueue, q) })
		r.Names = without(r.Names, func(n string) bool { return t.isPaused(storage.PauseOperation, n) })
	}
	for _, queue := range r.Queues {
		for len(got.Executions) < r.Limit {
			next := t.next(queue, &r)
			if next == nil {
				break
			}
			t.change(next, func() { t.start(next, r.Worker) })
			got.Executions = append(got.Executions, copied(next.Execution))
		}
	}
	if len(got.Executions) >= r.Limit {
		got.NextDue = 0
		return got, nil
	}
	for _, queue := range r.Queues {
		if due := t.earliest(queue, &r); !due.IsZero() {
			if in := due.Sub(t.now); got.NextDue < 0 || in < got.NextDue {
				got.NextDue = in
			}
		}
	}
	return got, nil
}

// without is a copy of list that lacks what drop says.
func without(list []string, drop func(string) bool) []string {
	return slices.DeleteFunc(slices.Clone(list), drop)
}

func (t *tx) start(r *row, worker storage.ID) {
	r.State, r.WorkerID, r.Parked = storage.Running, worker, false
	r.Delivery++
	if r.StartedAt.IsZero() {
		r.StartedAt = t.now
	}
}

// next returns the due row of a queue that is served first, or nil.
func (t *tx) next(queue string, claim *storage.ClaimRequest) *row {
	l := t.lanes[queue]
	if l == nil {
		return nil
	}
	var best *row
	for _, p := range l.priorities() {
		if r := l.first(queue, p); r != nil && !r.DueAt.After(t.now) {
			best = r
			break
		}
	}
	for _, r := range l.knownParked(claim) {
		if !r.DueAt.After(t.now) && (best == nil || servedBefore(r, best)) {
			best = r
		}
	}
	return best
}

// earliest is when the queue's next row is due, zero when it holds none.
func (t *tx) earliest(queue string, claim *storage.ClaimRequest) time.Time {
	l := t.lanes[queue]
	if l == nil {
		return time.Time{}
	}
	var earliest time.Time
	sooner := func(r *row) {
		if r != nil && (earliest.IsZero() || r.DueAt.Before(earliest)) {
			earliest = r.DueAt
		}
	}
	for p := range l.levels {
		sooner(l.first(queue, p))
	}
	for _, r := range l.knownParked(claim) {
		sooner(r)
	}
	return earliest
}

// knownParked returns the parked rows whose names the claimant knows, and which do
// not ask for a newer build than its own.
func (l *lane) knownParked(claim *storage.ClaimRequest) []*row {
	if len(claim.Names) == 0 {
		return nil
	}
	var known []*row
	for _, r := range l.parked {
		if r.MinBuild <= claim.Build && slices.Contains(claim.Names, r.Name) {
			known = append(known, r)
		}
	}
	return known
}

// servedBefore is the order inside a queue.
func servedBefore(a, b *row) bool {
	if a.Priority != b.Priority {
		return a.Priority < b.Priority
	}
	if c := a.DueAt.Compare(b.DueAt); c != 0 {
		return c < 0
	}
	return compareIDs(a.ID, b.ID) < 0
}
