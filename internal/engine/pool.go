package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Attempt makes one attempt of a claimed execution. An attempt that commits its
// outcome itself, in the handler's transaction, calls next for what may be
// claimed in that same transaction (nil = nothing), and sets Verdict.Finished.
type Attempt func(ctx context.Context, e storage.Execution, next func() *storage.ClaimRequest) Verdict

// Verdict is what an attempt came to.
type Verdict struct {
	Outcome storage.Outcome
	// Finished is set when the attempt has recorded the outcome already.
	Finished *storage.Finished
	// After runs once the outcome is durable, or is void (applied false).
	After func(applied bool)
}

// Pool claims from queues and attempts what it gets, Slots at a time.
type Pool struct {
	Store   storage.Store
	Lease   *Lease
	Queues  []string
	Names   []string // for parked rows
	Slots   int
	Attempt Attempt
	// Poll bounds how long an idle pool sleeps.
	Poll time.Duration
	// Grace is how long attempts may go on when ctx ends; then they are cancelled
	// with Shutdown, and have Linger to return.
	Grace    time.Duration
	Linger   time.Duration
	Shutdown error
	// Over is told which flows each write touched, and whether the pool is idle
	// (nothing runs, nothing is claimable or scheduled). It returns true when the
	// pool has served its purpose.
	Over func(ctx context.Context, flows []storage.Flow, idle bool) (bool, error)
}

// Run works until Over says so, or ctx ends (nil error: what was claimed has been
// recorded), or the lease is lost, or the store fails. first holds executions
// that the caller has claimed already.
func (p *Pool) Run(ctx context.Context, first storage.Claimed) error {
	r := &run{
		Pool: p, free: p.Slots, results: make(chan result, p.Slots), mine: map[storage.ID]bool{},
		dry: first.NextDue != 0, nextDue: first.NextDue,
	}
	// Attempts outlive ctx by the grace period; losing the lease ends them at once.
	r.ctx, r.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	defer r.cancel(nil)
	r.start(first.Executions) //nolint:contextcheck // attempts outlive ctx by the grace period
	if err := r.loop(ctx); err != nil {
		r.cancel(storage.ErrLeaseLost) // nobody waits for them: their rows are rescued, their writes fenced
		return err
	}
	return nil
}

// run is the state of one Run. Only its loop touches it, but for what mu guards.
type run struct {
	*Pool
	ctx     context.Context
	cancel  context.CancelCauseFunc
	results chan result

	mu     sync.Mutex // guards these, which committing attempts look at
	free   int        // slots nobody runs in or has reserved
	shut   bool       // no further claims
	asking int        // attempts that claim in their own commit, until they are heard of
	unsure bool       // the answer to such a commit was lost, and with it what was claimed

	running  int
	mine     map[storage.ID]bool // what runs, or has run and is not recorded yet
	outcomes []storage.Outcome
	after    []func(bool)
	flows    []storage.Flow // touched since Over was last asked
	dry      bool           // the last claim found less than it wanted…
	nextDue  time.Duration  // …and this is when to look again, negative = no idea
	deadline time.Time      // when a stopping pool loses patience
	forced   bool           // attempts were cancelled with Shutdown
}

type result struct {
	verdict  Verdict
	id       storage.ID
	asked    bool // its own commit was to claim…
	reserved int  // …for this many free slots besides its own
}

func (r *run) loop(ctx context.Context) error {
	done := ctx.Done()
	timer := time.NewTimer(r.Poll)
	defer timer.Stop()
	for {
		if err := r.write(ctx); err != nil {
			return err
		}
		if err := r.adopt(ctx); err != nil {
			return err
		}
		flows := r.flows
		r.flows = nil
		over, err := r.Over(ctx, flows, r.running == 0 && r.dry && r.nextDue < 0)
		if err != nil {
			return err
		}
		if over {
			r.stop()
		}
		if r.shut && r.running == 0 && len(r.outcomes) == 0 {
			return nil
		}
		timer.Reset(r.patience())
		select {
		case res := <-r.results:
			r.take(res) //nolint:contextcheck // attempts outlive ctx by the grace period
			r.drain()   //nolint:contextcheck // attempts outlive ctx by the grace period
		case <-timer.C:
			if r.dry = false; !r.shut {
				continue
			}
			if r.forced {
				return fmt.Errorf("%w: %d attempts did not stop within %s and were abandoned", r.Shutdown, r.running, r.Grace+r.Linger)
			}
			r.forced, r.deadline = true, time.Now().Add(r.Linger)
			r.cancel(r.Shutdown)
		case <-done:
			done = nil
			r.stop()
		case <-r.Lease.lost.Done():
			return context.Cause(r.Lease.lost) //nolint:contextcheck // the lease outlives ctx
		}
	}
}

// write records what has come in and claims for the free slots, in one go. With
// nothing to record and nothing to hope for it does not ask.
func (r *run) write(ctx context.Context) error {
	claim, reserved := r.reserve(0)
	if claim != nil && r.dry && len(r.outcomes) == 0 {
		claim = nil
	}
	if claim == nil {
		r.giveBack(reserved)
		reserved = 0
	}
	if len(r.outcomes) == 0 && claim == nil {
		return nil
	}
	wrote, err := r.finish(ctx, claim)
	if err != nil {
		return fmt.Errorf("recording %d outcomes: %w", len(r.outcomes), err)
	}
	for _, o := range r.outcomes {
		delete(r.mine, o.ID)
	}
	after := r.after
	r.outcomes, r.after = nil, nil
	for i, f := range after {
		if f != nil {
			f(i < len(wrote.Applied) && wrote.Applied[i])
		}
	}
	r.giveBack(reserved)
	r.learn(wrote, claim != nil) //nolint:contextcheck // attempts outlive ctx by the grace period
	return nil
}

// finish writes. What happened must be recorded whatever becomes of ctx, so only
// losing the lease, or an answer that will not change, ends the trying. A repeat is
// harmless (storage.Queue), but a lost answer may have claimed, and what it applied
// is void the second time.
func (r *run) finish(ctx context.Context, claim *storage.ClaimRequest) (storage.Finished, error) {
	for repeated := false; ; repeated = true {
		wctx, cancel := context.WithTimeout(r.Lease.lost, r.Lease.Worker.Lease)
		wrote, err := r.Store.Finish(wctx, storage.FinishRequest{Worker: r.Lease.Worker.ID, Outcomes: r.outcomes, Claim: claim}) //nolint:contextcheck // the lease outlives ctx
		cancel()
		switch {
		case err == nil && repeated:
			return wrote, r.confirm(ctx, wrote.Applied)
		case err == nil, lasting(err):
			return wrote, err
		}
		pause := time.NewTimer(min(r.Poll, r.Lease.Worker.Lease/10))
		select {
		case <-pause.C:
		case <-r.Lease.lost.Done():
			pause.Stop()
			return wrote, errors.Join(context.Cause(r.Lease.lost), err) //nolint:contextcheck // the lease outlives ctx
		}
		r.mu.Lock()
		r.unsure = r.unsure || claim != nil
		r.mu.Unlock()
	}
}

// lasting reports an answer that trying again will not change.
func lasting(err error) bool {
	var schema *storage.SchemaError
	var move *storage.TransitionError
	return errors.Is(err, storage.ErrLeaseLost) || errors.Is(err, storage.ErrClosed) || errors.As(err, &schema) || errors.As(err, &move)
}

// confirm marks as applied what an earlier try whose answer was lost had applied.
func (r *run) confirm(ctx context.Context, applied []bool) error {
	for i, o := range r.outcomes {
		if applied[i] {
			continue
		}
		rows, err := r.Store.Executions(context.WithoutCancel(ctx), storage.Filter{IDs: []storage.ID{o.ID}})
		if err != nil {
			return err
		}
		applied[i] = len(rows) == 1 && rows[0].Delivery == o.Delivery && rows[0].State == o.State
	}
	return nil
}

// learn takes in what a write found.
func (r *run) learn(wrote storage.Finished, claimed bool) {
	r.flows = append(r.flows, wrote.Flows...)
	if claimed {
		r.dry, r.nextDue = wrote.Claimed.NextDue != 0, wrote.Claimed.NextDue
	} else {
		r.dry = false
	}
	r.start(wrote.Claimed.Executions)
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
		return fmt.Errorf("looking for what a lost answer claimed: %w", err)
	}
	r.start(slices.DeleteFunc(rows, func(e storage.Execution) bool { //nolint:contextcheck // attempts have a context of their own
		return r.mine[e.ID] || !slices.Contains(r.Queues, e.Queue)
	}))
	r.mu.Lock()
	r.unsure = false
	r.mu.Unlock()
	return r.write(ctx)
}

// adoptLimit is far above what a worker can have claimed.
const adoptLimit = 10_000

// reserve takes all free slots, and own that the caller is about to free, for a
// claim. A nil request means there is nothing to claim for.
func (r *run) reserve(own int) (claim *storage.ClaimRequest, reserved int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shut || r.unsure || r.free+own == 0 {
		return nil, 0
	}
	reserved, r.free = r.free, 0
	r.asking += own
	return &storage.ClaimRequest{Worker: r.Lease.Worker.ID, Queues: r.Queues, Names: r.Names, Limit: reserved + own}, reserved
}

func (r *run) giveBack(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.free += n
}

// stop ends claiming. The first call starts the grace period.
func (r *run) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.shut {
		r.shut, r.deadline = true, time.Now().Add(r.Grace)
	}
}

// start attempts executions, each in a goroutine that ends by sending its result.
// What a last commit claimed after claiming had ended goes back untouched.
func (r *run) start(executions []storage.Execution) {
	if r.shut {
		for _, e := range executions {
			r.outcomes = append(r.outcomes, storage.Outcome{
				ID: e.ID, Delivery: e.Delivery, State: storage.Pending, Excuse: true, Errors: e.Errors, Losses: e.Losses,
			})
			r.after = append(r.after, nil)
		}
		return
	}
	r.giveBack(-len(executions))
	for _, e := range executions {
		r.running++
		r.mine[e.ID] = true
		go func() {
			ctx, cancel := context.WithCancelCause(r.ctx)
			defer cancel(nil)
			unwatch := r.Lease.watch(e.ID, cancel)
			res := result{id: e.ID}
			res.verdict = r.Attempt(ctx, e, func() (claim *storage.ClaimRequest) {
				claim, res.reserved = r.reserve(1)
				res.asked = claim != nil
				return claim
			})
			unwatch()
			r.results <- res
		}()
	}
}

// take files one result.
func (r *run) take(res result) {
	r.running--
	r.giveBack(1 + res.reserved)
	v := res.verdict
	if res.asked {
		r.heard(v.Finished != nil)
	}
	if v.Finished == nil {
		r.outcomes = append(r.outcomes, v.Outcome)
		r.after = append(r.after, v.After)
		return
	}
	delete(r.mine, res.id)
	if v.After != nil {
		v.After(len(v.Finished.Applied) > 0 && v.Finished.Applied[0])
	}
	r.learn(*v.Finished, true)
}

// heard counts a commit that was to claim. Without an answer it may have done so.
func (r *run) heard(answered bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asking--
	r.unsure = r.unsure || !answered
}

// drain takes what else has arrived, so that it shares the next write.
func (r *run) drain() {
	for {
		select {
		case res := <-r.results:
			r.take(res)
		default:
			return
		}
	}
}

// patience is how long to wait for a result before looking again.
func (r *run) patience() time.Duration {
	switch {
	case r.shut:
		return time.Until(r.deadline)
	case r.dry && r.nextDue >= 0:
		return min(r.nextDue, r.Poll)
	default:
		return r.Poll
	}
}
