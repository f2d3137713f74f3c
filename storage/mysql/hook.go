package mysql

import "github.com/gosequencer/sequencer/storage"

// queueDrops ends hooks, given by their deliveries: their rows go, by endedSQL alone.
func (f *finishing) queueDrops(q *session, drops map[int]idList) {
	for delivery, list := range drops {
		for _, part := range some(list) {
			n := new(int64)
			f.counts = append(f.counts, count{n, len(part)})
			q.queueCount(n, endedSQL, part, f.request.Worker[:], delivery)
		}
	}
}

// insertHooksSQL writes what outcomes ask for, each spelled as insertHook, and leaves
// alone what is there already.
const (
	insertHooksSQL = `
INSERT INTO sequencer_live (
	id, holder, worker_id, undoes, created_at, due_at, started_at, min_build,
	priority, position, waits, delivery, excused, errors, losses, undoable, allowed_to_fail, for_now, parked, cancel_asked,
	state, name, kind, method, queue, on_loss, actor, input, policy)
VALUES ?
ON DUPLICATE KEY UPDATE delivery = delivery`
	insertHook = `(?, ?, ?, ?, @sequencer_now, @sequencer_now, IF(?, @sequencer_now, 0), ?,
	?, ?, 0, ?, 0, 0, 0, 0, 0, 0, 0, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
)

func (q *session) queueHooks(hooks []storage.Execution) {
	for _, part := range chunks(hooks) {
		values := make([][]any, len(part))
		for i := range part {
			h := &part[i]
			holder := nobody
			if h.State == storage.Running {
				holder = h.WorkerID[:]
			} else {
				q.arrivals.In(h.Queue)
			}
			values[i] = []any{
				idArg(h.ID), holder, h.WorkerID[:], idArg(h.Undoes), h.Delivery > 0, numberArg(h.MinBuild), h.Priority, h.Position, h.Delivery,
				text(string(h.State)), text(h.Name), text(string(h.Kind)), text(h.Method), text(h.Queue), text(string(h.OnLoss)),
				textArg(h.Actor), bytesArg(h.Input), bytesArg(h.Policy),
			}
		}
		q.queue(insertHooksSQL, tuples{insertHook, values})
	}
}
