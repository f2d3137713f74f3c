package redis

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"slices"
	"strconv"

	"github.com/gosequencer/sequencer/storage"
)

// place is where a row is found beside its own two parts. The scripts of the hot
// path keep the same places by hand.
type place struct {
	in     container
	key    string
	member string
}

type container byte

const (
	inSorted container = iota
	inSet
	inHash
	inCount // a field that counts rows
)

// places are all places of a row, with score or value.
func places(r *row) map[place]string {
	if r == nil {
		return nil
	}
	found := map[place]string{}
	id := string(r.ID[:])
	created := strconv.FormatInt(micro(r.CreatedAt), 10)
	found[place{inSorted, "n:" + r.Name, id}] = created
	found[place{inCount, "counts", r.Queue + "\x00" + string(r.State)}] = ""
	for _, tag := range r.Tags {
		found[place{inSorted, "t:" + tag, id}] = created
	}
	if !r.FlowID.IsZero() {
		found[place{inSet, "m:" + string(r.FlowID[:]), id}] = ""
	}
	if r.LastError != "" || r.ErrorGroup != "" {
		found[place{inSorted, "errors", id}] = created
	}
	if r.State.Over() {
		found[place{inSorted, endedKey(r.State), id}] = strconv.FormatInt(micro(r.FinishedAt), 10)
		if r.State != storage.Completed {
			found[place{inSorted, "s:" + string(r.State), id}] = created
		}
		return found
	}
	if r.stop {
		found[place{inSet, "stop", id}] = ""
	}
	if r.UniqueKey != "" {
		found[place{inHash, "holders", r.UniqueKey}] = id
		found[place{inHash, "keys", id}] = r.UniqueKey
		if r.UniqueFor > 0 {
			found[place{inHash, "lasts", id}] = strconv.FormatInt(r.UniqueFor.Microseconds(), 10)
		}
	}
	if !r.WorkerID.IsZero() && (r.State == storage.Running || r.FlowID.IsZero()) {
		found[place{inSet, "held:" + string(r.WorkerID[:]), id}] = ""
	}
	if r.State == storage.Pending && r.Waits > 0 {
		found[place{inHash, "waiting", id}] = string(r.appendWaiting(nil))
	}
	if r.runnable() {
		due := strconv.FormatInt(micro(r.DueAt), 10)
		if r.Parked {
			found[place{inSorted, "p:" + lane(&r.Execution), id}] = due
			found[place{inCount, "lanes", lane(&r.Execution)}] = ""
		} else {
			found[place{inSorted, levelKey(r.Queue, r.Priority), id}] = due
		}
	}
	return found
}

// endedKey names the sorted set, by end, of what is over and has one age of retention.
// What lua/finish.lua ends is there only once Prune has found that it must stay.
func endedKey(state storage.State) string {
	switch state {
	case storage.Completed, storage.Failed:
		return "ended:" + string(state)
	default:
		return "ended:others"
	}
}

// levelKey names the sorted set of one priority of one queue.
func levelKey(queue string, priority int) string { return "q:" + queue + ":" + strconv.Itoa(priority) }

// appendWaiting encodes what lua/finish.lua needs to know of a row to release it.
func (r *row) appendWaiting(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(r.Delay.Microseconds()))
	b = binary.LittleEndian.AppendUint64(b, uint64(r.RetryFor.Microseconds()))
	b = append(b, byte(r.Priority))
	return append(b, r.Queue...)
}

// runnable reports whether time alone keeps the row from being claimed.
func (r *row) runnable() bool { return r.State == storage.Pending && r.Waits == 0 }

// same reports whether nothing of a row was changed.
func (r *row) same(o *row) bool {
	return reflect.DeepEqual(r.Execution, o.Execution) && r.stop == o.stop && r.attempts == o.attempts
}

// copied returns a row with slices of its own.
func copied(e storage.Execution) storage.Execution {
	e.Input, e.Policy = bytes.Clone(e.Input), bytes.Clone(e.Policy)
	e.Checkpoint, e.Result = bytes.Clone(e.Checkpoint), bytes.Clone(e.Result)
	e.Tags = slices.Clone(e.Tags)
	return e
}
