package sqlite

import (
	"context"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// handover is the step of a line: one execution ends well, and the worker that ended
// it goes on with the only one behind it, which it knows. That one is released and
// claimed at once. It saves looking for what to release and what to claim, statements
// that SQLite would have to compile anew after each migration. A nil handover never
// happens.
type handover struct {
	worker storage.ID
	next   *storage.Execution
	due    bool // the flow goes on
	taken  bool
}

// newHandover is nil where a request is not such a step.
func newHandover(r storage.FinishRequest) *handover {
	c, next := r.Claim, r.Next
	if next == nil || c == nil || c.Limit < 1 || len(r.Outcomes) != 1 || len(c.Queues) != 1 ||
		next.Queue != c.Queues[0] || storage.AsksPauses(c.Queues) || next.Delay > 0 {
		return nil
	}
	return &handover{worker: r.Worker, next: next}
}

// By primary key: the row waits for from alone, from is waited for by it alone, and
// the worker is present.
const takeNext = `
UPDATE sequencer_executions
SET state = 'running', worker_id = ?1, delivery = 1, waits = 0, due_at = ?2, started_at = ?2, deadline_at = ?3
WHERE id = ?4 AND state = 'pending' AND waits = 1 AND delivery = 0 AND parked = 0
	AND ?4 = (SELECT iif(count(*) = 1, max(to_id), NULL) FROM sequencer_edges WHERE from_id = ?5)
	AND EXISTS (` + workerPresentIs + `?1 AND left_at IS NULL)`

// take hands over, if it can be done.
func (h *handover) take(ctx context.Context, t *txn, now time.Time, from storage.ID) (err error) {
	var deadline any
	if h.next.RetryFor > 0 {
		deadline = now.Add(h.next.RetryFor).UnixMicro()
	}
	n, err := t.exec(ctx, takeNext, h.worker[:], now.UnixMicro(), deadline, h.next.ID[:], from[:])
	h.taken = n > 0
	return err
}

// row is what was taken, as it now stands.
func (h *handover) row(now time.Time) storage.Execution {
	e := *h.next
	e.State, e.WorkerID, e.Delivery, e.Priority = storage.Running, h.worker, 1, level(e.Priority)
	e.DueAt, e.StartedAt = now, now
	if e.RetryFor > 0 {
		e.DeadlineAt = now.Add(e.RetryFor)
	}
	return e
}
