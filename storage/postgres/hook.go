package postgres

import (
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// dropHooksSQL ends hooks: their rows go. Index, fence, lock and race as moveSQL's.
const dropHooksSQL = `
DELETE FROM sequencer_live l USING unnest($2::uuid[], $3::int[]) AS o (o_id, o_delivery)
WHERE l.id = o.o_id AND CASE WHEN l.state = 'running' AND l.worker_id = $1::uuid THEN l.delivery END = o.o_delivery
RETURNING id, delivery`

func (f *finishing) queueDrop(q *session, drops []int, rows *[]movedRow) {
	o := f.outcomes(drops)
	var key fence
	dest := []any{idScan{&key.id}, &key.delivery}
	q.queueScan(func(r scanner) error {
		err := r.Scan(dest...)
		*rows = append(*rows, movedRow{fence: key, outcome: f.numbers[key], kind: storage.Hook})
		return err
	}, dropHooksSQL, f.request.Worker.String(), idColumn(o, (*sent).id), column(o, (*sent).delivery))
}

// insertHooksSQL writes what outcomes ask for, but for what is there already. Index: the
// primary key of live rows; a hook that is over has left no other.
const insertHooksSQL = `
INSERT INTO sequencer_live (
	id, worker_id, undoes, created_at, due_at, started_at, min_build, priority, position, waits, delivery, excused, errors, losses,
	undoable, allowed_to_fail, for_now, parked, cancel_asked, state, name, kind, method, queue, on_loss, actor, input, policy)
SELECT id, worker_id, undoes, $1::timestamptz, $1::timestamptz, CASE WHEN delivery > 0 THEN $1::timestamptz END,
	nullif(min_build, 0), priority, coalesce(position, 0), 0, coalesce(delivery, 0), 0, 0, 0,
	false, false, false, false, false, state, name, kind, method, queue, on_loss, nullif(actor, ''), input, policy
FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::int[], $6::int[], $7::int[], $8::text[], $9::text[], $10::text[], $11::text[],
	$12::text[], $13::text[], $14::text[], $15::bytea[], $16::bytea[], $17::bigint[])
	AS h (id, worker_id, undoes, priority, position, delivery, state, name, kind, method, queue, on_loss, actor, input, policy, min_build)
ON CONFLICT DO NOTHING`

func (q *session) queueHooks(h []storage.Execution) {
	if len(h) == 0 {
		return
	}
	type row = storage.Execution
	for i := range h {
		if h[i].State == storage.Pending {
			q.arrivals.In(h[i].Queue)
		}
	}
	q.queue(insertHooksSQL, q.now,
		idColumn(h, func(h *row) storage.ID { return h.ID }),
		idColumn(h, func(h *row) storage.ID { return h.WorkerID }),
		idColumn(h, func(h *row) storage.ID { return h.Undoes }),
		column(h, func(h *row) int32 { return int32(h.Priority) }),
		column(h, func(h *row) int32 { return int32(h.Position) }),
		column(h, func(h *row) int32 { return int32(h.Delivery) }),
		column(h, func(h *row) string { return string(h.State) }),
		column(h, func(h *row) string { return h.Name }),
		column(h, func(h *row) string { return string(h.Kind) }),
		column(h, func(h *row) string { return h.Method }),
		column(h, func(h *row) string { return h.Queue }),
		column(h, func(h *row) string { return string(h.OnLoss) }),
		column(h, func(h *row) string { return h.Actor }),
		bytesColumn(h, func(h *row) []byte { return h.Input }),
		bytesColumn(h, func(h *row) []byte { return h.Policy }),
		column(h, func(h *row) int64 { return h.MinBuild }))
}

// attemptOf is the log's entry for a failure of an applied outcome.
func (f *finishing) attemptOf(now time.Time, m *movedRow, o *storage.Outcome) storage.Attempt {
	a := storage.Attempt{ExecutionID: o.ID, Delivery: o.Delivery, Number: m.delivery - m.excused, Failure: *o.Failure}
	if o.Excuse { // this one is among the excused, and still follows those before it
		a.Number++
	}
	if o.Drops() {
		a = o.Note()
	}
	a.StartedAt = now.Add(-o.Ran)
	return a
}
