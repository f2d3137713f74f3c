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
// primary key. The lane is half of the fence, that the row is running for this
// worker; the delivery, the other half, is compared when the row is here. Race: a row
// that a rescuer or a later claim has changed meanwhile is re-read when its lock is
// granted, and no longer matches.
const heldSQL = `
SELECT id, delivery, name, queue, kind, due_at, excused, flow_id, undoes, allowed_to_fail, last_error
FROM sequencer_live FORCE INDEX (PRIMARY) WHERE id IN (?) AND lane = ? FOR UPDATE`

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
	err := s.tx(ctx, "finish", r.Now, func(ctx context.Context, q *session) error {
		f = finishing{request: r}
		return f.run(ctx, q)
	})
	if err != nil {
		return storage.Finished{}, err
	}
	return f.result(), nil
}

// finishing is a FinishRequest under way.
type finishing struct {
	request storage.FinishRequest
	applied []bool
	rows    map[storage.ID]*heldRow
	endings []settle.Ending
	flows   []storage.Flow
	stats   map[statKey]*statSum
	failed  [][]any
	claim   claiming
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
	dueAt         time.Time
	excused       int
	flow, undoes  storage.ID
	allowedToFail bool
	lastError     string
	ended         bool // an outcome was applied to it
}

func (f *finishing) result() storage.Finished {
	done := storage.Finished{Applied: f.applied, Flows: f.flows}
	if f.request.Claim != nil {
		done.Claimed = f.claim.result()
	}
	return done
}

// run leaves its last writes queued, to travel with the commit.
func (f *finishing) run(ctx context.Context, q *session) error {
	r := f.request
	f.applied = make([]bool, len(r.Outcomes))
	f.stats = map[statKey]*statSum{}
	alive := true
	if r.Claim != nil {
		alive = false
		q.queueAlive(r.Worker, &alive)
	}
	f.queueHeld(q)
	if err := q.flush(ctx); err != nil {
		return err
	}
	if !alive {
		return leaseLost(r.Worker)
	}
	if err := f.apply(q); err != nil {
		return err
	}
	var err error
	if f.flows, err = settle.Endings(ctx, &flowRows{q}, q.now, f.endings); err != nil {
		return err
	}
	for _, part := range some(f.failed) {
		q.queue(attemptsSQL, tuples{`(?, ?, ?, ?, @sequencer_now - ?, @sequencer_now, ?, ?, ?, ?, ?, ?)`, part})
	}
	f.queueStats(q)
	for i := range r.Outcomes {
		o := &r.Outcomes[i]
		for _, name := range o.Unlock {
			q.queue(unlockSQL, text(name), idArg(r.Worker), idArg(o.ID), o.Delivery)
		}
	}
	if r.Claim == nil {
		return nil
	}
	claim := *r.Claim
	claim.Worker = r.Worker
	return f.claim.run(ctx, q, claim)
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
			err := r.Scan(idScan{&h.id}, &h.delivery, &h.name, &h.queue, (*string)(&h.kind), instant{&h.dueAt}, &h.excused,
				idScan{&h.flow}, idScan{&h.undoes}, &h.allowedToFail, optional{&h.lastError})
			f.rows[h.id] = h
			return err
		}, heldSQL, part, runningLane(f.request.Worker))
	}
}

// apply writes the outcomes whose fence holds. Of several for one delivery the first
// counts; one that names no state a running row can take is an error.
func (f *finishing) apply(q *session) error {
	ends, returns := map[likeness]idList{}, map[likeness]idList{}
	var order []likeness
	for i := range f.request.Outcomes {
		o := &f.request.Outcomes[i]
		h := f.rows[o.ID]
		if h == nil || h.delivery != o.Delivery || h.ended {
			continue
		}
		if !storage.Running.CanBecome(o.State) {
			return &storage.TransitionError{ID: o.ID, Name: h.name, From: storage.Running, To: o.State}
		}
		h.ended, f.applied[i] = true, true
		like, set := likenessOf(o), ends
		if o.State == storage.Pending {
			set = returns
			if o.Delay <= 0 && !o.Park {
				q.arrivals.In(h.queue)
			}
		}
		if set[like] == nil {
			order = append(order, like)
		}
		set[like] = append(set[like], o.ID)
		f.note(q.now, h, o)
	}
	var gone, marked idList
	for _, like := range order {
		if like.state == storage.Pending {
			like.queueReturn(q, returns[like])
			continue
		}
		like.queueEnd(q, ends[like])
		gone = append(gone, ends[like]...)
		if like.state != storage.Completed || like.group != "" {
			marked = append(marked, ends[like]...)
		}
	}
	q.queueGone(gone)
	q.queueEndMarks(marked)
	return nil
}

// note keeps of an outcome that is applied what else has to be written.
func (f *finishing) note(now time.Time, h *heldRow, o *storage.Outcome) {
	f.count(now, h, o)
	if e := o.Failure; e != nil {
		f.failed = append(f.failed, []any{
			idArg(o.ID), o.Delivery, h.delivery - h.excused, idArg(f.request.Worker), o.Ran.Microseconds(),
			text(e.Outcome), text(e.Type), text(e.Message), textArg(e.Trace), textArg(e.Context), textArg(e.Group),
		})
	}
	if !o.State.Over() || h.flow.IsZero() && h.undoes.IsZero() {
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
		ID: o.ID, FlowID: h.flow, Name: h.name, Kind: h.kind, State: o.State, ForNow: o.ForNow,
		AllowedToFail: h.allowedToFail, Undoes: h.undoes, Message: message,
	})
}

// count adds an outcome to the statistics. A delivery that cost no attempt is no
// retry.
func (f *finishing) count(now time.Time, h *heldRow, o *storage.Outcome) {
	key := statKey{storage.StatQueue(h.kind, h.queue), h.name, string(o.State)}
	if o.State == storage.Pending {
		if o.Excuse {
			return
		}
		key.ending = "retried"
	}
	if key.queue == "" {
		return
	}
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
