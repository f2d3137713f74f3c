package engine

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// Attempt makes one attempt of a claimed execution. cancel ends ctx, which lives
// until Attempt returns. An attempt that commits its
// outcome itself, in the handler's transaction, calls next for what may be
// claimed in that same transaction (nil = nothing), and sets Verdict.Finished. User
// code runs in h, so that it can be left behind.
type Attempt func(ctx context.Context, cancel context.CancelCauseFunc, e *storage.Execution, h *Hand, next Next) Verdict

// Next is what an attempt's own commit may claim, nil for nothing. The attempt's slot is
// there for that, unless it keeps it for the hook that its outcome asks for.
type Next func(keeps bool) *storage.ClaimRequest

// Verdict is what an attempt came to.
type Verdict struct {
	Outcome storage.Outcome
	// Finished is set when the attempt has recorded the outcome already.
	Finished *storage.Finished
	// After runs once the outcome is durable, with what was written (Finished.Became), or
	// with nil if it is void.
	After func(became *storage.Outcome)
	// Lost is set when the store refused to record the outcome because the lease is
	// over. Nothing is recorded then: whoever takes over from this worker decides.
	Lost error
	// Lingers, when set, is closed once a handler that was abandoned has ended after
	// all. It keeps its slot until then (Q2.11).
	Lingers <-chan struct{}
}

// Pool claims from queues and attempts what it gets, Slots at a time.
type Pool struct {
	Store   storage.Store
	Lease   *Lease
	Queues  []string
	Names   []string // for parked rows
	Build   int64    // likewise
	Slots   int
	Attempt Attempt
	// Writes is how many calls of the store may be under way at a time, 0 = one.
	Writes int
	// Wake, when set, tells that something may have become claimable.
	Wake <-chan struct{}
	// Quota, when set, bounds how many executions are claimed in all.
	Quota *Quota
	// Next, when set, says what alone comes after an execution, see
	// storage.FinishRequest.Next.
	Next func(storage.ID) *storage.Execution
	// Closed, when set and true, keeps the pool from claiming for the time being.
	Closed func() bool
	// Suspect is how many workers in a row an execution has to have lost to be attempted
	// alone, see suspect.go; 0 = none ever is.
	Suspect int
	// Poll bounds how long an idle pool sleeps.
	Poll time.Duration
	// Grace is how long attempts may go on when ctx ends; then they are cancelled
	// with Shutdown, and have Linger to return.
	Grace    time.Duration
	Linger   time.Duration
	Shutdown error
	// Over is asked after each write, with what it found. It returns true when the
	// pool has served its purpose.
	Over func(ctx context.Context, found Found) (bool, error)
}

// Found is how a pool stands after a write.
type Found struct {
	Flows    []storage.Flow // those that the writes since the last question touched
	Running  int            // attempts in flight, or not recorded yet
	Claiming bool           // a claim is under way
	Dry      bool           // the last claim found less than it wanted…
	NextDue  time.Duration  // …and the next row is due after this, negative = none is
}

// Quiet reports that nothing runs, and that the last claim found all there was. With
// several calls under way one may have claimed what another then found gone.
func (f Found) Quiet() bool { return f.Running == 0 && !f.Claiming && f.Dry }

// Idle reports that nothing runs and nothing will by time alone.
func (f Found) Idle() bool { return f.Quiet() && f.NextDue < 0 }

// Run works until Over says so, or ctx ends (nil error: what was claimed has been
// recorded), or the lease is lost, or the store fails. first holds executions
// that the caller has claimed already.
func (p *Pool) Run(ctx context.Context, first storage.Claimed) error {
	emptied := make(chan struct{}, 1)
	r := &run{
		Pool: p, emptied: emptied, free: p.Slots, results: make(chan result, p.Slots), written: make(chan *write, max(p.Writes, 1)), mine: map[storage.ID]bool{},
	}
	if first.NextDue != 0 {
		r.dry, r.due = true, dueAt(first.NextDue)
	}
	// Attempts outlive ctx by the grace period; losing the lease ends them at once.
	r.ctx, r.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	defer r.cancel(nil)
	r.runners = runners{attempt: r.attempt, emptied: emptied}
	r.start(first)
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
	written chan *write
	runners runners
	emptied <-chan struct{}

	mu     sync.Mutex // guards these, which committing attempts look at
	free   int        // slots nobody runs in or has reserved
	shut   bool       // no further claims
	asking int        // claims under way: in writes, and in attempts' own commits
	unsure bool       // the answer to one of them was lost, and with it what was claimed
	sight  sight      // what is known by now
	// The one that waits until nothing else is in hand, or is attempted alone.
	suspect *storage.Execution

	alone     bool // the suspect is being attempted
	running   int
	writing   int                 // writes under way…
	recording int                 // …and the outcomes in them
	mine      map[storage.ID]bool // what runs, or has run and is not recorded yet
	outcomes  []storage.Outcome
	hopeful   time.Time // since when the first of them may hope for company
	after     []func(*storage.Outcome)
	flows     []storage.Flow // touched since Over was last asked
	deep      bool           // the last claim found all that it wanted
	dry       bool           // it found less…
	due       time.Time      // …and this is when to look again, zero = no idea
	deadline  time.Time      // when a stopping pool loses patience
	forced    bool           // attempts were cancelled with Shutdown
	lost      error          // an attempt was told that the lease is over
}

type result struct {
	verdict Verdict
	id      storage.ID
	asked   reservation // of its own commit
}

func (r *run) loop(ctx context.Context) error {
	done := ctx.Done()
	timer := time.NewTimer(r.Poll)
	defer timer.Stop()
	defer r.awaitWrites()
	for {
		if r.lost != nil {
			return r.lost
		}
		r.write(ctx)
		if err := r.adopt(ctx); err != nil {
			return err
		}
		r.confront()
		flows := r.flows
		r.flows = nil
		unrecorded := r.running + len(r.outcomes) + r.recording + r.waiting()
		over, err := r.Over(ctx, Found{Flows: flows, Running: unrecorded, Claiming: r.claiming(), Dry: r.dry, NextDue: r.nextDue()})
		if err != nil {
			return err
		}
		if over {
			r.stop()
		}
		if r.shut && unrecorded+r.writing == 0 {
			return nil
		}
		timer.Reset(r.patience())
		select {
		case res := <-r.results:
			r.take(res)
			r.drain()
		case w := <-r.written:
			r.writing--
			r.recording -= len(w.outcomes)
			if err := r.settle(w); err != nil {
				return err
			}
		case <-r.emptied:
			r.drain()
		case <-r.Wake:
			r.lookAgain()
		case <-timer.C:
			if r.lookAgain(); !r.shut || r.running == 0 { // writes end by themselves, with the lease at the latest
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

func (r *run) claiming() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asking > 0
}

// lookAgain forgets what claims that are under way may be about to say: that there
// is nothing.
func (r *run) lookAgain() {
	r.dry = false
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sight.woken++
}

// reservation is what a claim is made for.
type reservation struct {
	claim *storage.ClaimRequest // nil: there is nothing to claim for
	slots int                   // free ones, besides what the caller is about to free
	sight sight
}

// sight is how much was known when a claim was made: how many reasons there had been
// to look again, and how many answers that said when to.
type sight struct{ woken, heardOf int }

// reserve takes the free slots, and own that the caller is about to free, but no more
// than most, for a claim.
func (r *run) reserve(own, most int) reservation {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shut || r.unsure || r.suspect != nil || r.free+own <= 0 || r.Closed != nil && r.Closed() {
		return reservation{}
	}
	limit := r.Quota.take(min(r.free+own, most))
	if limit == 0 {
		return reservation{}
	}
	slots := min(r.free, most)
	r.free -= slots
	r.asking++
	return reservation{
		claim: &storage.ClaimRequest{Worker: r.Lease.Worker.ID, Queues: r.Queues, Names: r.Names, Build: r.Build, Limit: limit},
		slots: slots, sight: r.sight,
	}
}

// withdraw takes a claim back that was not made.
func (r *run) withdraw(v reservation) {
	r.Quota.giveBack(v.claim.Limit)
	r.giveBack(v.slots)
	r.heard(true)
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

// start takes in what was claimed. What a last commit claimed after claiming had ended
// goes back untouched, what is paused is parked, to be claimed by name when it is
// resumed, and everything else is attempted.
func (r *run) start(claimed storage.Claimed) {
	r.giveBack(-len(claimed.Executions))
	if len(claimed.Executions) > 0 {
		r.hopeful = time.Now() // those left over from the last batch travel with this one
	}
	for i := range claimed.Executions {
		e := &claimed.Executions[i]
		if e.Kind == storage.Hook { // of somebody who died; it is nothing to count
			r.Quota.giveBack(1)
		}
		paused := slices.Contains(claimed.PausedNames, e.Name) && !strings.HasPrefix(e.Queue, storage.PrivateQueue)
		switch {
		case r.shut || paused:
			r.putBack(e, paused)
		case r.Suspect > 0 && e.Losses >= r.Suspect:
			r.suspectIt(e)
		default:
			r.begin(e)
		}
	}
}

// begin hands an execution over to be attempted, which ends by sending its result.
func (r *run) begin(e *storage.Execution) {
	r.running++
	r.mine[e.ID] = true
	r.runners.add(e)
}

// attempt is what a runner does with an execution.
func (r *run) attempt(e *storage.Execution, h *Hand) {
	ctx, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	r.Lease.watch(e.ID, cancel)
	res := result{id: e.ID}
	res.verdict = r.Attempt(ctx, cancel, e, h, func(keeps bool) *storage.ClaimRequest {
		own := 1
		if keeps {
			own = 0
		}
		res.asked = r.reserve(own, r.Slots)
		return res.asked.claim
	})
	r.Lease.unwatch(e.ID)
	r.results <- res
}

// hook begins with the hook that an outcome asks for, in the slot that was kept for it.
// It is no claim: it is the worker's since the outcome was applied, also of a pool that
// stops.
func (r *run) hook(o *storage.Outcome, applied bool) {
	switch h := o.Hook; {
	case h == nil:
	case !applied || !o.State.Over():
		r.giveBack(1)
	default:
		e := *h
		e.State, e.Delivery = storage.Running, 1
		r.begin(&e)
	}
}

// putBack returns an execution as if it had not been claimed.
func (r *run) putBack(e *storage.Execution, park bool) {
	r.giveBack(1)
	r.came()
	r.outcomes = append(r.outcomes, storage.Outcome{
		ID: e.ID, Delivery: e.Delivery, State: storage.Pending, Park: park, Excuse: true, Errors: e.Errors, Losses: e.Losses,
	})
	r.after = append(r.after, nil)
}

// came notes when the first of the outcomes to be written did.
func (r *run) came() {
	if len(r.outcomes) == 0 {
		r.hopeful = time.Now()
	}
}

// take files one result.
func (r *run) take(res result) {
	r.running--
	r.acquit(res.id)
	v := res.verdict
	if v.Lingers == nil {
		r.giveBack(1)
	} else {
		r.awaitEnd(v.Lingers)
	}
	if v.Outcome.Hook != nil {
		r.giveBack(-1)
	}
	r.giveBack(res.asked.slots)
	if res.asked.claim != nil {
		r.heard(v.Finished != nil)
		r.Quota.giveBack(res.asked.claim.Limit)
		if v.Finished != nil {
			r.Quota.take(len(v.Finished.Claimed.Executions))
		}
	}
	if v.Lost != nil {
		r.lost = v.Lost
		v.After(nil)
		return
	}
	if v.Finished == nil {
		r.came()
		r.outcomes = append(r.outcomes, v.Outcome)
		r.after = append(r.after, v.After)
		return
	}
	delete(r.mine, res.id)
	o := v.Outcome // After keeps what it is given; where it is called later, that is in the write
	became := v.Finished.Became(0, &o)
	if v.After != nil {
		v.After(became)
	}
	r.hook(&o, became != nil)
	r.learn(*v.Finished, res.asked)
}

// awaitEnd frees the slot of an abandoned handler when that returns. It lives as
// long as the handler.
func (r *run) awaitEnd(lingers <-chan struct{}) {
	go func() {
		<-lingers
		r.giveBack(1)
	}()
}

// heard counts a commit that was to claim. Without an answer it may have done so.
func (r *run) heard(answered bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asking--
	r.unsure = r.unsure || !answered
}

// drain takes what else has arrived, so that it shares the next write. Attempts that
// are about to end get the chance to: where handlers are short, a batch of them is
// recorded together instead of one first and the others after.
func (r *run) drain() {
	for idle := 0; idle < 2; {
		select {
		case res := <-r.results:
			r.take(res)
			idle = 0
		default:
			runtime.Gosched()
			idle++
		}
	}
}

// patience is how long to wait for a result before looking again.
func (r *run) patience() time.Duration {
	switch {
	case r.shut && r.running > 0:
		return time.Until(r.deadline)
	case r.dry && !r.due.IsZero():
		return min(r.nextDue(), r.Poll)
	default:
		return r.Poll
	}
}

// nextDue is how long it is until the next row is due, as far as is known; negative when
// none is.
func (r *run) nextDue() time.Duration {
	if r.due.IsZero() {
		return -1
	}
	return max(time.Until(r.due), 0)
}

// dueAt is when a row is due of which a store says that it is due after d, zero for none.
func dueAt(d time.Duration) time.Time {
	if d < 0 {
		return time.Time{}
	}
	return time.Now().Add(d)
}
