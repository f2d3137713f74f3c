package sequencer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gosequencer/sequencer/internal/engine"
	"github.com/gosequencer/sequencer/migration"
	"github.com/gosequencer/sequencer/storage"
)

// session is what the attempts of one call have in common: the lease they run
// under, and the errors they ended with, kept as Go errors for the caller.
type session struct {
	lease *engine.Lease
	run   storage.ID // the deploy run, if it is one
	tasks int
	errs  *errorLog
	ended *endings
	flows *flowWatch
	disk  *disk                             // of a run
	line  map[storage.ID]*storage.Execution // of a run: what alone comes after what, see lineOf
	// Of a run with tasks that need approval: how long it waits for that; nil = for ever.
	patience *patience

	memories  *memories     // for hooks of attempts made here
	abandoned *atomic.Int32 // counts handlers that ignored their end; of a worker
}

func (s session) worker() storage.ID { return s.lease.Worker.ID }

// errorLog keeps the latest error of each execution; a nil one nothing.
type errorLog struct {
	mu   sync.Mutex
	errs map[storage.ID]error
}

func (l *errorLog) set(id storage.ID, err error) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.errs == nil {
		l.errs = map[storage.ID]error{}
	}
	l.errs[id] = err
}

func (l *errorLog) get(id storage.ID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.errs[id]
}

// endings are the executions that came to their end in this session; nil ones are
// not kept.
type endings struct {
	mu  sync.Mutex
	ids map[storage.ID]bool
}

func (l *endings) add(id storage.ID) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ids == nil {
		l.ids = map[storage.ID]bool{}
	}
	l.ids[id] = true
}

func (l *endings) has(id storage.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ids[id]
}

// attempts is the one pipeline, as the engine calls it: for deploy runs, workers,
// synchronous execution and rollbacks alike (S6.1). Nothing else calls a handler.
//
// approval → decode → environment → middleware → condition → before → handler → outcome →
// commit (with the handler's transaction, if it asked for one) → events, which can no
// longer change anything. The hooks that follow an outcome are deliveries of their own.
func (s *Sequencer) attempts(sess session) engine.Attempt {
	return func(ctx context.Context, cancel context.CancelCauseFunc, e *storage.Execution, h *engine.Hand, next engine.Next) engine.Verdict {
		a := &Attempt{
			ID: e.ID.String(), Name: e.Name, Number: e.Attempts(), Tags: e.Tags, Undo: e.Kind == storage.Undo,
			seq: s, exec: e, session: sess,
		}
		if !sess.run.IsZero() {
			a.RunID = sess.run.String()
		}
		if e.Kind == storage.Hook {
			return s.attemptHook(ctx, cancel, a, h, next)
		}
		if err := sess.disk.before(ctx, e); err != nil {
			o, why := a.decide(ctx, ending{exec: a.exec, err: Fail(err)})
			return a.verdict(ctx, o, why, nil)
		}
		if e.Kind == storage.Migration {
			return s.attemptMigration(ctx, a, next)
		}
		if e.Kind == storage.Nested || e.Kind == storage.KindCallback {
			if o, why, over := a.standIn(ctx); over {
				return a.verdict(ctx, o, why, nil)
			}
		}
		if wait, goesOn := a.gate(ctx); !goesOn {
			return wait
		}
		if e.Overdue(time.Now()) {
			o, why := a.decide(ctx, ending{exec: a.exec, overdue: true})
			return a.verdict(ctx, o, why, nil)
		}
		defer a.unwatchFlows()
		if park, why := a.prepare(ctx); why != nil {
			return a.verdict(ctx, park, why, nil)
		}
		if s.heard(ctx, EventStarted) {
			s.emit(ctx, a.event(EventStarted, nil))
		}
		began := time.Now()
		// The handler's transaction is begun with this context and ends with it, so it
		// must outlive the commit.
		end := a.run(ctx, cancel, h)
		return a.conclude(ctx, end, began, next)
	}
}

// standIn ends the row of a flow in another one that nothing in it can end, because
// nothing is in it.
func (a *Attempt) standIn(ctx context.Context) (o storage.Outcome, why error, over bool) { //nolint:revive // the error is part of the answer
	p, err := readPolicy(a.exec.Policy)
	if err == nil && !p.StandsIn {
		return o, nil, false
	}
	o, why = a.decide(ctx, ending{exec: a.exec, err: Fail(err)})
	return o, why, true
}

// prepare finds the registration. A row this build cannot run is parked, at no
// cost to it, for a worker that can (Q1.37); in a private queue, which nobody else
// serves, it fails: a build that took over another's rollback may not have its code.
func (a *Attempt) prepare(ctx context.Context) (storage.Outcome, error) {
	reg, ok := a.seq.reg.lookup(a.exec.Name)
	var why error
	switch {
	case !ok:
		why = notFound(a.seq.reg, a.exec.Name)
	case a.exec.MinBuild > a.seq.cfg.Build:
		why = fmt.Errorf("%s wants build %d or later, this is %d", a.Name, a.exec.MinBuild, a.seq.cfg.Build)
	default:
		a.reg = reg
		return storage.Outcome{}, nil
	}
	if strings.HasPrefix(a.exec.Queue, storage.PrivateQueue) {
		return a.decide(ctx, ending{exec: a.exec, err: Fail(why)})
	}
	return storage.Outcome{
		ID: a.exec.ID, Delivery: a.exec.Delivery, State: storage.Pending, Park: true, Excuse: true,
		Errors: a.exec.Errors, Losses: a.exec.Losses,
	}, why
}

// run calls the chain in another goroutine, so that a handler that ignores its
// context can be left behind, and Goexit is survived.
func (a *Attempt) run(ctx context.Context, cancel context.CancelCauseFunc, h *engine.Hand) ending {
	a.tx = &a.own.tx
	a.tx.ctx, a.tx.kinds = ctx, a.seq.txKinds
	a.own.scope = scope{attempt: a, tx: a.tx}
	if a.reg.txNever {
		a.tx.deny = fmt.Errorf("%w: the operation is marked TxNever", ErrNoTx)
	}
	hctx := withScope(ctx, &a.own.scope)
	err := a.decode(ctx)
	if err == nil {
		done := make(chan error, 1)
		h.Do(func() { caught(done, func() error { return a.invoke(hctx, cancel) }) })
		select {
		case err = <-done:
			err = a.conceal(err)
		case <-ctx.Done():
			err = a.wait(ctx, h, done)
		}
	}
	end := ending{exec: a.exec, err: err, result: a.takeResult(), started: a.Started()}
	if ctx.Err() != nil {
		end.cause = context.Cause(ctx)
	}
	if errors.Is(end.cause, ErrTimeout) && err != nil && !errors.Is(err, ErrTimeout) {
		end.err = fmt.Errorf("%w: %w", end.cause, revealed(err))
		if _, hidden := err.(*ConcealedError); hidden { //nolint:errorlint // conceal is the last to wrap
			end.err = a.conceal(end.err)
		}
	}
	return end
}

// wait gives a handler whose context has ended the grace period, then abandons it:
// whatever it returns later is fenced off (Q2.9, Q2.10).
func (a *Attempt) wait(ctx context.Context, h *engine.Hand, done <-chan error) error {
	grace := time.NewTimer(a.seq.cfg.TimeoutGrace)
	defer grace.Stop()
	select {
	case err := <-done:
		return a.conceal(err)
	case <-grace.C:
		a.seq.cfg.Logger.WarnContext(ctx, "handler does not return and was abandoned", keyOperation, a.Name, keyExecution, a.ID)
		h.Leave()
		a.abandon(ctx, done)
		return fmt.Errorf("%w; the handler did not return within %s and was abandoned", context.Cause(ctx), a.seq.cfg.TimeoutGrace)
	}
}

// abandon leaves a handler behind. On a worker it keeps its slot, and counts, until
// it returns (Q2.11, Q2.12): the process has only so much room for such. A run goes
// on without it.
func (a *Attempt) abandon(ctx context.Context, done <-chan error) {
	still := make(chan struct{})
	a.still = still
	count := a.session.abandoned
	if count == nil {
		go func() {
			<-done //nolint:errcheck // what it returns comes too late
			close(still)
		}()
		return
	}
	count.Add(1)
	a.lingers = still
	locks := a.takeLocks()
	go func() {
		err := <-done
		a.unlock(context.WithoutCancel(ctx), locks)
		count.Add(-1)
		close(still)
		a.seq.cfg.Logger.WarnContext(ctx, "abandoned handler finished", keyOperation, a.Name, keyExecution, a.ID, keyError, a.conceal(err))
	}()
}

// errGoexit: a handler ended its goroutine instead of returning (Q2.13).
var errGoexit = errors.New("handler called runtime.Goexit")

// caught calls fn and delivers its error, a panic, or Goexit.
func caught(done chan<- error, fn func() error) {
	err := errGoexit
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{Value: p, Stack: string(debug.Stack())}
		}
		done <- err
	}()
	err = fn()
}

// guarded calls fn and turns a panic or Goexit into an error.
func guarded(fn func() error) error {
	done := make(chan error, 1)
	go caught(done, fn)
	return <-done
}

// decode makes the value of this attempt from a fresh one and the stored input.
// What does not fit will not fit next time either.
func (a *Attempt) decode(ctx context.Context) error {
	input, err := a.openInput(ctx)
	if err != nil {
		return err
	}
	op, err := a.reg.decode(input)
	if err != nil {
		return Fail(fmt.Errorf("%w: %w", ErrDecode, err))
	}
	a.Operation = op
	return nil
}

// invoke calls the middleware chain, or the rollback.
func (a *Attempt) invoke(ctx context.Context, cancel context.CancelCauseFunc) error {
	op := a.Operation
	if a.exec.Kind == storage.Hook {
		return a.callHook(ctx, cancel)
	}
	if a.Undo {
		undo := a.reg.rollback(op)
		if undo == nil {
			return Fail(ErrNotRollbackable)
		}
		return a.handle(ctx, cancel, undo)
	}
	if err := a.takeKey(ctx); err != nil {
		return err
	}
	list, declared, err := a.reg.environments(op)
	if err != nil {
		return err
	}
	if declared && !slices.Contains(list, a.seq.cfg.Environment) {
		return skipElsewhere(a.seq.cfg.Environment)
	}
	own, err := a.reg.middleware(op)
	if err != nil {
		return err
	}
	if len(a.seq.cfg.Middleware)+len(own) == 0 {
		return a.core(ctx, cancel)
	}
	return chain(slices.Concat(a.seq.cfg.Middleware, own), func(ctx context.Context, a *Attempt) error {
		return a.core(ctx, cancel)
	})(ctx, a)
}

// core is the innermost handler: condition, before hook, operation.
func (a *Attempt) core(ctx context.Context, cancel context.CancelCauseFunc) error {
	a.start()
	if err := a.begun(ctx); err != nil {
		return err
	}
	op := a.Operation
	if should := a.reg.condition(op); should != nil {
		ok, err := should(ctx)
		if err != nil {
			return err
		}
		if !ok {
			return Skip("condition")
		}
	}
	if before := a.reg.before(op); before != nil {
		if err := before(ctx); err != nil {
			return fmt.Errorf("before hook: %w", err)
		}
	}
	return a.handle(ctx, cancel, op.Handle)
}

// handle calls the operation under its timeout, which covers the handler alone (Q2.3).
func (a *Attempt) handle(ctx context.Context, cancel context.CancelCauseFunc, fn func(context.Context) error) error {
	a.start()
	p, err := a.policy()
	if err != nil {
		return Fail(err)
	}
	if limit := p.timeout(); limit > 0 {
		timer := time.AfterFunc(limit, func() { cancel(fmt.Errorf("%w after %s: %w", ErrTimeout, limit, context.DeadlineExceeded)) })
		defer timer.Stop()
	}
	return fn(ctx)
}

// policy is what was frozen at dispatch.
func (a *Attempt) policy() (policy, error) {
	if len(a.exec.Policy) == 0 || a.exec.Kind == storage.Hook { // a hook's is of another kind
		return policy{}, nil
	}
	return a.reg.policies.of(a.exec.Policy, parsePolicy)
}

// Carried is what [Config.Carry] had the execution take along when it was dispatched, "" for
// nothing. A retry, a rollback and a callback have what the first dispatch gave.
func (a *Attempt) Carried() string {
	if a.exec == nil {
		return ""
	}
	p, err := a.policy()
	if err != nil { // it fails the attempt elsewhere
		return ""
	}
	return p.Carried
}

// ErrorText is what may be told of an error of this attempt outside of it, such as on a trace:
// the text that logs have, redacted ([Config.Redact]), and of an [Encrypted] operation's the
// kind alone ([ConcealedError]).
func (a *Attempt) ErrorText(err error) string {
	if err == nil || a.exec == nil {
		return ""
	}
	return a.seq.redact(a.conceal(err).Error())
}

// conclude decides the outcome and commits it with the handler's transaction if
// there is one; otherwise the engine records it with the next batch.
func (a *Attempt) conclude(ctx context.Context, end ending, began time.Time, next engine.Next) engine.Verdict {
	end.ran = time.Since(began)
	end.left = time.Until(a.exec.DeadlineAt)
	if elsewhere, ok := errors.AsType[elsewhereSkip](end.err); ok {
		end.env = elsewhere.environment
	}
	var err error
	if end.policy, err = a.policy(); err != nil {
		end.policy = policy{}
	}
	o, why := a.decide(ctx, end)
	owned := a.tx.end()
	if owned == nil {
		return a.verdict(ctx, o, why, nil)
	}
	wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.session.lease.Worker.Lease)
	defer cancel()
	if !a.commits(o, end.err) {
		if rerr := owned.Rollback(wctx); rerr != nil {
			a.seq.cfg.Logger.WarnContext(ctx, "rollback of a handler's transaction", keyOperation, a.Name, keyError, rerr)
		}
		return a.verdict(ctx, o, why, nil)
	}
	wrote, err := a.commit(wctx, owned, o, next)
	switch {
	case err == nil:
		return a.verdict(ctx, o, why, &wrote)
	case leaseOver(err):
		return a.lostVerdict(ctx, err)
	}
	// S7.9: a commit error is a failed attempt, never a completed one. What the database
	// undid of its own accord is no error of the handler's.
	a.undone = errors.Is(err, storage.ErrConflict)
	end.err, end.result = a.conceal(fmt.Errorf("commit: %w", errors.Join(err, end.cause))), nil
	o, why = a.decide(ctx, end)
	return a.verdict(ctx, o, why, nil)
}

// commits reports whether this outcome keeps what the handler wrote.
func (a *Attempt) commits(o storage.Outcome, err error) bool {
	if o.State == storage.Completed {
		return true
	}
	return o.State == storage.Skipped && gravest(err).keep
}

// errFenced: the row is no longer this worker's; nothing may be written.
var errFenced = fmt.Errorf("%w: the execution was given to another worker", ErrLeaseLost)

func (a *Attempt) commit(ctx context.Context, owned storage.OwnedTx, o storage.Outcome, next engine.Next) (storage.Finished, error) {
	wrote, err := a.seq.tx.FinishTx(ctx, owned, a.finish(o, next(o.Hook != nil)))
	if err == nil && !wrote.Applied[0] {
		err = errFenced
	}
	if err != nil {
		return storage.Finished{}, errors.Join(err, owned.Rollback(ctx))
	}
	return wrote, owned.Commit(ctx)
}

// finish is how an attempt that commits by itself records its outcome.
func (a *Attempt) finish(o storage.Outcome, claim *storage.ClaimRequest) storage.FinishRequest {
	return storage.FinishRequest{
		Worker: a.session.worker(), Outcomes: []storage.Outcome{o}, Claim: claim, Next: a.session.line[a.exec.ID],
	}
}

// leaseOver reports that the store no longer takes this worker's word. The handler
// did not fail, and what it wrote is gone: that is a lost attempt, for a rescuer to
// record. An execution that was given to another worker already needs nobody.
func leaseOver(err error) bool { return errors.Is(err, ErrLeaseLost) && !errors.Is(err, errFenced) }

func (a *Attempt) lostVerdict(ctx context.Context, err error) engine.Verdict {
	a.session.errs.set(a.exec.ID, err)
	return engine.Verdict{Lost: err, Lingers: a.lingers, After: func(*storage.Outcome) {
		a.seq.emit(ctx, a.event(EventFenced, func(e *Event) { e.Err = err }))
	}}
}

// decide asks the pure step, and completes its outcome with what the ledger keeps
// of progress and failure.
func (a *Attempt) decide(ctx context.Context, end ending) (storage.Outcome, error) {
	end.undone = a.undone
	o, why := decide(end)
	if a.exec.Kind == storage.Hook {
		o, why = decideHook(end)
	}
	if a.hasAdvanced() {
		o.Losses = 0
	}
	if o.Hook = a.seq.hookOf(a.exec, &o); o.Hook != nil {
		if o.Hook.WorkerID = a.session.worker(); a.reg != nil && a.Operation == nil { // it was not decoded here
			a.uncalled(ctx, o.Hook.Method, why)
			o.Hook = nil
		}
	}
	o.Of = a.exec
	o.Unlock, o.Watched = a.held(), a.seq.watched(a.exec)
	o.Progress = a.lastProgress()
	if adds := a.takeAdditions(); o.State == storage.Completed {
		o.Adds = adds
	}
	if o.Failure == nil {
		return o, why
	}
	if a.seq.cfg.DisableErrorRecords && !kept(a.exec, &o) {
		o.Failure = nil
		return o, why
	}
	if c, ok := why.(*ConcealedError); ok { //nolint:errorlint // conceal is the last to wrap
		o.Failure = a.sealFailure(ctx, c, o.Failure.Outcome)
		return o, why
	}
	o.Failure.Message, o.Failure.Trace = a.seq.redact(o.Failure.Message), a.seq.redact(o.Failure.Trace)
	o.Failure.Group = errorGroup(a.Name, o.Failure)
	return o, why
}

// kept reports whether the attempt log needs a failure whatever the configuration: by a
// rejection and by the end of what was approved it tells which answers have served.
func kept(e *storage.Execution, o *storage.Outcome) bool {
	return o.Failure.Outcome == outcomeRejected || o.State.Over() && bytes.Contains(e.Policy, approverMark)
}

// verdict is what the engine gets. After the outcome is durable comes the event, then
// the hook (Q9.21).
func (a *Attempt) verdict(ctx context.Context, o storage.Outcome, err error, wrote *storage.Finished) engine.Verdict {
	if a.exec.Kind == storage.Hook {
		return a.hookVerdict(ctx, o, err, wrote)
	}
	a.session.errs.set(a.exec.ID, err)
	hook := o.Hook // the outcome itself would stay in memory with the function
	a.session.memories.keep(hook, known{err, a.still})
	return engine.Verdict{Outcome: o, Finished: wrote, Lingers: a.lingers, After: func(became *storage.Outcome) {
		if became == nil {
			if hook != nil {
				a.session.memories.take(hook.ID)
			}
			a.seq.emit(ctx, a.event(EventFenced, func(e *Event) { e.Err = err }))
			return
		}
		if became.State.Over() {
			a.session.ended.add(a.exec.ID)
			a.seq.freeElsewhere(ctx, a.exec)
		}
		if err := a.session.disk.after(ctx); err != nil { // the run will say so too, at its end
			a.seq.cfg.Logger.ErrorContext(ctx, "the disk does not keep up", keyError, err)
		}
		if kind := a.outcomeKind(became, err); a.seq.heard(ctx, kind) {
			a.seq.emit(ctx, a.outcomeEvent(kind, became, err))
		}
	}}
}

// attemptMigration applies one migration. Where it runs in a transaction of the
// ledger's database, its outcome, and the claim of what comes next, commit with it.
func (s *Sequencer) attemptMigration(ctx context.Context, a *Attempt, next engine.Next) engine.Verdict {
	s.emit(ctx, a.event(EventStarted, nil))
	began := time.Now()
	version, err := strconv.ParseInt(string(a.exec.Input), 10, 64)
	var wrote *storage.Finished
	if err == nil {
		err = guarded(func() error {
			return s.cfg.Migrations.Apply(ctx, version, func(ctx context.Context, tx storage.Tx) error {
				o, _ := a.decide(ctx, ending{exec: a.exec, ran: time.Since(began)})
				w, err := s.tx.FinishTx(ctx, tx, a.finish(o, next(o.Hook != nil)))
				if err == nil && !w.Applied[0] {
					err = errFenced
				}
				wrote, a.undone = &w, errors.Is(err, storage.ErrConflict)
				return err
			})
		})
	}
	if leaseOver(err) {
		return a.lostVerdict(ctx, err)
	}
	if errors.Is(err, migration.ErrApplied) { // by goose itself, or by a run that died before it could say so
		err = nil
	}
	end := ending{exec: a.exec, err: err, ran: time.Since(began), started: true}
	if err != nil {
		wrote = nil
		if ctx.Err() != nil {
			end.cause = context.Cause(ctx)
		}
	}
	o, why := a.decide(ctx, end)
	return a.verdict(ctx, o, why, wrote)
}
