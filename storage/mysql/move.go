package mysql

import (
	"unicode/utf8"

	"github.com/gosequencer/sequencer/storage"
)

// endSQL puts rows into history, endedSQL takes them out of the live part. Index:
// primary keys of both. The fence is that they are running for the worker, which is
// their holder, at a delivery. Lock: the rows, by the deletion; the insertion only
// reads them. Only the form for several tables takes a hint, and it needs one: a worker
// with few rows is found faster by its holder, but whoever goes that way locks all that
// it holds, each in the other order than those who come by the primary key, and they
// deadlock. Race: what a rescuer has taken between the two is inserted and not
// deleted, which shows in the counts.
const (
	endSQL = `
INSERT INTO sequencer_history (
	id, flow_id, worker_id, undoes, created_at, due_at, started_at, finished_at, deadline_at, min_build,
	delay_us, retry_for_us, unique_for_us, done, total, priority, position, waits, delivery, excused, errors, losses,
	undoable, allowed_to_fail, for_now, state, name, kind, method, queue, on_loss, member,
	unique_key, checksum, environment, actor, reason, tags, input, policy, checkpoint, result, last_error, error_group, undo_error)
SELECT
	id, flow_id, worker_id, undoes, created_at, due_at, started_at, @sequencer_now, deadline_at, min_build,
	delay_us, retry_for_us, unique_for_us, COALESCE(?, done), COALESCE(?, total), priority, position, waits, delivery, excused + ?, ?, ?,
	undoable, allowed_to_fail, ?, ?, name, kind, method, queue, on_loss, member,
	unique_key, checksum, ?, actor, ?, tags, input, policy, checkpoint, COALESCE(?, result),
	IF(?, ?, last_error), IF(?, ?, error_group), undo_error
FROM sequencer_live FORCE INDEX (PRIMARY) WHERE id IN (?) AND holder = ? AND delivery = ?`
	endedSQL = `
DELETE sequencer_live FROM sequencer_live FORCE INDEX (PRIMARY) WHERE id IN (?) AND holder = ? AND delivery = ?`
	goneSQL = `DELETE sequencer_live FROM sequencer_live FORCE INDEX (PRIMARY) WHERE id IN (?)`
)

// returnSQL puts rows back to pending. Index, fence and lock as above. A row of a
// private queue keeps its worker, which is its home. What was asked to stop is left for
// the look that follows.
const returnSQL = `
UPDATE sequencer_live FORCE INDEX (PRIMARY) SET
	state = 'pending',
	holder = IF(?, CONCAT(IF(LEFT(queue, 1) = '@', X'FE', X'FF'), LEFT(UNHEX(SHA2(name, 256)), 15)), X'00000000000000000000000000000000'),
	worker_id = IF(LEFT(queue, 1) = '@', worker_id, X'00000000000000000000000000000000'),
	due_at = @sequencer_now + ?,
	deadline_at = IF(?, @sequencer_now + ? + retry_for_us, deadline_at),
	excused = excused + ?, errors = ?, losses = ?, parked = ?, for_now = ?, environment = ?, reason = ?,
	result = COALESCE(?, result), done = COALESCE(?, done), total = COALESCE(?, total),
	last_error = IF(?, ?, last_error), error_group = IF(?, ?, error_group)
WHERE id IN (?) AND holder = ? AND delivery = ? AND (NOT cancel_asked OR kind = 'hook')`

// likeness is what an outcome says of its row, except which it is: rows of which the
// same is said are written in one statement. Nearly all of a busy worker's are clean.
type likeness struct {
	state               storage.State
	delivery            int
	excuse, park        bool
	rewind, forNow      bool
	errors, losses      int
	delay               int64
	reason, environment string
	progress, failed    bool
	done, total         int64
	message, group      string
	kept                bool // there is a result
	result              string
}

func likenessOf(o *storage.Outcome) likeness {
	l := likeness{
		state: o.State, delivery: o.Delivery, excuse: o.Excuse, park: o.Park, rewind: o.Rewind, forNow: o.ForNow, errors: o.Errors, losses: o.Losses,
		delay: o.Delay.Microseconds(), reason: o.Reason, environment: o.Env, kept: o.Result != nil, result: string(o.Result),
	}
	if o.Progress != nil {
		l.progress, l.done, l.total = true, o.Progress.Done, o.Progress.Total
	}
	if o.Failure != nil {
		l.failed, l.message, l.group = true, shortened(o.Failure.Message), o.Failure.Group
	}
	return l
}

// saved are the values that both statements take.
func (l *likeness) saved() (done, total, result any) {
	if l.progress {
		done, total = l.done, l.total
	}
	if l.kept {
		result = []byte(l.result)
	}
	return done, total, result
}

// queue queues the writing of rows, and adds to counts how many each statement writes.
func (l *likeness) queue(q *session, worker storage.ID, list idList, counts []count) []count {
	done, total, result := l.saved()
	for _, part := range some(list) {
		n := new(int64)
		counts = append(counts, count{n, len(part)})
		if l.state == storage.Pending {
			q.queueCount(n, returnSQL, l.park, l.delay, l.rewind, l.delay, l.excuse, l.errors, l.losses, l.park, l.forNow,
				textArg(l.environment), textArg(l.reason), result, done, total, l.failed, textArg(l.message), l.failed, textArg(l.group),
				part, worker[:], l.delivery)
			continue
		}
		q.queueCount(n, endSQL, done, total, l.excuse, l.errors, l.losses, l.forNow, text(string(l.state)),
			textArg(l.environment), textArg(l.reason), result, l.failed, textArg(l.message), l.failed, textArg(l.group),
			part, worker[:], l.delivery)
		gone := new(int64)
		counts = append(counts, count{gone, len(part)})
		q.queueCount(gone, endedSQL, part, worker[:], l.delivery)
	}
	return counts
}

func (q *session) queueGone(gone idList) {
	for _, part := range some(gone) {
		q.queue(goneSQL, part)
	}
}

// shortened cuts an error's text to what a row carries; its attempt keeps all.
func shortened(message string) string {
	const most = 1024
	if len(message) <= most {
		return message
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(message[cut]) {
		cut--
	}
	return message[:cut]
}
