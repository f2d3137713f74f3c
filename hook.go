package sequencer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/gosequencer/sequencer/internal/backoff"
	"github.com/gosequencer/sequencer/internal/engine"
	"github.com/gosequencer/sequencer/storage"
)

// A hook that follows an outcome is a row of Kind hook, written with that outcome
// (storage.Outcome.Hook). So it is called after the outcome can be seen, exactly once
// unless its process dies, then again by somebody else, and never lost (Q9.20).

// HookLimit is how long an after or failed hook may run before its context ends (Q9.14).
const HookLimit = 30 * time.Second

// MaxHookDeliveries is how often a hook is begun at most, if the workers that call it
// keep dying. Then it is given up, which the attempts of its execution say.
const MaxHookDeliveries = 3

// Hooks an operation has, as its policy freezes them.
const (
	hasAfter = 1 << iota
	hasFailed
)

// frozenHook is what the row of a hook keeps of the attempt it follows.
type frozenHook struct {
	Attempt int      `json:"attempt"`
	Tags    []string `json:"tags,omitempty"`
	Lost    int      `json:"lost,omitempty"` // deliveries that were lost before it moved here
}

func (f frozenHook) bytes() []byte {
	b, err := json.Marshal(f)
	if err != nil {
		panic(err) // numbers and texts always marshal
	}
	return b
}

func readHook(stored []byte) (frozenHook, error) {
	var f frozenHook
	if err := json.Unmarshal(stored, &f); err != nil {
		return f, fmt.Errorf("stored hook: %w", err)
	}
	return f, nil
}

// hookOf is the row that will call the hook which an outcome asks for, nil for none.
// The code says which hooks there are, where it is known; else what was frozen at
// dispatch does, so that a rescuer needs none of it.
func (s *Sequencer) hookOf(row *storage.Execution, o *storage.Outcome) *storage.Execution {
	if row.Kind == storage.Undo || row.Kind == storage.Migration || row.Kind == storage.Hook || row.Kind == storage.Nested {
		return nil
	}
	var method string
	var bit int
	var declared ability
	switch o.State {
	case storage.Completed:
		method, bit, declared = storage.MethodAfter, hasAfter, abilityAfter
	case storage.Failed:
		method, bit, declared = storage.MethodFailed, hasFailed, abilityFailed
	default:
		return nil
	}
	if reg, ok := s.reg.lookup(row.Name); ok {
		if !reg.has(declared) {
			return nil
		}
	} else if p, err := readPolicy(row.Policy); err != nil || p.Hooks&bit == 0 {
		return nil
	}
	h := row.Hook(method)
	h.Policy = frozenHook{Attempt: row.Attempts(), Tags: row.Tags}.bytes()
	return &h
}

// home is where hooks go whose own queue nobody serves any more.
type home struct {
	queue  string     // that workers serve
	worker storage.ID // who calls them itself, if it can; zero = nobody
}

// settle gives a hook that waits a place where it will be called.
func (s *Sequencer) settle(h *storage.Execution, at home) {
	h.WorkerID = storage.ID{}
	if !strings.HasPrefix(h.Queue, storage.PrivateQueue) {
		return
	}
	h.Queue = at.queue
	if reg, ok := s.reg.lookup(h.Name); ok && reg != nil && !at.worker.IsZero() && h.MinBuild <= s.cfg.Build {
		h.Queue, h.WorkerID = privateQueue(at.worker), at.worker
	}
}

// judge decides about what dead workers held.
func (s *Sequencer) judge(at home) func(storage.Execution) storage.Outcome {
	return func(row storage.Execution) storage.Outcome {
		if row.Kind == storage.Hook {
			return s.lostHook(row, at)
		}
		o := lost(row)
		o.Watched = s.watched(&row)
		if o.Hook = s.hookOf(&row, &o); o.Hook != nil {
			s.settle(o.Hook, at)
		}
		return o
	}
}

// lostHook decides about a hook whose worker died while it held it.
func (s *Sequencer) lostHook(row storage.Execution, at home) storage.Outcome {
	o := storage.Outcome{ID: row.ID, Delivery: row.Delivery, Of: &row, Losses: row.Losses, State: storage.Pending}
	if row.State == storage.Running {
		o.Losses++
	}
	f, err := readHook(row.Policy)
	f.Lost += o.Losses
	switch {
	case f.Lost >= MaxHookDeliveries:
		err = fmt.Errorf("%s hook: %w: %d workers died while they called it, and it is given up", row.Method, ErrLost, f.Lost)
		fallthrough
	case err != nil:
		o.State, o.Failure = storage.Failed, failureOf(err, "hook")
		o.Failure.Group = errorGroup(row.Name, o.Failure)
	case strings.HasPrefix(row.Queue, storage.PrivateQueue): // it moves, as another row
		moved := storage.Execution{
			ID: storage.HookID(row.ID, row.Delivery), Name: row.Name, Kind: row.Kind, Method: row.Method, Actor: row.Actor, Queue: row.Queue,
			Priority: row.Priority, Input: row.Input, Policy: f.bytes(), OnLoss: row.OnLoss, MinBuild: row.MinBuild,
			Position: row.Position, Undoes: row.Undoes,
		}
		s.settle(&moved, at)
		o.State, o.Hook = storage.Completed, &moved
	}
	return o
}

// callHooks calls hooks that a rescue gave to this session.
func (s *Sequencer) callHooks(ctx context.Context, sess session, hooks []storage.Execution) error {
	if len(hooks) == 0 {
		return nil
	}
	pool := s.pool(sess, DefaultSlots, []string{privateQueue(sess.worker())}, func(_ context.Context, found engine.Found) (bool, error) {
		return found.Running == 0, nil
	})
	return pool.Run(ctx, storage.Claimed{Executions: hooks, NextDue: -1})
}

// known is what this process remembers for a hook of an attempt it made itself.
type known struct {
	cause error
	still <-chan struct{} // closed once the handler that was abandoned has ended
}

// memories keep that until the hook is called.
type memories struct {
	mu sync.Mutex
	of map[storage.ID]known // by the hook's id
}

func (m *memories) keep(hook *storage.Execution, k known) {
	if m == nil || hook == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of == nil {
		m.of = map[storage.ID]known{}
	}
	m.of[hook.ID] = k
}

func (m *memories) take(hook storage.ID) known {
	if m == nil {
		return known{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.of[hook]
	delete(m.of, hook)
	return k
}

// attemptHook calls a hook. No middleware is around it, and no event is sent about it.
func (s *Sequencer) attemptHook(ctx context.Context, cancel context.CancelCauseFunc, a *Attempt, h *engine.Hand, next engine.Next) engine.Verdict {
	read := readHook
	if reg, ok := s.reg.lookup(a.exec.Name); ok {
		read = func(stored []byte) (frozenHook, error) { return reg.hooks.of(stored, readHook) }
	}
	f, err := read(a.exec.Policy)
	if err != nil {
		o, why := a.decide(ctx, ending{exec: a.exec, err: err})
		return a.hookVerdict(ctx, o, why, nil)
	}
	a.ID, a.Number, a.Tags, a.follows = a.exec.Undoes.String(), f.Attempt, f.Tags, a.session.memories.take(a.exec.ID)
	if park, why := a.prepare(ctx); why != nil {
		return a.hookVerdict(ctx, park, why, nil)
	}
	began := time.Now()
	return a.conclude(ctx, a.run(ctx, cancel, h), began, next)
}

// callHook is the innermost step of a hook.
func (a *Attempt) callHook(ctx context.Context, cancel context.CancelCauseFunc) error {
	timer := time.AfterFunc(HookLimit, func() {
		cancel(fmt.Errorf("%s hook: %w after %s: %w", a.exec.Method, ErrTimeout, HookLimit, context.DeadlineExceeded))
	})
	defer timer.Stop()
	if a.exec.Method == storage.MethodAfter {
		if after := a.reg.after(a.Operation); after != nil {
			return after(ctx)
		}
		return nil
	}
	failed := a.reg.failed(a.Operation)
	if failed == nil {
		return nil
	}
	cause := a.follows.cause
	if cause == nil {
		var err error
		if cause, err = a.recorded(ctx); err != nil {
			return err
		}
	}
	return failed(ctx, revealed(cause))
}

// recorded is the cause of a failure as the ledger tells it.
func (a *Attempt) recorded(ctx context.Context) (error, error) {
	log, err := a.seq.store.Attempts(ctx, a.exec.Undoes)
	if err != nil {
		return nil, err
	}
	for _, at := range log {
		if at.Delivery != a.exec.Position {
			continue
		}
		if at.Outcome == "lost" {
			return &LostError{Name: a.Name, Attempt: a.Number}, nil
		}
		if at.Message, err = a.seq.Reveal(ctx, at); err != nil {
			return nil, err
		}
		return &RecordedError{Failure: at.Failure}, nil
	}
	return &RecordedError{Failure: storage.Failure{Outcome: "error", Message: "the failure was not recorded"}}, nil
}

// decideHook is decide for a hook: its error changes nothing, and is not retried.
func decideHook(e ending) (storage.Outcome, error) {
	o := storage.Outcome{
		ID: e.exec.ID, Delivery: e.exec.Delivery, State: storage.Completed, Ran: e.ran, Errors: e.exec.Errors, Losses: e.exec.Losses,
	}
	switch {
	case e.err == nil:
	case errors.Is(e.cause, ErrShutdown): // somebody else calls it
		o.State, o.Excuse = storage.Pending, true
	case e.undone && o.Losses+1 < MaxHookDeliveries:
		o.State, o.Excuse, o.Losses = storage.Pending, true, o.Losses+1
		o.Delay = backoff.Delay(conflictBackoff, o.Losses)
	default:
		o.State, o.Failure = storage.Failed, failureOf(e.err, "hook")
	}
	return o, e.err
}

// hookVerdict tells the log what became of a hook.
func (a *Attempt) hookVerdict(ctx context.Context, o storage.Outcome, err error, wrote *storage.Finished) engine.Verdict {
	return engine.Verdict{Outcome: o, Finished: wrote, Lingers: a.lingers, After: func(became *storage.Outcome) {
		switch {
		case err == nil || became == nil || became.State == storage.Pending:
		case a.Operation == nil:
			a.uncalled(ctx, a.exec.Method, err)
		default:
			a.seq.cfg.Logger.ErrorContext(ctx, a.exec.Method+" hook failed", keyOperation, a.Name, keyExecution, a.ID, keyError, err)
		}
	}}
}

// uncalled says why a hook is not: there is no operation or input to call it with.
func (a *Attempt) uncalled(ctx context.Context, method string, err error) {
	a.seq.cfg.Logger.WarnContext(ctx, method+" hook is not called", keyOperation, a.Name, keyExecution, a.ID, keyError, err)
}

// HandlerStillRunning reports, in a failed hook, that the handler of the last attempt
// ignored its end and still runs in this process, beside the hook (Q9.19).
func (a *Attempt) HandlerStillRunning() bool {
	if a.follows.still == nil {
		return false
	}
	select {
	case <-a.follows.still:
		return false
	default:
		return true
	}
}

// target is the execution whose hook this is, as it stands.
func (a *Attempt) target(ctx context.Context) (storage.Execution, error) {
	return a.seq.row(ctx, a.exec.Undoes)
}

// LostError is the cause of an execution that failed because the workers that ran it
// died. It matches ErrLost.
type LostError struct {
	Name    string
	Attempt int // the last
}

func (e *LostError) Error() string {
	return fmt.Sprintf("%s: %v (attempt %d)", e.Name, ErrLost, e.Attempt)
}

// Is makes errors.Is(err, ErrLost) true.
func (e *LostError) Is(target error) bool { return target == ErrLost }

// RecordedError is a failure that comes from the ledger, because the process that had
// the error is gone: its text and type, and no more. It matches ErrTimeout where the
// attempt timed out.
type RecordedError struct{ storage.Failure }

func (e *RecordedError) Error() string { return e.Message }

// Is tells a timeout.
func (e *RecordedError) Is(target error) bool { return target == ErrTimeout && e.Outcome == "timeout" }
