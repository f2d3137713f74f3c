package mysql

import "github.com/gosequencer/sequencer/storage"

// What a mark is about. For ordered operations and migrations it is their kind, and
// the value their name.
const (
	markFlow   = "flow"
	markUndoes = "undoes"
	markKey    = "key"
	markTag    = "tag"
	markState  = "state"
	markGroup  = "group"
)

// marksSQL is harmless for marks that are there.
const marksSQL = `
INSERT INTO sequencer_marks (mark, value, created_at, execution_id) VALUES ?
ON DUPLICATE KEY UPDATE created_at = VALUES(created_at)`

// queueMarks marks rows that are being written: new ones, created now, or recorded
// ones that are over.
func (q *session) queueMarks(rows []storage.Execution, over bool) {
	var values [][]any
	for i := range rows {
		x := &rows[i]
		mark := func(mark string, value any) {
			var created any
			if over {
				created = at(x.CreatedAt)
			}
			values = append(values, []any{text(mark), value, created, idArg(x.ID)})
		}
		if !x.FlowID.IsZero() {
			mark(markFlow, idArg(x.FlowID))
		}
		if !x.Undoes.IsZero() {
			mark(markUndoes, idArg(x.Undoes))
		}
		if x.UniqueKey != "" {
			mark(markKey, text(x.UniqueKey))
		}
		if x.Kind == storage.Ordered || x.Kind == storage.Migration {
			mark(string(x.Kind), text(x.Name))
		}
		for _, tag := range x.Tags {
			mark(markTag, text(tag))
		}
		if over && x.State != storage.Completed {
			mark(markState, text(string(x.State)))
		}
		if over && x.ErrorGroup != "" {
			mark(markGroup, text(markValue(x.ErrorGroup)))
		}
	}
	for _, part := range some(values) {
		q.queue(marksSQL, tuples{`(?, ?, COALESCE(?, @sequencer_now), ?)`, part})
	}
}

// markValue is as much of a text as a mark has room for.
func markValue(s string) string {
	const most = 255
	return s[:min(len(s), most)]
}

// stateMarksSQL and groupMarksSQL mark rows that have come into history with an end
// that is no completion, by primary key.
const (
	stateMarksSQL = `
INSERT INTO sequencer_marks (mark, value, created_at, execution_id)
SELECT 'state', state, created_at, id FROM sequencer_history WHERE id IN (?) AND state <> 'completed'
ON DUPLICATE KEY UPDATE value = VALUES(value)`
	groupMarksSQL = `
INSERT INTO sequencer_marks (mark, value, created_at, execution_id)
SELECT 'group', LEFT(error_group, 255), created_at, id FROM sequencer_history WHERE id IN (?) AND error_group IS NOT NULL
ON DUPLICATE KEY UPDATE value = VALUES(value)`
)

// queueEndMarks marks rows that were moved into history.
func (q *session) queueEndMarks(list idList) {
	for _, part := range some(list) {
		q.queue(stateMarksSQL, part)
		q.queue(groupMarksSQL, part)
	}
}
