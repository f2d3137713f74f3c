package redis

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/gather"
	"github.com/gosequencer/sequencer/storage/internal/wake"
)

// Enqueue implements [storage.Queue]. Rows that belong to no flow take one script;
// everything else is decided here, see unit.
func (s *Store) Enqueue(ctx context.Context, r storage.EnqueueRequest) (storage.Enqueued, error) {
	if err := checked(r.Executions); err != nil {
		return storage.Enqueued{}, explained("enqueue", err)
	}
	if plain(&r) && shared(&r) {
		return s.enqueueShared(ctx, r.Executions)
	}
	var done storage.Enqueued
	err := s.guarded(ctx, "enqueue", func(ctx context.Context) (err error) {
		if !plain(&r) {
			done, err = s.enqueueInFlow(ctx, r)
			return err
		}
		var again bool
		if again, done, err = s.enqueuePlain(ctx, &r); again {
			done, err = s.enqueueInFlow(ctx, r)
		}
		return err
	})
	if err != nil {
		return storage.Enqueued{}, err
	}
	return done, nil
}

// enqueueShared lets rows travel with those of others. What guards a call surrounds
// the one that they share.
func (s *Store) enqueueShared(ctx context.Context, rows []storage.Execution) (storage.Enqueued, error) {
	if err := s.gather.Enqueue(ctx, rows); err != nil {
		return storage.Enqueued{}, explained("enqueue", err)
	}
	done := storage.Enqueued{Receipts: make([]storage.Receipt, len(rows))}
	for i := range rows {
		done.Receipts[i].ID = rows[i].ID
	}
	return done, nil
}

// checked returns an error unless every row has a name and an id of its own.
func checked(rows []storage.Execution) error {
	var ids map[storage.ID]bool
	if len(rows) > 1 {
		ids = make(map[storage.ID]bool, len(rows))
	}
	for i := range rows {
		e := &rows[i]
		if e.ID.IsZero() || e.Name == "" || ids[e.ID] {
			return fmt.Errorf("%q: an execution needs a name and an id of its own", e.Name)
		}
		if ids != nil {
			ids[e.ID] = true
		}
	}
	return nil
}

// plain reports a request that one script can serve.
func plain(r *storage.EnqueueRequest) bool {
	if len(r.Flows) > 0 || !r.Into.IsZero() || r.Tick != nil || r.Audit != nil || len(r.Edges) > 0 {
		return false
	}
	for i := range r.Executions {
		if e := &r.Executions[i]; !e.FlowID.IsZero() || e.Kind == storage.Undo {
			return false
		}
	}
	return true
}

// shared reports a plain request that can travel with those of others: its rows can
// only be new or a repeat.
func shared(r *storage.EnqueueRequest) bool {
	if !r.Now.IsZero() || r.Claim != nil || len(r.Executions) > gather.MaxRows {
		return false
	}
	for i := range r.Executions {
		if r.Executions[i].UniqueKey != "" {
			return false
		}
	}
	return true
}

// writePlain writes the rows of requests that share a call.
func (s *Store) writePlain(ctx context.Context, rows []storage.Execution, _ []int) (written int, _ error) {
	err := s.within(ctx, func(ctx context.Context) error {
		again, _, err := s.enqueuePlain(ctx, &storage.EnqueueRequest{Executions: rows})
		if !again && err == nil {
			written = len(rows)
		}
		return err
	})
	return written, err
}

// enqueuePlain writes the rows of a plain request. again means that one of them is
// there already.
func (s *Store) enqueuePlain(ctx context.Context, r *storage.EnqueueRequest) (again bool, done storage.Enqueued, err error) {
	p := packing{}
	size := 0
	for i := range r.Executions {
		size += packedRoom + len(r.Executions[i].Input)
	}
	p.rows = make([]byte, 0, size)
	for i := range r.Executions {
		p.add(&r.Executions[i])
	}
	refuse, claim, sc := "", []byte(nil), &enqueueScript
	if r.RefuseDuplicates {
		refuse = "refuse"
	}
	if r.Claim != nil {
		claim, sc = appendClaim(nil, r.Claim), &enqueueAndClaim
	}
	code, rest, err := s.verb(ctx, sc, p.args(given(r.Now), refuse, s.message(&p.arrivals), claim)...)
	if err != nil {
		return false, done, err
	}
	switch code {
	case "repeat":
		return true, done, nil
	case "lease":
		return false, done, leaseLost(r.Claim.Worker)
	case "duplicate":
		number, _ := rest[0].(int64)
		e := &r.Executions[number-1]
		return false, done, &storage.DuplicateError{Name: e.Name, Key: e.UniqueKey, HolderID: idOf(text(rest[1]))}
	}
	done.Receipts = make([]storage.Receipt, len(r.Executions))
	holders := text(rest[0])
	for i := range done.Receipts {
		done.Receipts[i].ID = r.Executions[i].ID
		if holders != "" {
			done.Receipts[i].HolderID = idOf(holders[16*i:])
			done.Receipts[i].Duplicate = !done.Receipts[i].HolderID.IsZero()
		}
	}
	if r.Claim != nil {
		done.Claimed, err = claimedOf(text(rest[1]))
	}
	s.watchers.Tell(&p.arrivals)
	return false, done, err
}

// idOf reads an id at the beginning of an answer.
func idOf(s string) (id storage.ID) {
	copy(id[:], s)
	return id
}

// packedRoom is what a row takes without its input, as a guess of how much room to make.
const packedRoom = 192

// packing encodes rows for lua/enqueue.lua.
type packing struct {
	rows                []byte
	fixed               []byte // of the row at hand
	queues, names, tags texts
	keys                []string
	arrivals            wake.Arrivals
}

// texts are numbered from 1 in the order in which they first come.
type texts struct {
	list    []string
	numbers map[string]uint32
}

func (t *texts) number(s string) uint32 {
	if n := len(t.list); n > 0 && t.list[n-1] == s {
		return uint32(n)
	}
	if n, known := t.numbers[s]; known {
		return n
	}
	if t.numbers == nil {
		t.numbers = map[string]uint32{}
	}
	t.list = append(t.list, s)
	t.numbers[s] = uint32(len(t.list))
	return uint32(len(t.list))
}

// appendTo adds the number of texts and these.
func (t *texts) appendTo(args []any) []any {
	args = append(args, len(t.list))
	for _, s := range t.list {
		args = append(args, s)
	}
	return args
}

func (p *packing) add(e *storage.Execution) {
	fresh := admitted(e)
	le := binary.LittleEndian
	b := append(p.rows, fresh.ID[:]...)
	b = le.AppendUint16(b, fresh.flags())
	b = append(b, fresh.WorkerID[:]...)
	b = le.AppendUint32(b, p.queues.number(fresh.Queue))
	b = append(b, byte(fresh.Priority))
	b = le.AppendUint32(b, p.names.number(fresh.Name))
	b = append(b, named(fresh.Kind))
	b = le.AppendUint64(b, uint64(fresh.Delay.Microseconds()))
	b = le.AppendUint64(b, uint64(fresh.RetryFor.Microseconds()))
	b = le.AppendUint64(b, uint64(fresh.UniqueFor.Microseconds()))
	b = le.AppendUint16(b, uint16(len(fresh.Tags)))
	for _, tag := range fresh.Tags {
		b = le.AppendUint32(b, p.tags.number(tag))
	}
	p.fixed = appendFixed(p.fixed[:0], &fresh.Execution)
	b = le.AppendUint32(b, uint32(len(p.fixed)))
	b = append(b, p.fixed...)
	if len(fresh.Input) >= apartFrom {
		b = le.AppendUint32(b, uint32(len(fresh.Input)))
		b = append(b, fresh.Input...)
	}
	p.rows = b
	if fresh.UniqueKey != "" {
		p.keys = append(p.keys, fresh.UniqueKey)
	}
	if fresh.Delay <= 0 {
		p.arrivals.In(fresh.Queue)
	}
}

// named is 1 for what plans ask for by name.
func named(k storage.Kind) byte {
	if k == storage.Ordered || k == storage.Migration {
		return 1
	}
	return 0
}

func (p *packing) args(now any, refuse string, message string, claim []byte) []any {
	args := make([]any, 0, 8+len(p.queues.list)+len(p.names.list)+len(p.tags.list)+len(p.keys))
	args = append(args, now, refuse, message, claim, p.rows)
	args = p.tags.appendTo(p.names.appendTo(p.queues.appendTo(args)))
	for _, key := range p.keys {
		args = append(args, key)
	}
	return args
}

// admitted takes from e what Enqueue reads, but for its instants.
func admitted(e *storage.Execution) row {
	r := row{Execution: storage.Execution{
		ID: e.ID, Name: e.Name, Kind: e.Kind, Method: e.Method, Actor: e.Actor,
		Queue: e.Queue, Priority: e.Priority, Delay: e.Delay, RetryFor: e.RetryFor, Input: e.Input, Policy: e.Policy,
		UniqueKey: e.UniqueKey, UniqueFor: e.UniqueFor, OnLoss: e.OnLoss, MinBuild: e.MinBuild, Tags: e.Tags,
		Undoable: e.Undoable, AllowedToFail: e.AllowedToFail, Checksum: e.Checksum,
		FlowID: e.FlowID, Member: e.Member, Position: e.Position, Undoes: e.Undoes, WorkerID: e.WorkerID,
		State: storage.Pending,
	}}
	if e.Kind == storage.Undo {
		r.Result = e.Result
	}
	if r.Priority == 0 {
		r.Priority = storage.PriorityDefault
	}
	return r
}
