package mysql

import (
	"unicode/utf8"

	"github.com/gosequencer/sequencer/storage"
)

// endSQL puts rows into history that were locked and found running for the worker;
// goneSQL takes them out of the live part. Index: primary keys of both.
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
FROM sequencer_live FORCE INDEX (PRIMARY) WHERE id IN (?)`
	goneSQL = `DELETE FROM sequencer_live WHERE id IN (?)`
)

// returnSQL puts rows back to pending that were locked and found running for the
// worker, by primary key. A row of a private queue keeps its worker, which is its
// home.
const returnSQL = `
UPDATE sequencer_live FORCE INDEX (PRIMARY) SET
	state = 'pending',
	lane = IF(?, CONCAT(X'00', queue, X'00', name), queue),
	worker_id = IF(LEFT(queue, 1) = '@', worker_id, NULL),
	due_at = @sequencer_now + ?,
	deadline_at = IF(?, @sequencer_now + ? + retry_for_us, deadline_at),
	excused = excused + ?, errors = ?, losses = ?, parked = ?, for_now = ?, environment = ?, reason = ?,
	result = COALESCE(?, result), done = COALESCE(?, done), total = COALESCE(?, total),
	last_error = IF(?, ?, last_error), error_group = IF(?, ?, error_group)
WHERE id IN (?)`

// likeness is what an outcome says of its row, except which it is: rows of which the
// same is said are written in one statement. Nearly all of a busy worker's are clean.
type likeness struct {
	state               storage.State
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
		state: o.State, excuse: o.Excuse, park: o.Park, rewind: o.Rewind, forNow: o.ForNow, errors: o.Errors, losses: o.Losses,
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

func (l *likeness) queueEnd(q *session, ended idList) {
	done, total, result := l.saved()
	for _, part := range some(ended) {
		q.queue(endSQL, done, total, l.excuse, l.errors, l.losses, l.forNow, text(string(l.state)),
			textArg(l.environment), textArg(l.reason), result, l.failed, textArg(l.message), l.failed, textArg(l.group), part)
	}
}

func (l *likeness) queueReturn(q *session, back idList) {
	done, total, result := l.saved()
	for _, part := range some(back) {
		q.queue(returnSQL, l.park, l.delay, l.rewind, l.delay, l.excuse, l.errors, l.losses, l.park, l.forNow,
			textArg(l.environment), textArg(l.reason), result, done, total, l.failed, textArg(l.message), l.failed, textArg(l.group), part)
	}
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
