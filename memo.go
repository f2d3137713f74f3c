package sequencer

import (
	"bytes"
	"sync/atomic"
)

// memo keeps what the latest stored bytes were parsed to: what is frozen into rows of one
// operation is mostly the same. What it gives is shared, and not to be changed.
type memo[T any] struct {
	last atomic.Pointer[parsed[T]]
}

type parsed[T any] struct {
	stored []byte
	value  T
}

func (m *memo[T]) of(stored []byte, parse func([]byte) (T, error)) (T, error) {
	if p := m.last.Load(); p != nil && bytes.Equal(p.stored, stored) {
		return p.value, nil
	}
	v, err := parse(stored)
	if err == nil {
		m.last.Store(&parsed[T]{stored, v})
	}
	return v, err
}
