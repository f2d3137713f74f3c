package sequencer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// What a deferred operation has when neither it nor Config says otherwise (S28.1, S28.7).
const (
	DefaultDeferTries   = 3
	DefaultDeferBackoff = time.Minute
)

// MethodDeferred is the method of what Defer stored, in the ledger and in events.
const MethodDeferred = "deferred"

// Defer stores op to be run by a worker once it is due at; a time in the past is due at
// once. It is a dispatch with a time, which can be moved with Reschedule and taken back
// with Cancel, and with [DefaultDeferTries] and [DefaultDeferBackoff] where nothing else
// is declared. [DedupeKey] makes it one of its kind (S28).
func (s *Sequencer) Defer(ctx context.Context, op Operation, at time.Time, opts ...DispatchOption) (Receipt, error) {
	return s.Dispatch(ctx, op, deferring(at, opts)...)
}

// Defer stores op in the transaction.
func (d inTx) Defer(ctx context.Context, op Operation, at time.Time, opts ...DispatchOption) (Receipt, error) {
	return d.Dispatch(ctx, op, deferring(at, opts)...)
}

// deferring are the options of a deferral. The caller's come last and win.
func deferring(at time.Time, opts []DispatchOption) []DispatchOption {
	return append([]DispatchOption{dispatchOption(func(q *request) {
		q.deferred, q.at, q.scheduled = true, at, true
		if at.IsZero() {
			q.check(errors.New("the time to defer it to is zero: say when it is due, or use Dispatch"))
		}
	})}, opts...)
}

// DedupeKey keeps a dispatch from being stored while another one of the same operation
// and key is not over; the receipt tells which (S28.13). It takes the place of the
// operation's UniqueID. See [ShouldBeUnique].
func DedupeKey(key string) DispatchOption {
	return dispatchOption(func(q *request) {
		q.key = key
		if key == "" {
			q.check(errors.New("the dedupe key is empty: say what makes it the same, or leave DedupeKey out"))
		}
	})
}

// Reschedule moves what is queued, an operation's newest or the one with an id, to
// another time; one in the past is due at once. What runs, is over, or waits for others of
// its batch, chain or run is refused. reason goes into the audit log.
func (s *Sequencer) Reschedule(ctx context.Context, nameOrID string, at time.Time, reason string) error {
	if at.IsZero() {
		return fmt.Errorf("reschedule %s: the time is zero: say when it is due", nameOrID)
	}
	row, err := s.find(ctx, nameOrID)
	if err != nil {
		return err
	}
	if row, err = s.newestIn(ctx, row, nameOrID, storage.Pending); err != nil {
		return err
	}
	if _, err := s.store.Operate(ctx, storage.Order{
		Action: storage.ActReschedule, IDs: []storage.ID{row.ID}, Delay: time.Until(at), Actor: s.cfg.Actor, Reason: reason,
	}); err != nil {
		return fmt.Errorf("rescheduling %s: %w", row.Name, err)
	}
	return nil
}
