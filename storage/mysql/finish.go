package mysql

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/settle"
)

// aliveSQL asks whether a worker may still claim, by primary key.
const aliveSQL = `
SELECT 1 FROM sequencer_workers WHERE id = ? AND left_at IS NULL AND (lease_until IS NULL OR lease_until > @sequencer_now)`

// heldSQL locks the rows of outcomes and reads what the rules ask of them. Index:
// primary key. Race: a row that a rescuer or a later claim has changed meanwhile is
// re-read when its lock is granted, and no longer matches the fence.
const heldSQL = `
SELECT id, delivery, name, queue, kind, method, due_at, excused, flow_id, undoes, allowed_to_fail, last_error, cancel_asked AND kind <> 'hook'
FROM sequencer_live FORCE INDEX (PRIMARY) WHERE id IN (?) AND holder = ? FOR UPDATE`

// attemptsSQL records attempts that did not end well.
const attemptsSQL = `
INSERT INTO sequencer_attempts
	(execution_id, delivery, number, worker_id, started_at, finished_at, outcome, type, message, trace, context, error_group)
VALUES ?
ON DUPLICATE KEY UPDATE delivery = VALUES(delivery)`

// statsSQL adds to the statistics. The rows are a worker's own; two calls of one
// worker meet them in the same order and late, so the second waits for little more
// than the first one's commit.
const statsSQL = `
INSERT INTO sequencer_stats (minute, worker_id, queue, name, ending, n, ran_us, waited_us) VALUES ?
ON DUPLICATE KEY UPDATE n = n + VALUES(n), ran_us = ran_us + VALUES(ran_us), waited_us = waited_us + VALUES(waited_us)`

// Finish implements [storage.Queue].
func (s *Store) Finish(ctx context.Context, r storage.FinishRequest) (storage.Finished, error) {
	var f finishing
	look := false
	err := s.tx(ctx, "finish", r.Now, func(ctx context.Context, q *session) error {
		f = finishing{request: r, look: look}
		look = true
		return f.run(ctx, q)
	})
	if err != nil {
		return storage.Finished{}, err
	}
	return f.result(), nil
}

// finishing is a FinishRequest under way.
//
// Nearly always every outcome says which row it is of, and every fence holds. Then
// nothing is looked at: the statements themselves are fenced, and when they have
// written as many rows as they should, all is well. Otherwise the transaction is begun
// again, with a look first.
type finishing struct {
	request storage.FinishRequest
	look    bool
	applied []bool
	stopped storage.Finished // which outcomes, and no more
	rows    map[storage.ID]*heldRow
	notes   []note
	counts  []count // of rows that were written without a look
	endings []settle.Ending
	flows   []storage.Flow
	stats   map[statKey]*statSum
	failed  [][]any
	claim   claiming
}

// note is an outcome that is applied, and its row.
type note struct {
	row     *heldRow
	outcome *storage.Outcome
}

// count is how many rows a statement wrote and should have written.
type count struct {
	got  *int64
	want int
}

type statKey struct{ queue, name, ending string }

type statSum struct {
	n           int64
	ran, waited time.Duration
}

// heldRow is a row that the worker holds.
type heldRow struct {
	id            storage.ID
	delivery      int
	name, queue   string
	kind          storage.Kind
	method        string
	dueAt         time.Time
	excused       int
	flow, undoes  storage.ID
	allowedToFail bool
	lastError     string
	asked         bool // to stop, as far as a look told
	ended         bool // an outcome was applied to it
}

func (f *finishing) result() storage.Finished {
	done := storage.Finished{Applied: f.applied, Stopped: f.stopped.Stopped, Flows: f.flows}
	if f.request.Claim != nil {
		done.Claimed = f.claim.result()
	}
	return done
}

// run leaves its last writes queued, to travel with the commit.
func (f *finishing) run(ctx context.Context, q *session) error {
	r := f.request
	alive := true
	if r.Claim != nil {
		q.queueAlive(r.Worker, &alive)
	}
	f.look = f.look || !f.known()
	if f.look {
		f.queueHeld(q)
		if err := q.flush(ctx); err != nil {
			return err
		}
		if r.Claim != nil && !alive {
			return leaseLost(r.Worker)
		}
	}
	if err := f.apply(q); err != nil {
		return err
	}
	q.queueHooks(f.request.Hooks(f.applied)) // before the claim, which may find one that is nobody's yet
	flows := slices.ContainsFunc(f.notes, func(n note) bool { return n.ends() })
	claims := r.Claim != nil
	send := q.flush
	if claims && !flows && r.Claim.Limit > 0 && len(r.Claim.Queues) > 0 { // nothing stands between: a claim that asks sends it too
		send, claims = func(ctx context.Context) error { return f.take(ctx, q) }, false
	}
	if err := send(ctx); err != nil {
		return err
	}
	if r.Claim != nil && !alive {
		return leaseLost(r.Worker)
	}
	if slices.ContainsFunc(f.counts, func(c count) bool { return *c.got != int64(c.want) }) {
		return errMoved
	}
	if err := f.conclude(ctx, q); err != nil || !claims {
		return err
	}
	return f.take(ctx, q)
}

// conclude settles flows and queues what else there is to write of the outcomes.
func (f *finishing) conclude(ctx context.Context, q *session) error {
	f.stats = map[statKey]*statSum{}
	for _, n := range f.notes {
		if o := n.outcome; o.State == storage.Pending && o.Delay <= 0 && !o.Park {
			q.arrivals.In(n.row.queue)
		}
		f.conclusion(q.now, n)
	}
	var err error
	if f.flows, err = settle.Endings(ctx, &flowRows{q}, q.now, f.endings); err != nil {
		return err
	}
	for _, part := range some(f.failed) {
		q.queue(attemptsSQL, tuples{`(?, ?, ?, ?, @sequencer_now - ?, @sequencer_now, ?, ?, ?, ?, ?, ?)`, part})
	}
	f.queueStats(q)
	for i := range f.request.Outcomes {
		o := &f.request.Outcomes[i]
		for _, name := range o.Unlock {
			q.queue(unlockSQL, text(name), idArg(f.request.Worker), idArg(o.ID), o.Delivery)
		}
	}
	return nil
}

func (f *finishing) take(ctx context.Context, q *session) error {
	claim := *f.request.Claim
	claim.Worker = f.request.Worker
	return f.claim.run(ctx, q, claim)
}

// known reports that the request tells of every row what the rules ask.
func (f *finishing) known() bool {
	for i := range f.request.Outcomes {
		o := &f.request.Outcomes[i]
		tells := o.Failure != nil || o.State == storage.Completed || o.State == storage.Pending ||
			o.State == storage.Skipped || o.State == storage.Cancelled // of the rest it lacks the last error
		if o.Of == nil || !tells || !storage.Running.CanBecome(o.State) {
			return false
		}
	}
	return true
}

func (f *finishing) queueHeld(q *session) {
	named := make(idList, len(f.request.Outcomes))
	for i := range f.request.Outcomes {
		named[i] = f.request.Outcomes[i].ID
	}
	f.rows = make(map[storage.ID]*heldRow, len(named))
	for _, part := range some(named) {
		q.queueScan(func(r scanner) error {
			h := &heldRow{}
			err := r.Scan(idScan{&h.id}, &h.delivery, &h.name, &h.queue, (*string)(&h.kind), &h.method, instant{&h.dueAt}, &h.excused,
				idScan{&h.flow}, idScan{&h.undoes}, &h.allowedToFail, optional{&h.lastError}, &h.asked)
			f.rows[h.id] = h
			return err
		}, heldSQL, part, f.request.Worker[:])
	}
}

// heldRow is the row that an outcome is of, nil if the fence has been seen not to hold.
func (f *finishing) heldRow(o *storage.Outcome) *heldRow {
	if f.look {
		if h := f.rows[o.ID]; h != nil && h.delivery == o.Delivery {
			return h
		}
		return nil
	}
	if h := f.rows[o.ID]; h != nil { // a second outcome
		return h
	}
	e := o.Of
	h := &heldRow{
		id: o.ID, delivery: o.Delivery, name: e.Name, queue: e.Queue, kind: e.Kind, method: e.Method, dueAt: e.DueAt, excused: e.Excused,
		flow: e.FlowID, undoes: e.Undoes, allowedToFail: e.AllowedToFail,
	}
	f.rows[o.ID] = h
	return h
}

// apply queues the writing of the outcomes whose fence holds. Of several for one row
// the first counts; one that names no state a running row can take is an error.
func (f *finishing) apply(q *session) error {
	f.applied = make([]bool, len(f.request.Outcomes))
	if f.rows == nil {
		f.rows = make(map[storage.ID]*heldRow, len(f.request.Outcomes))
	}
	alike, drops := map[likeness]idList{}, map[int]idList{}
	var order []likeness
	for i := range f.request.Outcomes {
		o := &f.request.Outcomes[i]
		h := f.heldRow(o)
		if h == nil || h.ended {
			continue
		}
		if !storage.Running.CanBecome(o.State) {
			return &storage.TransitionError{ID: o.ID, Name: h.name, From: storage.Running, To: o.State}
		}
		h.ended, f.applied[i] = true, true
		if o.State == storage.Pending && h.asked {
			f.stop(i)
			o = &f.request.Outcomes[i]
		}
		f.notes = append(f.notes, note{h, o})
		if o.Drops() {
			drops[o.Delivery] = append(drops[o.Delivery], o.ID)
			continue
		}
		like := likenessOf(o)
		if alike[like] == nil {
			order = append(order, like)
		}
		alike[like] = append(alike[like], o.ID)
	}
	var marked idList
	for _, like := range order {
		if like.state.Over() && (like.state != storage.Completed || like.group != "") {
			marked = append(marked, alike[like]...)
		}
		f.counts = like.queue(q, f.request.Worker, alike[like], f.counts)
	}
	f.queueDrops(q, drops)
	q.queueEndMarks(marked)
	return nil
}

// stop replaces an outcome, in a copy of what the caller gave.
func (f *finishing) stop(i int) {
	n := len(f.request.Outcomes)
	if f.stopped.Stopped == nil {
		f.request.Outcomes = slices.Clone(f.request.Outcomes)
	}
	f.request.Outcomes[i] = f.request.Outcomes[i].Stopped()
	f.stopped.Stop(i, n)
}

// ends reports that a flow has to be settled, or an undoing noted.
func (n *note) ends() bool {
	return n.outcome.State.Over() && !n.outcome.Drops() && (!n.row.flow.IsZero() || !n.row.undoes.IsZero())
}

// conclusion keeps of an outcome what else has to be written.
func (f *finishing) conclusion(now time.Time, n note) {
	h, o := n.row, n.outcome
	f.count(now, h, o)
	if e := o.Failure; e != nil {
		a := storage.Attempt{ExecutionID: o.ID, Delivery: o.Delivery, Number: h.delivery - h.excused}
		if o.Drops() {
			a = o.Note()
		}
		f.failed = append(f.failed, []any{
			idArg(a.ExecutionID), a.Delivery, a.Number, idArg(f.request.Worker), o.Ran.Microseconds(),
			text(e.Outcome), text(e.Type), text(e.Message), textArg(e.Trace), textArg(e.Context), textArg(e.Group),
		})
	}
	if !n.ends() {
		return
	}
	message := h.lastError
	switch {
	case o.State == storage.Skipped || o.State == storage.Cancelled:
		message = o.Reason
	case o.Failure != nil:
		message = shortened(o.Failure.Message)
	}
	f.endings = append(f.endings, settle.Ending{
		ID: o.ID, FlowID: h.flow, Name: h.name, Kind: h.kind, Method: h.method, State: o.State, ForNow: o.ForNow,
		AllowedToFail: h.allowedToFail, Undoes: h.undoes, Message: message, Adds: o.Added(),
	})
}

// count adds an outcome to the statistics. A delivery that cost no attempt is no
// retry.
func (f *finishing) count(now time.Time, h *heldRow, o *storage.Outcome) {
	ending := string(o.State)
	if o.State == storage.Pending {
		if o.Excuse {
			return
		}
		ending = "retried"
	}
	for queue := range storage.CountedUnder(h.kind, h.queue, o) {
		key := statKey{queue, h.name, ending}
		sum := f.stats[key]
		if sum == nil {
			sum = &statSum{}
			f.stats[key] = sum
		}
		sum.n++
		sum.ran += o.Ran
		if waited := now.Add(-o.Ran).Sub(h.dueAt); !h.dueAt.IsZero() && waited > 0 {
			sum.waited += waited
		}
	}
}

func (f *finishing) queueStats(q *session) {
	keys := slices.SortedFunc(maps.Keys(f.stats), func(a, b statKey) int {
		return cmp.Or(cmp.Compare(a.queue, b.queue), cmp.Compare(a.name, b.name), cmp.Compare(a.ending, b.ending))
	})
	values := make([][]any, len(keys))
	for i, k := range keys {
		sum := f.stats[k]
		values[i] = []any{
			idArg(f.request.Worker), text(k.queue), text(k.name), text(k.ending), sum.n, sum.ran.Microseconds(), sum.waited.Microseconds(),
		}
	}
	for _, part := range some(values) {
		q.queue(statsSQL, tuples{`(@sequencer_now - MOD(@sequencer_now, 60000000), ?, ?, ?, ?, ?, ?, ?)`, part})
	}
}
