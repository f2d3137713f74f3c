package sqlite

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// Finish records outcomes, see [storage.Queue]. Without any it is a claim; with
// some it waits for the writer as long as ctx does, because they must not be lost.
func (s *Store) Finish(ctx context.Context, r storage.FinishRequest) (storage.Finished, error) {
	u := insists
	if len(r.Outcomes) == 0 {
		u = passes
	}
	out, err := writeAs(ctx, s, u, "finish", func(ctx context.Context, t *txn) (storage.Finished, error) { return finish(ctx, t, r) })
	if errors.Is(err, errHeld) {
		return storage.Finished{Applied: []bool{}, Claimed: storage.Claimed{NextDue: askAgain}}, nil
	}
	return out, err
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
	dropped := make([]bool, len(r.Outcomes))
	for _, i := range single {
		if o := &r.Outcomes[i]; o.Drops() {
			var err error
			if dropped[i], err = dropHook(ctx, t, now, r.Worker, o); err != nil {
				return out, err
			}
			continue
		}
		end := apply
		if clean(&r.Outcomes[i]) {
			end = applyClean
		}
		if err := end(ctx, t, now, r.Worker, &r.Outcomes[i], &ended[i], counted); err != nil {
			return out, err
		}
	}
	for i := range r.Outcomes {
		for _, name := range r.Outcomes[i].Unlock {
			if err := unlock(ctx, t, storage.UnlockRequest{Name: name, Worker: r.Worker, Execution: r.Outcomes[i].ID, Delivery: r.Outcomes[i].Delivery}); err != nil {
				return out, err
			}
		}
	}
	var endings []settle.Ending
	for i := range ended {
		out.Applied[i] = ended[i].State != "" || dropped[i]
		if r.Outcomes[i].State == storage.Pending && ended[i].State == storage.Cancelled {
			out.Stop(i, len(r.Outcomes))
		}
		if ended[i].State.Over() && out.Applied[i] {
			endings = append(endings, ended[i])
		}
	}
	if err := counted.save(ctx, t, now); err != nil {
		return out, err
	}
	var err error
	h := newHandover(r)
	if out.Flows, err = settle.Endings(ctx, rows{t, h}, now, endings); err != nil {
		return out, err
	}
	if err := insertHooks(ctx, t, now, r.Hooks(out.Applied)); err != nil || r.Claim == nil {
		return out, err
	}
	t.shared.want(path)
	c := *r.Claim
	c.Now, c.Worker = now, r.Worker
	if h == nil || !h.taken {
		out.Claimed, err = claim(ctx, t, c)
		return out, err
	}
	if c.Limit--; c.Limit > 0 {
		out.Claimed, err = takeWork(ctx, t, c)
	}
	out.Claimed.Executions = append([]storage.Execution{h.row(now)}, out.Claimed.Executions...)
	return out, err
}

// Both statements find the row by primary key and change it only while the fence
// holds: running, held by this worker, at this delivery. What they return is what
// flows, statistics and attempts need.
const (
	fenced    = ` WHERE id = ? AND state = 'running' AND worker_id = ? AND delivery = ?`
	returning = `
RETURNING name, kind, method, queue, flow_id, allowed_to_fail, undoes, due_at, excused, last_error`

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

// attempted is what a row says about the attempt that an outcome ends.
type attempted struct {
	settle.Ending
	queue   string
	due     time.Time // when it became runnable
	excused int       // with this delivery, if it is excused
	asked   bool      // to stop, as far as held tells
}

// clean reports whether an outcome is the usual one: a known row completed, with
// nothing to say about it.
func clean(o *storage.Outcome) bool {
	return o.Of != nil && !o.Drops() && o.State == storage.Completed && o.Failure == nil && o.Progress == nil && o.Result == nil && !o.Excuse &&
		o.Reason == "" && !o.ForNow && o.Env == ""
}

// By primary key, under the fence. What a clean end cannot change is not set, so
// that its indexes stay untouched, and nothing is returned: a migration makes SQLite
// compile this anew, which takes twice as long with RETURNING.
const finishClean = `
UPDATE sequencer_executions
SET state = 'completed', finished_at = ?, holds_key = 0, cancel_asked = 0, errors = ?, losses = ?` + fenced

// applyClean is apply for a clean outcome.
func applyClean(ctx context.Context, t *txn, now time.Time, worker storage.ID, o *storage.Outcome, e *settle.Ending, counted statistics) error {
	n, err := t.exec(ctx, finishClean, now.UnixMicro(), o.Errors, o.Losses, o.ID[:], worker[:], o.Delivery)
	if err != nil || n == 0 {
		return err
	}
	*e = endingOf(o)
	counted.add(e.Kind, o.Of.Queue, e.Name, string(e.State), o, now.Add(-o.Ran).Sub(o.Of.DueAt))
	return nil
}

// endingOf is the end of a row that is known.
func endingOf(o *storage.Outcome) settle.Ending {
	return settle.Ending{
		ID: o.ID, FlowID: o.Of.FlowID, Name: o.Of.Name, Kind: o.Of.Kind, Method: o.Of.Method, State: o.State,
		AllowedToFail: o.Of.AllowedToFail, Undoes: o.Of.Undoes, Adds: o.Added(),
	}
}

// By primary key, under the fence.
const heldRow = `
SELECT name, kind, queue, flow_id, allowed_to_fail, undoes, due_at, cancel_asked AND kind <> 'hook' FROM sequencer_executions` + fenced

// held reads the row that an outcome is about; its name is empty where the fence
// refuses.
func held(ctx context.Context, t *txn, worker storage.ID, o *storage.Outcome) (h attempted, err error) {
	_, err = t.one(ctx, []any{
		&h.Name, (*string)(&h.Kind), &h.queue, (*idColumn)(&h.FlowID), (*truthColumn)(&h.AllowedToFail), (*idColumn)(&h.Undoes), (*instantColumn)(&h.due),
		(*truthColumn)(&h.asked),
	}, heldRow, o.ID[:], worker[:], o.Delivery)
	return h, err
}

// apply writes one outcome and what ended into e, which stays as it is when the
// fence refuses.
func apply(ctx context.Context, t *txn, now time.Time, worker storage.ID, o *storage.Outcome, e *settle.Ending, counted statistics) error {
	if !storage.Running.CanBecome(o.State) {
		return refuseMove(ctx, t, worker, o)
	}
	h := attempted{}
	if o.State == storage.Pending {
		var err error
		if h, err = held(ctx, t, worker, o); err != nil || h.Name == "" {
			return err
		}
		if h.asked {
			stopped := o.Stopped()
			o = &stopped
		}
	}
	a, applied, err := writeOutcome(ctx, t, now, worker, o, h.due)
	if err != nil || !applied {
		return err
	}
	*e = a.Ending
	e.ID, e.State, e.ForNow, e.Adds = o.ID, o.State, o.ForNow, o.Added()
	if o.State == storage.Skipped || o.State == storage.Cancelled {
		e.Message = o.Reason
	}
	started := now.Add(-o.Ran)
	switch {
	case o.State.Over():
		counted.add(e.Kind, a.queue, e.Name, string(o.State), o, started.Sub(a.due))
	case !o.Excuse:
		counted.add(e.Kind, a.queue, e.Name, retried, o, started.Sub(a.due))
	}
	if o.Failure == nil {
		return nil
	}
	return insertAttempt(ctx, t, &storage.Attempt{
		ExecutionID: o.ID, Delivery: o.Delivery, Number: o.Delivery - a.excused + int(intOf(o.Excuse)), WorkerID: worker,
		StartedAt: started, FinishedAt: now, Failure: *o.Failure,
	})
}

// writeOutcome writes the row. One that returns to pending was due at the instant given:
// RETURNING has the one that is set.
func writeOutcome(ctx context.Context, t *txn, now time.Time, worker storage.ID, o *storage.Outcome, due time.Time) (a attempted, applied bool, err error) {
	var failure, group, done, total any
	if o.Failure != nil {
		failure, group = shorten(o.Failure.Message), o.Failure.Group
	}
	if o.Progress != nil {
		done, total = o.Progress.Done, o.Progress.Total
	}
	dest := func(due *time.Time) []any {
		return []any{
			&a.Name, (*string)(&a.Kind), &a.Method, &a.queue, (*idColumn)(&a.FlowID), (*truthColumn)(&a.AllowedToFail), (*idColumn)(&a.Undoes),
			(*instantColumn)(due), (*intColumn)(&a.excused), &a.Message,
		}
	}
	if o.State != storage.Pending {
		applied, err = t.one(ctx, dest(&a.due), finishOver,
			string(o.State), now.UnixMicro(), o.Reason, intOf(o.ForNow), o.Env,
			o.Errors, o.Losses, intOf(o.Excuse), failure, group, bytesOf(o.Result), done, total,
			o.ID[:], worker[:], o.Delivery)
		return a, applied, err
	}
	a.due = due
	at := now.Add(o.Delay)
	applied, err = t.one(ctx, dest(&at), finishAgain,
		at.UnixMicro(), intOf(o.Park), o.Reason, intOf(o.ForNow), o.Env, intOf(o.Rewind), at.UnixMicro(),
		o.Errors, o.Losses, intOf(o.Excuse), failure, group, bytesOf(o.Result), done, total,
		o.ID[:], worker[:], o.Delivery)
	if applied && o.Delay <= 0 && !o.Park {
		t.arrivals.In(a.queue)
	}
	return a, applied, err
}

// refuseMove makes the error for a state that a running row cannot take, if the
// row is the worker's at all.
func refuseMove(ctx context.Context, t *txn, worker storage.ID, o *storage.Outcome) error {
	h, err := held(ctx, t, worker, o)
	if err != nil || h.Name == "" {
		return err
	}
	return &storage.TransitionError{ID: o.ID, Name: h.Name, From: storage.Running, To: o.State}
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

func insertAttempt(ctx context.Context, t *txn, a *storage.Attempt) error {
	_, err := t.exec(ctx, insertAttemptRow, a.ExecutionID[:], a.Delivery, a.Number, blobOf(a.WorkerID), microsOf(a.StartedAt), a.FinishedAt.UnixMicro(),
		a.Outcome, a.Type, a.Message, a.Trace, a.Context, a.Group)
	return err
}

// Checkpoint saves a handler's cursor, see [storage.Queue].
func (s *Store) Checkpoint(ctx context.Context, r storage.CheckpointRequest) error {
	_, err := write(ctx, s, "checkpoint", func(ctx context.Context, t *txn) (nothing, error) {
		return nothing{}, checkpoint(ctx, t, r)
	})
	return err
}

const saveCheckpoint = `UPDATE sequencer_executions SET checkpoint = ?, losses = CASE WHEN ? THEN 0 ELSE losses END` + fenced

func checkpoint(ctx context.Context, t *txn, r storage.CheckpointRequest) error {
	n, err := t.exec(ctx, saveCheckpoint, bytesOf(r.Data), r.Moved, r.ID[:], r.Worker[:], r.Delivery)
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
