package sequencer

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gosequencer/sequencer/storage"
)

// Dispatcher is what application code needs to queue work. A Sequencer, a
// transaction on it (In) and From(ctx) in a handler are each one.
type Dispatcher interface {
	// Dispatch stores the operation; it runs when a worker gets to it.
	Dispatch(ctx context.Context, op Operation, opts ...DispatchOption) (Receipt, error)
	// Defer stores the operation to run once at a time.
	Defer(ctx context.Context, op Operation, at time.Time, opts ...DispatchOption) (Receipt, error)
	// DispatchAll stores several in one write: all, or on error none.
	DispatchAll(ctx context.Context, ops ...Operation) ([]Receipt, error)
	// Batch begins a batch of these; nil ones are left out. Its Dispatch stores it.
	Batch(members ...Operation) *Batch
	// Chain begins a chain of these steps; nil ones are left out. Its Dispatch stores it.
	Chain(members ...Operation) *Chain
}

// Receipt tells what became of a dispatch. A duplicate is no error: nothing was
// lost, the holder does the work.
type Receipt struct {
	ID        string `json:"id"`
	Duplicate bool   `json:"duplicate,omitempty"`
	HolderID  string `json:"holder_id,omitempty"`
}

// Dispatch stores op to be run by a worker. Inside an attempt it joins the
// attempt's open transaction.
func (s *Sequencer) Dispatch(ctx context.Context, op Operation, opts ...DispatchOption) (Receipt, error) {
	if len(opts) > 0 {
		op = With(op, opts...)
	}
	receipts, err := s.DispatchAll(ctx, op)
	if err != nil {
		return Receipt{}, err
	}
	return receipts[0], nil
}

// DispatchAll stores several operations in one write.
func (s *Sequencer) DispatchAll(ctx context.Context, ops ...Operation) ([]Receipt, error) {
	return s.enqueue(ctx, s.joined(ctx), ops, nil)
}

// joined is the open transaction of the attempt that ctx belongs to, if it is this
// sequencer's; else nil.
func (s *Sequencer) joined(ctx context.Context) storage.Tx {
	if sc := scopeOf(ctx); sc != nil && sc.attempt.seq == s {
		return sc.tx.open()
	}
	return nil
}

// Batch begins a batch of members; nil ones are left out. Its Dispatch stores it,
// inside an attempt in the attempt's open transaction.
func (s *Sequencer) Batch(members ...Operation) *Batch { return newBatch(s, members) }

// Chain begins a chain of members; nil ones are left out. Its Dispatch stores it,
// inside an attempt in the attempt's open transaction.
func (s *Sequencer) Chain(members ...Operation) *Chain { return newChain(s, members) }

func (s *Sequencer) place() (*Sequencer, storage.Tx) { return s, nil }

// In returns a Dispatcher whose work exists if and only if the caller's
// transaction commits. tx comes from the backend's package, as in
// postgres.Tx(tx); another backend's is storage.ErrForeignTx.
func (s *Sequencer) In(tx storage.Tx) Dispatcher { return inTx{s, tx} }

type inTx struct {
	s  *Sequencer
	tx storage.Tx
}

func (d inTx) Dispatch(ctx context.Context, op Operation, opts ...DispatchOption) (Receipt, error) {
	receipts, err := d.DispatchAll(ctx, With(op, opts...))
	if err != nil {
		return Receipt{}, err
	}
	return receipts[0], nil
}

func (d inTx) DispatchAll(ctx context.Context, ops ...Operation) ([]Receipt, error) {
	if isNilTx(d.tx) {
		return nil, fmt.Errorf("dispatch in a transaction: %w: it is nil", ErrNoTx)
	}
	return d.s.enqueue(ctx, d.tx, ops, nil)
}

func (d inTx) Batch(members ...Operation) *Batch { return newBatch(d, members) }

func (d inTx) Chain(members ...Operation) *Chain { return newChain(d, members) }

func (d inTx) place() (*Sequencer, storage.Tx) { return d.s, d.tx }

// isNilTx finds a transaction that was never begun also inside what a backend's
// package has made of it.
func isNilTx(tx storage.Tx) bool {
	if tx == nil {
		return true
	}
	native := reflect.ValueOf(tx.Native())
	return !native.IsValid() || native.Kind() == reflect.Pointer && native.IsNil()
}

func (s *Sequencer) enqueue(ctx context.Context, tx storage.Tx, ops []Operation, audit *storage.AuditEntry) ([]Receipt, error) {
	rows := make([]storage.Execution, len(ops))
	to := s
	for i, op := range ops {
		row, on, err := s.execution(ctx, op, "async")
		switch {
		case err != nil:
			return nil, err
		case i == 0:
			to = on
		case on != to:
			return nil, fmt.Errorf("dispatch of %s: one write cannot reach two connections, %s and %s: dispatch them apart", row.Name, to.connection, on.connection)
		}
		rows[i] = row
	}
	if len(rows) > 0 {
		var err error
		if s, err = s.reach(to, tx, rows[0].Name); err != nil {
			return nil, err
		}
	}
	if s.cfg.Recorder != nil {
		return s.record(ctx, ops, rows)
	}
	for i := range rows {
		if rows[i].Member != "" {
			return nil, fmt.Errorf("dispatch of %s: As(%q) names a member of a batch or chain: leave it out", rows[i].Name, rows[i].Member)
		}
	}
	receipts, err := s.writeRows(ctx, tx, rows, audit)
	if err != nil {
		return nil, fmt.Errorf("dispatch: %w", err)
	}
	return s.dispatched(ctx, rows, receipts), nil
}

// write enqueues, in a transaction of the caller's unless it is nil.
func (s *Sequencer) write(ctx context.Context, tx storage.Tx, r storage.EnqueueRequest) (storage.Enqueued, error) {
	switch {
	case tx == nil:
		return s.store.Enqueue(ctx, r)
	case s.tx == nil:
		return storage.Enqueued{}, fmt.Errorf("%w: a %s ledger cannot join one", storage.ErrForeignTx, s.store.Name())
	default:
		return s.tx.EnqueueTx(ctx, tx, r)
	}
}

// reach is the sequencer of the connection that work goes to. A transaction cannot
// follow it to another one.
func (s *Sequencer) reach(to *Sequencer, tx storage.Tx, what string) (*Sequencer, error) {
	if to != s && tx != nil {
		return nil, fmt.Errorf("dispatch of %s: %w: the transaction is on connection %s, the work goes to %s",
			what, storage.ErrForeignTx, s.connection, to.connection)
	}
	return to, nil
}

// dispatched tells what a write of rows came to.
func (s *Sequencer) dispatched(ctx context.Context, rows []storage.Execution, done []storage.Receipt) []Receipt {
	receipts := make([]Receipt, len(rows))
	for i, r := range done {
		receipts[i] = Receipt{ID: r.ID.String(), Duplicate: r.Duplicate, HolderID: r.HolderID.String()}
		if rows[i].Kind == storage.Nested || !r.Duplicate && !s.heard(ctx, EventQueued) {
			continue
		}
		e := Event{Kind: EventQueued, Method: rows[i].Method, ID: r.ID.String(), Name: rows[i].Name, Operation: rows[i].Kind, State: storage.Pending, Tags: rows[i].Tags}
		if r.Duplicate {
			e.Kind, e.Reason = EventDuplicate, "held by "+r.HolderID.String()
		}
		s.emit(ctx, e)
	}
	return receipts
}

// execution makes the row of an operation, and says on which connection it belongs:
// what is declared is asked here, once, of the value handed over (Q0.4).
//
// What is sealed is bound to the row's name and id: neither may be changed later.
func (s *Sequencer) execution(ctx context.Context, op Operation, method string) (storage.Execution, *Sequencer, error) {
	reg, value, req, err := s.reg.resolve(op)
	if err != nil {
		return storage.Execution{}, nil, err
	}
	if req.err != nil {
		return storage.Execution{}, nil, fmt.Errorf("dispatch of %s: %w", reg.name, req.err)
	}
	if req.noWait && method != methodSync {
		return storage.Execution{}, nil, fmt.Errorf("dispatch of %s: NoWait is for ExecuteSync: what is queued waits for its turn", reg.name)
	}
	if req.connection != "" && req.connection != s.connection {
		if s, err = s.On(req.connection); err != nil {
			return storage.Execution{}, nil, fmt.Errorf("dispatch of %s: %w", reg.name, err)
		}
		if reg.txRequire && len(s.txKinds) == 0 {
			return storage.Execution{}, nil, fmt.Errorf("dispatch of %s: it is marked TxRequire, and connection %s, on %s, has no transactions to share",
				reg.name, s.connection, s.store.Name())
		}
	}
	if req.deferred {
		method = MethodDeferred
	}
	row := storage.Execution{
		ID: storage.NewID(), Name: reg.name, Kind: storage.Unlisted, Method: method, Actor: s.cfg.Actor,
		Priority: cmp.Or(req.priority, req.flow.Priority, storage.PriorityDefault), OnLoss: storage.LossRetry, Undoable: reg.rollbackable && !reg.irreversible, AllowedToFail: reg.allowedToFail,
		Delay: req.delay, Member: req.member,
	}
	if reg.version != 0 {
		row.Kind, row.UniqueKey = storage.Ordered, storage.OrderedKey(reg.name)
		if !reg.idempotent && (len(s.txKinds) == 0 || reg.txNever) {
			row.OnLoss = storage.LossInterrupt
		}
	}
	if row.Input, err = reg.encode(value, s.cfg.MaxInput); err != nil {
		return storage.Execution{}, nil, err
	}
	if reg.encrypted {
		if row.Input, err = s.sealInput(ctx, &row); err != nil {
			return storage.Execution{}, nil, err
		}
	}
	return row, s, s.declare(ctx, &row, reg, value, req)
}

// declare fills in what the operation's abilities and the dispatch's options say.
func (s *Sequencer) declare(ctx context.Context, row *storage.Execution, reg *registration, op Operation, req *request) error {
	var problems []error
	note := func(err error) {
		if err != nil {
			problems = append(problems, err)
		}
	}
	p := policy{NoWait: req.noWait}
	if s.cfg.Carry != nil {
		p.Carried = s.cfg.Carry(ctx)
		note(checkCarried(reg.name, p.Carried))
	}
	tries, declared, err := reg.tries(op)
	note(err)
	switch {
	case req.tries != nil:
		p.Tries = req.tries
	case declared:
		p.Tries = &tries
	case s.cfg.Tries > 0:
		p.Tries = &s.cfg.Tries
	case req.deferred:
		tries = DefaultDeferTries
		p.Tries = &tries
	}
	steps, declared, err := reg.backoff(op)
	note(err)
	if !declared {
		steps = s.cfg.Backoff
		if req.deferred && len(steps) == 0 {
			steps = []time.Duration{DefaultDeferBackoff}
		}
	}
	p.setBackoff(steps)
	timeout, err := reg.timeout(op)
	note(err)
	if timeout == 0 {
		timeout = s.cfg.Timeout
	}
	p.TimeoutMS = timeout.Milliseconds()
	p.FailOnTimeout, err = reg.failOnTimeout(op)
	note(err)
	p.MaxExceptions, _, err = reg.maxExceptions(op)
	note(err)
	if reg.has(abilityAfter) {
		p.Hooks |= hasAfter
	}
	if reg.has(abilityFailed) {
		p.Hooks |= hasFailed
	}
	row.RetryFor, err = retryFor(reg, op, req)
	note(err)
	if n, declared := p.tries(); declared {
		note(checkUnlimited(n, row.RetryFor > 0))
	}
	queue, err := reg.queue(op)
	note(err)
	row.Queue = firstOf(req.queue, req.flow.Queue, queue, s.cfg.Queue) // Q10.6
	tags, err := reg.tags(op)
	note(err)
	row.Tags = addTags(tags, req.flow.Tags, req.tags)
	row.MinBuild, err = reg.minBuild(op)
	note(err)
	p.Approver, err = reg.approvedBy(op)
	note(err)
	if at := req.at; req.scheduled {
		if !at.IsZero() {
			row.Delay = max(time.Until(at), 0)
		}
	} else if at, err = reg.executeAt(op); !at.IsZero() {
		row.Delay = max(time.Until(at), 0)
	} else if err == nil {
		row.Delay = req.flow.delay
	}
	note(err)
	id, keep, via, unique, err := reg.unique(op)
	note(err)
	if req.key != "" {
		id, keep, via, unique = req.key, 0, "", true
		if row.Kind != storage.Unlisted {
			note(fmt.Errorf("%s: an operation with a timestamp is queued once anyway: leave DedupeKey out", reg.name))
		}
	}
	if unique && row.Kind == storage.Unlisted {
		if reg.encrypted {
			id, err = s.hashed(ctx, "unique", reg.name, id)
			note(err)
		}
		row.UniqueKey, row.UniqueFor, p.UntilStart = uniqueKey(reg.name, id), keep, reg.untilStart
		if via != "" && via != s.connection {
			_, err := s.On(via)
			note(err)
			p.Key, p.Via, p.KeepMS, row.UniqueKey = row.UniqueKey, via, max(keep.Milliseconds(), 1), ""
		}
	}
	row.Policy = p.bytes()
	return errors.Join(problems...)
}

// maxUniqueID is how long a unique id is stored as it is, in bytes.
const maxUniqueID = 512

// uniqueKey is the key of an operation's unique id, which may be any text: what no
// index of every database takes is stood for by its digest.
func uniqueKey(name, id string) string {
	if len(id) <= maxUniqueID && utf8.ValidString(id) && strings.IndexByte(id, 0) < 0 {
		return "id:" + name + ":" + id
	}
	sum := sha256.Sum256([]byte(id))
	return "sha256:" + name + ":" + hex.EncodeToString(sum[:])
}

// retryFor is how long after it becomes runnable a row may be retried. RetryUntil
// is stored as a distance too, so that a row that waits for others gets all of it
// from when it may run (Q1.13).
func retryFor(reg *registration, op Operation, req *request) (time.Duration, error) {
	if req.retryFor != nil {
		return *req.retryFor, nil
	}
	until, err := reg.retryUntil(op)
	if err != nil || until.IsZero() {
		d, forErr := reg.retryFor(op)
		return d, errors.Join(err, forErr)
	}
	d := time.Until(until)
	if d <= 0 {
		err = fmt.Errorf("%s: RetryUntil %s has passed already", reg.name, until.Format(time.RFC3339))
	}
	return d, err
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// addTags joins lists, keeping order and dropping repeats (Q8.1).
func addTags(lists ...[]string) []string {
	var all []string
	seen := map[string]bool{}
	for _, list := range lists {
		for _, t := range list {
			if !seen[t] {
				seen[t] = true
				all = append(all, t)
			}
		}
	}
	return all
}

// checkCarried refuses what no ledger keeps as it is.
func checkCarried(name, text string) error {
	if len(text) > MaxCarried || !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return fmt.Errorf("%s: Config.Carry answered %d bytes: want at most %d of UTF-8 text without zero bytes", name, len(text), MaxCarried)
	}
	return nil
}
