package sequencer

import (
	"context"
	"sync"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Handler makes an attempt. The innermost one asks the condition, runs the before
// hook and the operation.
type Handler func(ctx context.Context, a *Attempt) error

// Middleware wraps attempts. First in a list is outermost. One that returns
// without calling next has turned the delivery away: with Release that costs no
// attempt, since the handler never started (Q1.3).
type Middleware interface {
	Wrap(next Handler) Handler
}

// MiddlewareFunc makes a function a Middleware.
type MiddlewareFunc func(next Handler) Handler

// Wrap calls f.
func (f MiddlewareFunc) Wrap(next Handler) Handler { return f(next) }

// Checker is what a middleware may implement to be asked by New, so that a
// mistake in it is found before the first attempt.
type Checker interface {
	Check(cfg Config) error
}

// Attempt is one call of a handler, as the code in it and around it sees it.
type Attempt struct {
	// ID is the execution's; "" outside an attempt.
	ID string
	// Name is the operation's.
	Name string
	// Number counts attempts, from 1 (Q1.5).
	Number int
	// Operation is the fresh value this attempt runs; nil outside an attempt.
	Operation Operation `json:"-"`
	// Tags are the execution's.
	Tags []string
	// RunID is the deploy run it belongs to, "" for none.
	RunID string
	// Undo reports that this attempt rolls an execution back.
	Undo bool

	seq     *Sequencer
	exec    *storage.Execution
	reg     *registration
	session session
	lingers <-chan struct{} // closed once an abandoned handler has ended, if it keeps its slot so long
	still   <-chan struct{} // the same, whether it does or not
	follows known           // of a hook
	undone  bool            // the database undid its transaction for another one's sake
	tx      *attemptTx
	own     struct { // in one piece with the attempt: there is one of each, every time
		tx    attemptTx
		scope scope
	}

	flow struct {
		mu       sync.Mutex // guards the rest
		place    *flowPlace // once asked for
		watching []storage.ID
		adds     []storage.Addition
		closed   bool // nothing is added any more
	}

	mu       sync.Mutex // guards exec.Checkpoint and the rest
	advanced bool       // a cursor has moved
	looked   time.Time  // when Yield last read pauses
	locks    []string   // held for this attempt
	started  bool       // the handler was entered
	result   []byte     // what SetResult was given
	progress *storage.Progress
}

// chain wraps core in middleware, first outermost.
func chain(list []Middleware, core Handler) Handler {
	for i := len(list) - 1; i >= 0; i-- {
		core = list[i].Wrap(core)
	}
	return core
}

// InputOf is the input of an attempt whose operation is a function: what RegisterFuncOf
// calls In. False where it is something else. (Other operations are their own input:
// assert the type of a.Operation.)
func InputOf[In any](a *Attempt) (In, bool) {
	var none In
	f, ok := a.Operation.(*funcOperation)
	if !ok {
		return none, false
	}
	in, ok := f.input.(*In)
	if !ok {
		return none, false
	}
	return *in, true
}
