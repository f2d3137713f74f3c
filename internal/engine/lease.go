package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Attribute keys of log lines.
const (
	keyWorker   = "worker"
	keyOutcomes = "outcomes"
	keyError    = "error"
)

// Lease is a worker's proof that it is alive. Its progress and cancel requests
// travel with each renewal.
type Lease struct {
	Worker storage.Worker

	store    storage.Store
	log      *slog.Logger
	lost     context.Context // ends, with the cause, when the lease cannot be proved any more
	mu       sync.Mutex      // guards the two maps
	progress map[storage.ID]storage.Progress
	cancels  map[storage.ID]context.CancelCauseFunc
	asked    error // the cause given to attempts that were asked to stop
}

// Hold joins w, renews its lease until fn returns, and leaves. fn's context ends
// with cause storage.ErrLeaseLost when the lease cannot be proved any more.
// asked is the cause given to an attempt that somebody cancels from elsewhere.
func Hold(ctx context.Context, store storage.Store, w storage.Worker, log *slog.Logger, asked error, fn func(ctx context.Context, l *Lease) error) error {
	proved := time.Now()
	if err := store.Join(ctx, w); err != nil {
		return fmt.Errorf("joining the ledger as a worker: %w", err)
	}
	l := &Lease{
		Worker: w, store: store, log: log, asked: asked,
		progress: map[storage.ID]storage.Progress{}, cancels: map[storage.ID]context.CancelCauseFunc{},
	}
	held, drop := context.WithCancelCause(ctx)
	var lose context.CancelCauseFunc
	l.lost, lose = context.WithCancelCause(context.WithoutCancel(ctx)) // also heard while ctx has ended and attempts have their grace
	lost := func(cause error) { lose(cause); drop(cause) }
	renewing := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(renewing)
		l.renew(context.WithoutCancel(ctx), proved, stop, lost)
	}()
	err := fn(held, l)
	close(stop)
	<-renewing
	lost(nil)
	leaveCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.Lease)
	defer cancel()
	if left := store.Leave(leaveCtx, w.ID); left != nil {
		// The lease runs out by itself; nothing is lost but time.
		log.WarnContext(ctx, "worker could not leave", keyWorker, w.ID, keyError, left)
	}
	return err
}

// renew extends the lease every third of it. The time that proves it is this
// process's monotonic clock, from before the request that was answered; when a
// whole lease has passed since, somebody else may have what this worker held. A try
// that fails is soon followed by another, and one that hangs is given up in time for
// that: a connection that breaks must not cost what the server is there to give.
func (l *Lease) renew(ctx context.Context, proved time.Time, stop <-chan struct{}, lost context.CancelCauseFunc) {
	third := l.Worker.Lease / 3
	timer := time.NewTimer(third)
	defer timer.Stop()
	for {
		select {
		case <-stop:
			return
		case <-timer.C:
		}
		asked := time.Now()
		end := proved.Add(l.Worker.Lease)
		next := third
		err := l.renewOnce(ctx, earlier(end, asked.Add(third)))
		switch {
		case err == nil:
			proved = asked
		case errors.Is(err, storage.ErrLeaseLost):
			lost(err)
			return
		case !time.Now().Before(end):
			lost(fmt.Errorf("%w: %w", storage.ErrLeaseLost, err))
			return
		default:
			l.log.WarnContext(ctx, "lease was not renewed", keyWorker, l.Worker.ID, keyError, err)
			next = min(third/10, time.Until(end))
		}
		timer.Reset(next)
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (l *Lease) renewOnce(ctx context.Context, deadline time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	l.mu.Lock()
	r := storage.RenewRequest{Worker: l.Worker.ID, Lease: l.Worker.Lease}
	for id, p := range l.progress {
		r.Progress = append(r.Progress, p)
		delete(l.progress, id)
	}
	l.mu.Unlock()
	renewed, err := l.store.Renew(ctx, r)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range renewed.Cancelled {
		if stop := l.cancels[id]; stop != nil {
			stop(l.asked)
		}
	}
	return nil
}

// Report keeps an attempt's latest progress for the next renewal.
func (l *Lease) Report(p storage.Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.progress[p.ID] = p
}

// watch makes an attempt cancellable from elsewhere until unwatch.
func (l *Lease) watch(id storage.ID, cancel context.CancelCauseFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancels[id] = cancel
}

func (l *Lease) unwatch(id storage.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.cancels, id)
	delete(l.progress, id)
}
