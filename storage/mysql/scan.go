package mysql

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// claimedColumns is what a claim returns: what an attempt needs and no more,
// because at full speed each column is a noticeable part of the work.
const claimedColumns = `
	l.id, l.flow_id, l.undoes, l.created_at, l.due_at, NULLIF(l.started_at, 0), l.deadline_at, l.min_build,
	l.priority, l.position, l.delivery, l.excused, l.errors, l.losses, l.undoable, l.allowed_to_fail,
	l.name, l.kind, l.method, l.queue, l.on_loss, l.actor, l.member, l.checksum, l.tags,
	l.input, l.policy, l.checkpoint, l.result`

// liveColumns and historyColumns are a whole row of either part.
const (
	otherColumns = claimedColumns + `,
	l.state, l.worker_id, l.delay_us, l.retry_for_us, l.unique_for_us, l.waits, l.for_now,
	l.reason, l.environment, l.unique_key, l.done, l.total, l.last_error, l.error_group, l.undo_error, `
	liveColumns    = otherColumns + `NULL, l.parked`
	historyColumns = otherColumns + `l.finished_at, 0`
)

// executionRow receives rows, one after the other, in the columns above.
type executionRow struct {
	e            storage.Execution
	claimed, all []any // where to
}

func newExecutionRow() *executionRow {
	r := &executionRow{}
	e := &r.e
	r.claimed = []any{
		idScan{&e.ID},
		idScan{&e.FlowID},
		idScan{&e.Undoes},
		instant{&e.CreatedAt},
		instant{&e.DueAt},
		instant{&e.StartedAt},
		instant{&e.DeadlineAt},
		number{&e.MinBuild},
		&e.Priority, &e.Position, &e.Delivery, &e.Excused, &e.Errors, &e.Losses, &e.Undoable, &e.AllowedToFail,
		&e.Name, (*string)(&e.Kind), &e.Method, &e.Queue, (*string)(&e.OnLoss),
		optional{&e.Actor},
		optional{&e.Member},
		optional{&e.Checksum},
		list{&e.Tags},
		&e.Input, &e.Policy, &e.Checkpoint, &e.Result,
	}
	r.all = append(r.claimed[:len(r.claimed):len(r.claimed)],
		(*string)(&e.State), idScan{&e.WorkerID}, duration{&e.Delay}, duration{&e.RetryFor}, duration{&e.UniqueFor}, &e.Waits, &e.ForNow,
		optional{&e.Reason}, optional{&e.Environment}, optional{&e.UniqueKey}, number{&e.Done}, number{&e.Total},
		optional{&e.LastError}, optional{&e.ErrorGroup}, optional{&e.UndoError}, instant{&e.FinishedAt}, &e.Parked)
	return r
}

// scanAll appends whole rows to list.
func scanAll(all *[]storage.Execution) func(scanner) error {
	row := newExecutionRow()
	return func(from scanner) error {
		if err := from.Scan(row.all...); err != nil {
			return err
		}
		*all = append(*all, row.e)
		return nil
	}
}

// idScan receives an id; null becomes the zero one.
type idScan struct{ to *storage.ID }

func (s idScan) Scan(src any) error {
	*s.to = storage.ID{}
	b, _ := src.([]byte)
	if src != nil && copy(s.to[:], b) != len(s.to) {
		return fmt.Errorf("%v is no id", src)
	}
	return nil
}

// number receives a number; null becomes zero.
type number struct{ to *int64 }

func (s number) Scan(src any) (err error) {
	switch v := src.(type) {
	case nil:
		*s.to = 0
	case int64:
		*s.to = v
	case []byte:
		*s.to, err = strconv.ParseInt(string(v), 10, 64)
	default:
		err = fmt.Errorf("%v is no number", src)
	}
	return err
}

// instant receives microseconds; null becomes the zero instant.
type instant struct{ to *time.Time }

func (s instant) Scan(src any) error {
	*s.to = time.Time{}
	if src == nil {
		return nil
	}
	var n int64
	err := number{&n}.Scan(src)
	*s.to = time.UnixMicro(n).UTC()
	return err
}

// duration receives microseconds.
type duration struct{ to *time.Duration }

func (s duration) Scan(src any) error {
	var n int64
	err := number{&n}.Scan(src)
	*s.to = time.Duration(n) * time.Microsecond
	return err
}

// optional receives a text; null becomes the empty one.
type optional struct{ to *string }

func (s optional) Scan(src any) error {
	b, _ := src.([]byte)
	*s.to = string(b)
	return nil
}

// list receives texts, which are stored as a JSON array.
type list struct{ to *[]string }

func (s list) Scan(src any) error {
	*s.to = nil
	b, _ := src.([]byte)
	if len(b) == 0 {
		return nil
	}
	return json.Unmarshal(b, s.to)
}

// listArg passes texts; none as null.
func listArg(texts []string) any {
	if len(texts) == 0 {
		return nil
	}
	b, _ := json.Marshal(texts) //nolint:errchkjson // strings cannot fail
	return b
}

// flowColumns is a whole flow.
const flowColumns = `
	f.id, f.kind, f.name, f.method, f.policy, f.phase, f.state, f.reason, f.actor, f.host, f.build, f.options,
	f.worker_id, f.stop_state, f.created_at, f.finished_at, f.total, f.completed, f.failed, f.failed_allowed,
	f.skipped, f.cancelled, f.interrupted, f.undo_total, f.undo_completed, f.undo_failed,
	f.parent_id, f.root_id, f.generation, f.roles, f.fired, f.callbacks_open, f.failed_id, f.last_id, f.stop_for_now`

func scanFlow(r scanner) (storage.Flow, error) {
	var f storage.Flow
	err := r.Scan(idScan{&f.ID}, (*string)(&f.Kind), optional{&f.Name}, &f.Method, (*string)(&f.Policy), (*string)(&f.Phase), (*string)(&f.State),
		optional{&f.Reason}, optional{&f.Actor}, optional{&f.Host}, &f.Build, &f.Options,
		idScan{&f.WorkerID}, optional{(*string)(&f.StopState)}, instant{&f.CreatedAt}, instant{&f.FinishedAt},
		&f.Total, &f.Completed, &f.Failed, &f.FailedAllowed,
		&f.Skipped, &f.Cancelled, &f.Interrupted, &f.UndoTotal, &f.UndoCompleted, &f.UndoFailed,
		idScan{&f.ParentID}, idScan{&f.RootID}, &f.Generation, (*int)(&f.Roles), (*int)(&f.Fired), &f.CallbacksOpen,
		idScan{&f.FailedID}, idScan{&f.LastID}, &f.StopForNow)
	return f, err
}

// scanFlows appends flows to list.
func scanFlows(flows *[]storage.Flow) func(scanner) error {
	return func(r scanner) error {
		f, err := scanFlow(r)
		*flows = append(*flows, f)
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
	err := r.Scan(append(before, idScan{&w.ID}, &w.Purpose, &w.Actor, &w.Hostname, optional{&w.Boot}, &w.PID, optional{&w.PIDStart},
		&w.Build, optional{&w.Version}, list{&w.Queues}, &w.Slots, duration{&w.Lease}, instant{&w.JoinedAt}, instant{&w.LeaseUntil},
		instant{&w.LeftAt}, &w.Dead, list{&w.Names})...)
	return w, err
}
