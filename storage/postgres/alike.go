package postgres

import (
	"cmp"

	"github.com/gosequencer/sequencer/storage"
)

// insertAlikeSQL is insertSQL for rows that are alike in all but id, input and policy,
// and have nothing out of the ordinary, as the rows of a queue mostly are: what they
// share travels once.
const insertAlikeSQL = `
WITH earlier AS MATERIALIZED (
	SELECT FROM unnest($12::uuid[]) AS known (id)
	CROSS JOIN LATERAL (SELECT FROM sequencer_live l WHERE l.id = known.id LIMIT 1) l
	UNION ALL
	SELECT FROM unnest($12::uuid[]) AS known (id)
	CROSS JOIN LATERAL (SELECT FROM sequencer_history h WHERE h.id = known.id LIMIT 1) h
)
INSERT INTO sequencer_live (
	id, created_at, due_at, priority, position, waits, delivery, excused, errors, losses, undoable, allowed_to_fail,
	for_now, parked, cancel_asked, state, name, kind, method, queue, on_loss, actor, input, policy)
SELECT id, c.now, c.now, $5::int, 0, 0, 0, 0, 0, 0, $6::bool, false, false, false, false, 'pending',
	$7::text, $8::text, $9::text, $10::text, $11::text, nullif($13::text, ''), input, policy
FROM (SELECT coalesce($1::timestamptz, now()) AS now) c, unnest($2::uuid[], $3::bytea[], $4::bytea[]) AS e (id, input, policy)
WHERE NOT EXISTS (SELECT FROM earlier)
ON CONFLICT DO NOTHING`

// queuePlain adds the insertion of plain rows to the next flush, and where written is
// set, counts them.
func (e *enqueuing) queuePlain(x []storage.Execution, known []storage.ID, written *int64) {
	if !alike(x) {
		e.queueRows(x, nil, known, func(storage.ID) {
			if written != nil {
				*written++
			}
		})
		return
	}
	type row = storage.Execution
	r := &x[0]
	e.q.arrivals.In(r.Queue)
	e.q.queued = append(e.q.queued, statement{sql: insertAlikeSQL, affected: written, args: []any{
		at(e.q.now),
		idColumn(x, func(x *row) storage.ID { return x.ID }),
		bytesColumn(x, func(x *row) []byte { return x.Input }),
		bytesColumn(x, func(x *row) []byte { return x.Policy }),
		int32(cmp.Or(r.Priority, storage.PriorityDefault)), r.Undoable,
		r.Name, string(r.Kind), r.Method, r.Queue, string(r.OnLoss), idArray(known), r.Actor,
	}})
}

// alike reports plain rows that one insertAlikeSQL writes in full.
func alike(x []storage.Execution) bool {
	r := &x[0]
	for i := range x {
		o := &x[i]
		same := o.Name == r.Name && o.Kind == r.Kind && o.Method == r.Method && o.Queue == r.Queue && o.OnLoss == r.OnLoss &&
			o.Actor == r.Actor && o.Priority == r.Priority && o.Undoable == r.Undoable
		usual := o.Kind != storage.Undo && o.WorkerID.IsZero() && o.Undoes.IsZero() && o.Delay <= 0 && o.RetryFor == 0 && o.UniqueFor == 0 &&
			o.MinBuild == 0 && o.Position == 0 && o.Member == "" && !o.AllowedToFail && o.Checksum == ""
		if !same || !usual {
			return false
		}
	}
	return true
}
