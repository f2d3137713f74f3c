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
	there bool // it was in the ledger when it was read
	edges map[storage.ID][]storage.Edge
	fresh map[storage.ID]bool // whose edges are this unit's
	saved bool
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
}

// flowCounters are the counters of a flow and the fields that keep them.
func flowCounters(f *storage.Flow) map[string]*int {
	return map[string]*int{
		"total": &f.Total, "completed": &f.Completed, "failed": &f.Failed, "allowed": &f.FailedAllowed,
		"skipped": &f.Skipped, "cancelled": &f.Cancelled, "interrupted": &f.Interrupted,
		"undos": &f.UndoTotal, "undone": &f.UndoCompleted, "undofailed": &f.UndoFailed,
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
		Host: fixed.Host, Build: fixed.Build, Options: fixed.Options,
		Phase: storage.FlowPhase(fields["phase"]), State: storage.State(fields["state"]), Reason: fields["reason"],
		StopState: storage.State(fields["stop"]), WorkerID: idOf(fields["worker"]),
		CreatedAt: instantOf(fields["created"]), FinishedAt: instantOf(fields["finished"]),
	}
	for field, n := range flowCounters(&f) {
		*n, _ = strconv.Atoi(fields[field])
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
		u.flows[id] = &flow{Flow: read, there: there, edges: map[storage.ID][]storage.Edge{}, fresh: map[storage.ID]bool{}}
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
		fixed, err := json.Marshal(fixedFlow{f.Kind, f.Name, f.Method, f.Policy, f.Actor, f.Host, f.Build, f.Options})
		if err != nil {
			return err
		}
		u.commands.add("HSET", key, "fixed", fixed, "phase", string(f.Phase), "state", string(f.State), "reason", f.Reason,
			"stop", string(f.StopState), "worker", f.WorkerID[:], "created", micro(f.CreatedAt), "finished", micro(f.FinishedAt))
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
		for from := range f.fresh {
			if edges := f.edges[from]; len(edges) > 0 {
				u.commands.add("HSET", u.s.key("g:"+string(id[:])), string(from[:]), appendEdges(nil, edges))
			} else {
				u.commands.add("HDEL", u.s.key("g:"+string(id[:])), string(from[:]))
			}
		}
	}
	return nil
}

func appendEdges(b []byte, edges []storage.Edge) []byte {
	for _, e := range edges {
		b = append(b, e.To[:]...)
		if e.Needs {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	return b
}

func edgesOf(from storage.ID, packed string) []storage.Edge {
	var edges []storage.Edge
	for ; len(packed) >= 17; packed = packed[17:] {
		edges = append(edges, storage.Edge{From: from, To: idOf(packed), Needs: packed[16] == 1})
	}
	return edges
}

// readEdges reads the edges that leave from rows of a flow, if they are not read yet.
func (u *unit) readEdges(ctx context.Context, f *flow, from []storage.ID) error {
	var missing []string
	for _, id := range from {
		if _, read := f.edges[id]; !read {
			missing = append(missing, string(id[:]))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	values, err := u.s.client.HMGet(ctx, u.s.key("g:"+string(f.ID[:])), missing...).Result()
	if err != nil {
		return err
	}
	for i, value := range values {
		id := idOf(missing[i])
		f.edges[id] = edgesOf(id, text(value))
	}
	return nil
}

// addEdge adds an edge from a row that this unit inserts.
func (u *unit) addEdge(f *flow, e storage.Edge) {
	f.edges[e.From] = append(f.edges[e.From], e)
	f.fresh[e.From] = true
	u.saveFlow(f)
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
	var edges []storage.Edge
	for id, rows := range byFlow {
		f, err := u.flow(ctx, id)
		if err != nil {
			return nil, err
		}
		if f == nil {
			continue
		}
		if err := u.readEdges(ctx, f, rows); err != nil {
			return nil, err
		}
		for _, row := range rows {
			edges = append(edges, f.edges[row]...)
		}
	}
	to := make([]storage.ID, len(edges))
	for i, e := range edges {
		to[i] = e.To
	}
	if err := u.read(ctx, to...); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(edges, func(e storage.Edge) bool {
		r := u.rows[e.To].now
		return r == nil || r.State != storage.Pending
	}), nil
}

var _ settle.Rows = (*unit)(nil)

// LockFlows implements [settle.Rows]. The lock is the check of their versions.
func (u *unit) LockFlows(ctx context.Context, ids []storage.ID) ([]storage.Flow, error) {
	if err := u.readFlows(ctx, ids...); err != nil {
		return nil, err
	}
	var flows []storage.Flow
	for _, id := range slices.SortedFunc(slices.Values(ids), compareIDs) {
		if f := u.flows[id]; f != nil && f.there {
			flows = append(flows, f.Flow)
		}
	}
	return flows, nil
}

func compareIDs(a, b storage.ID) int { return bytes.Compare(a[:], b[:]) }

// SaveFlow implements [settle.Rows].
func (u *unit) SaveFlow(_ context.Context, f storage.Flow) error {
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

// Needing implements [settle.Rows].
func (u *unit) Needing(ctx context.Context, from []storage.ID) ([]storage.Edge, error) {
	edges, err := u.outOf(ctx, from)
	return slices.DeleteFunc(edges, func(e storage.Edge) bool { return !e.Needs }), err
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
			u.cancelRow(r, m.Reason)
			ended = append(ended, ending(r))
		}
	}
	return ended, nil
}

// cancelRow ends a pending row.
func (u *unit) cancelRow(r *row, reason string) {
	r.State, r.Reason, r.FinishedAt, r.Parked, r.stop = storage.Cancelled, reason, u.now, false, false
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
func (u *unit) CancelPending(ctx context.Context, _ time.Time, flow storage.ID, reason string) ([]settle.Ending, error) {
	members, err := u.members(ctx, flow)
	var ended []settle.Ending
	for _, r := range members {
		if r.Kind != storage.Undo && r.State == storage.Pending {
			u.cancelRow(r, reason)
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
		if r.Kind != storage.Undo && r.Undoable && r.State == storage.Completed {
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
func (u *unit) Insert(ctx context.Context, _ time.Time, members []storage.Execution, edges []storage.Edge) error {
	added := map[storage.ID]*row{}
	if err := u.readHolders(ctx, members); err != nil {
		return err
	}
	for i := range members {
		e := &members[i]
		there, err := u.get(ctx, e.ID)
		if err != nil {
			return err
		}
		if there != nil {
			continue
		}
		r := u.newRow(e)
		if u.holder(&r.Execution) != nil {
			r.UniqueKey = ""
		}
		added[e.ID] = r
		if err := u.insert(ctx, r); err != nil {
			return err
		}
	}
	return u.join(ctx, edges, added)
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
		ID: r.ID, FlowID: r.FlowID, Name: r.Name, Kind: r.Kind, State: r.State, ForNow: r.ForNow,
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
			_, err = settle.Stop(ctx, u, u.now, r)
			stopped = u.flows[r.ID].Flow
			return err
		})
		return err
	})
	if err != nil {
		return storage.Flow{}, err
	}
	return stopped, nil
}
