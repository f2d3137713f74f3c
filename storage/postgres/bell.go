package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gosequencer/sequencer/storage/internal/wake"
)

const (
	// ringGap is the least time between two notifications of one store. The first is
	// sent at once, and those that come within the gap go together.
	ringGap = time.Millisecond
	// ringLimit is how long one may take. Whoever is not told finds the work when it
	// polls.
	ringLimit = time.Second
)

// bell tells other processes where something became claimable. It does so after the
// commit, not in it: a transaction that notifies holds a lock of the whole database
// while it commits (PreCommit_Notify in async.c), so commits would wait for the disk
// one after the other. A notification by itself writes nothing and waits for no disk.
type bell struct {
	pool *pgxpool.Pool

	mu      sync.Mutex // guards due, ringing, closed
	due     wake.Arrivals
	ringing bool
	closed  bool
	done    sync.WaitGroup
}

// ring returns at once. Its goroutine ends when there is nothing left to tell.
func (b *bell) ring(a *wake.Arrivals) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.due.Add(a)
	if !b.ringing && !b.closed {
		b.ringing = true
		b.done.Go(b.sound)
	}
}

func (b *bell) sound() {
	for {
		queues := b.take()
		if len(queues) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), ringLimit)
		_, _ = b.pool.Exec(ctx, notifySQL, queues)
		cancel()
		pause := time.NewTimer(ringGap)
		<-pause.C
	}
}

func (b *bell) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	queues := b.due.Shared()
	b.due = wake.Arrivals{}
	b.ringing = len(queues) > 0
	return queues
}

// close waits until what was committed is told.
func (b *bell) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.done.Wait()
}
