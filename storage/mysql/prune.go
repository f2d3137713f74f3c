package mysql

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/gosequencer/sequencer/storage"
)

// pruneSQL finds the oldest rows that no retention protects. Index:
// sequencer_history_created leads to the old end, since what is over was created
// before; for ordered operations sequencer_history_name tells whether a newer row
// hides the old one (S5.6): an operation must not look as if it had never run. Lock:
// the rows, so that two pruners share the work.
const pruneSQL = `
SELECT h.id FROM sequencer_history h FORCE INDEX (sequencer_history_created)
WHERE h.created_at < @sequencer_now - ? AND h.finished_at < @sequencer_now - CASE h.state
		WHEN 'completed' THEN NULLIF(?, 0) WHEN 'failed' THEN NULLIF(?, 0) ELSE NULLIF(?, 0) END
	AND ` + mayGo + `
ORDER BY h.created_at LIMIT ? FOR UPDATE SKIP LOCKED`

// mayGo is false for what retention protects: migrations, approvals, members of open flows,
// and of each ordered operation its newest row and its effective one. Index:
// sequencer_history_name.
const mayGo = `h.kind NOT IN ('migration', 'approval')
	AND NOT EXISTS (SELECT 1 FROM sequencer_flows f WHERE f.id = h.flow_id AND f.finished_at IS NULL)
	AND (h.kind <> 'ordered' OR (
		EXISTS (
			SELECT 1 FROM sequencer_history n
			WHERE n.name = h.name AND n.kind = 'ordered' AND (n.created_at > h.created_at OR n.created_at = h.created_at AND n.id > h.id))
		AND (h.state = 'cancelled' OR EXISTS (
			SELECT 1 FROM sequencer_history n
			WHERE n.name = h.name AND n.kind = 'ordered' AND (n.created_at > h.created_at OR n.created_at = h.created_at AND n.id > h.id)
				AND n.state <> 'cancelled'
				AND (n.state <> 'skipped' OR n.environment IS NULL OR h.state = 'skipped' AND n.environment = h.environment)))))`

// What belongs to executions goes with them. Index: primary keys, and those of marks
// and edges that lead there.
const (
	dropAttemptsSQL = `DELETE FROM sequencer_attempts WHERE execution_id IN (?)`
	dropMarksSQL    = `DELETE FROM sequencer_marks WHERE execution_id IN (?)`
	dropEdgesSQL    = `DELETE FROM sequencer_edges WHERE from_id IN (?)`
	dropEdgesToSQL  = `DELETE FROM sequencer_edges WHERE to_id IN (?)`
)

func (q *session) queueDrop(gone idList) {
	for _, part := range some(gone) {
		q.queue(dropAttemptsSQL, part)
		q.queue(dropMarksSQL, part)
		q.queue(dropEdgesSQL, part)
		q.queue(dropEdgesToSQL, part)
		q.queue(dropSQL, part)
	}
}

// Prune implements [storage.Operator].
func (s *Store) Prune(ctx context.Context, r storage.PruneRequest) (int, error) {
	var old idList
	err := s.tx(ctx, "prune", r.Now, func(ctx context.Context, q *session) error {
		old = nil
		q.queue(pruneLimitsSQL)
		q.queue(freeOverdueSQL, make([]byte, 16))
		completed, failed, others := r.Completed.Microseconds(), r.Failed.Microseconds(), r.Others.Microseconds()
		var limit int64 = math.MaxInt64
		if r.Limit > 0 {
			limit = int64(r.Limit)
		}
		err := q.each(ctx, func(row scanner) error {
			var id storage.ID
			err := row.Scan(idScan{&id})
			old = append(old, id)
			return err
		}, pruneSQL, shortest(completed, failed, others), completed, failed, others, limit)
		q.queueDrop(old)
		return err
	})
	if err != nil {
		return 0, err
	}
	return len(old), nil
}

// shortest is the least of ages that are not zero; null when there is none.
func shortest(ages ...int64) any {
	ages = slices.DeleteFunc(ages, func(age int64) bool { return age <= 0 })
	if len(ages) == 0 {
		return nil
	}
	return slices.Min(ages)
}

// forgettableSQL finds, by primary key, rows that pruning might take.
const forgettableSQL = `SELECT h.id FROM sequencer_history h FORCE INDEX (PRIMARY) WHERE h.id IN (?) AND ` + mayGo

func (p *operating) forget(ctx context.Context, named idList) error {
	for i := range p.rows {
		if x := &p.rows[i]; !x.State.Over() {
			return &storage.TransitionError{ID: x.ID, Name: x.Name, From: x.State, To: storage.Forgotten}
		}
	}
	mayGo := make(map[storage.ID]bool, len(named))
	for _, part := range some(named) {
		p.q.queueScan(func(r scanner) error {
			var id storage.ID
			err := r.Scan(idScan{&id})
			mayGo[id] = true
			return err
		}, forgettableSQL, part)
	}
	if err := p.q.flush(ctx); err != nil {
		return err
	}
	for i := range p.rows {
		if kept := &p.rows[i]; !mayGo[kept.ID] {
			return fmt.Errorf("%s (%s) is kept: a migration, an approval, the newest or effective execution of an ordered operation, or a member of an open flow", kept.Name, kept.ID)
		}
	}
	p.q.queueDrop(named)
	return nil
}
