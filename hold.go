package sequencer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gosequencer/sequencer/internal/engine"
	"github.com/gosequencer/sequencer/internal/process"
	"github.com/gosequencer/sequencer/storage"
)

// RunLock is the lock that a deploy run, a rollback and a retry hold: one of them
// at a time per ledger.
const RunLock = "run"

// lockPoll is how often a waiting run looks whether the lock is free.
const lockPoll = 200 * time.Millisecond

// hold keeps a worker's lease while fn runs.
func (s *Sequencer) hold(ctx context.Context, purpose string, fn func(ctx context.Context, sess session) error) error {
	return s.holdAs(ctx, s.newWorker(purpose), fn)
}

// newWorker says who this process is.
func (s *Sequencer) newWorker(purpose string) storage.Worker {
	self := process.Self()
	return storage.Worker{
		ID: storage.NewID(), Purpose: purpose, Actor: s.cfg.Actor, Hostname: self.Hostname,
		Boot: self.Boot, PID: self.PID, PIDStart: self.Start, Build: s.cfg.Build, Lease: s.cfg.Lease,
	}
}

func (s *Sequencer) holdAs(ctx context.Context, w storage.Worker, fn func(ctx context.Context, sess session) error) error {
	return engine.Hold(ctx, s.store, w, s.cfg.Logger, ErrCancelled, func(ctx context.Context, l *engine.Lease) error {
		tasks, stop := context.WithCancel(ctx)
		flows := newFlowWatch(tasks, s)
		s.waiting.enter(flows)
		defer func() {
			s.waiting.exit(flows)
			flows.close(stop)
		}()
		return fn(ctx, session{lease: l, errs: &errorLog{}, ended: &endings{}, memories: &memories{}, flows: flows})
	})
}

// exclusive runs fn while holding the run lock. What dead processes held is taken
// over first, so a run that was killed can be repeated at once. wait 0 refuses a
// held lock, naming the holder. What fn did is on the disk when it returns.
func (s *Sequencer) exclusive(ctx context.Context, sess session, wait time.Duration, fn func(ctx context.Context, sess session) error) (err error) {
	if err := s.acquire(ctx, sess, wait); err != nil {
		return err
	}
	sess.disk = newDisk(s.store)
	defer func() {
		err = errors.Join(err, sess.disk.sync(context.WithoutCancel(ctx)))
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Lease)
		defer cancel()
		if err := s.store.Unlock(ctx, storage.UnlockRequest{Name: RunLock, Worker: sess.worker()}); err != nil {
			s.cfg.Logger.WarnContext(ctx, "run lock was not freed; it ends with this process", keyError, err)
		}
	}()
	if err := s.awaitDetached(ctx, wait); err != nil {
		return err
	}
	return fn(ctx, sess)
}

func (s *Sequencer) acquire(ctx context.Context, sess session, wait time.Duration) error {
	deadline := time.Now().Add(wait)
	told := false
	for {
		err := s.store.Lock(ctx, storage.LockRequest{Name: RunLock, Worker: sess.worker()})
		var held *storage.LockedError
		if !errors.As(err, &held) {
			return err
		}
		freed, rescueErr := s.freeDead(ctx, sess, held.Lock.Worker.ID)
		if rescueErr != nil {
			return rescueErr
		}
		switch {
		case freed:
			continue
		case wait == 0:
			return fmt.Errorf("%w: %w", ErrLocked, held)
		case time.Now().After(deadline):
			return fmt.Errorf("%w: waited %s: %w", ErrLocked, wait, held)
		case !told:
			told = true
			s.emit(ctx, Event{Kind: EventLockWaiting, Err: held})
		}
		if !sleep(ctx, lockPoll) {
			return context.Cause(ctx)
		}
	}
}

// freeDead rescues what dead workers held, and reports whether holder was one.
func (s *Sequencer) freeDead(ctx context.Context, sess session, holder storage.ID) (bool, error) {
	if _, err := s.rescue(ctx, sess); err != nil {
		return false, err
	}
	locks, err := s.store.Locks(ctx)
	if err != nil {
		return false, err
	}
	for _, l := range locks {
		if l.Name == RunLock && l.Worker.ID == holder {
			return false, nil
		}
	}
	return true, nil
}

// rescue settles what dead workers held, and returns how many executions that were.
func (s *Sequencer) rescue(ctx context.Context, sess session) (int, error) {
	n, hooks, _, err := s.rescueAs(ctx, sess.worker(), home{queue: s.cfg.Queue, worker: sess.worker()})
	return n, errors.Join(err, s.callHooks(ctx, sess, hooks))
}

// rescueAs also gives hooks that worker is to call, and says which neighbours can be
// watched from then on. Hooks whose queue is gone go to at.
func (s *Sequencer) rescueAs(ctx context.Context, worker storage.ID, at home) (int, []storage.Execution, engine.Neighbours, error) {
	found, near, err := engine.Rescue(ctx, s.store, worker, s.judge(at))
	var hooks []storage.Execution
	for i := range found {
		row, o := &found[i].Row, &found[i].Outcome
		if h := o.Hook; h != nil && h.WorkerID == worker {
			born := *h
			born.State, born.Delivery = storage.Running, 1
			hooks = append(hooks, born)
		}
		s.recovered(ctx, row, o)
	}
	return len(found), hooks, near, err
}

// recovered tells what became of an execution whose worker died, and then its end, if
// that is what it came to (Q9.8).
func (s *Sequencer) recovered(ctx context.Context, row *storage.Execution, o *storage.Outcome) {
	e := Event{
		Kind: EventRecovered, Method: row.Method, ID: row.ID.String(), Name: row.Name, Operation: row.Kind, State: o.State,
		Attempt: row.Attempts(), Tags: row.Tags, Allowed: row.AllowedToFail, Reason: fmt.Sprintf("its worker died; it is now %s", o.State),
	}
	if row.Kind == storage.Hook {
		e.ID, e.Reason = row.Undoes.String(), fmt.Sprintf("the worker died that called its %s hook", row.Method)
		s.emit(ctx, e)
		return
	}
	s.emit(ctx, e)
	if o.State.Over() {
		s.freeElsewhere(ctx, row)
	}
	if o.State.Over() && row.Kind != storage.Undo {
		e.Kind, e.Reason, e.Err = endingKinds[o.State], o.Reason, &LostError{Name: row.Name, Attempt: row.Attempts()}
		s.emit(ctx, e)
	}
}

// pool serves private queues under a session until over says so. Nothing is ever
// parked in them (see Attempt.prepare), so no names are asked for.
func (s *Sequencer) pool(sess session, slots int, queues []string, over func(ctx context.Context, found engine.Found) (bool, error)) *engine.Pool {
	return &engine.Pool{
		Store: s.store, Lease: sess.lease, Queues: queues, Slots: slots,
		Attempt: s.attempts(sess), Poll: s.cfg.Poll, Grace: s.cfg.ShutdownGrace, Shutdown: ErrShutdown,
		Linger: s.cfg.TimeoutGrace + time.Second, // attempts abandon their handlers first, and say so
		Next:   func(id storage.ID) *storage.Execution { return sess.line[id] },
		Over: func(ctx context.Context, found engine.Found) (bool, error) {
			s.flowsMoved(ctx, found.Flows)
			return over(ctx, found)
		},
		Suspect: suspectAfter,
	}
}

// serveFlow works on a flow's private queue until the flow is over.
func (s *Sequencer) serveFlow(ctx context.Context, sess session, flow storage.ID, slots int, first storage.Claimed) (storage.Flow, error) {
	var last storage.Flow
	pool := s.pool(sess, slots, []string{privateQueue(flow)}, func(ctx context.Context, found engine.Found) (bool, error) {
		for _, f := range found.Flows {
			if f.ID == flow {
				last = f
			}
		}
		if found.Idle() && !last.Over() { // ended by somebody else, or waiting for somebody else's member
			// He may have died, or have claimed it on his way out, unseen until now.
			if _, err := s.rescue(ctx, sess); err != nil {
				return false, err
			}
			f, err := s.flow(ctx, flow)
			if err != nil {
				return false, err
			}
			last = f
		}
		if found.Quiet() && !last.Over() {
			if over, err := sess.patience.exhausted(ctx, s, flow); over || err != nil {
				return over, err
			}
		}
		return last.Over() && found.Running == 0, nil // likewise a hook has its own time
	})
	err := pool.Run(ctx, first)
	return last, err
}

func (s *Sequencer) flow(ctx context.Context, id storage.ID) (storage.Flow, error) {
	flows, err := s.store.Flows(ctx, storage.FlowFilter{IDs: []storage.ID{id}})
	if err != nil {
		return storage.Flow{}, err
	}
	if len(flows) == 0 {
		return storage.Flow{}, fmt.Errorf("flow %s: %w", id, storage.ErrNotFound)
	}
	return flows[0], nil
}

// privateQueue is the queue that only the process driving id serves.
func privateQueue(id storage.ID) string { return storage.PrivateQueue + id.String() }
