package engine

import (
	"context"
	"errors"
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
type Attempt func(ctx context.Context, cancel context.CancelCauseFunc, e *storage.Execution, h *Hand, next func() *storage.ClaimRequest) Verdict

// Verdict is what an attempt came to.
type Verdict struct {
	Outcome storage.Outcome
	// Finished is set when the attempt has recorded the outcome already.
	Finished *storage.Finished
	// After runs once the outcome is durable, or is void (applied false).
	After func(applied bool)
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

// Idle reports that nothing runs and nothing will by time alone.
func (f Found) Idle() bool { return f.Running == 0 && f.Dry && f.NextDue < 0 }

// Run works until Over says so, or ctx ends (nil error: what was claimed has been
// recorded), or the lease is lost, or the store fails. first holds executions
// that the caller has claimed already.
func (p *Pool) Run(ctx context.Context, first storage.Claimed) error {
	emptied := make(chan struct{}, 1)
	r := &run{
		Pool: p, emptied: emptied, free: p.Slots, results: make(chan result, p.Slots), written: make(chan *write, max(p.Writes, 1)), mine: map[storage.ID]bool{},
		dry: first.NextDue != 0, nextDue: first.NextDue,
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
	// The one that waits until nothing else is in hand, or is attempted alone.
	suspect *storage.Execution

	alone     bool // the suspect is being attempted
	running   int
	writing   int                 // writes under way…
	recording int                 // …and the outcomes in them
	mine      map[storage.ID]bool // what runs, or has run and is not recorded yet
	outcomes  []storage.Outcome
	oldest    time.Time // when the first of them came
	after     []func(bool)
	flows     []storage.Flow // touched since Over was last asked
	dry       bool           // the last claim found less than it wanted…
	nextDue   time.Duration  // …and this is when to look again, negative = no idea
	woken     int            // reasons to look again, counted
	deadline  time.Time      // when a stopping pool loses patience
	forced    bool           // attempts were cancelled with Shutdown
	lost      error          // an attempt was told that the lease is over
}

type result struct {
	verdict  Verdict
	id       storage.ID
	asked    int // its own commit was to claim so many, 0 = nothing…
	reserved int // …for this many free slots besides its own
}

// write is one call of Finish.
type write struct {
	outcomes []storage.Outcome
	after    []func(bool)
	claim    *storage.ClaimRequest
	reserved int // free slots it claims for
	woken    int // as it was when the call was made
	answer   storage.Finished
	err      error
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
		over, err := r.Over(ctx, Found{Flows: flows, Running: unrecorded, Claiming: r.claiming(), Dry: r.dry, NextDue: r.nextDue})
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
	r.woken++
}

// write begins to record what has come in and to claim for the free slots, in one
// call. With nothing to record and nothing to hope for it does not ask, and with as
// many calls under way as are allowed it waits: what comes in meanwhile travels
// together.
func (r *run) write(ctx context.Context) {
	if r.writing >= max(r.Writes, 1) || r.holds() {
		return
	}
	claim, reserved := r.reserve(0)
	if claim != nil && r.dry && len(r.outcomes) == 0 {
		r.withdraw(claim, reserved)
		claim, reserved = nil, 0
	}
	if len(r.outcomes) == 0 && claim == nil {
		return
	}
	w := &write{outcomes: r.outcomes, after: r.after, claim: claim, reserved: reserved, woken: r.woken}
	r.outcomes, r.after = nil, nil
	r.writing++
	r.recording += len(w.outcomes)
	go func() {
		w.answer, w.err = r.finish(ctx, w)
		r.written <- w
	}()
}

// holds reports that others will come soon, to travel together.
func (r *run) holds() bool {
	return len(r.outcomes) > 0 && len(r.outcomes) < holdUpTo(r.Slots) && r.runners.waiting() > 0 && time.Since(r.oldest) < holdFor
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
	claimed := w.claim != nil
	if claimed {
		r.giveBack(w.reserved)
		r.Quota.giveBack(w.claim.Limit - len(w.answer.Claimed.Executions))
		r.heard(true)
	}
	r.learn(w.answer, claimed, w.woken)
	return nil
}

// told says to each attempt what became of its outcome.
func (w *write) told() {
	for i, f := range w.after {
		if f != nil {
			f(i < len(w.answer.Applied) && w.answer.Applied[i])
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
	request := storage.FinishRequest{Worker: r.Lease.Worker.ID, Outcomes: w.outcomes, Claim: w.claim}
	if r.Next != nil && len(w.outcomes) == 1 {
		request.Next = r.Next(w.outcomes[0].ID)
	}
	for repeated := false; ; repeated = true {
		wctx, cancel := context.WithTimeout(r.Lease.lost, r.Lease.Worker.Lease)
		wrote, err := r.Store.Finish(wctx, request) //nolint:contextcheck // the lease outlives ctx
		cancel()
		if err == nil && repeated {
			err = r.confirm(ctx, w.outcomes, wrote.Applied)
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
func (r *run) confirm(ctx context.Context, outcomes []storage.Outcome, applied []bool) error {
	for i, o := range outcomes {
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

// learn takes in what a write found, that was begun when so much was known. What
// ended may have made something claimable, so a write that did not claim is a
// reason to look.
func (r *run) learn(wrote storage.Finished, claimed bool, woken int) {
	r.flows = append(r.flows, wrote.Flows...)
	switch {
	case !claimed:
		r.lookAgain()
	case woken == r.woken:
		r.dry, r.nextDue = wrote.Claimed.NextDue != 0, wrote.Claimed.NextDue
	}
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

// reserve takes all free slots, and own that the caller is about to free, for a
// claim. A nil request means there is nothing to claim for.
func (r *run) reserve(own int) (claim *storage.ClaimRequest, reserved int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shut || r.unsure || r.suspect != nil || r.free+own <= 0 || r.Closed != nil && r.Closed() {
		return nil, 0
	}
	limit := r.Quota.take(r.free + own)
	if limit == 0 {
		return nil, 0
	}
	reserved, r.free = r.free, 0
	r.asking++
	return &storage.ClaimRequest{Worker: r.Lease.Worker.ID, Queues: r.Queues, Names: r.Names, Build: r.Build, Limit: limit}, reserved
}

// withdraw takes a claim back that was not made.
func (r *run) withdraw(claim *storage.ClaimRequest, reserved int) {
	r.Quota.giveBack(claim.Limit)
	r.giveBack(reserved)
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
	for i := range claimed.Executions {
		e := &claimed.Executions[i]
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
	res.verdict = r.Attempt(ctx, cancel, e, h, func() (claim *storage.ClaimRequest) {
		claim, res.reserved = r.reserve(1)
		if claim != nil {
			res.asked = claim.Limit
		}
		return claim
	})
	r.Lease.unwatch(e.ID)
	r.results <- res
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
		r.oldest = time.Now()
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
	r.giveBack(res.reserved)
	if res.asked > 0 {
		r.heard(v.Finished != nil)
		r.Quota.giveBack(res.asked)
		if v.Finished != nil {
			r.Quota.take(len(v.Finished.Claimed.Executions))
		}
	}
	if v.Lost != nil {
		r.lost = v.Lost
		v.After(false)
		return
	}
	if v.Finished == nil {
		r.came()
		r.outcomes = append(r.outcomes, v.Outcome)
		r.after = append(r.after, v.After)
		return
	}
	delete(r.mine, res.id)
	if v.After != nil {
		v.After(len(v.Finished.Applied) > 0 && v.Finished.Applied[0])
	}
	r.learn(*v.Finished, res.asked > 0, r.woken)
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
	case r.dry && r.nextDue >= 0:
		return min(r.nextDue, r.Poll)
	default:
		return r.Poll
	}
}
