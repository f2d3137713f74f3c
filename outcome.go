package sequencer

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/gosequencer/sequencer/internal/backoff"
	"github.com/gosequencer/sequencer/storage"
)

// MaxLost is how many attempts in a row may be lost before an execution is failed,
// whatever its tries: it may be what kills their workers (Q2.17). An attempt that the
// database undid because another transaction was in the way counts too; the fifth of
// them is an error like any other.
const MaxLost = 5

// conflictBackoff is how long to wait after the n-th loss in a row when it was the
// database that undid the attempt. Who was in the way has gone on; from the second on
// the execution is attempted alone as well (ADR 11).
var conflictBackoff = []time.Duration{50 * time.Millisecond, 200 * time.Millisecond, time.Second}

// suspectAfter is how many workers in a row an execution has lost when it is attempted
// alone (ADR 11): often enough that the machine is hardly to blame, and early enough
// for one of three tries.
const suspectAfter = 2

// signal is an outcome a handler asks for by returning it as an error.
type signal struct {
	kind   signalKind
	reason string
	after  time.Duration
	keep   bool // a skip that commits what the handler wrote
	free   bool // a release that costs no attempt although the handler ran
	park   bool // a release until the operation is resumed
	err    error
	late   error // of a release: what there is no time left for
}

// In order of gravity: where an error joins several, the highest wins, so that a
// skip cannot hide a failure.
type signalKind int

const (
	signalSkip signalKind = iota + 1
	signalSkipForNow
	signalCancel
	signalRelease
	signalRetryAfter
	signalError // any ordinary error
	signalFail
)

func (s *signal) Error() string {
	switch s.kind {
	case signalSkip, signalSkipForNow:
		return "skipped: " + s.reason
	case signalCancel:
		return "cancelled: " + s.reason
	case signalRelease:
		if s.reason != "" {
			return fmt.Sprintf("released for %s: %s", s.after, s.reason)
		}
		return fmt.Sprintf("released for %s", s.after)
	default:
		return s.err.Error()
	}
}

func (s *signal) Unwrap() error { return s.err }

// SkipOption changes a Skip.
type SkipOption func(*signal)

// KeepChanges commits what the handler wrote in its transaction before it decided
// to skip. By default it is rolled back (S7.7).
func KeepChanges() SkipOption { return func(s *signal) { s.keep = true } }

// Skip ends the execution as skipped, for good: it counts as done and satisfies
// those that depend on it (S8.6). No hook runs, nothing is retried.
func Skip(reason string, opts ...SkipOption) error {
	return skip(signalSkip, reason, opts)
}

// SkipForNow ends the execution as skipped, but not done: the next run offers the
// operation again, and it satisfies nobody.
func SkipForNow(reason string, opts ...SkipOption) error {
	return skip(signalSkipForNow, reason, opts)
}

func skip(kind signalKind, reason string, opts []SkipOption) error {
	s := &signal{kind: kind, reason: orDefault(reason, "skipped by the operation")}
	for _, o := range opts {
		o(s)
	}
	return s
}

// Cancel ends the execution as cancelled: it neither did its work nor failed. In a
// batch the others go on and Then is not called; in a chain the rest is cancelled too.
// A retry of the flow takes it back.
func Cancel(reason string) error {
	return &signal{kind: signalCancel, reason: orDefault(reason, "cancelled by the operation")}
}

// Release asks to be run again after a while, without an error. From a handler it
// spends an attempt (it ran); from a middleware that did not call it, none (Q1.3).
// A negative delay means at once.
func Release(after time.Duration) error {
	return &signal{kind: signalRelease, after: max(after, 0)}
}

// Deferral is Release with the reason that the ledger shows to whoever asks why the
// execution waits. It is what middleware turns a delivery away with.
func Deferral(after time.Duration, reason string) error {
	return &signal{kind: signalRelease, after: max(after, 0), reason: reason}
}

// Fail ends the execution as failed now, whatever tries are left. nil stays nil,
// so a handler can end with return sequencer.Fail(do()).
func Fail(err error) error {
	if err == nil {
		return nil
	}
	return &signal{kind: signalFail, err: err}
}

// RetryAfter is an ordinary error with its own delay before the next attempt. nil
// stays nil.
func RetryAfter(err error, d time.Duration) error {
	if err == nil {
		return nil
	}
	return &signal{kind: signalRetryAfter, err: err, after: max(d, 0)}
}

// IsFailure reports whether an attempt's error is a failure: not nil, and no Skip,
// Cancel or Release. It is for middleware.
func IsFailure(err error) bool {
	return err != nil && gravest(err).kind >= signalRetryAfter
}

// gravest finds the outcome an error asks for: along single wrapping the first
// signal, and where an error has several children the gravest of them. The
// returned signal's err is the whole error for ordinary ones, and what was
// wrapped for others.
func gravest(err error) *signal {
	for e := err; e != nil; {
		switch x := e.(type) { //nolint:errorlint // this is the unwrapping
		case *ConcealedError:
			e = x.err()
		case *signal:
			switch {
			case x.kind == signalRetryAfter && gravest(x.err).kind == signalFail: // a delay changes nothing about the end
				return &signal{kind: signalFail, err: err}
			case x.kind == signalFail || x.kind == signalRetryAfter:
				return &signal{kind: x.kind, after: x.after, err: err}
			}
			return x
		case *ExecutionError: // another execution's end is an ordinary error here
			return &signal{kind: signalError, err: err}
		case interface{ Unwrap() []error }:
			worst := &signal{kind: signalError, err: err}
			for i, child := range x.Unwrap() {
				if s := gravest(child); i == 0 || s.kind > worst.kind {
					worst = s
				}
			}
			if worst.kind >= signalRetryAfter {
				return &signal{kind: worst.kind, after: worst.after, err: err}
			}
			return worst
		case interface{ Unwrap() error }:
			e = x.Unwrap()
		default:
			e = nil
		}
	}
	return &signal{kind: signalError, err: err}
}

func orDefault(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// ending is everything the decision about one attempt depends on.
type ending struct {
	exec    *storage.Execution
	policy  policy
	err     error         // what the middleware chain returned
	started bool          // the handler was entered
	ran     time.Duration // of the handler
	left    time.Duration // until the retry deadline, when the row has one
	cause   error         // why the attempt's context ended, nil if it did not
	undone  bool          // err is the database's, which undid the handler's transaction for another one's sake
	overdue bool          // its deadline passed while it waited, so nothing was called
	env     string        // a skip that holds only here
	// A person did not let it run, so nothing was called.
	rejected *RejectedError
	result   []byte
}

// decide is the pure step from an attempt's error to the outcome that the store
// records, and the error that whoever waits is told (S12, Q1). Everything that
// ends an attempt, in any path, comes here.
func decide(e ending) (storage.Outcome, error) {
	o := storage.Outcome{
		ID: e.exec.ID, Delivery: e.exec.Delivery, Errors: e.exec.Errors, Ran: e.ran, Result: e.result,
	}
	switch {
	case e.overdue: // Q1.12: no attempt begins after the deadline
		o, why := final(o, ErrDeadline, "deadline")
		o.Excuse, o.Losses = true, e.exec.Losses
		return o, why
	case e.rejected != nil:
		return final(o, e.rejected, outcomeRejected)
	case e.err == nil && errors.Is(e.cause, ErrCancelled): // what a handler that was asked to stop says afterwards does not count
		o.State, o.Reason, o.Result = storage.Cancelled, ErrCancelled.Error(), nil
		return o, ErrCancelled
	case e.err == nil:
		o.State = storage.Completed
		return o, nil
	}
	s := gravest(e.err)
	switch {
	case errors.Is(e.cause, ErrShutdown) && s.kind != signalFail && e.started && e.exec.OnLoss == storage.LossInterrupt:
		// Cut off in the middle of what must not be repeated unseen: nobody knows how
		// far it came, whether a signal or a kill ended it.
		o.State, o.Failure = storage.Interrupted, failureOf(e.err, "interrupted")
	case errors.Is(e.cause, ErrShutdown) && s.kind != signalFail:
		// Stopped by us, not by itself: as if it had not been delivered (Q10.15).
		o.State, o.Excuse, o.Losses = storage.Pending, true, e.exec.Losses
	case errors.Is(e.cause, ErrCancelled):
		o.State, o.Reason = storage.Cancelled, ErrCancelled.Error()
	case e.undone:
		return undone(e, o, s)
	case s.kind <= signalSkipForNow:
		o.State, o.Reason, o.ForNow, o.Env = storage.Skipped, s.reason, s.kind == signalSkipForNow, e.env
	case s.kind == signalRelease && s.free: // Q10.18: what is paused waits, and pays nothing for it
		o.State, o.Excuse, o.Park, o.Losses = storage.Pending, true, s.park, e.exec.Losses
	case s.kind == signalCancel:
		o.State, o.Reason, o.ForNow = storage.Cancelled, s.reason, true
	case s.kind == signalRelease:
		o.Reason = s.reason
		return release(e, o, s)
	default:
		return fail(e, o, s)
	}
	return o, e.err
}

// release sends the execution back without an error. One that middleware deferred
// costs nothing and is bounded by the deadline only (Q1.4); one whose handler ran
// has spent an attempt (Q1.15).
func release(e ending, o storage.Outcome, s *signal) (storage.Outcome, error) {
	why := e.tooLate(s.after)
	if why != nil && s.late != nil {
		why = fmt.Errorf("%w: %w", s.late, why)
	}
	if e.policy.NoWait && why == nil {
		d := &DeferredError{Name: e.exec.Name, After: s.after, Reason: s.reason}
		o.State, o.Reason = storage.Cancelled, d.Error()
		o.Excuse, o.Losses = !e.started, e.exec.Losses
		return o, d
	}
	if e.started {
		why = cmp.Or(e.exhausted(e.exec.Attempts()), why)
	} else {
		o.Excuse, o.Losses = true, e.exec.Losses
	}
	if why != nil {
		return final(o, why, "released")
	}
	o.State, o.Delay = storage.Pending, s.after
	return o, e.err
}

// undone sends back an execution whose handler returned, and whose transaction the
// database then undid for the sake of another one: a deadlock, say, in which it was the
// victim. The handler made no error, and none of its work is left, so the attempt costs
// neither a try nor an exception, not even the only try: that promises one effect, and
// there is none (Q9.9). What a handler did beside its transaction is done again, as after
// a crash (ADR 3); who minds says TxNever. It is a loss, so it shows among the attempts
// and does not go on for ever: at the limit it is a failed attempt after all (S7.9).
func undone(e ending, o storage.Outcome, s *signal) (storage.Outcome, error) {
	losses := e.exec.Losses + 1
	delay := backoff.Delay(conflictBackoff, losses)
	if losses >= MaxLost || e.tooLate(delay) != nil {
		return fail(e, o, s)
	}
	o.State, o.Delay, o.Excuse, o.Losses = storage.Pending, delay, true, losses
	o.Failure = failureOf(e.err, "conflict")
	return o, e.err
}

// fail decides between a retry and the end.
func fail(e ending, o storage.Outcome, s *signal) (storage.Outcome, error) {
	o.Errors++
	how := "error"
	var p *PanicError
	switch {
	case errors.As(e.err, &p):
		how = "panic"
	case errors.Is(e.cause, ErrTimeout):
		how = "timeout"
	}
	delay := backoff.Delay(e.policy.backoff(), o.Errors+e.exec.Losses)
	if s.kind == signalRetryAfter {
		delay = s.after
	}
	if s.kind == signalFail ||
		how == "timeout" && e.policy.FailOnTimeout ||
		e.policy.MaxExceptions > 0 && o.Errors >= e.policy.MaxExceptions ||
		e.exhausted(e.exec.Attempts()) != nil ||
		e.tooLate(delay) != nil { // Q1.14: with the real error, not a generic one
		return final(o, e.err, how)
	}
	o.State, o.Delay, o.Failure = storage.Pending, delay, failureOf(e.err, how)
	return o, e.err
}

func final(o storage.Outcome, why error, how string) (storage.Outcome, error) {
	o.State, o.Reason, o.Excuse, o.Failure = storage.Failed, "", false, failureOf(why, how)
	return o, why
}

// exhausted reports whether no attempt is left after n of them. Without declared
// tries there is one, or with a retry deadline as many as fit (Q1.9, Q1.11).
func (e *ending) exhausted(n int) error {
	tries, declared := e.policy.tries()
	if !declared && e.hasDeadline() {
		return nil
	}
	if tries == 0 || n < tries {
		return nil
	}
	return fmt.Errorf("%w (%d)", ErrMaxAttempts, n)
}

func (e *ending) hasDeadline() bool { return !e.exec.DeadlineAt.IsZero() }

// tooLate reports whether a retry after delay would start past the deadline.
func (e *ending) tooLate(delay time.Duration) error {
	if !e.hasDeadline() || delay <= e.left {
		return nil
	}
	return ErrDeadline
}

// lost decides about an execution whose worker died while it held it. row is as
// the rescuer found it; the delivery is the rescuer's.
func lost(row storage.Execution) storage.Outcome {
	o := storage.Outcome{ID: row.ID, Delivery: row.Delivery, Errors: row.Errors, Losses: row.Losses}
	if row.State == storage.Pending { // it waited for a retry in a process that is gone
		if row.OnLoss == storage.LossFail {
			o.State, o.Failure = storage.Failed, lossOf(row, fmt.Errorf("%w while it waited for a retry", ErrLost))
			return o
		}
		o.State, o.Reason = storage.Cancelled, "the process that would have retried it is gone"
		return o
	}
	o.Losses++
	o.Failure = lossOf(row, ErrLost)
	p, err := readPolicy(row.Policy)
	if err != nil {
		p = policy{}
	}
	tries, declared := p.tries()
	switch {
	case row.OnLoss == storage.LossInterrupt:
		o.State = storage.Interrupted
	case row.OnLoss == storage.LossFail,
		declared && tries > 0 && row.Attempts() >= tries, // declared tries bind losses too
		o.Losses >= MaxLost:
		o.State = storage.Failed
	case row.OnLoss == storage.LossCancel:
		o.State, o.Reason = storage.Cancelled, "its process died; what it had begun was undone with it"
	default:
		o.State = storage.Pending
		o.Delay = backoff.Delay(p.backoff(), o.Errors+o.Losses)
	}
	return o
}

func lossOf(row storage.Execution, err error) *storage.Failure {
	f := failureOf(err, "lost")
	f.Group = errorGroup(row.Name, f)
	return f
}
