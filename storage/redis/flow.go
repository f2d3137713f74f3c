package redis

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// flow is a flow as a unit has it. Everything that changes a flow, who belongs to it
// or its edges raises its version, which is what a unit checks.
type flow struct {
	storage.Flow
	there     bool // it was in the ledger when it was read
	opened    bool // by this unit
	saved     bool
	leaving   edges   // from its members
	entering  edges   // to its members, from those of the flows around it
	callbacks *[]byte // as [storage.EncodeCallbacks] makes them, once they are known
	resealed  bool
}

// fixedFlow is what of a flow never changes.
type fixedFlow struct {
	Kind    storage.FlowKind
	Name    string             `json:",omitempty"`
	Method  string             `json:",omitempty"`
	Policy  storage.FlowPolicy `json:",omitempty"`
	Actor   string             `json:",omitempty"`
	Host    string             `json:",omitempty"`
	Build   int64              `json:",omitempty"`
	Options []byte             `json:",omitempty"`

	ParentID storage.ID `json:",omitzero"`
	RootID   storage.ID `json:",omitzero"` // left out where it is the flow itself
}

// flowCounters are the counters of a flow and the fields that keep them.
func flowCounters(f *storage.Flow) map[string]*int {
	return map[string]*int{
		"total": &f.Total, "completed": &f.Completed, "failed": &f.Failed, "allowed": &f.FailedAllowed,
		"skipped": &f.Skipped, "cancelled": &f.Cancelled, "interrupted": &f.Interrupted,
		"undos": &f.UndoTotal, "undone": &f.UndoCompleted, "undofailed": &f.UndoFailed,
		"generation": &f.Generation, "roles": (*int)(&f.Roles), "fired": (*int)(&f.Fired), "callbacks": &f.CallbacksOpen,
	}
}

func flowKey(id storage.ID) string { return "f:" + string(id[:]) }

// flowOf decodes the hash of a flow; false when it is empty.
func flowOf(id storage.ID, fields map[string]string) (storage.Flow, bool, error) {
	if len(fields) == 0 {
		return storage.Flow{}, false, nil
	}
	var fixed fixedFlow
	if err := json.Unmarshal([]byte(fields["fixed"]), &fixed); err != nil {
		return storage.Flow{}, false, fmt.Errorf("flow %s: %w: %w", id, errMangled, err)
	}
	f := storage.Flow{
		ID: id, Kind: fixed.Kind, Name: fixed.Name, Method: fixed.Method, Policy: fixed.Policy, Actor: fixed.Actor,
		Host: fixed.Host, Build: fixed.Build, Options: fixed.Options, ParentID: fixed.ParentID, RootID: fixed.RootID,
		Phase: storage.FlowPhase(fields["phase"]), State: storage.State(fields["state"]), Reason: fields["reason"],
		StopState: storage.State(fields["stop"]), StopForNow: fields["stopfornow"] == "1", WorkerID: idOf(fields["worker"]),
		FailedID: idOf(fields["failedid"]), LastID: idOf(fields["lastid"]),
		CreatedAt: instantOf(fields["created"]), FinishedAt: instantOf(fields["finished"]),
	}
	for field, n := range flowCounters(&f) {
		*n, _ = strconv.Atoi(fields[field])
	}
	f.Generation = max(f.Generation, 1) // schema 1 did not count them
	if f.RootID.IsZero() {
		f.RootID = id
	}
	return f, true, nil
}

func instantOf(s string) time.Time {
	n, _ := strconv.ParseInt(s, 10, 64)
	return instant(n)
}

// readFlows reads flows that are not read yet.
func (u *unit) readFlows(ctx context.Context, ids ...storage.ID) error {
	pipe := u.s.client.Pipeline()
	answers := map[storage.ID]*redis.MapStringStringCmd{}
	for _, id := range ids {
		if u.flows[id] == nil && answers[id] == nil && !id.IsZero() {
			answers[id] = pipe.HGetAll(ctx, u.s.key(flowKey(id)))
		}
	}
	if len(answers) == 0 {
		return nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	for id, answer := range answers {
		read, there, err := flowOf(id, answer.Val())
		if err != nil {
			return err
		}
		u.flows[id] = &flow{
			Flow: read, there: there,
			leaving: edges{key: "g:" + string(id[:])}, entering: edges{key: "h:" + string(id[:])},
		}
		version, versioned := answer.Val()["version"]
		u.check("HGET", u.s.key(flowKey(id)), "version", version, versioned)
	}
	return nil
}

// flow returns a flow as the unit has it, nil if there is none.
func (u *unit) flow(ctx context.Context, id storage.ID) (*flow, error) {
	if id.IsZero() {
		return nil, nil
	}
	if err := u.readFlows(ctx, id); err != nil {
		return nil, err
	}
	if f := u.flows[id]; f.there {
		return f, nil
	}
	return nil, nil
}

// save notes that a flow is to be written as it will be when the unit commits.
func (u *unit) saveFlow(f *flow) { f.saved = true }

// writeFlows writes the flows that were saved, and their edges.
func (u *unit) writeFlows() error {
	for id, f := range u.flows {
		if !f.saved {
			continue
		}
		key := u.s.key(flowKey(id))
		fixed := fixedFlow{f.Kind, f.Name, f.Method, f.Policy, f.Actor, f.Host, f.Build, f.Options, f.ParentID, f.RootID}
		if fixed.RootID == id {
			fixed.RootID = storage.ID{}
		}
		described, err := json.Marshal(fixed)
		if err != nil {
			return err
		}
		forNow := 0
		if f.StopForNow {
			forNow = 1
		}
		u.commands.add("HSET", key, "fixed", described, "phase", string(f.Phase), "state", string(f.State), "reason", f.Reason,
			"stop", string(f.StopState), "stopfornow", forNow, "worker", f.WorkerID[:], "failedid", f.FailedID[:], "lastid", f.LastID[:],
			"created", micro(f.CreatedAt), "finished", micro(f.FinishedAt))
		for field, n := range flowCounters(&f.Flow) {
			u.commands.add("HSET", key, field, *n)
		}
		u.commands.count(key, "version", 1)
		u.commands.add("ZADD", u.s.key("flows"), micro(f.CreatedAt), string(id[:]))
		if f.Over() {
			u.commands.add("SREM", u.s.key("openflows"), string(id[:]))
		} else {
			u.commands.add("SADD", u.s.key("openflows"), string(id[:]))
		}
		if f.opened && !f.ParentID.IsZero() {
			u.commands.add("HSET", u.s.key("nested"), string(f.ParentID[:]), string(id[:]))
			u.commands.add("SADD", u.s.key("nest:"+string(f.RootID[:])), string(id[:]))
		}
		if f.opened && len(*f.callbacks) > 0 || f.resealed {
			u.commands.add("HSET", u.s.key("callbacks"), string(id[:]), *f.callbacks)
		}
		u.writeEdges(&f.leaving)
		u.writeEdges(&f.entering)
	}
	return nil
}

// outOf returns the edges that leave one of the rows and lead to a pending one.
func (u *unit) outOf(ctx context.Context, from []storage.ID) ([]storage.Edge, error) {
	if err := u.read(ctx, from...); err != nil {
		return nil, err
	}
	byFlow := map[storage.ID][]storage.ID{}
	for _, id := range from {
		if r := u.rows[id].now; r != nil {
			byFlow[r.FlowID] = append(byFlow[r.FlowID], id)
		}
	}
	var found []storage.Edge
	for id, rows := range byFlow {
		f, err := u.flow(ctx, id)
		if err != nil {
			return nil, err
		}
		if f == nil {
			continue
		}
		if err := u.readEdges(ctx, &f.leaving, rows); err != nil {
			return nil, err
		}
		for _, row := range rows {
			for _, e := range f.leaving.of[row] {
				found = append(found, e.Edge)
			}
		}
	}
	to := make([]storage.ID, len(found))
	for i, e := range found {
		to[i] = e.To
	}
	if err := u.read(ctx, to...); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(found, func(e storage.Edge) bool {
		r := u.rows[e.To].now
		return r == nil || r.State != storage.Pending
	}), nil
}

var (
	_ settle.Rows     = (*unit)(nil)
	_ settle.Surveyor = (*unit)(nil)
)

// LockFlows implements [settle.Rows]. The lock is the check of their versions.
func (u *unit) LockFlows(ctx context.Context, ids []storage.ID) ([]storage.Flow, error) {
	if err := u.readFlows(ctx, ids...); err != nil {
		return nil, err
	}
	all := slices.Clone(ids)
	for _, id := range ids {
		if f := u.flowRead(id); f != nil {
			all = append(all, f.RootID)
		}
	}
	if err := u.readFlows(ctx, all...); err != nil {
		return nil, err
	}
	return u.locked(all), nil
}

// locked returns flows that are read, each once, in the order of their ids.
func (u *unit) locked(ids []storage.ID) []storage.Flow {
	var flows []storage.Flow
	for _, id := range slices.Compact(slices.SortedFunc(slices.Values(ids), compareIDs)) {
		if f := u.flowRead(id); f != nil {
			flows = append(flows, f.Flow)
		}
	}
	return flows
}

func compareIDs(a, b storage.ID) int { return bytes.Compare(a[:], b[:]) }

// SaveFlow implements [settle.Rows].
func (u *unit) SaveFlow(_ context.Context, f storage.Flow) error {
	f.Callbacks = nil // they stand apart
	u.flows[f.ID].Flow = f
	u.saveFlow(u.flows[f.ID])
	return nil
}

// Release implements [settle.Rows].
func (u *unit) Release(ctx context.Context, _ time.Time, from []storage.ID, needs bool) error {
	edges, err := u.outOf(ctx, from)
	for _, e := range edges {
		to := u.rows[e.To].now
		if e.Needs && !needs || to.Waits == 0 {
			continue
		}
		if to.Waits--; to.Waits == 0 {
			u.dueAfter(to, to.Delay)
			deadlineAnew(to)
		}
	}
	return err
}

// Leaving implements [settle.Rows].
func (u *unit) Leaving(ctx context.Context, from []storage.ID) ([]settle.Behind, error) {
	edges, err := u.outOf(ctx, from)
	behind := make([]settle.Behind, len(edges))
	for i, e := range edges {
		behind[i] = settle.Behind{Edge: e, Kind: u.rows[e.To].now.Kind}
	}
	return behind, err
}

// Blocked implements [settle.Surveyor].
func (u *unit) Blocked(ctx context.Context, flow storage.ID) ([]settle.Behind, error) {
	f, err := u.flow(ctx, flow)
	if err != nil || f == nil {
		return nil, err
	}
	if err := u.allEdges(ctx, &f.leaving); err != nil {
		return nil, err
	}
	var to []storage.ID
	for _, list := range f.leaving.of {
		for _, e := range list {
			to = append(to, e.To)
		}
	}
	if err := u.read(ctx, to...); err != nil {
		return nil, err
	}
	var blocked []settle.Behind
	for _, list := range f.leaving.of {
		for _, e := range list {
			if r := u.rows[e.To].now; r != nil && r.FlowID == flow && r.State == storage.Pending && r.Waits > 0 {
				blocked = append(blocked, settle.Behind{Edge: e.Edge, Kind: r.Kind, Name: r.Name})
			}
		}
	}
	return blocked, nil
}

// Cancel implements [settle.Rows].
func (u *unit) Cancel(ctx context.Context, _ time.Time, members []settle.Cancellation) ([]settle.Ending, error) {
	ids := make([]storage.ID, len(members))
	for i, m := range members {
		ids[i] = m.ID
	}
	if err := u.read(ctx, ids...); err != nil {
		return nil, err
	}
	var ended []settle.Ending
	for _, m := range members {
		if r := u.rows[m.ID].now; r != nil && r.State == storage.Pending {
			u.cancelRow(r, m.Reason, m.ForNow)
			ended = append(ended, ending(r))
		}
	}
	return ended, nil
}

// cancelRow ends a pending row.
func (u *unit) cancelRow(r *row, reason string, forNow bool) {
	u.endRow(r, settle.Nested{State: storage.Cancelled, Reason: reason, ForNow: forNow})
}

func (u *unit) endRow(r *row, end settle.Nested) {
	r.State, r.Reason, r.ForNow, r.FinishedAt, r.Parked, r.stop = end.State, end.Reason, end.ForNow, u.now, false, false
}

// members reads all members of a flow that is read, by position. Those that this
// unit inserts are among them.
func (u *unit) members(ctx context.Context, flow storage.ID) ([]*row, error) {
	names, err := u.s.client.SMembers(ctx, u.s.key("m:"+string(flow[:]))).Result()
	if err != nil {
		return nil, err
	}
	ids := make([]storage.ID, len(names))
	for i, name := range names {
		ids[i] = idOf(name)
	}
	if err := u.read(ctx, ids...); err != nil {
		return nil, err
	}
	var rows []*row
	for _, c := range u.changed {
		if c.now != nil && c.now.FlowID == flow {
			rows = append(rows, c.now)
		}
	}
	slices.SortFunc(rows, func(a, b *row) int { return cmp.Or(cmp.Compare(a.Position, b.Position), compareIDs(a.ID, b.ID)) })
	return rows, nil
}

// CancelPending implements [settle.Rows].
func (u *unit) CancelPending(ctx context.Context, _ time.Time, flow storage.ID, reason string, forNow bool) ([]settle.Ending, error) {
	members, err := u.members(ctx, flow)
	var ended []settle.Ending
	for _, r := range members {
		if r.Kind != storage.Undo && r.Kind != storage.Nested && r.Kind != storage.KindCallback && r.State == storage.Pending {
			u.cancelRow(r, reason, forNow)
			ended = append(ended, ending(r))
		}
	}
	return ended, err
}

// Undoable implements [settle.Rows].
func (u *unit) Undoable(ctx context.Context, flow storage.ID) ([]storage.Execution, error) {
	members, err := u.members(ctx, flow)
	var found []storage.Execution
	for _, r := range members {
		if r.Kind != storage.Undo && r.Kind != storage.KindCallback && r.Undoable && r.State == storage.Completed {
			found = append(found, r.Execution)
		}
	}
	slices.SortStableFunc(found, func(a, b storage.Execution) int {
		return cmp.Or(b.FinishedAt.Compare(a.FinishedAt), cmp.Compare(b.Position, a.Position))
	})
	return found, err
}

// Insert implements [settle.Rows]. A row whose unique key another live row holds
// goes in without it: a step that must happen now cannot wait for a stranger.
func (u *unit) Insert(ctx context.Context, _ time.Time, add settle.Insertion) error {
	if err := u.openFlows(ctx, add.Flows); err != nil {
		return err
	}
	ids := make([]storage.ID, len(add.Members))
	for i := range add.Members {
		ids[i] = add.Members[i].ID
	}
	if err := u.read(ctx, ids...); err != nil {
		return err
	}
	if err := u.readHolders(ctx, add.Members); err != nil {
		return err
	}
	for i := range add.Members {
		e := &add.Members[i]
		if u.rows[e.ID].now != nil {
			continue
		}
		r := u.newRow(e)
		if u.holder(&r.Execution) != nil {
			r.UniqueKey = ""
		}
		if r.Waits = add.Waits[e.ID]; r.Waits > 0 {
			r.DueAt, r.DeadlineAt = time.Time{}, time.Time{}
		}
		if err := u.insert(ctx, r); err != nil {
			return err
		}
	}
	for _, e := range add.Edges {
		if err := u.addEdge(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// openFlows writes flows that begin.
func (u *unit) openFlows(ctx context.Context, flows []storage.Flow) error {
	ids := make([]storage.ID, len(flows))
	for i := range flows {
		ids[i] = flows[i].ID
	}
	if err := u.readFlows(ctx, ids...); err != nil {
		return err
	}
	for i := range flows {
		callbacks, err := storage.EncodeCallbacks(flows[i].Callbacks)
		if err != nil {
			return err
		}
		f := u.flows[flows[i].ID]
		f.Flow, f.there, f.opened, f.callbacks = flows[i], true, true, &callbacks
		f.Callbacks = nil
		u.saveFlow(f)
	}
	return nil
}

// MarkUndone implements [settle.Rows].
func (u *unit) MarkUndone(ctx context.Context, _ time.Time, target storage.ID) error {
	r, err := u.get(ctx, target)
	if r != nil && r.State.CanBecome(storage.RolledBack) {
		r.State, r.UndoError = storage.RolledBack, ""
	}
	return err
}

// MarkUndoFailed implements [settle.Rows].
func (u *unit) MarkUndoFailed(ctx context.Context, target storage.ID, message string) error {
	r, err := u.get(ctx, target)
	if r != nil {
		r.UndoError = message
	}
	return err
}

// ending is what the flow rules need to know of a row that is over.
func ending(r *row) settle.Ending {
	message := r.LastError
	if r.State == storage.Skipped || r.State == storage.Cancelled {
		message = r.Reason
	}
	return settle.Ending{
		ID: r.ID, FlowID: r.FlowID, Name: r.Name, Kind: r.Kind, Method: r.Method, State: r.State, ForNow: r.ForNow,
		AllowedToFail: r.AllowedToFail, Undoes: r.Undoes, Message: message,
	}
}

// StopFlow implements [storage.Queue].
func (s *Store) StopFlow(ctx context.Context, r storage.StopFlowRequest) (storage.Flow, error) {
	var stopped storage.Flow
	err := s.guarded(ctx, "stop flow", func(ctx context.Context) error {
		_, err := s.unit(ctx, r.Now, func(ctx context.Context, u *unit) error {
			f, err := u.flow(ctx, r.ID)
			if err != nil {
				return err
			}
			if f == nil {
				return fmt.Errorf("flow %s: %w", r.ID, storage.ErrNotFound)
			}
			_, audited, err := settle.Stop(ctx, u, u.now, r)
			stopped = u.flows[r.ID].Flow
			if err == nil && audited {
				u.addAudit(storage.AuditStopFlow, r.ID.String(), r.Actor, r.Reason, 1)
			}
			return err
		})
		return err
	})
	if err != nil {
		return storage.Flow{}, err
	}
	return stopped, nil
}
