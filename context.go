package sequencer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// scope is what an attempt puts into its handler's context: the attempt, and the
// transaction that its code joins (the attempt's own, or that of a Transact step).
type scope struct {
	attempt *Attempt
	tx      *attemptTx
}

type scopeKey struct{}

func scopeOf(ctx context.Context) *scope {
	sc, _ := ctx.Value(scopeKey{}).(*scope)
	return sc
}

func withScope(ctx context.Context, sc *scope) context.Context {
	return context.WithValue(ctx, scopeKey{}, sc)
}

// Current is the attempt that ctx belongs to. Outside one it is an empty Attempt
// with Number 1, never nil, so that a handler can be called in a plain test.
func Current(ctx context.Context) *Attempt {
	if sc := scopeOf(ctx); sc != nil {
		return sc.attempt
	}
	return &Attempt{Number: 1}
}

// From is the sequencer that runs this attempt, as a Dispatcher: what it queues
// joins the attempt's transaction when one is open. Outside an attempt its
// methods return an error.
func From(ctx context.Context) Dispatcher {
	if sc := scopeOf(ctx); sc != nil && sc.attempt.seq != nil {
		return sc.attempt.seq
	}
	return nobody{}
}

// nobody is From outside an attempt.
type nobody struct{}

var errNoSequencer = errors.New("no sequencer in this context: dispatch through From only inside an attempt")

func (nobody) Dispatch(context.Context, Operation, ...DispatchOption) (Receipt, error) {
	return Receipt{}, errNoSequencer
}

func (nobody) Defer(context.Context, Operation, time.Time, ...DispatchOption) (Receipt, error) {
	return Receipt{}, errNoSequencer
}

func (nobody) DispatchAll(context.Context, ...Operation) ([]Receipt, error) {
	return nil, errNoSequencer
}

func (nobody) Batch(members ...Operation) *Batch { return newBatch(nobody{}, members) }

func (nobody) Chain(members ...Operation) *Chain { return newChain(nobody{}, members) }

func (nobody) dispatchFlow(context.Context, *draft) (*Flow, error) { return nil, errNoSequencer }

func (nobody) place() (*Sequencer, storage.Tx) { return nil, nil }

// Log is the sequencer's logger with the attempt's identity; outside an attempt
// slog.Default().
func Log(ctx context.Context) *slog.Logger {
	a := Current(ctx)
	if a.seq == nil {
		return slog.Default()
	}
	return a.seq.cfg.Logger.With(keyOperation, a.Name, keyExecution, a.ID, keyAttempt, a.Number)
}

// Progress says how far the attempt has come, in units of the handler's own;
// total 0 = unknown. It does no I/O: the last value travels with the worker's next
// sign of life, and with the outcome.
func Progress(ctx context.Context, done, total int64) {
	a := Current(ctx)
	if a.seq == nil {
		return
	}
	p := storage.Progress{ID: a.exec.ID, Delivery: a.exec.Delivery, Done: done, Total: total}
	a.setProgress(p)
	a.session.lease.Report(p)
	a.seq.emit(ctx, a.event(EventProgress, func(e *Event) { e.Done, e.Total = done, total }))
}

// SetResult keeps a value with the execution. It is stored with the outcome, and
// is what a rollback reads with ResultOf(ctx, "").
func SetResult(ctx context.Context, v any) error {
	a := Current(ctx)
	if a.seq == nil {
		return nil
	}
	data, err := a.encode(ctx, storage.FieldResult, v)
	if err != nil {
		return err
	}
	a.setResult(data)
	return nil
}

// ResultOf reads what another member of this flow kept with SetResult, or else one of
// a flow that this one is inside of. It is there once that member has completed, so
// read what this execution comes after: an earlier step, or a member whose batch or
// chain this is a callback of. A member has its operation's name, or what [As] says.
// In a Rollback the name "" means the execution that is being undone.
func ResultOf[T any](ctx context.Context, member string) (T, error) {
	var v T
	a := Current(ctx)
	data, err := a.resultOf(ctx, member)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return v, fmt.Errorf("result of %s: %w", orDefault(member, a.Name), err)
	}
	return v, nil
}

func (a *Attempt) resultOf(ctx context.Context, member string) ([]byte, error) {
	if a.seq == nil {
		return nil, fmt.Errorf("result of %q: outside an attempt", member)
	}
	row := a.exec
	if row.Kind == storage.Hook {
		target, err := a.target(ctx)
		if err != nil {
			return nil, err
		}
		row = &target
	}
	if member == "" {
		if row.Result == nil {
			return nil, fmt.Errorf("%s kept no result", a.Name)
		}
		return a.open(ctx, row, storage.FieldResult, row.Result)
	}
	if row.FlowID.IsZero() {
		return nil, fmt.Errorf("result of %s: this execution belongs to no flow", member)
	}
	found, err := a.seq.memberOf(ctx, row.FlowID, member)
	if err != nil {
		return nil, err
	}
	if found == nil { // perhaps a member of what this flow is inside of
		p, err := a.place(ctx)
		if err != nil {
			return nil, err
		}
		for p = p.outer; p != nil && found == nil; p = p.outer {
			if found, err = a.seq.memberOf(ctx, p.id, member); err != nil {
				return nil, err
			}
		}
	}
	switch {
	case found == nil:
		return nil, fmt.Errorf("result of %s: this flow has no member of that name", member)
	case !found.State.Over():
		return nil, fmt.Errorf("result of %s: it is %s: read what this execution comes after", member, found.State)
	case found.Result == nil:
		return nil, fmt.Errorf("member %s of this flow kept no result", member)
	}
	return a.open(ctx, found, storage.FieldResult, found.Result)
}

// memberOf is the member of a flow that has a name, nil if there is none.
func (s *Sequencer) memberOf(ctx context.Context, flow storage.ID, member string) (*storage.Execution, error) {
	rows, err := s.store.Executions(ctx, storage.Filter{FlowID: flow, Member: member})
	if err != nil {
		return nil, err
	}
	rows = slices.DeleteFunc(rows, func(row storage.Execution) bool {
		return row.Kind == storage.Undo || row.Kind == storage.KindCallback || row.Kind == storage.Nested
	})
	switch len(rows) {
	case 0:
		return nil, nil //nolint:nilnil // there is none
	case 1:
		return &rows[0], nil
	}
	return nil, fmt.Errorf("result of %s: several members of this flow have that name: name them apart with As", member)
}

// encode makes the stored form of a result.
func (a *Attempt) encode(ctx context.Context, what storage.Field, v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", what, a.Name, err)
	}
	return a.stored(ctx, what, data)
}

// stored seals data where that is asked for, and keeps it within the size limit.
func (a *Attempt) stored(ctx context.Context, what storage.Field, data []byte) ([]byte, error) {
	if a.secret() {
		var err error
		if data, err = a.seq.seal(ctx, a.exec, what, data); err != nil {
			return nil, err
		}
	}
	if len(data) > a.seq.cfg.MaxInput {
		return nil, fmt.Errorf("%s of %s has %d bytes, more than the %d allowed: keep a reference instead, or raise Config.MaxInput",
			what, a.Name, len(data), a.seq.cfg.MaxInput)
	}
	return data, nil
}
