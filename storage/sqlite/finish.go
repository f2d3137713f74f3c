package sqlite

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// Finish records outcomes, see [storage.Queue].
func (s *Store) Finish(ctx context.Context, r storage.FinishRequest) (storage.Finished, error) {
	return write(ctx, s, "finish", func(ctx context.Context, t *txn) (storage.Finished, error) { return finish(ctx, t, r) })
}

func finish(ctx context.Context, t *txn, r storage.FinishRequest) (storage.Finished, error) {
	now := clock(r.Now)
	out := storage.Finished{Applied: make([]bool, len(r.Outcomes))}
	ended := make([]settle.Ending, len(r.Outcomes)) // State is "" where the fence refused
	counted := statistics{}
	alike, single := sortOut(r.Outcomes)
	for like, at := range alike {
		if err := applyAlike(ctx, t, now, r, like, at, ended, counted); err != nil {
			return out, err
		}
	}
	for _, i := range single {
		if err := apply(ctx, t, now, r.Worker, &r.Outcomes[i], &ended[i], counted); err != nil {
			return out, err
		}
	}
	var endings []settle.Ending
	for i := range ended {
		out.Applied[i] = ended[i].State != ""
		if ended[i].State.Over() && out.Applied[i] {
			endings = append(endings, ended[i])
		}
	}
	if err := counted.save(ctx, t, now); err != nil {
		return out, err
	}
	var err error
	if out.Flows, err = settle.Endings(ctx, rows{t}, now, endings); err != nil {
		return out, err
	}
	if r.Claim != nil {
		c := *r.Claim
		c.Now, c.Worker = now, r.Worker
		out.Claimed, err = claim(ctx, t, c)
	}
	return out, err
}

// Both statements find the row by primary key and change it only while the fence
// holds: running, held by this worker, at this delivery. What they return is what
// flows, statistics and attempts need.
const (
	fenced    = ` WHERE id = ? AND state = 'running' AND worker_id = ? AND delivery = ?`
	returning = `
RETURNING name, kind, queue, flow_id, allowed_to_fail, undoes, due_at, excused, last_error`

	finishOver = `
UPDATE sequencer_executions
SET state = ?, finished_at = ?, holds_key = 0, cancel_asked = 0, reason = ?, for_now = ?, environment = ?,
	errors = ?, losses = ?, excused = excused + ?,
	last_error = coalesce(?, last_error), error_group = coalesce(?, error_group),
	result = coalesce(?, result), done = coalesce(?, done), total = coalesce(?, total)` + fenced + returning

	// The row waits again. Only in a private queue does it stay with its worker, and
	// its deadline starts anew when it is asked to.
	finishAgain = `
UPDATE sequencer_executions
SET state = 'pending', due_at = ?, parked = ?, reason = ?, for_now = ?, environment = ?, worker_id = iif(queue >= '@' AND queue < 'A', worker_id, NULL),
	deadline_at = iif(? AND retry_for_us > 0, ? + retry_for_us, deadline_at),
	errors = ?, losses = ?, excused = excused + ?,
	last_error = coalesce(?, last_error), error_group = coalesce(?, error_group),
	result = coalesce(?, result), done = coalesce(?, done), total = coalesce(?, total)` + fenced + returning
)

// apply writes one outcome and what ended into e, which stays as it is when the
// fence refuses.
func apply(ctx context.Context, t *txn, now time.Time, worker storage.ID, o *storage.Outcome, e *settle.Ending, counted statistics) error {
	if !storage.Running.CanBecome(o.State) {
		return refuseMove(ctx, t, worker, o)
	}
	var queue, lastError string
	var due, wasDue time.Time
	var excused int
	dest := []any{
		&e.Name, (*string)(&e.Kind), &queue, (*idColumn)(&e.FlowID), (*truthColumn)(&e.AllowedToFail), (*idColumn)(&e.Undoes),
		(*instantColumn)(&wasDue), (*intColumn)(&excused), &lastError,
	}
	var failure, group, done, total any
	if o.Failure != nil {
		failure, group = shorten(o.Failure.Message), o.Failure.Group
	}
	if o.Progress != nil {
		done, total = o.Progress.Done, o.Progress.Total
	}
	var applied bool
	var err error
	if o.State == storage.Pending {
		var name string
		if _, err := t.one(ctx, []any{&name, (*instantColumn)(&due)}, heldRow, o.ID[:], worker[:], o.Delivery); err != nil {
			return err
		}
		at := now.Add(o.Delay).UnixMicro()
		applied, err = t.one(ctx, dest, finishAgain,
			at, intOf(o.Park), o.Reason, intOf(o.ForNow), o.Env, intOf(o.Rewind), at,
			o.Errors, o.Losses, intOf(o.Excuse), failure, group, bytesOf(o.Result), done, total,
			o.ID[:], worker[:], o.Delivery)
	} else {
		applied, err = t.one(ctx, dest, finishOver,
			string(o.State), now.UnixMicro(), o.Reason, intOf(o.ForNow), o.Env,
			o.Errors, o.Losses, intOf(o.Excuse), failure, group, bytesOf(o.Result), done, total,
			o.ID[:], worker[:], o.Delivery)
	}
	if err != nil || !applied {
		return err
	}
	e.ID, e.State, e.ForNow = o.ID, o.State, o.ForNow
	if o.State.Over() {
		due = wasDue
	}
	started := now.Add(-o.Ran)
	if o.Failure != nil {
		number := o.Delivery - excused + int(intOf(o.Excuse)) // excused is what it is now
		if err := insertAttempt(ctx, t, now, worker, o, started, number); err != nil {
			return err
		}
	}
	e.Message = lastError
	if o.State == storage.Skipped || o.State == storage.Cancelled {
		e.Message = o.Reason
	}
	switch {
	case o.State.Over():
		counted.add(queue, e.Name, string(o.State), o.Ran, started.Sub(due))
	case !o.Excuse:
		counted.add(queue, e.Name, retried, o.Ran, started.Sub(due))
	}
	return nil
}

// By primary key. RETURNING has the due time that was set, this the one that was.
const heldRow = `SELECT name, due_at FROM sequencer_executions` + fenced

// refuseMove makes the error for a state that a running row cannot take, if the
// row is the worker's at all.
func refuseMove(ctx context.Context, t *txn, worker storage.ID, o *storage.Outcome) error {
	var name string
	var due time.Time
	held, err := t.one(ctx, []any{&name, (*instantColumn)(&due)}, heldRow, o.ID[:], worker[:], o.Delivery)
	if err != nil || !held {
		return err
	}
	return &storage.TransitionError{ID: o.ID, Name: name, From: storage.Running, To: o.State}
}

// maxShort bounds the error text on the row itself; the attempt has all of it.
const maxShort = 1024

// shorten cuts a text at a rune's start.
func shorten(text string) string {
	if len(text) <= maxShort {
		return text
	}
	end := maxShort
	for end > 0 && text[end]&0xc0 == 0x80 {
		end--
	}
	return text[:end]
}

const insertAttemptRow = `
INSERT INTO sequencer_attempts (execution_id, delivery, number, worker_id, started_at, finished_at,
	outcome, type, message, trace, context, error_group)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

func insertAttempt(ctx context.Context, t *txn, now time.Time, worker storage.ID, o *storage.Outcome, started time.Time, number int) error {
	f := o.Failure
	_, err := t.exec(ctx, insertAttemptRow, o.ID[:], o.Delivery, number, blobOf(worker), microsOf(started), now.UnixMicro(),
		f.Outcome, f.Type, f.Message, f.Trace, f.Context, f.Group)
	return err
}

// Checkpoint saves a handler's cursor, see [storage.Queue].
func (s *Store) Checkpoint(ctx context.Context, r storage.CheckpointRequest) error {
	_, err := write(ctx, s, "checkpoint", func(ctx context.Context, t *txn) (nothing, error) {
		return nothing{}, checkpoint(ctx, t, r)
	})
	return err
}

const saveCheckpoint = `UPDATE sequencer_executions SET checkpoint = ?` + fenced

func checkpoint(ctx context.Context, t *txn, r storage.CheckpointRequest) error {
	n, err := t.exec(ctx, saveCheckpoint, bytesOf(r.Data), r.ID[:], r.Worker[:], r.Delivery)
	if err == nil && n == 0 {
		err = storage.ErrLeaseLost
	}
	return err
}

// byID sorts ids as the database does.
func byID(ids []storage.ID) []storage.ID {
	sorted := slices.Clone(ids)
	slices.SortFunc(sorted, func(a, b storage.ID) int { return bytes.Compare(a[:], b[:]) })
	return sorted
}
