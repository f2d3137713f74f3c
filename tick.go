package sequencer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

const (
	// tickLook is the longest a worker sleeps between looks at its schedules: that
	// long a pause that was lifted, or a newer build that has gone, may go unnoticed.
	tickLook = 10 * time.Second
	// tickRetry is how long it waits after a look that failed.
	tickRetry = time.Second
	// clockTrust is how long a worker goes on by its own clock before it asks for the
	// store's again.
	clockTrust = time.Minute
	// lateTick is how late a tick may be and not be missed.
	lateTick = time.Minute
)

// ticker fires the schedules of one worker under one lease. Any number of them
// race: the store moves a schedule on to a tick once, in the transaction that
// writes the tick's execution, so whoever dies in between has fired it or has not.
// It keeps nothing that its successor would need.
type ticker struct {
	duty    *duty
	seq     *Sequencer
	worker  storage.Worker
	own     []*boundSchedule
	clock   storeClock
	since   map[string]time.Time // by schedule: when this worker began to fire what the ledger has another declaration of
	failing bool
}

// tick looks at the schedules once, so that a worker that stops when it is empty
// does not overlook what is due, and then starts the goroutine that goes on until
// ctx ends. The channel is closed when it has ended. A worker without schedules,
// or one that only records, has none.
func (d *duty) tick(ctx context.Context, sess session) <-chan struct{} {
	t := &ticker{duty: d, seq: d.s, worker: sess.lease.Worker, since: map[string]time.Time{}}
	for _, b := range d.s.schedules {
		if !b.elsewhere {
			t.own = append(t.own, b)
		}
	}
	ended := make(chan struct{})
	if len(t.own) == 0 || d.s.cfg.Recorder != nil {
		close(ended)
		return ended
	}
	wait := t.look(ctx)
	go func() {
		defer close(ended)
		for sleep(ctx, wait) {
			wait = t.look(ctx)
		}
	}()
	return ended
}

// look fires what is due and answers how long there is nothing to do.
func (t *ticker) look(ctx context.Context) time.Duration {
	if t.duty.blocked.Load() {
		return tickLook
	}
	wait, err := t.fireDue(ctx)
	failing := err != nil && ctx.Err() == nil
	if failing && !t.failing { // told once, until it has worked again
		t.seq.emit(ctx, Event{Kind: EventWarning, Reason: "schedules do not fire", Err: err})
	}
	t.failing = failing
	return wait
}

func (t *ticker) fireDue(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	now, err := t.clock.now(ctx, t.seq.store, t.worker)
	if err != nil {
		return tickRetry, err
	}
	rows, err := t.mine(ctx)
	if err != nil {
		return tickRetry, err
	}
	wait := tickLook
	var problems []error
	for _, b := range t.own {
		row, ours := rows[b.name]
		if !ours || row.Paused {
			continue
		}
		last := t.last(b, row, now)
		if err := t.fire(ctx, b, last, now); err != nil {
			problems = append(problems, b.wrap(err))
			continue
		}
		if next := b.when.Next(later(now, last)); !next.IsZero() {
			wait = min(wait, next.Sub(now))
		}
	}
	return wait - time.Since(began), errors.Join(problems...)
}

// last is the instant up to which b has fired. Where the ledger has another
// declaration, its last tick says nothing of ours, and those of the past are not
// missed: they count from when this worker began to fire it.
func (t *ticker) last(b *boundSchedule, row storage.Schedule, now time.Time) time.Time {
	if b.declares(row) {
		delete(t.since, b.name)
		return row.LastTick
	}
	if t.since[b.name].IsZero() {
		t.since[b.name] = now
	}
	return later(row.LastTick, t.since[b.name])
}

// fire enqueues what b owes between its last tick and now.
func (t *ticker) fire(ctx context.Context, b *boundSchedule, last, now time.Time) error {
	due := b.when.Latest(last, now, max(b.missed, 1))
	if b.missed == 0 && len(due) > 0 && now.Sub(due[0]) > lateTick {
		return t.skip(ctx, b, due[0])
	}
	for _, at := range due {
		row, on, err := t.seq.tickRow(ctx, b.schedule, at)
		if err != nil {
			return err
		}
		if on != t.seq {
			return fmt.Errorf("the tick of %s goes to connection %s, others to %s: a schedule has one", at.Format(time.RFC3339), on.connection, t.seq.connection)
		}
		rows := []storage.Execution{row}
		done, err := t.seq.store.Enqueue(ctx, storage.EnqueueRequest{Executions: rows, Tick: &storage.Tick{Schedule: b.name, At: at}})
		if err != nil {
			return err
		}
		if done.Receipts[0].Duplicate {
			if fired, err := t.fired(ctx, b, row.ID); err != nil || !fired {
				return err // somebody else was first, or has just paused it
			}
		}
		t.seq.dispatched(ctx, rows, done.Receipts)
	}
	return nil
}

// fired reports whether a tick whose row is a duplicate is ours nevertheless: its
// operation is unique, and another execution of it is live.
func (t *ticker) fired(ctx context.Context, b *boundSchedule, id storage.ID) (bool, error) {
	rows, err := t.seq.store.Schedules(ctx)
	for _, row := range rows {
		if row.Name == b.name {
			return row.LastID == id, nil
		}
	}
	return false, err
}

// skip moves a schedule on without an execution.
func (t *ticker) skip(ctx context.Context, b *boundSchedule, at time.Time) error {
	_, err := t.seq.store.Enqueue(ctx, storage.EnqueueRequest{Tick: &storage.Tick{Schedule: b.name, At: at}})
	if err == nil {
		t.seq.emit(ctx, Event{Kind: EventWarning, Reason: fmt.Sprintf("schedule %s: what was missed up to %s is skipped", b.name, at.Format(time.RFC3339))})
	}
	return err
}

// mine reads the schedules, announces those that the ledger does not have as this
// build declares them, and answers the ones that are this worker's to fire.
func (t *ticker) mine(ctx context.Context) (map[string]storage.Schedule, error) {
	for announced := false; ; announced = true {
		list, err := t.seq.store.Schedules(ctx)
		if err != nil {
			return nil, err
		}
		rows := make(map[string]storage.Schedule, len(list))
		for _, row := range list {
			rows[row.Name] = row
		}
		peers := t.peers(ctx)
		var say []storage.Schedule
		for _, b := range t.own {
			fire, announce, err := t.owns(b, rows, peers)
			if err != nil {
				return nil, err
			}
			if announce {
				say = append(say, b.definition)
			}
			if !fire {
				delete(rows, b.name)
			}
		}
		if len(say) == 0 || announced { // what is refused now is somebody else's
			return rows, nil
		}
		if err := t.seq.store.Announce(ctx, storage.AnnounceRequest{Schedules: say}); err != nil {
			return nil, err
		}
	}
}

// owns says whether this worker fires b, and whether it announces it first. The
// newest build that ever announced a schedule has it, while a worker of that build
// lives; without one, as after going back to an older build, the older ones fire
// what they declare. Builds of one age cannot be told apart, so there the worker
// that started last has it.
func (t *ticker) owns(b *boundSchedule, rows map[string]storage.Schedule, peers func() ([]storage.Worker, error)) (fire, announce bool, err error) {
	row, known := rows[b.name]
	mine := b.definition.Build
	switch {
	case !known || row.Build < mine:
		return false, true, nil
	case row.Build == mine && b.declares(row):
		return true, false, nil
	}
	workers, err := peers()
	if err != nil {
		return false, false, err
	}
	var joined time.Time
	for _, w := range workers {
		if w.ID == t.worker.ID {
			joined = w.JoinedAt
		}
	}
	for _, w := range workers {
		if w.ID == t.worker.ID || w.Build != row.Build || !knows(w, b.definition.Operation) {
			continue
		}
		if row.Build > mine || w.JoinedAt.After(joined) {
			return false, false, nil
		}
	}
	return row.Build > mine, row.Build == mine, nil
}

func knows(w storage.Worker, operation string) bool {
	for _, name := range w.Names {
		if name == operation {
			return true
		}
	}
	return false
}

// peers reads the living workers when they are first asked for.
func (t *ticker) peers(ctx context.Context) func() ([]storage.Worker, error) {
	var list []storage.Worker
	var err error
	read := false
	return func() ([]storage.Worker, error) {
		if !read {
			read = true
			list, err = t.seq.store.Workers(ctx)
		}
		return list, err
	}
}

// storeClock tells the store's time, by which ticks are due: the clock of a worker
// may be an hour off. Between two questions it goes on by the process's monotonic
// clock.
type storeClock struct {
	told time.Time // by the store
	at   time.Time // when that was known, with a monotonic reading
}

// now is never ahead of the store's clock, and behind it by two answers at most. A
// renewal of the worker's lease is what dates it: the lease ends a known time after
// the store's present. Where leases have no end (SQLite) the store has the clock
// of this machine.
func (c *storeClock) now(ctx context.Context, store storage.Store, w storage.Worker) (time.Time, error) {
	if c.at.IsZero() || time.Since(c.at) >= clockTrust {
		if _, err := store.Renew(ctx, storage.RenewRequest{Worker: w.ID, Lease: w.Lease}); err != nil {
			return time.Time{}, fmt.Errorf("asking for the store's time: %w", err)
		}
		workers, err := store.Workers(ctx, w.ID)
		if err != nil {
			return time.Time{}, fmt.Errorf("asking for the store's time: %w", err)
		}
		c.told = time.Time{}
		for _, found := range workers {
			if found.ID == w.ID && !found.LeaseUntil.IsZero() {
				c.told = found.LeaseUntil.Add(-w.Lease)
			}
		}
		c.at = time.Now()
	}
	if c.told.IsZero() {
		return time.Now(), nil
	}
	return c.told.Add(time.Since(c.at)), nil
}
