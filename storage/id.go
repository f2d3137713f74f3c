package storage

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"
)

// ID identifies an execution, a flow or a worker: a UUIDv7, made by the process
// that creates the row. Ids sort by time of creation within one process; between
// machines they are no order (page by a stored instant and the id instead).
// The zero ID means "none".
type ID [16]byte

// NewID makes a UUIDv7. It panics only if the system's random source fails.
func NewID() ID { return ID(uuid.Must(uuid.NewV7())) }

// ParseID reads the canonical text form.
func ParseID(s string) (ID, error) {
	u, err := uuid.Parse(s)
	if err != nil {
		return ID{}, fmt.Errorf("id %q is not a UUID", s)
	}
	return ID(u), nil
}

// UndoID derives the id of the execution that undoes target inside target's own
// flow. It differs from target in the version nibble alone (8, "custom", in
// RFC 9562), so every backend finds the same one and a repeated failure step
// cannot create a second.
func UndoID(target ID) ID {
	target[6] = target[6]&0x0f | 0x80
	return target
}

// HookID derives the id of the row that calls a hook of an execution after one of its
// deliveries. Its version nibble is that of UndoID; the bits below are a digest.
func HookID(execution ID, delivery int) ID {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(execution[:len(execution):len(execution)], uint64(delivery)))
	id := execution // the instant in front keeps neighbours together
	copy(id[6:], sum[:])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

// ApprovalID derives the id of the n-th approval that is asked for, from 0, about a
// subject: an execution by its id, or an ordered operation by its name. So whoever waits
// finds the question by primary key, and two who ask at the same time ask one.
func ApprovalID(subject string, n int) ID {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("approval "+subject+" "), uint64(n)))
	id := ID(sum[:len(ID{})])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

// IsZero reports whether id means "none".
func (id ID) IsZero() bool { return id == ID{} }

// String is the canonical text form, empty for the zero ID.
func (id ID) String() string {
	if id.IsZero() {
		return ""
	}
	return uuid.UUID(id).String()
}

// MarshalText makes an ID a string in JSON.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *ID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*id = ID{}
		return nil
	}
	parsed, err := ParseID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}
