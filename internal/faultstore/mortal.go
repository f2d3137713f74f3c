package faultstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/gosequencer/sequencer/storage"
)

// ErrKilled is what calls of a dead process get once it is buried. It is a closed
// store to whoever made them, so that they end.
var ErrKilled = fmt.Errorf("killed: %w", storage.ErrClosed)

// Mortal is a store as one process sees it that is killed. From then on no call
// returns, whoever makes it, so that nothing of that process goes on that has to do
// with the ledger; others go on with the wrapped store. What cannot be stopped is code
// that runs and calls nothing: it goes on until it does.
type Mortal struct {
	store  wrapped
	at     int
	buried chan struct{}
	dead   chan struct{}

	mu     sync.Mutex // guards the rest
	passed int
	point  string
}

// NewMortal is killed at the n-th point of a write, counted from 1; 0 = by Kill alone.
// Points of reads do not count, nor do those of which time decides whether they are
// passed.
func NewMortal(store storage.Store, n int) *Mortal {
	m := &Mortal{at: n, buried: make(chan struct{}), dead: make(chan struct{})}
	m.store = wrap(store, m.pass)
	return m
}

// Store is what the process has.
func (m *Mortal) Store() storage.Store { return m.store }

// Dead is closed when the process is killed.
func (m *Mortal) Dead() <-chan struct{} { return m.dead }

// Point is where it was killed, "" if it was not at one.
func (m *Mortal) Point() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.point
}

// Kill kills the process now.
func (m *Mortal) Kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kill("")
}

func (m *Mortal) kill(point string) {
	select {
	case <-m.dead:
	default:
		m.point = point
		close(m.dead)
	}
}

// sometimes are writes that a process makes every now and then, for as long as it lives.
var sometimes = []string{"Renew", "Rescue", "Prune", "Announce"}

func (m *Mortal) pass(point string) error {
	verb, _, _ := strings.Cut(point, "#")
	m.mu.Lock()
	if !Reads(point) && !Chance(point) && !slices.Contains(sometimes, verb) {
		if m.passed++; m.passed == m.at {
			m.kill(point)
		}
	}
	m.mu.Unlock()
	select {
	case <-m.dead:
		<-m.buried
		return ErrKilled
	default:
		return nil
	}
}

// Abort does to a dead process's transactions what its database does: it takes them back.
func (m *Mortal) Abort(ctx context.Context) error {
	var problems []error
	for _, tx := range m.store.begun() {
		problems = append(problems, tx.Rollback(ctx))
	}
	return errors.Join(problems...)
}

// Bury gives up on a process that is dead: its calls return, with ErrKilled, and so do
// further ones. It is called once.
func (m *Mortal) Bury() { close(m.buried) }
