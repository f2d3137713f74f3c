package redis

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// A row is kept in two parts. What is fixed when it is enqueued is one string that
// only this file reads; what moves is a few fixed fields that the scripts read too
// (lua/common.lua has their places). What few rows have stands apart, see parts.

// movingLen is the length of the moving part.
const movingLen = 79

// Flags of the moving part, as in lua/common.lua.
const (
	flagParked     = 1 << iota
	flagStop       // asked to stop
	flagReason     // reason and environment stand apart
	flagError      // last error and its group
	flagUndoError  // why undoing it failed
	flagProgress   //
	flagCheckpoint //
	flagResult     //
	flagAttempts   // some attempts did not end well
	flagKeyed      // it holds its unique key
	flagForNow     //
	flagApart      // the input is long and stands apart
	flagKeyless    // it lost its unique key
)

// apartFrom is how long an input must be to stand apart, so that a claim can bound
// what it reads.
const apartFrom = 4 << 10

// parts are the hashes of what stands apart, in the order of a record.
var parts = []struct {
	flag uint16
	key  string
}{
	{flagReason, "reason"},
	{flagError, "error"},
	{flagUndoError, "undo"},
	{flagProgress, "progress"},
	{flagCheckpoint, "checkpoint"},
	{flagResult, "result"},
	{flagApart, "input"},
}

var stateCodes = map[storage.State]byte{
	storage.Pending: 0, storage.Running: 1, storage.Completed: 2, storage.Failed: 3,
	storage.Skipped: 4, storage.Cancelled: 5, storage.Interrupted: 6, storage.RolledBack: 7,
}

var codedStates = [...]storage.State{
	storage.Pending, storage.Running, storage.Completed, storage.Failed,
	storage.Skipped, storage.Cancelled, storage.Interrupted, storage.RolledBack,
}

// row is an execution with what the contract does not show of it.
type row struct {
	storage.Execution
	stop     bool   // an operator asked its worker to stop
	attempts bool   // it has attempts that did not end well
	keyless  bool   // its fixed part names a unique key that it has lost
	read     []byte // the moving part as it was read
}

// micro is an instant as it is stored, 0 for none.
func micro(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func instant(micro int64) time.Time {
	if micro == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micro).UTC()
}

// Bits of the fixed part's second byte.
const (
	bitUndoable = 1 << iota
	bitAllowedToFail
	bitFlow
	bitUndoes
	bitTags
	bitRare // actor, unique key and its time, lowest build, checksum, member, position
)

const fixedFormat = 1

// appendFixed writes what does not move, but for an input that stands apart.
func appendFixed(b []byte, e *storage.Execution) []byte {
	var bits byte
	set := func(bit byte, is bool) {
		if is {
			bits |= bit
		}
	}
	set(bitUndoable, e.Undoable)
	set(bitAllowedToFail, e.AllowedToFail)
	set(bitFlow, !e.FlowID.IsZero())
	set(bitUndoes, !e.Undoes.IsZero())
	set(bitTags, len(e.Tags) > 0)
	set(bitRare, e.Actor != "" || e.UniqueKey != "" || e.UniqueFor != 0 || e.MinBuild != 0 || e.Checksum != "" || e.Member != "" || e.Position != 0)
	b = append(b, fixedFormat, bits, byte(e.Priority))
	b = appendText(b, e.Name)
	b = appendText(b, string(e.Kind))
	b = appendText(b, e.Method)
	b = appendText(b, e.Queue)
	b = appendText(b, string(e.OnLoss))
	b = binary.AppendVarint(b, e.Delay.Microseconds())
	b = binary.AppendVarint(b, e.RetryFor.Microseconds())
	b = appendBytes(b, e.Policy)
	if len(e.Input) < apartFrom {
		b = appendBytes(b, e.Input)
	}
	if bits&bitFlow != 0 {
		b = append(b, e.FlowID[:]...)
	}
	if bits&bitUndoes != 0 {
		b = append(b, e.Undoes[:]...)
	}
	if bits&bitTags != 0 {
		b = appendText(b, strings.Join(e.Tags, "\x00"))
	}
	if bits&bitRare != 0 {
		b = appendText(b, e.Actor)
		b = appendText(b, e.UniqueKey)
		b = binary.AppendVarint(b, e.UniqueFor.Microseconds())
		b = binary.AppendVarint(b, e.MinBuild)
		b = appendText(b, e.Checksum)
		b = appendText(b, e.Member)
		b = binary.AppendVarint(b, int64(e.Position))
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendBytes(b, s []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// flags are those of the moving part.
func (r *row) flags() uint16 {
	var flags uint16
	set := func(flag uint16, is bool) {
		if is {
			flags |= flag
		}
	}
	set(flagParked, r.Parked)
	set(flagStop, r.stop)
	set(flagReason, r.Reason != "" || r.Environment != "")
	set(flagError, r.LastError != "" || r.ErrorGroup != "")
	set(flagUndoError, r.UndoError != "")
	set(flagProgress, r.Done != 0 || r.Total != 0)
	set(flagCheckpoint, len(r.Checkpoint) > 0)
	set(flagResult, len(r.Result) > 0)
	set(flagAttempts, r.attempts)
	set(flagKeyed, r.UniqueKey != "" && !r.State.Over())
	set(flagForNow, r.ForNow)
	set(flagApart, len(r.Input) >= apartFrom)
	return flags
}

// appendMoving writes the moving part.
func (r *row) appendMoving(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, stateCodes[r.State])
	b = le.AppendUint16(b, r.flags())
	b = le.AppendUint32(b, uint32(r.Delivery))
	b = append(b, r.WorkerID[:]...)
	b = le.AppendUint64(b, uint64(micro(r.StartedAt)))
	b = le.AppendUint32(b, uint32(r.Excused))
	b = le.AppendUint32(b, uint32(r.Errors))
	b = le.AppendUint32(b, uint32(r.Losses))
	b = le.AppendUint32(b, uint32(r.Waits))
	b = le.AppendUint64(b, uint64(micro(r.DueAt)))
	b = le.AppendUint64(b, uint64(micro(r.DeadlineAt)))
	b = le.AppendUint64(b, uint64(micro(r.FinishedAt)))
	return le.AppendUint64(b, uint64(micro(r.CreatedAt)))
}

// part encodes what stands apart under a flag.
func (r *row) part(flag uint16) []byte {
	switch flag {
	case flagReason:
		return append(appendText(nil, r.Reason), r.Environment...)
	case flagError:
		return append(appendText(nil, r.LastError), r.ErrorGroup...)
	case flagUndoError:
		return []byte(r.UndoError)
	case flagProgress:
		return appendProgress(nil, r.Done, r.Total)
	case flagCheckpoint:
		return r.Checkpoint
	case flagResult:
		return r.Result
	default:
		return r.Input
	}
}

func appendProgress(b []byte, done, total int64) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(done))
	return binary.LittleEndian.AppendUint64(b, uint64(total))
}

var errMangled = errors.New("the ledger holds something that this binary cannot read")

// decoder takes apart what scripts answer. Texts that repeat are made once.
type decoder struct {
	b     []byte
	err   error
	texts map[string]string
}

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.b) || d.err != nil {
		if d.err == nil {
			d.err = errMangled
		}
		d.b = nil
		return nil
	}
	taken := d.b[:n:n]
	d.b = d.b[n:]
	return taken
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uint16() uint16 {
	if b := d.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if b := d.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) int64() int64 {
	if b := d.take(8); b != nil {
		return int64(binary.LittleEndian.Uint64(b))
	}
	return 0
}

func (d *decoder) int() int { return int(int32(d.uint32())) }

func (d *decoder) time() time.Time { return instant(d.int64()) }

func (d *decoder) id() (id storage.ID) {
	copy(id[:], d.take(len(id)))
	return id
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	d.take(n)
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	d.take(n)
	return v
}

// bytes aliases what the decoder was given.
func (d *decoder) bytes() []byte {
	if b := d.take(int(d.uvarint())); len(b) > 0 {
		return b
	}
	return nil
}

func (d *decoder) text() string { return d.intern(d.bytes()) }

func (d *decoder) intern(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if s, known := d.texts[string(b)]; known {
		return s
	}
	s := string(b)
	if d.texts == nil {
		d.texts = map[string]string{}
	}
	d.texts[s] = s
	return s
}

// record reads one row, as record in lua/common.lua wrote it.
func (d *decoder) record(r *row) {
	e := &r.Execution
	e.ID = d.id()
	flags := d.moving(r)
	r.keyless = flags&flagKeyless != 0
	fixed := decoder{b: d.take(int(d.uint32())), err: d.err, texts: d.texts}
	fixed.fixed(e, flags)
	d.texts, d.err = fixed.texts, fixed.err
	for _, p := range parts {
		if flags&p.flag != 0 {
			r.setPart(p.flag, d.take(int(d.uint32())))
		}
	}
	if d.err != nil {
		d.err = fmt.Errorf("execution %s: %w", e.ID, d.err)
	}
}

func (d *decoder) moving(r *row) uint16 {
	if len(d.b) >= movingLen {
		r.read = d.b[:movingLen:movingLen]
	}
	state := d.byte()
	if int(state) >= len(codedStates) {
		d.err = errMangled
		return 0
	}
	r.State = codedStates[state]
	flags := d.uint16()
	r.Parked, r.stop, r.attempts, r.ForNow = flags&flagParked != 0, flags&flagStop != 0, flags&flagAttempts != 0, flags&flagForNow != 0
	r.Delivery, r.WorkerID, r.StartedAt = d.int(), d.id(), d.time()
	r.Excused, r.Errors, r.Losses, r.Waits = d.int(), d.int(), d.int(), d.int()
	r.DueAt, r.DeadlineAt, r.FinishedAt, r.CreatedAt = d.time(), d.time(), d.time(), d.time()
	return flags
}

func (d *decoder) fixed(e *storage.Execution, flags uint16) {
	if d.byte() != fixedFormat && d.err == nil {
		d.err = errMangled
	}
	bits := d.byte()
	e.Undoable, e.AllowedToFail = bits&bitUndoable != 0, bits&bitAllowedToFail != 0
	e.Priority = int(d.byte())
	e.Name, e.Kind, e.Method, e.Queue, e.OnLoss = d.text(), storage.Kind(d.text()), d.text(), d.text(), storage.OnLoss(d.text())
	e.Delay, e.RetryFor = time.Duration(d.varint())*time.Microsecond, time.Duration(d.varint())*time.Microsecond
	e.Policy = d.bytes()
	if flags&flagApart == 0 {
		e.Input = d.bytes()
	}
	if bits&bitFlow != 0 {
		e.FlowID = d.id()
	}
	if bits&bitUndoes != 0 {
		e.Undoes = d.id()
	}
	if bits&bitTags != 0 {
		e.Tags = strings.Split(d.text(), "\x00")
	}
	if bits&bitRare != 0 {
		e.Actor, e.UniqueKey = d.text(), string(d.bytes())
		e.UniqueFor, e.MinBuild = time.Duration(d.varint())*time.Microsecond, d.varint()
		e.Checksum, e.Member, e.Position = string(d.bytes()), d.text(), int(d.varint())
		if flags&flagKeyless != 0 {
			e.UniqueKey = ""
		}
	}
}

func (r *row) setPart(flag uint16, b []byte) {
	d := decoder{b: b}
	switch flag {
	case flagReason:
		r.Reason, r.Environment = string(d.bytes()), string(d.b)
	case flagError:
		r.LastError, r.ErrorGroup = string(d.bytes()), string(d.b)
	case flagUndoError:
		r.UndoError = string(b)
	case flagProgress:
		r.Done, r.Total = d.int64(), d.int64()
	case flagCheckpoint:
		r.Checkpoint = b
	case flagResult:
		r.Result = b
	case flagApart:
		r.Input = b
	}
}

// records reads all rows of an answer.
func records(b []byte) ([]row, error) {
	d := decoder{b: b}
	var rows []row
	for len(d.b) > 0 && d.err == nil {
		rows = append(rows, row{})
		d.record(&rows[len(rows)-1])
	}
	return rows, d.err
}
