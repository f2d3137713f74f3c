package sequencer

import (
	"context"
	"errors"
	"fmt"

	"github.com/gosequencer/sequencer/storage"
)

// BatchContext is the batch that an attempt belongs to, see [CurrentBatch].
type BatchContext struct {
	ID   string // "" outside a batch
	Name string

	inside
}

// ChainContext is the chain that an attempt belongs to, see [CurrentChain].
type ChainContext struct {
	ID   string // "" outside a chain
	Name string

	inside
}

// inside is an attempt's place in a flow.
type inside struct {
	attempt *Attempt // nil outside an attempt
	kind    storage.FlowKind
	place   *flowPlace // nil outside such a flow
	member  bool       // rather than part of a callback
	err     error      // why the place is not known
}

// errNoFlow says that an attempt is in no such flow.
func (in *inside) errNoFlow() error {
	return fmt.Errorf("this attempt belongs to no %s", in.kind)
}

// CurrentBatch is the batch that the attempt of ctx belongs to: the innermost, where
// it is a step of a chain in a batch; for an operation of a deploy run that a batch
// orchestrator arranged it is the run, which has no name and takes no more members.
// Outside of one it is empty, never nil. A callback has the batch that called it.
func CurrentBatch(ctx context.Context) *BatchContext {
	b := &BatchContext{inside: insideOf(ctx, storage.FlowBatch)}
	if b.place != nil {
		b.ID, b.Name = b.place.id.String(), b.place.name
	}
	return b
}

// CurrentChain is the chain that the attempt of ctx belongs to, the innermost. Outside
// of one it is empty, never nil. A callback has the chain that called it.
func CurrentChain(ctx context.Context) *ChainContext {
	c := &ChainContext{inside: insideOf(ctx, storage.FlowChain)}
	if c.place != nil {
		c.ID, c.Name = c.place.id.String(), c.place.name
	}
	return c
}

func insideOf(ctx context.Context, kind storage.FlowKind) inside {
	in := inside{kind: kind}
	sc := scopeOf(ctx)
	if sc == nil || sc.attempt.seq == nil {
		return in
	}
	in.attempt = sc.attempt
	place, err := in.attempt.place(ctx)
	if err == nil && place != nil {
		if in.place, in.member = place.innermost(kind, in.attempt.exec); in.place != nil && in.member {
			err = in.attempt.watchFlow(ctx, in.place.id)
		}
	}
	if in.err = err; err != nil {
		in.attempt.seq.cfg.Logger.WarnContext(ctx, "the flow of an attempt is not known to it", keyOperation, in.attempt.Name,
			keyExecution, in.attempt.ID, keyError, err)
	}
	return in
}

// Cancelled reports whether it was stopped: cancelled by a person, or because a member
// failed whose failure is not allowed. Then this attempt's work is not wanted any
// more. It asks nobody: what this process does itself it knows at once, what others do
// within a second. In a callback, which is wanted all the same, it is false.
func (in *inside) Cancelled() bool {
	return in.member && in.place != nil && in.attempt.session.flows.stopped(in.place.id)
}

// Add puts more members into the batch once this attempt has completed, in the same
// transaction; with any other outcome they are forgotten, so that a retry does not add
// them twice (Q5.28). Nil ones are left out. Outside of a batch, and in a deploy run, it
// is an error.
func (b *BatchContext) Add(ctx context.Context, ops ...Operation) error {
	return b.add(ctx, storage.PlaceAdd, ops)
}

// Prepend puts steps into the chain that run next, in their order, once this attempt
// has completed, in the same transaction; with any other outcome they are forgotten
// (Q6.8). Nil ones are left out. Outside of a chain it is an error.
func (c *ChainContext) Prepend(ctx context.Context, ops ...Operation) error {
	return c.add(ctx, storage.PlacePrepend, ops)
}

// Append is Prepend for steps that run last.
func (c *ChainContext) Append(ctx context.Context, ops ...Operation) error {
	return c.add(ctx, storage.PlaceAppend, ops)
}

func (in *inside) add(ctx context.Context, where storage.Place, ops []Operation) error {
	switch {
	case in.err != nil:
		return in.err
	case in.place == nil:
		return fmt.Errorf("adding members: %w: dispatch the work instead", in.errNoFlow())
	case in.place.kind == storage.FlowRun:
		return fmt.Errorf("adding to run %s: it does what was planned: dispatch the work instead", in.place.id)
	case !in.member:
		return fmt.Errorf("adding to %s %s: a callback is no member of it: dispatch the work instead", in.kind, in.place.id)
	}
	options, err := readInherited(in.place.options)
	if err != nil {
		return err
	}
	a := in.attempt
	all, err := a.seq.arranger(ctx, a.seq).add(in.kind, in.place.id, a.exec.Position+1, ops, options)
	if err != nil {
		return fmt.Errorf("adding to %s %s: %w", in.kind, in.place.id, err)
	}
	if len(all.rows) == 0 {
		return nil
	}
	return a.addMembers(storage.Addition{Flow: in.place.id, Place: where, Flows: all.flows, Executions: all.rows, Edges: all.edges})
}

// errAttemptOver: an addition came too late to be recorded with the outcome.
var errAttemptOver = errors.New("the attempt is over: add members before the handler returns")

// addMembers keeps an addition for the outcome.
func (a *Attempt) addMembers(add storage.Addition) error {
	a.flow.mu.Lock()
	defer a.flow.mu.Unlock()
	if a.flow.closed {
		return errAttemptOver
	}
	a.flow.adds = append(a.flow.adds, add)
	return nil
}

// takeAdditions ends the taking in of additions, and returns them.
func (a *Attempt) takeAdditions() []storage.Addition {
	a.flow.mu.Lock()
	defer a.flow.mu.Unlock()
	a.flow.closed = true
	return a.flow.adds
}

// watchFlow has the session watch a flow until the attempt is over.
func (a *Attempt) watchFlow(ctx context.Context, id storage.ID) error {
	a.flow.mu.Lock()
	defer a.flow.mu.Unlock()
	for _, known := range a.flow.watching {
		if known == id {
			return nil
		}
	}
	if a.flow.closed {
		return errAttemptOver
	}
	if err := a.session.flows.join(ctx, id); err != nil {
		return fmt.Errorf("watching flow %s: %w", id, err)
	}
	a.flow.watching = append(a.flow.watching, id)
	return nil
}

// unwatchFlows is for the end of the attempt.
func (a *Attempt) unwatchFlows() {
	a.flow.mu.Lock()
	defer a.flow.mu.Unlock()
	a.flow.closed = true
	for _, id := range a.flow.watching {
		a.session.flows.leave(id)
	}
	a.flow.watching = nil
}
