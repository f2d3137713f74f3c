package sequencer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gosequencer/sequencer/internal/engine"
	"github.com/gosequencer/sequencer/storage"
)

// Defaults of WorkerConfig and of how workers wait.
const (
	DefaultWorkerSlots = 10

	// blindPoll is how long a worker sleeps on a store that cannot wake it.
	blindPoll = 20 * time.Millisecond
	// rescueEvery bounds how long a dead worker is not noticed once its lease is over.
	rescueEvery = 5 * time.Second
	// watchEvery is how often a worker looks whether its neighbours' processes are
	// there. That asks no store.
	watchEvery = time.Second
	// rejoinPause is how long a worker that lost its lease waits before it joins anew.
	rejoinPause = time.Second
	// moment is for how long a worker that is to stop when its queues are empty waits for
	// what is due next. A store that could not look, because others hold it, says
	// that it should be asked again within such a time, and has not said "empty".
	moment = 250 * time.Millisecond
	// workerWrites is how many calls of the store a worker has under way at a time:
	// with two, one is answered while the other is prepared.
	workerWrites = 2
)

// WorkerConfig is what one call of Work serves. Its zero value works: one queue,
// ten slots, until the context ends.
type WorkerConfig struct {
	// Queues are served strictly in this order: as long as one has runnable work,
	// those behind it wait (Q10.8). Default: Config.Queue alone.
	Queues []string
	// Slots is how many executions run at a time; default DefaultWorkerSlots.
	Slots int
	// StopWhenEmpty ends the worker when its queues hold nothing runnable and nothing
	// runs; what is scheduled for later does not count (Q10.11).
	StopWhenEmpty bool
	// StopWhenEmptyFor ends it when that has been so for this long; 0 = never.
	StopWhenEmptyFor time.Duration
	// Once takes at most one execution: whatever becomes of it, or at once if there is
	// none, the worker ends (Q10.9).
	Once bool
	// MaxJobs ends the worker after this many deliveries, whatever their outcome; 0 =
	// no limit (Q10.12).
	MaxJobs int
	// MaxTime ends it after this long, between executions; 0 = no limit.
	MaxTime time.Duration
	// MaxAbandoned ends it with ErrAbandoned when so many handlers have ignored their
	// end and still run; default half of Slots, at least one (Q2.12).
	MaxAbandoned int
	// Poll is the longest an idle worker sleeps between looks; default Config.Poll on
	// a store that can wake it, else 20 ms.
	Poll time.Duration
}

func (w *WorkerConfig) normalize(s *Sequencer, wakes bool) error {
	var problems []error
	bad := func(field string, value any, want string) {
		problems = append(problems, fmt.Errorf("worker %s = %v: want %s", field, value, want))
	}
	if len(w.Queues) == 0 {
		w.Queues = []string{s.cfg.Queue}
	}
	w.Queues = slices.Clone(w.Queues)
	for i, queue := range w.Queues {
		w.Queues[i] = strings.TrimSpace(queue)
		if err := checkIdentifier("queue", w.Queues[i]); err != nil {
			problems = append(problems, fmt.Errorf("worker: %w", err))
		}
		if slices.Contains(w.Queues[:i], w.Queues[i]) {
			problems = append(problems, fmt.Errorf("worker queue %q is named twice", w.Queues[i]))
		}
	}
	for field, n := range map[string]int{"Slots": w.Slots, "MaxJobs": w.MaxJobs, "MaxAbandoned": w.MaxAbandoned} {
		if n < 0 {
			bad(field, n, "0 (the default) or more")
		}
	}
	for field, d := range map[string]time.Duration{"MaxTime": w.MaxTime, "Poll": w.Poll, "StopWhenEmptyFor": w.StopWhenEmptyFor} {
		if d < 0 {
			bad(field, d, "a duration that is not negative")
		}
	}
	if w.Slots == 0 {
		w.Slots = DefaultWorkerSlots
	}
	if w.Once {
		w.Slots, w.MaxJobs = 1, 1
	}
	if w.MaxAbandoned == 0 {
		w.MaxAbandoned = max(w.Slots/2, 1)
	}
	switch {
	case w.Poll > 0:
	case wakes:
		w.Poll = s.cfg.Poll
	default:
		w.Poll = blindPoll
	}
	return errors.Join(problems...)
}

// Work serves queues until ctx ends, or one of the limits of w is reached, and
// returns when all that it started has ended: nothing is claimed any more, running
// attempts have ShutdownGrace to finish, then they are cancelled with ErrShutdown
// and go back to their queue at no cost, and what still does not return within
// TimeoutGrace is abandoned and makes the error ErrShutdown (Q10.15). A worker that
// loses its lease, or the store, stops what it was doing, and begins anew when it
// can: only the first attempt to join ends Work with the store's error.
//
// What a worker cannot run it leaves alone, at no cost: operations it has not
// registered, and those that ask for a newer build (Q1.37). While it works it takes
// over from workers that died, fires the schedules of its registry, and deletes
// history that is older than Config.Retention.
func (s *Sequencer) Work(ctx context.Context, w WorkerConfig) error {
	waker, wakes := s.store.(storage.Waker)
	if err := w.normalize(s, wakes); err != nil {
		return err
	}
	if err := s.usable(ctx); err != nil {
		return err
	}
	d := &duty{s: s, cfg: w, waker: waker, began: time.Now()}
	d.lastBusy.Store(d.began.UnixNano())
	if w.MaxJobs > 0 {
		d.quota = engine.NewQuota(w.MaxJobs)
	}
	for joined := false; ; {
		err := s.holdAs(ctx, d.worker(), func(ctx context.Context, sess session) error {
			joined = true
			return d.run(ctx, sess)
		})
		switch {
		case ctx.Err() != nil && (err == nil || errors.Is(err, ctx.Err())):
			return nil
		case err == nil, !joined, errors.Is(err, ErrShutdown), errors.Is(err, ErrAbandoned), !passing(err):
			return err
		}
		s.cfg.Logger.ErrorContext(ctx, "worker begins anew", keyError, err)
		if !sleep(ctx, rejoinPause) {
			return nil
		}
	}
}

// passing reports an error after which a worker may begin anew: anything but a
// store that is closed or a ledger that this build must not touch.
func passing(err error) bool {
	var schema *storage.SchemaError
	return !errors.Is(err, storage.ErrClosed) && !errors.As(err, &schema)
}

// usable checks the ledger before anybody joins. Only where nobody else would
// create it does a worker do so itself (decided by what kind of store it is).
func (s *Sequencer) usable(ctx context.Context) error {
	have, err := s.store.Schema(ctx)
	if err != nil {
		return fmt.Errorf("reading the ledger: %w", err)
	}
	if have.Usable() {
		return nil
	}
	if s.store.Name() == "sqlite" && have.OldestCompatible <= have.Want { // one machine, and nobody else to ask
		return s.Setup(ctx)
	}
	return fmt.Errorf("working: %w", &storage.SchemaError{Schema: have})
}

// duty is one call of Work, across the leases that it holds one after the other.
type duty struct {
	s     *Sequencer
	cfg   WorkerConfig
	waker storage.Waker
	quota *engine.Quota
	began time.Time

	abandoned atomic.Int32 // handlers that ignored their end and still run
	blocked   atomic.Bool  // a guard says no
	lastBusy  atomic.Int64 // when there last was work, Unix nanoseconds
}

func (d *duty) worker() storage.Worker {
	w := d.s.newWorker("work")
	w.Queues, w.Slots, w.Names = d.cfg.Queues, d.cfg.Slots, d.s.reg.names()
	return w
}

// run serves the queues under one lease.
func (d *duty) run(ctx context.Context, sess session) error {
	sess.abandoned = &d.abandoned
	sess.errs, sess.ended = nil, nil // they would grow for as long as the worker works
	// Before anything is claimed, and before nothing to do can be a reason to end.
	r := &rescuer{s: d.s, queue: d.cfg.Queues[0]}
	defer r.end(ctx)
	near := d.lookAround(ctx, r)
	wake := make(chan struct{}, 1)
	tasks, stop := context.WithCancel(ctx)
	ticked := d.tick(tasks, sess)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.tend(tasks, sess, r, near)
	}()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		d.watch(tasks, wake)
	}()
	defer func() {
		stop()
		<-ended
		<-ticked
		<-watched
	}()
	d.s.emit(ctx, Event{Kind: EventWorkerStarted, ID: sess.worker().String(), Tasks: d.cfg.Slots, Reason: strings.Join(d.cfg.Queues, ", ")})
	pool := d.s.pool(sess, d.cfg.Slots, d.cfg.Queues, d.over)
	pool.Names, pool.Build = d.s.reg.known(), d.s.cfg.Build
	pool.Wake, pool.Quota, pool.Poll, pool.Writes = wake, d.quota, d.cfg.Poll, workerWrites
	pool.Closed = d.blocked.Load
	err := pool.Run(ctx, storage.Claimed{})
	if err == nil && int(d.abandoned.Load()) >= d.cfg.MaxAbandoned {
		err = fmt.Errorf("%w: %d handlers ignored the end of their context and still run", ErrAbandoned, d.abandoned.Load())
	}
	d.s.emit(ctx, Event{Kind: EventWorkerStopped, ID: sess.worker().String(), Reason: d.why(ctx), Err: err})
	return err
}

// over says when the worker has done what it was asked to.
func (d *duty) over(_ context.Context, found engine.Found) (bool, error) {
	idle := found.Quiet() && (found.NextDue < 0 || found.NextDue > moment) && !d.blocked.Load()
	if found.Running > 0 {
		d.lastBusy.Store(time.Now().UnixNano())
	}
	switch {
	case d.cfg.MaxTime > 0 && time.Since(d.began) >= d.cfg.MaxTime,
		int(d.abandoned.Load()) >= d.cfg.MaxAbandoned,
		d.quota.Spent() && found.Running == 0 && !found.Claiming,
		idle && (d.cfg.StopWhenEmpty || d.cfg.Once),
		idle && d.cfg.StopWhenEmptyFor > 0 && time.Since(time.Unix(0, d.lastBusy.Load())) >= d.cfg.StopWhenEmptyFor:
		return true, nil
	}
	return false, nil
}

// why is the reason a worker stopped, for whoever reads its log.
func (d *duty) why(ctx context.Context) string {
	switch {
	case ctx.Err() != nil:
		return "asked to stop"
	case d.cfg.MaxTime > 0 && time.Since(d.began) >= d.cfg.MaxTime:
		return "worked for " + d.cfg.MaxTime.String()
	case d.quota.Spent():
		return "took all it was to take"
	case int(d.abandoned.Load()) >= d.cfg.MaxAbandoned:
		return "too many abandoned handlers"
	default:
		return "nothing left to do"
	}
}

// watch lets the store wake the pool. A store that cannot, or not any more, is
// asked again after a while: polling carries on meanwhile.
func (d *duty) watch(ctx context.Context, wake chan<- struct{}) {
	if d.waker == nil {
		return
	}
	for ctx.Err() == nil {
		err := d.waker.Watch(ctx, d.cfg.Queues, func() {
			select {
			case wake <- struct{}{}:
			default:
			}
		})
		if err == nil || ctx.Err() != nil {
			return
		}
		d.s.cfg.Logger.WarnContext(ctx, "nothing wakes this worker; it polls", keyError, err)
		sleep(ctx, 10*time.Second)
	}
}

// lookAround asks the guards, and takes over from workers that died.
func (d *duty) lookAround(ctx context.Context, r *rescuer) engine.Neighbours {
	d.ask(ctx)
	near, err := r.look(ctx)
	if err != nil && ctx.Err() == nil {
		d.s.cfg.Logger.WarnContext(ctx, "looking after dead workers", keyError, err)
	}
	return near
}

// tend does what has to be done beside the work, until ctx ends: look around again,
// at once when a neighbour's process is gone, and delete what is old.
func (d *duty) tend(ctx context.Context, sess session, r *rescuer, near engine.Neighbours) {
	every := min(rescueEvery, d.s.cfg.Lease/2)
	pruned := time.Now().Add(-pruneEvery + time.Minute) // the first time a minute from now
	looked := time.Now()
	for sleep(ctx, min(watchEvery, every)) {
		if time.Since(looked) < every && !near.Died() {
			continue
		}
		looked = time.Now()
		near = d.lookAround(ctx, r)
		if time.Since(pruned) >= pruneEvery {
			pruned = time.Now()
			if _, err := d.s.prune(ctx, sess); err != nil && ctx.Err() == nil {
				d.s.cfg.Logger.WarnContext(ctx, "deleting old history", keyError, err)
			}
		}
	}
}

// ask lets the guards decide whether this process may claim; never for a row.
func (d *duty) ask(ctx context.Context) {
	err := d.s.CheckGuards(ctx)
	switch was := d.blocked.Swap(err != nil); {
	case !was && err != nil:
		d.s.emit(ctx, Event{Kind: EventWarning, Reason: "this worker claims nothing: " + err.Error()})
	case was && err == nil:
		d.s.emit(ctx, Event{Kind: EventWarning, Reason: "this worker claims again"})
	}
}

// sleep waits, and reports whether it did so to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
