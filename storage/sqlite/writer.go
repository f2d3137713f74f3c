package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/wake"
)

// maxTravellers bounds how many calls share one transaction, so that the first
// of them does not wait for an endless train.
const maxTravellers = 256

// urgency is what becomes of a call that finds the writer held: by a transaction
// of a handler's, or by somebody else who is writing to the file.
type urgency int

const (
	waits   urgency = iota // as long as its context, and BusyTimeout for the file
	insists                // as long as its context: what it has to say happened already
	passes                 // hardly at all, errHeld: whoever asks can ask again
)

const (
	// patience is how long a call that passes waits for a handler's transaction to
	// end: enough for an ordinary commit, too short to be missed.
	patience = 20 * time.Millisecond
	// filePatience is the same for the lock on the file. SQLite waits for it inside,
	// and nothing tells a lock of others from a machine that is slow to begin.
	filePatience = 250 * time.Millisecond
	// askAgain is when to repeat a claim that found the writer held. Nothing tells
	// when a handler's transaction ends; this costs twenty looks a second.
	askAgain = 50 * time.Millisecond
	// busyPause keeps those that insist from spinning where BusyTimeout is none.
	busyPause = 10 * time.Millisecond
)

// errHeld: the writer is held by others, and nothing was done.
var errHeld = errors.New("the writer is held")

// writer lets one transaction of the store's write at a time: its own, which its
// goroutine begins for the calls that wait, or a handler's. The goroutine starts
// with the first call and ends with close.
//
// All of them use the handle that users have too, and its connection that was
// used last: one connection keeps its prepared statements and its picture of the
// schema, which another one would have to build anew after each change of it.
// Transactions that users begin there themselves do not take a turn; SQLite's own
// lock parts them from ours.
type writer struct {
	db      *sql.DB
	timeout time.Duration // BusyTimeout
	stmts   *statements
	watched *wake.Watchers
	ctx     context.Context // ends with close
	end     context.CancelFunc
	turn    chan struct{} // capacity 1: full while a transaction is open
	wake    chan struct{} // capacity 1: there are calls
	ended   chan struct{} // closed when the goroutine is gone

	busy     atomic.Bool  // since the first transaction
	heldFrom atomic.Int64 // when the writer counts as held by others, Unix nanoseconds; 0 while the goroutine does not wait to begin

	mu      sync.Mutex // guards calls, started, closed
	calls   []*call
	started bool
	closed  bool
}

// call is one verb on its way into a transaction.
type call struct {
	do      func(ctx context.Context, tx *txn) error
	urgency urgency
	came    time.Time
	taken   atomic.Bool // by the writer, or by its own context or patience giving up
	done    chan error
}

func newWriter(db *sql.DB, timeout time.Duration, watched *wake.Watchers) *writer {
	ctx, end := context.WithCancel(context.Background())
	return &writer{
		db: db, timeout: timeout, stmts: newStatements(), watched: watched, ctx: ctx, end: end,
		turn: make(chan struct{}, 1), wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
}

// begin takes the turn and begins a transaction, which ends with ctx. Whoever ends
// it calls release. waiting, if not nil, is told how long it may take until it can
// only be others who are in the way.
func (w *writer) begin(ctx context.Context, waiting func(atMost time.Duration)) (tx *sql.Tx, release func(), err error) {
	w.busy.Store(true)
	if waiting == nil {
		waiting = func(time.Duration) {}
	}
	select {
	case w.turn <- struct{}{}:
	default:
		waiting(patience)
		select {
		case w.turn <- struct{}{}:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-w.ctx.Done():
			return nil, nil, storage.ErrClosed
		}
	}
	waiting(filePatience)
	if tx, err = w.db.BeginTx(ctx, nil); err != nil {
		<-w.turn
		return nil, nil, err
	}
	return tx, func() { <-w.turn }, nil
}

// run carries out do in a transaction and returns when it is committed or has
// failed. Until the transaction has begun, ctx can withdraw the call; from then
// on the answer is certain and near, so it is waited for.
func (w *writer) run(ctx context.Context, u urgency, do func(ctx context.Context, tx *txn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := &call{do: do, urgency: u, came: time.Now(), done: make(chan error, 1)}
	var tired <-chan time.Time
	if u == passes {
		if w.held() {
			return errHeld
		}
		ticker := time.NewTicker(patience)
		defer ticker.Stop()
		tired = ticker.C
	}
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return storage.ErrClosed
	}
	if !w.started {
		w.started = true
		go w.loop() //nolint:contextcheck // it serves many callers and ends with close
	}
	w.calls = append(w.calls, c)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	for {
		select {
		case err := <-c.done:
			return err
		case <-ctx.Done():
			if c.taken.CompareAndSwap(false, true) {
				return ctx.Err()
			}
			return <-c.done
		case <-tired: // of the others, that is; a writer at work comes round
			if w.held() && c.taken.CompareAndSwap(false, true) {
				return errHeld
			}
		}
	}
}

// used reports whether anything has been written, or is about to be.
func (w *writer) used() bool { return w.busy.Load() }

// held reports whether the goroutine waits for others.
func (w *writer) held() bool {
	from := w.heldFrom.Load()
	return from != 0 && time.Now().UnixNano() >= from
}

// mayWait lets the writer count as held once so much time has passed, or earlier if
// a try before said so.
func (w *writer) mayWait(atMost time.Duration) {
	from := time.Now().Add(atMost).UnixNano()
	if earlier := w.heldFrom.Load(); earlier == 0 || from < earlier {
		w.heldFrom.Store(from)
	}
}

func (w *writer) loop() {
	defer close(w.ended)
	for {
		select {
		case <-w.ctx.Done():
			w.refuse(storage.ErrClosed, everybody)
			return
		case <-w.wake:
		}
		for w.waiting() && w.ctx.Err() == nil {
			w.travel()
		}
		w.heldFrom.Store(0)
	}
}

func (w *writer) waiting() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.calls) > 0
}

// take removes up to limit calls that are meant and have not given up.
func (w *writer) take(limit int, meant func(*call) bool) []*call {
	w.mu.Lock()
	defer w.mu.Unlock()
	var taken []*call
	kept := w.calls[:0]
	for i, c := range w.calls {
		if len(taken) == limit {
			kept = append(kept, w.calls[i:]...)
			break
		}
		switch {
		case !meant(c):
			kept = append(kept, c)
		case c.taken.CompareAndSwap(false, true):
			taken = append(taken, c)
		}
	}
	clear(w.calls[len(kept):])
	w.calls = kept
	return taken
}

func everybody(*call) bool { return true }

func (w *writer) refuse(err error, meant func(*call) bool) {
	for _, c := range w.take(1<<30, meant) {
		c.done <- err
	}
}

// travel runs the calls that wait in one transaction. They are taken only once it
// has begun: whoever arrives while others hold the write lock still travels along,
// and whoever gives up meanwhile leaves no trace.
func (w *writer) travel() {
	tx, release, err := w.begin(w.ctx, w.mayWait)
	if err != nil {
		w.stranded(err)
		return
	}
	w.heldFrom.Store(0)
	calls := w.take(maxTravellers, everybody)
	answers := make([]error, len(calls))
	t := newTxn(tx, w.stmts)
	switch len(calls) {
	case 0: // all have given up
		_ = tx.Rollback()
		release()
		return
	case 1:
		err = calls[0].do(context.Background(), t)
	default:
		err = together(t, calls, answers)
	}
	if err != nil {
		_ = tx.Rollback()
	} else {
		err = tx.Commit()
	}
	if err != nil && w.ctx.Err() != nil {
		err = storage.ErrClosed
	}
	// Before the answers, because whoever gets one may want the connection at once,
	// and preparing would then open another.
	w.stmts.prepare(w.ctx, w.db)
	release()
	if err == nil {
		w.watched.Tell(&t.arrivals)
	}
	for i, c := range calls {
		if err != nil {
			c.done <- err
		} else {
			c.done <- answers[i]
		}
	}
	if len(calls) > 1 {
		runtime.Gosched() // who calls in a loop comes back at once, and travels with the others
	}
}

// stranded answers those who wait for a transaction that could not begin. When
// the file is merely busy, they are those who have waited for BusyTimeout.
func (w *writer) stranded(err error) {
	switch {
	case w.ctx.Err() != nil:
		w.refuse(storage.ErrClosed, everybody)
	case code(err) != codeBusy:
		w.heldFrom.Store(0)
		w.refuse(err, everybody)
	default:
		w.refuse(err, func(c *call) bool { return c.urgency == waits && time.Since(c.came) >= w.timeout })
		pause := time.NewTimer(busyPause)
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-w.ctx.Done():
		}
	}
}

// together runs each call under a savepoint and notes its error. The error it
// returns itself means that the whole transaction is lost, as when SQLite rolled
// it back because the disk is full.
func together(t *txn, calls []*call, answers []error) error {
	ctx := context.Background()
	for i, c := range calls {
		if _, err := t.exec(ctx, `SAVEPOINT one`); err != nil {
			return err
		}
		if answers[i] = c.do(ctx, t); answers[i] != nil {
			if _, err := t.exec(ctx, `ROLLBACK TO one`); err != nil {
				return errors.Join(answers[i], err)
			}
		}
		if _, err := t.exec(ctx, `RELEASE one`); err != nil {
			return err
		}
	}
	return nil
}

// close ends the goroutine; a transaction in flight is rolled back.
func (w *writer) close() error {
	w.mu.Lock()
	w.closed = true
	started := w.started
	w.mu.Unlock()
	w.end()
	if started {
		<-w.ended
	}
	return w.db.Close()
}

// write runs do on the writer, for the verbs of Store. An answer comes only with
// a commit.
func write[T any](ctx context.Context, s *Store, attempted string, do func(ctx context.Context, tx *txn) (T, error)) (T, error) {
	return writeAs(ctx, s, waits, attempted, do)
}

func writeAs[T any](ctx context.Context, s *Store, u urgency, attempted string, do func(ctx context.Context, tx *txn) (T, error)) (T, error) {
	var answer, none T
	if err := s.ready(ctx); err != nil {
		return none, err
	}
	err := s.writer.run(ctx, u, func(ctx context.Context, t *txn) (err error) {
		answer, err = do(ctx, t)
		return err
	})
	if err != nil {
		return none, s.fail(attempted, err)
	}
	return answer, nil
}
