package postgres

import (
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/gosequencer/sequencer/storage"
)

// claimedColumns is what a claim returns: what an attempt needs and no more,
// because at full speed each column is a noticeable part of the work.
const claimedColumns = `
	l.id, l.flow_id, l.undoes, l.created_at, l.due_at, l.started_at, l.deadline_at, l.min_build,
	l.priority, l.position, l.delivery, l.excused, l.errors, l.losses, l.undoable, l.allowed_to_fail,
	l.name, l.kind, l.method, l.queue, l.on_loss, l.actor, l.member, l.checksum, l.tags,
	l.input, l.policy, l.checkpoint, l.result`

// allColumns is a whole row.
const allColumns = claimedColumns + `,
	l.state, l.worker_id, l.finished_at, l.delay_us, l.retry_for_us, l.unique_for_us, l.waits,
	l.for_now, l.parked, l.reason, l.environment, l.unique_key, l.done, l.total, l.last_error, l.error_group, l.undo_error`

// leanColumns is what a plan looks at.
const leanColumns = `l.id, l.name, l.kind, l.state, l.for_now, l.created_at, l.finished_at, l.checksum`

// executionRow receives rows, one after the other, in the columns above.
type executionRow struct {
	e storage.Execution

	dueAt, startedAt, deadlineAt, finishedAt           pgtype.Timestamptz
	minBuild, done, total, delay, retryFor, uniqueFor  pgtype.Int8
	uniqueKey                                          pgtype.Text
	lastError, errorGroup, reason, environment, undone pgtype.Text

	claimed, all []any // where to
}

func newExecutionRow() *executionRow {
	r := &executionRow{}
	e := &r.e
	r.all = []any{
		idScan{&e.ID},
		idScan{&e.FlowID},
		idScan{&e.Undoes},
		&e.CreatedAt, &r.dueAt, &r.startedAt, &r.deadlineAt, &r.minBuild,
		&e.Priority, &e.Position, &e.Delivery, &e.Excused, &e.Errors, &e.Losses, &e.Undoable, &e.AllowedToFail,
		(*word)(&e.Name), (*word)(&e.Kind), (*word)(&e.Method), (*word)(&e.Queue), (*word)(&e.OnLoss),
		(*word)(&e.Actor), (*word)(&e.Member), (*word)(&e.Checksum), &e.Tags,
		&e.Input, &e.Policy, &e.Checkpoint, &e.Result,
	}
	r.claimed = r.all
	r.all = append(r.all[:len(r.all):len(r.all)],
		(*word)(&e.State), idScan{&e.WorkerID}, &r.finishedAt, &r.delay, &r.retryFor, &r.uniqueFor, &e.Waits,
		&e.ForNow, &e.Parked, &r.reason, &r.environment, &r.uniqueKey, &r.done, &r.total, &r.lastError, &r.errorGroup, &r.undone,
	)
	return r
}

// execution is the row just scanned, of either shape.
func (r *executionRow) execution() storage.Execution {
	e := r.e
	e.CreatedAt = e.CreatedAt.UTC()
	e.DueAt, e.StartedAt = instant(r.dueAt), instant(r.startedAt)
	e.DeadlineAt, e.FinishedAt = instant(r.deadlineAt), instant(r.finishedAt)
	e.MinBuild, e.Done, e.Total = r.minBuild.Int64, r.done.Int64, r.total.Int64
	e.Delay, e.RetryFor, e.UniqueFor = micros(r.delay), micros(r.retryFor), micros(r.uniqueFor)
	e.UniqueKey = r.uniqueKey.String
	e.LastError, e.ErrorGroup, e.UndoError = r.lastError.String, r.errorGroup.String, r.undone.String
	e.Reason, e.Environment = r.reason.String, r.environment.String
	return e
}

// scanAll appends whole rows to list.
func scanAll(list *[]storage.Execution) func(scanner) error {
	row := newExecutionRow()
	return func(from scanner) error {
		if err := from.Scan(row.all...); err != nil {
			return err
		}
		*list = append(*list, row.execution())
		return nil
	}
}

// scanLean appends what a plan looks at to list.
func scanLean(list *[]storage.Effective) func(scanner) error {
	var e storage.Effective
	var finished pgtype.Timestamptz
	dest := []any{
		idScan{&e.ID}, (*word)(&e.Name), (*word)(&e.Kind), (*word)(&e.State), &e.ForNow, &e.CreatedAt, &finished, (*word)(&e.Checksum),
	}
	return func(from scanner) error {
		if err := from.Scan(dest...); err != nil {
			return err
		}
		e.CreatedAt, e.FinishedAt = e.CreatedAt.UTC(), instant(finished)
		*list = append(*list, e)
		return nil
	}
}

func instant(t pgtype.Timestamptz) time.Time {
	if !t.Valid {
		return time.Time{}
	}
	return t.Time.UTC()
}

func micros(n pgtype.Int8) time.Duration { return time.Duration(n.Int64) * time.Microsecond }

// idScan receives an id; null becomes the zero one. pgx hands over bytes,
// database/sql text.
type idScan struct{ to *storage.ID }

// ScanUUID implements pgtype.UUIDScanner.
func (s idScan) ScanUUID(v pgtype.UUID) error {
	*s.to = v.Bytes
	return nil
}

// Scan implements sql.Scanner.
func (s idScan) Scan(src any) error {
	var v pgtype.UUID
	if err := v.Scan(src); err != nil {
		return err
	}
	*s.to = v.Bytes
	return nil
}

// word is a text that is mostly the same in one row after the other: those share a
// string. Null is "".
type word string

// ScanBytes implements pgtype.BytesScanner.
func (w *word) ScanBytes(v []byte) error {
	if string(v) != string(*w) {
		*w = word(v)
	}
	return nil
}

// Scan implements sql.Scanner.
func (w *word) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*w = ""
	case string:
		*w = word(v)
	case []byte:
		return w.ScanBytes(v)
	default:
		return fmt.Errorf("a text is read as %T", src)
	}
	return nil
}

// flowColumns is a whole flow.
const flowColumns = `
	f.id, f.kind, f.name, f.method, f.policy, f.phase, f.state, f.reason, f.actor, f.host, f.build, f.options,
	f.worker_id, f.stop_state, f.created_at, f.finished_at, f.total, f.completed, f.failed, f.failed_allowed,
	f.skipped, f.cancelled, f.interrupted, f.undo_total, f.undo_completed, f.undo_failed,
	f.parent_id, f.root_id, f.generation, f.roles, f.fired, f.callbacks_open, f.failed_id, f.last_id, f.stop_for_now`

func scanFlow(r scanner) (storage.Flow, error) {
	var f storage.Flow
	var kind, policy, phase, state string
	var name, reason, actor, host, stopState pgtype.Text
	var build pgtype.Int8
	var finishedAt pgtype.Timestamptz
	err := r.Scan(idScan{&f.ID}, &kind, &name, &f.Method, &policy, &phase, &state, &reason, &actor, &host, &build, &f.Options,
		idScan{&f.WorkerID}, &stopState, &f.CreatedAt, &finishedAt, &f.Total, &f.Completed, &f.Failed, &f.FailedAllowed,
		&f.Skipped, &f.Cancelled, &f.Interrupted, &f.UndoTotal, &f.UndoCompleted, &f.UndoFailed,
		idScan{&f.ParentID}, idScan{&f.RootID}, &f.Generation, (*int)(&f.Roles), (*int)(&f.Fired), &f.CallbacksOpen,
		idScan{&f.FailedID}, idScan{&f.LastID}, &f.StopForNow)
	f.Kind, f.Policy, f.Phase = storage.FlowKind(kind), storage.FlowPolicy(policy), storage.FlowPhase(phase)
	f.State, f.StopState = storage.State(state), storage.State(stopState.String)
	f.Name, f.Reason, f.Actor, f.Host, f.Build = name.String, reason.String, actor.String, host.String, build.Int64
	f.CreatedAt, f.FinishedAt = f.CreatedAt.UTC(), instant(finishedAt)
	return f, err
}

// scanFlows appends flows to list.
func scanFlows(list *[]storage.Flow) func(scanner) error {
	return func(r scanner) error {
		f, err := scanFlow(r)
		*list = append(*list, f)
		return err
	}
}

// workerColumns is a whole worker.
const workerColumns = `
	w.id, w.purpose, w.actor, w.hostname, w.boot, w.pid, w.pid_start, w.build, w.version, w.queues, w.slots,
	w.lease_us, w.joined_at, w.lease_until, w.left_at, w.dead, w.names`

// scanWorker receives a worker, and what else the row begins with.
func scanWorker(r scanner, before ...any) (storage.Worker, error) {
	var w storage.Worker
	var boot, pidStart, version pgtype.Text
	var build, lease pgtype.Int8
	var leaseUntil, leftAt pgtype.Timestamptz
	err := r.Scan(append(before, idScan{&w.ID}, &w.Purpose, &w.Actor, &w.Hostname, &boot, &w.PID, &pidStart, &build, &version,
		&w.Queues, &w.Slots, &lease, &w.JoinedAt, &leaseUntil, &leftAt, &w.Dead, &w.Names)...)
	w.Boot, w.PIDStart, w.Version, w.Build = boot.String, pidStart.String, version.String, build.Int64
	w.Lease, w.JoinedAt = micros(lease), w.JoinedAt.UTC()
	w.LeaseUntil, w.LeftAt = instant(leaseUntil), instant(leftAt)
	return w, err
}
