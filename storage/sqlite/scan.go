package sqlite

import (
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Arguments: how Go values become columns.

// blobOf is an id as a column, NULL for the zero ID.
func blobOf(id storage.ID) any {
	if id.IsZero() {
		return nil
	}
	return id[:]
}

// microsOf is an instant as a column, NULL for the zero time.
func microsOf(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// bytesOf is opaque data as a column, NULL for nil.
func bytesOf(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}

func intOf(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// listOf is a list of texts as a column, ” when it is empty.
func listOf(list []string) string {
	if len(list) == 0 {
		return ""
	}
	text, err := json.Marshal(list)
	if err != nil {
		panic(err) // a []string always marshals
	}
	return string(text)
}

// idsOf is a list of ids for json_each; the statement takes unhex(value).
func idsOf(ids []storage.ID) string {
	var b strings.Builder
	b.Grow(len(ids)*35 + 2)
	b.WriteByte('[')
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('"')
		b.WriteString(hex.EncodeToString(id[:]))
		b.WriteByte('"')
	}
	b.WriteByte(']')
	return b.String()
}

// Destinations: how columns become Go values. Each is a sql.Scanner, because
// database/sql converts those without reflection, and an execution has some
// forty columns.

type (
	idColumn       storage.ID
	instantColumn  time.Time
	durationColumn time.Duration
	intColumn      int
	int64Column    int64
	truthColumn    bool
	listColumn     []string
)

func (c *idColumn) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*c = idColumn{}
	case []byte:
		if len(v) != len(c) {
			return fmt.Errorf("an id has %d bytes", len(v))
		}
		copy(c[:], v)
	default:
		return fmt.Errorf("an id is stored as %T", src)
	}
	return nil
}

func (c *instantColumn) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*c = instantColumn{}
	case int64:
		*c = instantColumn(time.UnixMicro(v).UTC())
	default:
		return fmt.Errorf("an instant is stored as %T", src)
	}
	return nil
}

func (c *durationColumn) Scan(src any) error {
	n, err := integer(src)
	*c = durationColumn(time.Duration(n) * time.Microsecond)
	return err
}

func (c *intColumn) Scan(src any) error {
	n, err := integer(src)
	*c = intColumn(n)
	return err
}

func (c *int64Column) Scan(src any) error {
	n, err := integer(src)
	*c = int64Column(n)
	return err
}

func (c *truthColumn) Scan(src any) error {
	n, err := integer(src)
	*c = n != 0
	return err
}

func (c *listColumn) Scan(src any) error {
	text, ok := src.(string)
	if !ok {
		return fmt.Errorf("a list is stored as %T", src)
	}
	*c = nil
	if text == "" {
		return nil
	}
	return json.Unmarshal([]byte(text), (*[]string)(c))
}

func integer(src any) (int64, error) {
	n, ok := src.(int64)
	if !ok {
		return 0, fmt.Errorf("a number is stored as %T", src)
	}
	return n, nil
}

// executionColumns is what scanExecution reads.
const executionColumns = `
id, name, kind, method, actor, queue, priority, state, due_at, created_at, started_at, finished_at, deadline_at,
delivery, excused, errors, losses, waits, parked, worker_id, flow_id, member, position, undoes,
delay_us, retry_for_us, coalesce(unique_key, ''), unique_for_us, on_loss, min_build, undoable, allowed_to_fail,
for_now, done, total, checksum, tags, reason, environment, last_error, error_group, undo_error,
policy, input, checkpoint, result`

func scanExecution(rows *sql.Rows, e *storage.Execution) error {
	return rows.Scan(
		(*idColumn)(&e.ID), &e.Name, (*string)(&e.Kind), &e.Method, &e.Actor, &e.Queue, (*intColumn)(&e.Priority), (*string)(&e.State),
		(*instantColumn)(&e.DueAt), (*instantColumn)(&e.CreatedAt), (*instantColumn)(&e.StartedAt), (*instantColumn)(&e.FinishedAt), (*instantColumn)(&e.DeadlineAt),
		(*intColumn)(&e.Delivery), (*intColumn)(&e.Excused), (*intColumn)(&e.Errors), (*intColumn)(&e.Losses), (*intColumn)(&e.Waits), (*truthColumn)(&e.Parked),
		(*idColumn)(&e.WorkerID), (*idColumn)(&e.FlowID), &e.Member, (*intColumn)(&e.Position), (*idColumn)(&e.Undoes),
		(*durationColumn)(&e.Delay), (*durationColumn)(&e.RetryFor), &e.UniqueKey, (*durationColumn)(&e.UniqueFor), (*string)(&e.OnLoss), (*int64Column)(&e.MinBuild), (*truthColumn)(&e.Undoable), (*truthColumn)(&e.AllowedToFail),
		(*truthColumn)(&e.ForNow), (*int64Column)(&e.Done), (*int64Column)(&e.Total), &e.Checksum, (*listColumn)(&e.Tags), &e.Reason, &e.Environment, &e.LastError, &e.ErrorGroup, &e.UndoError,
		&e.Policy, &e.Input, &e.Checkpoint, &e.Result,
	)
}

// claimedColumns is what scanClaimed reads: of each row what an attempt needs.
const claimedColumns = `
id, name, kind, method, queue, priority, due_at, created_at, started_at, deadline_at,
delivery, excused, errors, losses, flow_id, member, position, undoes, retry_for_us,
on_loss, min_build, undoable, allowed_to_fail, checksum, tags, policy, input, checkpoint, result`

func scanClaimed(rows *sql.Rows, e *storage.Execution) error {
	return rows.Scan(
		(*idColumn)(&e.ID), &e.Name, (*string)(&e.Kind), &e.Method, &e.Queue, (*intColumn)(&e.Priority),
		(*instantColumn)(&e.DueAt), (*instantColumn)(&e.CreatedAt), (*instantColumn)(&e.StartedAt), (*instantColumn)(&e.DeadlineAt),
		(*intColumn)(&e.Delivery), (*intColumn)(&e.Excused), (*intColumn)(&e.Errors), (*intColumn)(&e.Losses),
		(*idColumn)(&e.FlowID), &e.Member, (*intColumn)(&e.Position), (*idColumn)(&e.Undoes), (*durationColumn)(&e.RetryFor),
		(*string)(&e.OnLoss), (*int64Column)(&e.MinBuild), (*truthColumn)(&e.Undoable), (*truthColumn)(&e.AllowedToFail), &e.Checksum, (*listColumn)(&e.Tags),
		&e.Policy, &e.Input, &e.Checkpoint, &e.Result,
	)
}

// collect appends executions to list; it is the row function of queries that
// select executionColumns.
func collect(list *[]storage.Execution) func(*sql.Rows) error {
	return func(rows *sql.Rows) error {
		*list = append(*list, storage.Execution{})
		return scanExecution(rows, &(*list)[len(*list)-1])
	}
}

const flowColumns = `
id, kind, name, method, policy, phase, state, reason, actor, host, build, options, worker_id, stop_state, created_at, finished_at,
total, completed, failed, failed_allowed, skipped, cancelled, interrupted, undo_total, undo_completed, undo_failed,
parent_id, root_id, generation, roles, fired, callbacks_open, failed_id, last_id, stop_for_now`

func scanFlow(rows *sql.Rows, f *storage.Flow) error {
	return rows.Scan(
		(*idColumn)(&f.ID), (*string)(&f.Kind), &f.Name, &f.Method, (*string)(&f.Policy), (*string)(&f.Phase), (*string)(&f.State), &f.Reason, &f.Actor, &f.Host, &f.Build, &f.Options,
		(*idColumn)(&f.WorkerID), (*string)(&f.StopState), (*instantColumn)(&f.CreatedAt), (*instantColumn)(&f.FinishedAt),
		(*intColumn)(&f.Total), (*intColumn)(&f.Completed), (*intColumn)(&f.Failed), (*intColumn)(&f.FailedAllowed), (*intColumn)(&f.Skipped),
		(*intColumn)(&f.Cancelled), (*intColumn)(&f.Interrupted), (*intColumn)(&f.UndoTotal), (*intColumn)(&f.UndoCompleted), (*intColumn)(&f.UndoFailed),
		(*idColumn)(&f.ParentID), (*idColumn)(&f.RootID), (*intColumn)(&f.Generation), (*intColumn)(&f.Roles), (*intColumn)(&f.Fired),
		(*intColumn)(&f.CallbacksOpen), (*idColumn)(&f.FailedID), (*idColumn)(&f.LastID), (*truthColumn)(&f.StopForNow),
	)
}

const workerColumns = `
w.id, w.purpose, w.actor, w.hostname, w.boot, w.pid, w.pid_start, w.build, w.version, w.queues, w.slots, w.joined_at, w.left_at, w.dead, w.names`

// workerDest are the destinations of workerColumns.
func workerDest(w *storage.Worker) []any {
	return []any{
		(*idColumn)(&w.ID), &w.Purpose, &w.Actor, &w.Hostname, &w.Boot, (*intColumn)(&w.PID), &w.PIDStart, &w.Build, &w.Version,
		(*listColumn)(&w.Queues), (*intColumn)(&w.Slots), (*instantColumn)(&w.JoinedAt), (*instantColumn)(&w.LeftAt), (*truthColumn)(&w.Dead), (*listColumn)(&w.Names),
	}
}
