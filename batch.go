package sequencer

import (
	"context"

	"github.com/gosequencer/sequencer/storage"
)

// Batch is operations that run in any order, as many at a time as workers have
// slots for. It is made by a [Dispatcher], written by Dispatch in one transaction,
// and costs nothing before.
//
// Each member ends in a state of its own, and the batch is over when all have ended
// (Q5.16). A member that fails for good cancels those that have not started, unless
// AllowFailures says otherwise (Q5.24). Callbacks are operations: stored with the
// batch, and queued in the transaction of what calls for them, so each runs whatever
// dies (Q5.22).
//
// A Batch is an Operation too: it may be a member or a callback of a [Chain], and a
// callback of another batch. It is not for concurrent use.
type Batch struct{ draft }

// Name is what people read: free text of at most 128 bytes, and not unique (Q5.36).
func (b *Batch) Name(name string) *Batch {
	b.setName(name)
	return b
}

// OnConnection writes it, and all that is in it, to the store of that name in
// Config.Connections. Nothing in it can be on another one.
func (b *Batch) OnConnection(name string) *Batch {
	b.setConnection(name)
	return b
}

// OnQueue is where members and callbacks wait that have no queue by [With]; it wins
// over what they declare themselves (Q10.6).
func (b *Batch) OnQueue(name string) *Batch {
	b.setQueue(name)
	return b
}

// Tagged adds tags to all members and callbacks.
func (b *Batch) Tagged(tags ...string) *Batch {
	b.addTags(tags)
	return b
}

// AllowFailures lets the others go on when a member fails. Then is not called all
// the same, and a chain that the batch is in goes on (Q5.24, Q6.10).
func (b *Batch) AllowFailures() *Batch {
	b.policy = storage.PolicyContinue
	return b
}

// Then adds what is queued once, when all members have ended and none failed or was
// cancelled. Several of one kind run in this order (Q5.17, Q5.19).
func (b *Batch) Then(ops ...Operation) *Batch {
	b.addCallbacks(storage.RoleThen, ops)
	return b
}

// Catch adds what is queued at the first failure, also with AllowFailures; it can ask
// [FailureOf] what failed. Once per generation, see [Flow.Retry] (Q5.18).
func (b *Batch) Catch(ops ...Operation) *Batch {
	b.addCallbacks(storage.RoleCatch, ops)
	return b
}

// Finally adds what is queued when all members have ended, however, and those of
// Then and Catch too. Once per generation (Q5.19).
func (b *Batch) Finally(ops ...Operation) *Batch {
	b.addCallbacks(storage.RoleFinally, ops)
	return b
}

// Progress adds what is queued after members have ended. While it runs or waits,
// endings are gathered for the next time; after the batch is over it is not queued
// any more (Q5.20).
func (b *Batch) Progress(ops ...Operation) *Batch {
	b.addCallbacks(storage.RoleProgress, ops)
	return b
}

// Dispatch writes the batch, its members and its callbacks: all, or on error
// nothing. What was built wrong is said here, every problem joined. Without members
// it is over at once (Q5.23).
func (b *Batch) Dispatch(ctx context.Context) (*Flow, error) { return b.dispatch(ctx) }

// DispatchIf dispatches it if cond holds; otherwise nothing is looked at, nothing is
// stored, and the flow is nil (Q5.36).
func (b *Batch) DispatchIf(ctx context.Context, cond bool) (*Flow, error) {
	return b.dispatchIf(ctx, cond)
}

// DispatchUnless dispatches it unless cond holds.
func (b *Batch) DispatchUnless(ctx context.Context, cond bool) (*Flow, error) {
	return b.dispatchIf(ctx, !cond)
}

// Handle makes it an Operation, for [Chain] and callbacks. It is never called.
func (b *Batch) Handle(context.Context) error { return b.notAlone() }
