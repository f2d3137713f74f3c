package sqlite

import (
	"context"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// By primary key, under the fence.
const dropHookRow = `DELETE FROM sequencer_executions` + fenced

// dropHook ends a hook: its row goes, and how it went wrong is told by its target.
func dropHook(ctx context.Context, t *txn, now time.Time, worker storage.ID, o *storage.Outcome) (applied bool, err error) {
	n, err := t.exec(ctx, dropHookRow, o.ID[:], worker[:], o.Delivery)
	if err != nil || n == 0 || o.Failure == nil {
		return n > 0, err
	}
	a := o.Note()
	a.WorkerID, a.StartedAt, a.FinishedAt = worker, now.Add(-o.Ran), now
	return true, insertAttempt(ctx, t, &a)
}

// A row that is there already (a repeat) is left alone.
const insertHook = `
INSERT INTO sequencer_executions (
	id, name, kind, method, actor, queue, priority, state, due_at, created_at, started_at, delivery, worker_id,
	member, position, undoes, delay_us, retry_for_us, unique_for_us, holds_key, on_loss, min_build, undoable, allowed_to_fail,
	checksum, tags, policy, input)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?9, ?9, ?, ?, ?, '', ?, ?, 0, 0, 0, 0, ?, ?, 0, 0, '', '', ?, ?)
ON CONFLICT (id) DO NOTHING`

// insertHooks writes what outcomes ask for.
func insertHooks(ctx context.Context, t *txn, now time.Time, hooks []storage.Execution) error {
	for i := range hooks {
		h := &hooks[i]
		var started any
		if h.State == storage.Running {
			started = now.UnixMicro()
		} else {
			t.arrivals.In(h.Queue)
		}
		_, err := t.exec(ctx, insertHook, h.ID[:], h.Name, string(h.Kind), h.Method, h.Actor, h.Queue, level(h.Priority), string(h.State), now.UnixMicro(),
			started, h.Delivery, blobOf(h.WorkerID), h.Position, blobOf(h.Undoes), string(h.OnLoss), h.MinBuild, bytesOf(h.Policy), bytesOf(h.Input))
		if err != nil {
			return err
		}
	}
	return nil
}
