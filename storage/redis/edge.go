package redis

import (
	"context"
	"fmt"
	"slices"

	"github.com/gosequencer/sequencer/storage"
)

// edge is one that leaves a row. Those that lead into a nested flow are kept twice:
// beside the others that leave the row, where whoever ends it finds them, and with the
// flow that they lead into, to which they belong.
type edge struct {
	storage.Edge
	away bool // it leads into another flow
}

// edges are some of a flow, by where they come from, as they are in one hash.
type edges struct {
	key   string
	of    map[storage.ID][]edge // read so far
	fresh map[storage.ID]bool   // to be written
}

func (e *edges) set(from storage.ID, list []edge) {
	if e.of == nil {
		e.of, e.fresh = map[storage.ID][]edge{}, map[storage.ID]bool{}
	}
	e.of[from] = list
}

// change notes that these are the edges from a row, and to be written.
func (e *edges) change(from storage.ID, list []edge) {
	e.set(from, list)
	e.fresh[from] = true
}

// Bits of the byte that follows where an edge leads to. The scripts skip it.
const (
	edgeNeeds = 1 << iota
	edgeAway
)

func appendEdges(b []byte, list []edge) []byte {
	for _, e := range list {
		var bits byte
		if e.Needs {
			bits |= edgeNeeds
		}
		if e.away {
			bits |= edgeAway
		}
		b = append(append(b, e.To[:]...), bits)
	}
	return b
}

func edgesOf(from storage.ID, packed string) []edge {
	var list []edge
	for ; len(packed) >= 17; packed = packed[17:] {
		list = append(list, edge{storage.Edge{From: from, To: idOf(packed), Needs: packed[16]&edgeNeeds != 0}, packed[16]&edgeAway != 0})
	}
	return list
}

func (u *unit) writeEdges(e *edges) {
	for from := range e.fresh {
		if list := e.of[from]; len(list) > 0 {
			u.commands.add("HSET", u.s.key(e.key), string(from[:]), appendEdges(nil, list))
		} else {
			u.commands.add("HDEL", u.s.key(e.key), string(from[:]))
		}
	}
}

// readEdges reads the edges from rows, if they are not read yet. The version of the
// flow is their check.
func (u *unit) readEdges(ctx context.Context, e *edges, from []storage.ID) error {
	var missing []string
	for _, id := range from {
		if _, read := e.of[id]; !read {
			missing = append(missing, string(id[:]))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	values, err := u.s.client.HMGet(ctx, u.s.key(e.key), missing...).Result()
	if err != nil {
		return err
	}
	for i, value := range values {
		id := idOf(missing[i])
		e.set(id, edgesOf(id, text(value)))
	}
	return nil
}

// allEdges reads all edges of one hash.
func (u *unit) allEdges(ctx context.Context, e *edges) error {
	packed, err := u.s.client.HGetAll(ctx, u.s.key(e.key)).Result()
	if err != nil {
		return err
	}
	for name, value := range packed {
		from := idOf(name)
		if _, read := e.of[from]; !read {
			e.set(from, edgesOf(from, value))
		}
	}
	return nil
}

// addEdge adds an edge between rows of flows. One that is there stays as it is.
func (u *unit) addEdge(ctx context.Context, added storage.Edge) error {
	if err := u.read(ctx, added.From, added.To); err != nil {
		return err
	}
	from, to := u.rows[added.From].now, u.rows[added.To].now
	if from == nil || to == nil {
		return nil
	}
	if err := u.readFlows(ctx, from.FlowID, to.FlowID); err != nil {
		return err
	}
	out, in := u.flowRead(from.FlowID), u.flowRead(to.FlowID)
	if out == nil || in == nil {
		return fmt.Errorf("the edge from %s to %s is in no flow", from.Name, to.Name)
	}
	e := edge{added, out != in}
	if err := u.appendEdge(ctx, &out.leaving, e); err != nil {
		return err
	}
	u.saveFlow(out)
	if !e.away {
		return nil
	}
	u.saveFlow(in)
	return u.appendEdge(ctx, &in.entering, e)
}

func (u *unit) appendEdge(ctx context.Context, to *edges, e edge) error {
	if u.rows[e.From].was != nil { // else it has none but those of this unit
		if err := u.readEdges(ctx, to, []storage.ID{e.From}); err != nil {
			return err
		}
	}
	list := to.of[e.From]
	if !slices.ContainsFunc(list, func(o edge) bool { return o.To == e.To }) {
		to.change(e.From, append(list, e))
	}
	return nil
}

// dropEdges forgets the edges from and to a row that goes.
func (u *unit) dropEdges(ctx context.Context, r *row) error {
	f := u.flowRead(r.FlowID)
	if f == nil {
		return nil
	}
	for _, hash := range []*edges{&f.leaving, &f.entering} {
		if err := u.allEdges(ctx, hash); err != nil {
			return err
		}
	}
	inner := make([]storage.ID, 0, len(f.leaving.of[r.ID]))
	for _, e := range f.leaving.of[r.ID] {
		if e.away {
			inner = append(inner, e.To)
		}
	}
	if err := u.dropInto(ctx, r.ID, inner); err != nil {
		return err
	}
	outer := make([]storage.ID, 0, len(f.entering.of))
	for from := range f.entering.of {
		outer = append(outer, from)
	}
	if err := u.dropFrom(ctx, r.ID, outer); err != nil {
		return err
	}
	for _, hash := range []*edges{&f.leaving, &f.entering} {
		for from := range hash.of {
			u.dropEdge(f, hash, from, func(e edge) bool { return e.From == r.ID || e.To == r.ID })
		}
	}
	return nil
}

// dropInto forgets what nested flows know of the edges from a row into them.
func (u *unit) dropInto(ctx context.Context, from storage.ID, to []storage.ID) error {
	if err := u.read(ctx, to...); err != nil {
		return err
	}
	for _, id := range to {
		if u.rows[id].now == nil {
			continue
		}
		f, err := u.flow(ctx, u.rows[id].now.FlowID)
		if err != nil || f == nil {
			return err
		}
		if err := u.readEdges(ctx, &f.entering, []storage.ID{from}); err != nil {
			return err
		}
		u.dropEdge(f, &f.entering, from, func(edge) bool { return true })
	}
	return nil
}

// dropFrom forgets the edges to a row from those of the flows around its own.
func (u *unit) dropFrom(ctx context.Context, to storage.ID, from []storage.ID) error {
	if err := u.read(ctx, from...); err != nil {
		return err
	}
	for _, id := range from {
		if u.rows[id].now == nil {
			continue
		}
		f, err := u.flow(ctx, u.rows[id].now.FlowID)
		if err != nil || f == nil {
			return err
		}
		if err := u.readEdges(ctx, &f.leaving, []storage.ID{id}); err != nil {
			return err
		}
		u.dropEdge(f, &f.leaving, id, func(e edge) bool { return e.To == to })
	}
	return nil
}

func (u *unit) dropEdge(f *flow, hash *edges, from storage.ID, which func(edge) bool) {
	kept := slices.DeleteFunc(slices.Clone(hash.of[from]), which)
	if len(kept) < len(hash.of[from]) {
		hash.change(from, kept)
		u.saveFlow(f)
	}
}
