package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// write is one call of Finish.
type write struct {
	outcomes []storage.Outcome
	after    []func(*storage.Outcome)
	asks     reservation
	answer   storage.Finished
	err      error
}

// write begins to record what has come in and to claim for the free slots, in one
// call each. With nothing to record and nothing to hope for it does not ask, and with as
// many calls under way as are allowed it waits: what comes in meanwhile travels
// together.
func (r *run) write(ctx context.Context) {
	for r.writing < max(r.Writes, 1) && !r.holds() && r.writeOne(ctx) {
	}
}

// writeOne begins a call, if there is a reason to.
func (r *run) writeOne(ctx context.Context) bool {
	share := r.share()
	asks := r.reserve(0, share)
	if asks.claim != nil && len(r.outcomes) == 0 && (r.dry || r.writing > 0 && !r.deep) {
		r.withdraw(asks)
		asks = reservation{}
	}
	if len(r.outcomes) == 0 && asks.claim == nil {
		return false
	}
	w := &write{asks: asks}
	n := min(len(r.outcomes), share)
	w.outcomes, r.outcomes = r.outcomes[:n:n], r.outcomes[n:]
	w.after, r.after = r.after[:n:n], r.after[n:]
	r.writing++
	r.recording += len(w.outcomes)
	go func() {
		w.answer, w.err = r.finish(ctx, w)
		r.written <- w
	}()
	return true
}

// share is how many outcomes and how many claims one call carries at most: with several
// calls under way each has its part of the slots, so that one is answered while
// what another brought is attempted. Small parts are not worth a call of their own.
func (r *run) share() int { return max(r.Slots/max(r.Writes, 1), 100) }

// holds reports that others will come soon, to travel together.
func (r *run) holds() bool {
	return len(r.outcomes) > 0 && len(r.outcomes) < holdUpTo(r.Slots) && r.runners.waiting() > 0 && time.Since(r.hopeful) < holdFor
}

// awaitWrites is for the end of the loop: nothing that was begun outlives it.
func (r *run) awaitWrites() {
	for ; r.writing > 0; r.writing-- {
		if w := <-r.written; w.err == nil {
			w.told()
		}
	}
}

// settle takes in the answer to a write.
func (r *run) settle(w *write) error {
	if w.err != nil {
		return fmt.Errorf("recording %d outcomes: %w", len(w.outcomes), w.err)
	}
	for _, o := range w.outcomes {
		delete(r.mine, o.ID)
	}
	w.told()
	for i := range w.outcomes {
		r.hook(&w.outcomes[i], w.answer.Became(i, &w.outcomes[i]) != nil)
	}
	if w.asks.claim != nil {
		r.giveBack(w.asks.slots)
		r.Quota.giveBack(w.asks.claim.Limit - len(w.answer.Claimed.Executions))
		r.heard(true)
	}
	r.learn(w.answer, w.asks)
	return nil
}

// told says to each attempt what became of its outcome.
func (w *write) told() {
	for i, f := range w.after {
		if f != nil {
			f(w.answer.Became(i, &w.outcomes[i]))
		}
	}
}

// finish writes. What happened must be recorded whatever becomes of ctx, so only
// losing the lease, or an answer that will not change, ends the trying. A repeat is
// harmless (storage.Queue), but what a lost answer applied is void the second time,
// and it may have claimed: a repeat does not, or more would be claimed than there are
// slots for, and adopt finds what was.
func (r *run) finish(ctx context.Context, w *write) (storage.Finished, error) {
	told := time.Time{}
	request := storage.FinishRequest{Worker: r.Lease.Worker.ID, Outcomes: w.outcomes, Claim: w.asks.claim}
	if r.Next != nil && len(w.outcomes) == 1 {
		request.Next = r.Next(w.outcomes[0].ID)
	}
	for repeated := false; ; repeated = true {
		wctx, cancel := context.WithTimeout(r.Lease.lost, r.Lease.Worker.Lease)
		wrote, err := r.Store.Finish(wctx, request) //nolint:contextcheck // the lease outlives ctx
		cancel()
		if err == nil && repeated {
			err = r.confirm(ctx, w.outcomes, &wrote)
		}
		if err == nil || lasting(err) {
			return wrote, err
		}
		if time.Since(told) >= tellEvery {
			told = time.Now()
			r.Lease.log.WarnContext(ctx, "the ledger cannot be written; trying again", keyWorker, r.Lease.Worker.ID, keyOutcomes, len(w.outcomes), keyError, err)
		}
		pause := time.NewTimer(min(r.Poll, r.Lease.Worker.Lease/10))
		select {
		case <-pause.C:
		case <-r.Lease.lost.Done():
			pause.Stop()
			return wrote, errors.Join(context.Cause(r.Lease.lost), err) //nolint:contextcheck // the lease outlives ctx
		}
		r.mu.Lock()
		r.unsure = r.unsure || request.Claim != nil
		r.mu.Unlock()
		request.Claim, request.Next = nil, nil
	}
}

// tellEvery is how often a write that goes on failing is worth a log line.
const tellEvery = 10 * time.Second

// lasting reports an answer that trying again will not change.
func lasting(err error) bool {
	var schema *storage.SchemaError
	var move *storage.TransitionError
	return errors.Is(err, storage.ErrLeaseLost) || errors.Is(err, storage.ErrClosed) || errors.As(err, &schema) || errors.As(err, &move)
}

// confirm marks as applied what an earlier try whose answer was lost had applied.
func (r *run) confirm(ctx context.Context, outcomes []storage.Outcome, wrote *storage.Finished) error {
	for i, o := range outcomes {
		if wrote.Applied[i] {
			continue
		}
		rows, err := r.Store.Executions(context.WithoutCancel(ctx), storage.Filter{IDs: []storage.ID{o.ID}})
		if err != nil {
			return err
		}
		if len(rows) != 1 || rows[0].Delivery != o.Delivery {
			continue
		}
		stopped := o.State == storage.Pending && rows[0].State == storage.Cancelled
		wrote.Applied[i] = rows[0].State == o.State || stopped
		if stopped {
			wrote.Stop(i, len(outcomes))
		}
	}
	return nil
}

// learn takes in what a write found. What ended may have made something claimable, so a
// write that did not claim is a reason to look, also for a claim that was under way then:
// it may have looked before. Of two calls that crossed, either may have looked before the
// other put back what is to be attempted again: the earlier instant counts.
func (r *run) learn(wrote storage.Finished, asked reservation) {
	r.flows = append(r.flows, wrote.Flows...)
	claimed, full := asked.claim != nil, wrote.Claimed.NextDue == 0
	switch {
	case !claimed:
		r.lookAgain()
	case asked.sight.woken == r.sight.woken:
		due := dueAt(wrote.Claimed.NextDue)
		crossed := asked.sight.heardOf != r.sight.heardOf && r.dry && !r.due.IsZero()
		if !crossed || !due.IsZero() && due.Before(r.due) {
			r.due = due
		}
		r.dry = !full
		r.mu.Lock()
		r.sight.heardOf++
		r.mu.Unlock()
	}
	r.deep = claimed && full
	r.start(wrote.Claimed)
}

// adopt starts what a commit has claimed whose answer was lost: it runs by the
// ledger, it is this worker's, and nobody here knows it. It waits until all other
// commits that claim have been heard of; theirs look the same until then. Meanwhile
// nothing is claimed.
func (r *run) adopt(ctx context.Context) error {
	r.mu.Lock()
	due := r.unsure && r.asking == 0 && !r.shut
	r.mu.Unlock()
	if !due {
		return nil
	}
	rows, err := r.Store.Executions(ctx, storage.Filter{
		WorkerID: r.Lease.Worker.ID, States: []storage.State{storage.Running}, Oldest: true, Limit: adoptLimit,
	})
	if err != nil {
		err = fmt.Errorf("looking for what a lost answer claimed: %w", err)
		if lasting(err) {
			return err
		}
		r.Lease.log.WarnContext(ctx, "trying again", keyWorker, r.Lease.Worker.ID, keyError, err)
		return nil
	}
	rows = slices.DeleteFunc(rows, func(e storage.Execution) bool { return r.mine[e.ID] || !slices.Contains(r.Queues, e.Queue) })
	r.Quota.take(len(rows))
	r.start(storage.Claimed{Executions: rows})
	r.mu.Lock()
	r.unsure = false
	r.mu.Unlock()
	r.write(ctx)
	return nil
}

// adoptLimit is far above what a worker can have claimed.
const adoptLimit = 10_000
