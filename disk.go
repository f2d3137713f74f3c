package sequencer

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// diskLag bounds how far the disk may stay behind a run, on a store that commits
// faster than it reaches the disk.
const diskLag = time.Second

// disk paces a run on such a store: what a run has done is on the disk before it
// starts work that must not be repeated unseen, every diskLag, and before it says
// how it went. Between these a power failure takes the last steps back, effects in
// the ledger's database and records together, and the next run does them again. A
// nil disk has nothing to do.
type disk struct {
	store storage.Syncer
	mu    sync.Mutex // guards last; attempts run side by side
	last  time.Time
}

// newDisk is nil for a store whose commits are on the disk when they return.
func newDisk(store storage.Store) *disk {
	if s, ok := store.(storage.Syncer); ok {
		return &disk{store: s, last: time.Now()}
	}
	return nil
}

// before is called when an attempt is about to begin.
func (d *disk) before(ctx context.Context, e *storage.Execution) error {
	if d == nil || e.OnLoss != storage.LossInterrupt {
		return nil
	}
	return d.sync(ctx)
}

// after is called when an outcome has been committed.
func (d *disk) after(ctx context.Context) error {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	lags := time.Since(d.last) >= diskLag
	d.mu.Unlock()
	if !lags {
		return nil
	}
	return d.sync(ctx)
}

func (d *disk) sync(ctx context.Context) error {
	if d == nil {
		return nil
	}
	began := time.Now()
	if err := d.store.Sync(ctx); err != nil {
		return fmt.Errorf("writing the ledger to the disk: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = began
	return nil
}
