package sequencer

import (
	"context"
	"fmt"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Chain is operations that run one after the other: each is queued in the
// transaction that completes the one before (S18.4). It is made by a [Dispatcher],
// written by Dispatch in one transaction, and costs nothing before.
//
// A step that is released or will be retried keeps the others waiting, one that is
// skipped does not (Q6.1, Q6.9). A step that fails for good ends the chain: the rest
// is cancelled (Q6.4). A step marked [AllowedToFail] may.
//
// A Chain is an Operation too: it may be a member or a callback of a [Batch] or of
// another chain. It is not for concurrent use.
type Chain struct{ draft }

// Name is what people read: free text of at most 128 bytes, and not unique.
func (c *Chain) Name(name string) *Chain {
	c.setName(name)
	return c
}

// OnConnection writes it, and all that is in it, to the store of that name in
// Config.Connections. Nothing in it can be on another one.
func (c *Chain) OnConnection(name string) *Chain {
	c.setConnection(name)
	return c
}

// OnQueue is where steps and callbacks wait that have no queue by [With]; it wins
// over what they declare themselves (Q6.6, Q10.6).
func (c *Chain) OnQueue(name string) *Chain {
	c.setQueue(name)
	return c
}

// Tagged adds tags to all steps and callbacks.
func (c *Chain) Tagged(tags ...string) *Chain {
	c.addTags(tags)
	return c
}

// Delay puts the first step off, unless that has a delay of its own. A delay of
// another step, by [With], counts from the end of the one before (Q6.7).
func (c *Chain) Delay(d time.Duration) *Chain {
	if d < 0 {
		c.problem(fmt.Errorf("a delay of %s is negative: use zero to start at once", d))
	}
	c.delay = d
	return c
}

// RollbackOnFailure undoes the steps that had completed when one fails, the newest
// first, as far as they can be rolled back (S18.5).
func (c *Chain) RollbackOnFailure() *Chain {
	c.policy = storage.PolicyCompensate
	return c
}

// Catch adds what is queued when a step fails for good; it can ask [FailureOf] which.
// Several run in this order. Once per generation, see [Flow.Retry] (Q6.3, Q6.5).
func (c *Chain) Catch(ops ...Operation) *Chain {
	c.addCallbacks(storage.RoleCatch, ops)
	return c
}

// Finally adds what is queued when the chain is over, however it ended, and what
// Catch queued too. Once per generation.
func (c *Chain) Finally(ops ...Operation) *Chain {
	c.addCallbacks(storage.RoleFinally, ops)
	return c
}

// Dispatch writes the chain, all its steps and its callbacks: all, or on error
// nothing. What was built wrong is said here, every problem joined; a chain without
// steps is ErrEmptyChain (Q6.13).
func (c *Chain) Dispatch(ctx context.Context) (*Flow, error) { return c.dispatch(ctx) }

// DispatchIf dispatches it if cond holds; otherwise nothing is looked at, nothing is
// stored, and the flow is nil.
func (c *Chain) DispatchIf(ctx context.Context, cond bool) (*Flow, error) {
	return c.dispatchIf(ctx, cond)
}

// DispatchUnless dispatches it unless cond holds.
func (c *Chain) DispatchUnless(ctx context.Context, cond bool) (*Flow, error) {
	return c.dispatchIf(ctx, !cond)
}

// Handle makes it an Operation, for [Batch] and callbacks. It is never called.
func (c *Chain) Handle(context.Context) error { return c.notAlone() }
