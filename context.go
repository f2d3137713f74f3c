package sequencer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

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

func (nobody) DispatchAll(context.Context, ...Operation) ([]Receipt, error) {
	return nil, errNoSequencer
}

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

// Resume reads the last checkpoint of this execution into cursor and reports
// whether there was one.
func Resume(ctx context.Context, cursor any) (bool, error) {
	a := Current(ctx)
	if a.seq == nil {
		return false, nil
	}
	data := a.lastCheckpoint()
	if data == nil {
		return false, nil
	}
	data, err := a.open(ctx, a.exec, storage.FieldCheckpoint, data)
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(data, cursor); err != nil {
		return false, fmt.Errorf("checkpoint of %s: %w", a.Name, err)
	}
	return true, nil
}

// Checkpoint saves a cursor that Resume reads in a later attempt. Inside a
// transaction of ctx it commits with it, otherwise at once.
func Checkpoint(ctx context.Context, cursor any) error {
	sc := scopeOf(ctx)
	if sc == nil {
		return nil
	}
	a := sc.attempt
	data, err := a.encode(ctx, storage.FieldCheckpoint, cursor)
	if err != nil {
		return err
	}
	r := storage.CheckpointRequest{Worker: a.session.worker(), ID: a.exec.ID, Delivery: a.exec.Delivery, Data: data}
	if tx := sc.tx.open(); tx != nil {
		if err = a.seq.tx.CheckpointTx(ctx, tx, r); err == nil {
			sc.tx.keep(data)
		}
	} else if err = a.seq.store.Checkpoint(ctx, r); err == nil {
		a.setCheckpoint(data)
	}
	if err != nil {
		return fmt.Errorf("checkpoint of %s: %w", a.Name, err)
	}
	return nil
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

// ResultOf reads what another member of this flow kept with SetResult. In a
// Rollback the name "" means the execution that is being undone.
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
	if member == "" {
		if a.exec.Result == nil {
			return nil, fmt.Errorf("%s kept no result", a.Name)
		}
		return a.open(ctx, a.exec, storage.FieldResult, a.exec.Result)
	}
	if a.exec.FlowID.IsZero() {
		return nil, fmt.Errorf("result of %s: this execution belongs to no flow", member)
	}
	rows, err := a.seq.store.Executions(ctx, storage.Filter{FlowID: a.exec.FlowID, Member: member})
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if row.Kind != storage.Undo && row.Result != nil {
			return a.open(ctx, &row, storage.FieldResult, row.Result)
		}
	}
	return nil, fmt.Errorf("member %s of this flow kept no result", member)
}

// encode makes the stored form of a cursor or result, within the size limit.
func (a *Attempt) encode(ctx context.Context, what storage.Field, v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", what, a.Name, err)
	}
	if a.secret() {
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
