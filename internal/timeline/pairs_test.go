package timeline_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/faketime"
	"github.com/gosequencer/sequencer/internal/faultstore"
	"github.com/gosequencer/sequencer/middleware"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
)

// Whatever an operation declares together with whatever else, the promises of both hold
// (S1.2). Each pair of traits goes through random histories: processes that work, others
// that dispatch, cancel, and kill. Then the notes that handlers took are compared with the
// ledger, rule by rule.

// trait is what an operation declares, or what happens to it.
type trait string

const (
	traitUnique   trait = "unique"
	traitRate     trait = "rate limit"
	traitOverlap  trait = "overlap"
	traitThrottle trait = "throttle"
	traitRetry    trait = "retry"
	traitTimeout  trait = "timeout"
	traitSecret   trait = "encryption"
	traitCancel   trait = "cancel"
	traitCrash    trait = "crash"
)

var traits = []trait{traitUnique, traitRate, traitOverlap, traitThrottle, traitRetry, traitTimeout, traitSecret, traitCancel, traitCrash}

// What the traits are made of.
const (
	pairTries   = 4
	pairBackoff = 7 * time.Second
	pairTimeout = 12 * time.Second
	pairLongest = 20 * time.Second // a handler, if it is let
	pairRate    = 3
	pairWindow  = 25 * time.Second
	pairErrors  = 2
	pairCircuit = 40 * time.Second
	pairJobs    = 25
	pairSpan    = 3 * time.Minute // within which they are dispatched
	pairLimit   = 6 * time.Hour   // until which they are over
)

// member is the operation, call what a handler noted of an attempt.
type (
	member struct {
		N    int    `json:"n"`
		Key  string `json:"key"`
		Card string `json:"card"`
		p    *party
	}
	uniqueMember struct{ member }

	call struct {
		id         string
		key        string
		number     int
		began, end time.Time // the end of what was killed is its death
		err        error
		lost       bool
	}
)

func (m *uniqueMember) UniqueID() string { return m.Key }

// history is one ledger and all that happens on it.
type history struct {
	t      *testing.T
	with   map[trait]bool
	seed   uint64
	random *rand.Rand
	store  *memory.Store
	began  time.Time

	mu    sync.Mutex // guards the rest
	calls []*call
	in    []time.Time          // admissions by the limiter
	asked map[string]bool      // to be cancelled
	over  map[string]time.Time // by then it was cancelled
}

// party is one process.
type party struct {
	h      *history
	mortal *faultstore.Mortal
	s      *sequencer.Sequencer
	ended  chan struct{}
	dead   bool // guarded by h.mu
	open   map[*call]bool
}

func (m *member) Handle(ctx context.Context) error {
	h, a := m.p.h, sequencer.Current(ctx)
	c := &call{id: a.ID, key: m.Key, number: a.Number, began: time.Now()}
	h.mu.Lock()
	alive := !m.p.dead
	if alive {
		h.calls = append(h.calls, c)
		m.p.open[c] = true
	}
	h.mu.Unlock()
	if !alive { // it was claimed before, and nobody can see it any more
		<-ctx.Done()
		return ctx.Err()
	}
	if m.Card != card {
		h.t.Errorf("the input of %s is %q", a.ID, m.Card)
	}
	random := rand.New(rand.NewPCG(h.seed, uint64(m.N<<8+a.Number)))
	work := time.NewTimer(time.Duration(random.Int64N(int64(pairLongest))))
	defer work.Stop()
	var err error
	select {
	case <-work.C:
		if random.IntN(100) < 35 {
			err = errBoom
		}
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !m.p.dead {
		c.end, c.err = time.Now(), err
		delete(m.p.open, c)
	}
	return err
}

// join is a new process.
func (h *history) join() *party {
	p := &party{h: h, mortal: faultstore.NewMortal(h.store, 0), ended: make(chan struct{}), open: map[*call]bool{}}
	reg := sequencer.NewRegistry()
	opts := []sequencer.RegisterOption{sequencer.Use(sequencer.MiddlewareFunc(stagger))}
	if h.with[traitRetry] {
		opts = append(opts, sequencer.Tries(pairTries), sequencer.Backoff(pairBackoff))
	}
	if h.with[traitTimeout] {
		opts = append(opts, sequencer.Timeout(pairTimeout))
	}
	if h.with[traitSecret] {
		opts = append(opts, sequencer.Mark[sequencer.Encrypted]())
	}
	if h.with[traitOverlap] { // outermost, so that the limiter lets in what then runs
		opts = append(opts, sequencer.Use(keyed{}))
	}
	if h.with[traitThrottle] {
		opts = append(opts, sequencer.Use(middleware.ThrottleErrors(pairErrors, pairCircuit)))
	}
	if h.with[traitRate] {
		opts = append(opts, sequencer.Use(middleware.RateLimited("api"), sequencer.MiddlewareFunc(h.admitted)))
	}
	if h.with[traitUnique] {
		sequencer.Register(reg, "job", func() *uniqueMember { return &uniqueMember{member{p: p}} }, opts...)
	} else {
		sequencer.Register(reg, "job", func() *member { return &member{p: p} }, opts...)
	}
	keys, err := ring()
	if err == nil {
		p.s, err = sequencer.New(faketime.New(p.mortal.Store(), time.Now), reg, sequencer.Config{
			Sealer: keys, Limiters: map[string]sequencer.Limiter{"api": sequencer.Limit{N: pairRate, Per: pairWindow}},
			Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		})
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

// stagger keeps attempts that a slot was freed for from beginning in the moment in which
// the one before ended: which of the two came first would be anybody's guess.
func stagger(next sequencer.Handler) sequencer.Handler {
	return func(ctx context.Context, a *sequencer.Attempt) error {
		time.Sleep(rand.N(time.Second)) // sleep: in a bubble
		return next(ctx, a)
	}
}

// keyed is WithoutOverlapping by the key of the input.
type keyed struct{}

func (keyed) Wrap(next sequencer.Handler) sequencer.Handler {
	return func(ctx context.Context, a *sequencer.Attempt) error {
		var key string
		switch op := a.Operation.(type) {
		case *member:
			key = op.Key
		case *uniqueMember:
			key = op.Key
		}
		return middleware.WithoutOverlapping(key).Wrap(next)(ctx, a)
	}
}

func (h *history) admitted(next sequencer.Handler) sequencer.Handler {
	return func(ctx context.Context, a *sequencer.Attempt) error {
		h.mu.Lock()
		h.in = append(h.in, time.Now())
		h.mu.Unlock()
		return next(ctx, a)
	}
}

func (p *party) work() {
	go func() {
		defer close(p.ended)
		if err := p.s.Work(context.WithoutCancel(p.h.t.Context()), sequencer.WorkerConfig{Slots: 3, Poll: time.Second, MaxTime: pairLimit}); err != nil {
			p.h.mu.Lock()
			defer p.h.mu.Unlock()
			if !p.dead {
				p.h.t.Error(err)
			}
		}
	}()
}

// kill ends a process; what its handlers do from then on nobody sees.
func (p *party) kill() {
	p.mortal.Kill()
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	p.dead = true
	for c := range p.open {
		c.end, c.lost = time.Now(), true
	}
}

func (h *history) job(n int) sequencer.Operation {
	m := member{N: n, Key: string(rune('a' + h.random.IntN(3))), Card: card}
	if h.with[traitUnique] {
		return &uniqueMember{m}
	}
	return &m
}

// run lets all of it happen.
func (h *history) run() {
	desk := h.join()
	if err := desk.s.Setup(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	workers := []*party{h.join(), h.join()}
	var buried []*party
	for _, p := range workers {
		p.work()
	}
	type action struct {
		at time.Duration
		do func()
	}
	var plan []action
	at := func(do func()) { plan = append(plan, action{time.Duration(h.random.Int64N(int64(pairSpan))), do}) }
	var ids []string
	for n := range pairJobs {
		op := h.job(n)
		at(func() { ids = append(ids, h.dispatch(desk, op)...) })
		if h.with[traitCancel] && n%3 == 0 {
			at(func() {
				if len(ids) > 0 {
					h.cancel(desk, ids[h.random.IntN(len(ids))])
				}
			})
		}
	}
	if h.with[traitCrash] {
		for range 4 {
			at(func() {
				i := h.random.IntN(len(workers))
				workers[i].kill()
				buried = append(buried, workers[i])
				workers[i] = h.join()
				workers[i].work()
			})
		}
	}
	slices.SortStableFunc(plan, func(a, b action) int { return cmp.Compare(a.at, b.at) })
	for _, a := range plan {
		time.Sleep(time.Until(h.began.Add(a.at))) // sleep: in a bubble
		a.do()
	}
	rows := h.await(desk)
	for _, p := range workers { // they have nothing any more
		p.kill()
		buried = append(buried, p)
	}
	for _, p := range buried {
		p.mortal.Bury()
	}
	for _, p := range buried {
		<-p.ended
	}
	h.check(desk, rows, ids)
}

func (h *history) dispatch(desk *party, op sequencer.Operation) []string {
	r, err := desk.s.Dispatch(h.t.Context(), op)
	switch {
	case err != nil:
		h.t.Error(err)
	case !r.Duplicate:
		return []string{r.ID}
	case !h.with[traitUnique]:
		h.t.Errorf("%s is said to be a duplicate, of what is not unique", r.ID)
	default:
		rows, err := h.store.Executions(h.t.Context(), storage.Filter{IDs: []storage.ID{idOf(r.HolderID)}})
		if err != nil || len(rows) != 1 || rows[0].State.Over() {
			h.t.Errorf("Q4.11: a duplicate of %s, which is %v, %v", r.HolderID, rows, err)
		}
	}
	return nil
}

func (h *history) cancel(desk *party, id string) {
	if err := desk.s.Cancel(h.t.Context(), id, "enough"); err != nil { // it is over
		return
	}
	h.asked[id] = true
	if row, err := h.store.Executions(h.t.Context(), storage.Filter{IDs: []storage.ID{idOf(id)}}); err == nil && row[0].State == storage.Cancelled {
		h.over[id] = time.Now() // one that runs is told so later
	}
}

// await returns all executions, once they are over.
func (h *history) await(desk *party) []storage.Execution {
	for time.Since(h.began) < pairLimit {
		time.Sleep(10 * time.Second) // sleep: in a bubble
		rows, err := desk.s.Store().Executions(h.t.Context(), storage.Filter{Name: "job", Oldest: true})
		if err != nil {
			h.t.Fatal(err)
		}
		if !slices.ContainsFunc(rows, func(e storage.Execution) bool { return !e.State.Over() }) {
			return rows
		}
	}
	h.t.Fatalf("not all is over after %s", pairLimit)
	return nil
}

// rounds is how many histories each pair has.
func rounds() int {
	if testing.Short() {
		return 1
	}
	return 3
}

func TestS1_2_EveryPairOfTraitsKeepsThePromisesOfBoth(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for i, one := range traits {
		for _, other := range traits[i+1:] {
			t.Run(fmt.Sprintf("%s with %s", one, other), func(t *testing.T) {
				t.Parallel()
				for round := range rounds() {
					history := seed + uint64(round)
					synctest.Test(t, func(t *testing.T) {
						h := newHistory(t, history, one, other)
						h.run()
						if t.Failed() {
							t.Logf("seed %d", history)
						}
					})
				}
			})
		}
	}
}

func newHistory(t *testing.T, seed uint64, with ...trait) *history {
	t.Helper()
	h := &history{
		t: t, with: map[trait]bool{}, seed: seed, random: rand.New(rand.NewPCG(seed, 1)), store: memory.New(), began: time.Now(),
		asked: map[string]bool{}, over: map[string]time.Time{},
	}
	for _, one := range with {
		h.with[one] = true
	}
	return h
}

// All of them at once, and, as a control, none: the checks see what they look for.
func TestS1_2_AllTraitsAtOnceAndNone(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) { newHistory(t, seed, traits...).run() })
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t, seed)
		h.run()
		met, together := 0, map[string]int{}
		for _, c := range h.calls {
			for _, other := range h.calls {
				if c != other && c.key == other.key && !c.began.Before(other.began) && c.began.Before(other.end) {
					together[c.key]++
				}
			}
		}
		for n := range maps.Values(together) {
			met += n
		}
		if met == 0 {
			t.Error("no two handlers with one key ever ran together: that shows nothing about those that must not")
		}
	})
}
