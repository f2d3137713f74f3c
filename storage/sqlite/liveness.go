package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/gofrs/flock"

	"github.com/gosequencer/sequencer/storage"
)

// liveness proves who is alive. A worker's process holds an exclusive lock on the
// worker's file as long as it lives; the kernel gives it back when the process is
// gone. Ids are never used twice, so a file that could be locked once belongs to
// the dead and goes.
//
// The locks are flock's, bound to the open file: another Store of the same
// process, or a descriptor closed elsewhere, cannot give one away.
type liveness struct {
	loc location

	mu   sync.Mutex // guards held
	held map[storage.ID]*flock.Flock
}

func newLiveness(loc location) *liveness {
	return &liveness{loc: loc, held: map[storage.ID]*flock.Flock{}}
}

// dir is beside the database, whatever name a process opened it by.
func (l *liveness) dir() string {
	path := l.loc.path
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	return path + "-workers"
}

func (l *liveness) file(worker storage.ID) string {
	return filepath.Join(l.dir(), worker.String()+".lock")
}

// hold takes a new worker's lock, before its row tells others that there is one
// to look for.
func (l *liveness) hold(worker storage.ID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[worker] != nil {
		return nil
	}
	if l.loc.memory {
		l.held[worker] = flock.New("")
		return nil
	}
	lock := flock.New(l.file(worker), flock.SetPermissions(0o666))
	for attempt := 0; ; attempt++ {
		if err := os.MkdirAll(l.dir(), 0o777); err != nil {
			return fmt.Errorf("the directory for file locks of workers: %w", err)
		}
		ok, err := lock.TryLock()
		switch {
		case ok:
			l.held[worker] = lock
			return nil
		case err == nil:
			return fmt.Errorf("worker %s has its file locked already", worker)
		case errors.Is(err, fs.ErrNotExist) && attempt < 10:
			// the last worker of another process left and took the directory along
		default:
			return fmt.Errorf("the file lock of a worker: %w", err)
		}
	}
}

// letGo frees a worker's lock; one that is not held here is left alone.
func (l *liveness) letGo(worker storage.ID) {
	l.mu.Lock()
	lock := l.held[worker]
	delete(l.held, worker)
	l.mu.Unlock()
	if lock != nil && !l.loc.memory {
		l.discard(lock)
	}
}

// discard removes the file of a lock and frees it, in the order that Unix likes
// (nobody can lock a file that is about to go) and again in the one that Windows
// needs (an open file cannot go).
func (l *liveness) discard(lock *flock.Flock) {
	removed := os.Remove(lock.Path()) == nil
	_ = lock.Unlock()
	if !removed {
		_ = os.Remove(lock.Path())
	}
	_ = os.Remove(l.dir()) // fails while others have files in it
}

// proves reports whether a worker that has not left is provably dead: its lock
// is free, or its file is gone. What cannot be found out is no proof.
func (l *liveness) provesDead(worker storage.ID) bool {
	l.mu.Lock()
	here := l.held[worker] != nil
	l.mu.Unlock()
	if here || l.loc.memory {
		return !here
	}
	lock := flock.New(l.file(worker), flock.SetFlag(os.O_RDONLY))
	ok, err := lock.TryLock()
	if ok {
		l.discard(lock)
	}
	return ok || errors.Is(err, fs.ErrNotExist)
}

// close frees every lock that this Store holds.
func (l *liveness) close() error {
	l.mu.Lock()
	var workers []storage.ID
	for id := range l.held {
		workers = append(workers, id)
	}
	l.mu.Unlock()
	for _, id := range workers {
		l.letGo(id)
	}
	return nil
}
