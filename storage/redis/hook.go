package redis

import (
	"context"
	"encoding/binary"

	"github.com/gosequencer/sequencer/storage"
)

// asksUnit reports an outcome whose hook no script writes: one that waits, whose input
// stands apart, or that comes instead of another.
func asksUnit(r *storage.FinishRequest, o *storage.Outcome) bool {
	return o.Hook != nil && (o.Drops() || o.Hook.WorkerID != r.Worker || len(o.Hook.Input) >= apartFrom)
}

// appendHook encodes a hook that is running at once, see lua/finish.lua.
func (f *finishing) appendHook(b []byte, h *storage.Execution) []byte {
	le := binary.LittleEndian
	b = append(b, h.ID[:]...)
	b = le.AppendUint32(b, f.queues.number(h.Queue))
	b = le.AppendUint16(b, uint16(len(h.Name)))
	b = append(b, h.Name...)
	return appendFixed(b, h)
}

// appendDrop encodes the end of a hook: whose it was, of which delivery, and how it
// failed, if it did.
func appendDrop(b []byte, o *storage.Outcome) []byte {
	b = append(b, o.Of.Undoes[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(int32(-o.Of.Position)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(o.Of.Name)))
	b = append(b, o.Of.Name...)
	if o.Failure != nil {
		b = appendFailure(b, o.Failure)
	}
	return b
}

// drop ends a hook: its row goes, and how it went wrong is told by its target.
func (u *unit) drop(ctx context.Context, r *row, o *storage.Outcome) error {
	u.rows[r.ID].now = nil
	if o.Failure == nil {
		return nil
	}
	target, err := u.get(ctx, o.Of.Undoes)
	if target == nil || err != nil {
		return err
	}
	target.attempts = true
	note := o.Note()
	note.WorkerID = r.WorkerID
	u.log(&note, o)
	return nil
}

// insertHooks writes what outcomes ask for.
func (u *unit) insertHooks(ctx context.Context, hooks []storage.Execution) error {
	for i := range hooks {
		h := &hooks[i]
		there, err := u.get(ctx, h.ID)
		if err != nil {
			return err
		}
		if there != nil {
			continue
		}
		r := u.newRow(h)
		if h.State == storage.Running {
			r.State, r.Delivery, r.StartedAt = storage.Running, 1, u.now
		}
		if err := u.insert(ctx, r); err != nil {
			return err
		}
	}
	return nil
}
