package storagetest

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
)

// defaultHistories is how many random histories a run tries; the flag
// -rapid.checks overrides it. Rapid prints the seed of one that fails.
const defaultHistories = 30

// histories runs random verbs on the store under test and on the model (package
// memory), and compares every answer and, after each step, all that can be read.
// One ledger serves all histories: each has names, queues, ids and workers of its
// own, and hands back what it still holds when it ends.
func histories(t *testing.T, open func(t *testing.T) storage.Store) {
	model := memory.New()
	t.Cleanup(func() { _ = model.Close() })
	l := newLab(t, open(t))
	limit := defaultHistories
	flag.Visit(func(f *flag.Flag) {
		if f.Name == "rapid.checks" {
			limit = 1 << 30
		}
	})
	ran, failed := 0, false
	now := base
	rapid.Check(t, func(rt *rapid.T) {
		if ran >= limit && !failed { // rapid counts to a hundred; shrinking a failure goes on
			return
		}
		ran++
		defer func() { failed = failed || rt.Failed() }()
		h := &history{rt: rt, ctx: t.Context(), real: l.store, model: model, run: ran, now: now, began: map[delivery]time.Time{}}
		defer func() { now = h.now }()
		defer h.handBack()
		for range 2 {
			h.join()
		}
		rt.Repeat(map[string]func(*rapid.T){
			"": func(*rapid.T) { h.compare() },

			"checkpoint":    func(*rapid.T) { h.checkpoint() },
			"claim":         func(*rapid.T) { h.claim() },
			"claim again":   func(*rapid.T) { h.claim() },
			"enqueue":       func(*rapid.T) { h.enqueue() },
			"enqueue again": func(*rapid.T) { h.repeat() },
			"enqueue flow":  func(*rapid.T) { h.enqueueFlow() },
			"flow again":    func(*rapid.T) { h.enqueueFlow() },
			"join flow":     func(*rapid.T) { h.joinFlow() },
			"resume flow":   func(*rapid.T) { h.resumeFlow() },
			"finish":        func(*rapid.T) { h.finish() },
			"finish more":   func(*rapid.T) { h.finish() },
			"finish most":   func(*rapid.T) { h.finish() },
			"join":          func(*rapid.T) { h.join() },
			"leave":         func(*rapid.T) { h.leave() },
			"lock":          func(*rapid.T) { h.lock() },
			"operate":       func(*rapid.T) { h.operate() },
			"operate more":  func(*rapid.T) { h.operate() },
			"pause":         func(*rapid.T) { h.pause() },
			"renew":         func(*rapid.T) { h.renew() },
			"rescue":        func(*rapid.T) { h.rescue() },
			"stop flow":     func(*rapid.T) { h.stop() },
			"schedule":      func(*rapid.T) { h.schedule() },
			"take":          func(*rapid.T) { h.take() },
			"tick":          func(*rapid.T) { h.tick() },
		})
	})
}

// history is one random run of verbs on two stores.
type history struct {
	rt          *rapid.T
	ctx         context.Context
	real, model storage.Store
	run         int
	now         time.Time
	made        uint64

	workers []storage.ID
	flows   []storage.ID
	past    []storage.EnqueueRequest
	began   map[delivery]time.Time // when each delivery started, which outcomes tell as Ran
}

type delivery struct {
	id storage.ID
	n  int
}

// id makes ids that differ between histories and are the same on both stores.
func (h *history) id() storage.ID {
	h.made++
	return numberedID(uint64(h.run)<<20 | h.made)
}

func (h *history) name(s string) string { return fmt.Sprintf("h%d.%s", h.run, s) }

func (h *history) queue(s string) string { return fmt.Sprintf("q%d.%s", h.run, s) }

func (h *history) queues() []string {
	q := []string{h.queue("one"), h.queue("two")}
	for _, w := range h.workers {
		q = append(q, h.private(w))
	}
	return q
}

// private is the queue that one worker alone serves.
func (h *history) private(w storage.ID) string { return storage.PrivateQueue + w.String() }

// pick draws by index, because the log of a failure shows what is drawn.
func pick[T any](h *history, what string, from ...T) T {
	return from[rapid.IntRange(0, len(from)-1).Draw(h.rt, what)]
}

// chance is true once in n times.
func (h *history) chance(n int, what string) bool {
	return rapid.IntRange(1, n).Draw(h.rt, what) == 1
}

// answer is what a verb gave: a value, or the kind of its error.
type answer[T any] struct {
	Value T
	Error string
}

// write is both for a verb that changes the ledger, noted in the log of a failure.
func write[T any](h *history, what string, request any, verb func(storage.Store) (T, error)) T {
	h.rt.Helper()
	h.rt.Logf("%s %s", what, brief(request))
	return both(h, what, verb)
}

// both runs a verb on the model and on the store, and demands the same answer.
func both[T any](h *history, what string, verb func(storage.Store) (T, error)) T {
	h.rt.Helper()
	ask := func(s storage.Store) (a answer[T], _ error) {
		value, err := verb(s)
		if err == nil {
			a.Value = value
		}
		a.Error = kindOf(err)
		return a, err
	}
	want, refusal := ask(h.model)
	got, err := ask(h.real)
	if reflect.DeepEqual(want, got) { // the common case, and much faster
		return want.Value
	}
	if diff := gocmp.Diff(want, got, alike); diff != "" {
		h.rt.Fatalf("%s at %v differs (-model +store):\n%s\nerror of the model: %v\nerror of the store: %v", what, h.now, diff, refusal, err)
	}
	return want.Value
}

// alike are the liberties a store has: nil for empty, the order of tags, and which
// of several failed members a cancelled one names.
var alike = gocmp.Options{
	cmpopts.EquateEmpty(),
	sortedTags,
	gocmp.FilterPath(func(p gocmp.Path) bool { return p.Last().String() == ".Reason" }, gocmp.Comparer(func(a, b string) bool {
		return a == b || strings.HasPrefix(a, "needs ") && strings.HasPrefix(b, "needs ")
	})),
}

// kindOf makes errors of two stores comparable: by sentinel, or by type with the
// rows they name.
func kindOf(err error) string {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*storage.DuplicateError](err); ok {
		return fmt.Sprintf("duplicate of %s", e.HolderID)
	}
	if e, ok := errors.AsType[*storage.TransitionError](err); ok {
		return fmt.Sprintf("%s from %s to %s", e.ID, e.From, e.To)
	}
	if e, ok := errors.AsType[*storage.LockedError](err); ok {
		return fmt.Sprintf("locked by %s", e.Lock.Worker.ID)
	}
	for _, sentinel := range []error{storage.ErrNotFound, storage.ErrFlowOver, storage.ErrLeaseLost, storage.ErrClosed} {
		if errors.Is(err, sentinel) {
			return sentinel.Error()
		}
	}
	return "refused"
}

// rows are the history's executions as the model has them, oldest first.
func (h *history) rows(states ...storage.State) []storage.Execution {
	rows, err := h.model.Executions(h.ctx, storage.Filter{Name: h.name("*"), States: states, Oldest: true, Limit: 10_000})
	if err != nil {
		h.rt.Fatalf("model: %v", err)
	}
	return rows
}

// compare reads all that the history can see on both stores.
func (h *history) compare() {
	rows := both(h, "Executions", func(s storage.Store) ([]storage.Execution, error) {
		return s.Executions(h.ctx, storage.Filter{Name: h.name("*"), Oldest: true, Limit: 10_000})
	})
	both(h, "Attempts", func(s storage.Store) ([]storage.Attempt, error) {
		log, err := s.Attempts(h.ctx, ids(rows)...)
		slices.SortFunc(log, func(a, b storage.Attempt) int {
			return cmp.Or(cmp.Compare(a.ExecutionID.String(), b.ExecutionID.String()), cmp.Compare(a.Delivery, b.Delivery))
		})
		return log, err
	})
	if len(h.flows) > 0 {
		flows := both(h, "Flows", func(s storage.Store) ([]storage.Flow, error) {
			return s.Flows(h.ctx, storage.FlowFilter{IDs: h.flows, Limit: 1000})
		})
		for i := range flows {
			if f := &flows[i]; f.Over() != (f.Open()+f.UndoOpen() == 0) && !f.Hollow() {
				h.rt.Fatalf("flow %s has %d open members and finished at %v", f.ID, f.Open()+f.UndoOpen(), f.FinishedAt)
			}
		}
	}
}

// handBack ends the history: its workers leave, and what they held is cancelled, so
// that no later history rescues it. Then counts and statistics are compared.
func (h *history) handBack() {
	failed := h.rt.Failed()
	janitor := storage.Worker{ID: h.id(), Purpose: "work", Lease: longLease, JoinedAt: h.now}
	for _, s := range []storage.Store{h.model, h.real} {
		err := s.Join(h.ctx, janitor)
		var lost []storage.Execution
		for err == nil {
			lost, err = s.Rescue(h.ctx, storage.RescueRequest{Now: h.now, Worker: janitor.ID, Dead: h.workers, Limit: 1000})
			if len(lost) == 0 || err != nil {
				break
			}
			r := storage.FinishRequest{Now: h.now, Worker: janitor.ID}
			for _, e := range lost {
				r.Outcomes = append(r.Outcomes, outcome(e, storage.Cancelled))
			}
			_, err = s.Finish(h.ctx, r)
		}
		if err != nil && !failed {
			h.rt.Fatalf("%s: hand back: %v", s.Name(), err)
		}
	}
	if failed {
		return
	}
	h.compare()
	both(h, "Counts", func(s storage.Store) ([]storage.Count, error) {
		counts, err := s.Counts(h.ctx)
		counts = slices.DeleteFunc(counts, func(c storage.Count) bool { return !slices.Contains(h.queues(), c.Queue) })
		slices.SortFunc(counts, func(a, b storage.Count) int {
			return cmp.Or(cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.State, b.State))
		})
		return counts, err
	})
	both(h, "Queues", func(s storage.Store) ([]storage.QueueState, error) {
		states, err := s.Queues(h.ctx, h.now)
		return slices.DeleteFunc(states, func(q storage.QueueState) bool { return !slices.Contains(h.queues(), q.Queue) }), err
	})
	both(h, "Pauses", func(s storage.Store) ([]storage.Pause, error) { return s.Pauses(h.ctx) })
	both(h, "Schedules", func(s storage.Store) ([]storage.Schedule, error) { return s.Schedules(h.ctx) })
	both(h, "Newest", func(s storage.Store) ([]storage.Effective, error) {
		newest, err := s.Newest(h.ctx, storage.NewestRequest{})
		newest = slices.DeleteFunc(newest, func(e storage.Effective) bool { return !strings.HasPrefix(e.Name, h.name("")) })
		slices.SortFunc(newest, func(a, b storage.Effective) int { return cmp.Compare(a.Name, b.Name) })
		return newest, err
	})
}

func (h *history) tick() {
	h.now = h.now.Add(pick(h, "tick", time.Millisecond, time.Second, 40*time.Second, 2*time.Hour))
}

func (h *history) join() {
	if len(h.workers) >= 5 {
		h.rt.Skip("enough workers")
	}
	w := storage.Worker{ID: h.id(), Purpose: "work", Actor: "random", Hostname: "lab", PID: 1, Lease: longLease, JoinedAt: h.now}
	write(h, "Join", w.ID, func(s storage.Store) (struct{}, error) { return struct{}{}, s.Join(h.ctx, w) })
	h.workers = append(h.workers, w.ID)
}

func (h *history) worker() storage.ID { return pick(h, "worker", h.workers...) }

func (h *history) leave() {
	w := h.worker()
	write(h, "Leave", w, func(s storage.Store) (struct{}, error) { return struct{}{}, s.Leave(h.ctx, w) })
}

// execution draws a row; few names and keys, so that they meet.
func (h *history) execution() storage.Execution {
	e := storage.Execution{
		ID: h.id(), Name: h.name(pick(h, "name", "a", "b", "c_d")), Kind: storage.Unlisted, Method: "async",
		Queue: pick(h, "queue", h.queue("one"), h.queue("one"), h.queue("two")), Priority: rapid.IntRange(1, 4).Draw(h.rt, "priority"),
		Delay: pick(h, "delay", 0, 0, time.Second, time.Minute), RetryFor: pick(h, "retry for", 0, time.Hour),
		Input: []byte(pick(h, "input", "", "in")), OnLoss: storage.LossRetry, MinBuild: pick(h, "min build", int64(0), 0, 5),
		Undoable: rapid.Bool().Draw(h.rt, "undoable"), AllowedToFail: h.chance(4, "allowed to fail"),
	}
	switch pick(h, "shape", "plain", "plain", "keyed", "ordered", "homed") {
	case "keyed":
		e.UniqueKey, e.UniqueFor = h.name(pick(h, "key", "k1", "k2")), pick(h, "unique for", 0, 30*time.Second)
	case "ordered":
		e.Kind, e.UniqueKey, e.OnLoss = storage.Ordered, storage.OrderedKey(e.Name), storage.LossInterrupt
	case "homed":
		e.WorkerID = h.worker()
		e.Queue = h.private(e.WorkerID)
	}
	return e
}

func (h *history) send(r storage.EnqueueRequest) {
	r.Now = h.now
	if r.Claim != nil {
		r.Claim.Now = h.now
	}
	done := write(h, "Enqueue", r, func(s storage.Store) (storage.Enqueued, error) {
		done, err := s.Enqueue(h.ctx, r)
		return storage.Enqueued{Receipts: done.Receipts, Claimed: essence(done.Claimed)}, err
	})
	h.start(done.Claimed.Executions)
}

func (h *history) enqueue() {
	r := storage.EnqueueRequest{RefuseDuplicates: h.chance(4, "refuse duplicates")}
	for range rapid.IntRange(1, 4).Draw(h.rt, "rows") {
		e := h.execution()
		if h.chance(6, "approval") {
			e.Kind, e.Queue, e.WorkerID, e.Delay, e.RetryFor = storage.KindApproval, storage.ApprovalQueue, storage.ID{}, 0, 0
		}
		r.Executions = append(r.Executions, e)
	}
	if h.chance(4, "fused claim") {
		c := h.claimRequest()
		r.Claim = &c
	}
	if h.chance(5, "by hand") {
		r.Audit = &storage.AuditEntry{Actor: "grace@lab", Action: storage.AuditRunSchedule, Target: "schedule x", Reason: "because"}
	}
	h.past = append(h.past, r)
	h.send(r)
}

// repeat sends a request again that may have been written, in part, or refused.
func (h *history) repeat() {
	if len(h.past) == 0 {
		h.rt.Skip("nothing to repeat")
	}
	r := pick(h, "past request", h.past...)
	r.Claim = nil
	h.send(r)
}

func (h *history) claimRequest() storage.ClaimRequest {
	r := storage.ClaimRequest{Now: h.now, Worker: h.worker(), Limit: rapid.IntRange(1, 5).Draw(h.rt, "limit")}
	r.Queues = pick(h, "queues", []string{h.queue("one")}, []string{h.queue("two"), h.queue("one")})
	r.Queues = append(slices.Clone(r.Queues), h.private(r.Worker))
	if h.chance(3, "names") {
		r.Names = []string{h.name("a"), h.name("b")}
		r.Build = pick(h, "build", int64(0), 5)
	}
	return r
}

func (h *history) claim() {
	r := h.claimRequest()
	got := write(h, "Claim", r, func(s storage.Store) (storage.Claimed, error) {
		got, err := s.Claim(h.ctx, r)
		return essence(got), err
	})
	h.start(got.Executions)
}

// essence keeps of a claim what the contract promises of it. When the limit was
// reached, what more is due is not for a store to know.
func essence(c storage.Claimed) storage.Claimed {
	e := storage.Claimed{NextDue: max(c.NextDue, -1), PausedNames: c.PausedNames}
	for _, x := range c.Executions {
		e.Executions = append(e.Executions, storage.Execution{
			ID: x.ID, Name: x.Name, Kind: x.Kind, Method: x.Method, Queue: x.Queue, Input: x.Input, Policy: x.Policy, OnLoss: x.OnLoss,
			Tags: x.Tags, Undoable: x.Undoable, AllowedToFail: x.AllowedToFail, Checksum: x.Checksum, FlowID: x.FlowID, Member: x.Member,
			Position: x.Position, Undoes: x.Undoes, MinBuild: x.MinBuild, CreatedAt: x.CreatedAt, DueAt: x.DueAt, StartedAt: x.StartedAt,
			DeadlineAt: x.DeadlineAt, Delivery: x.Delivery, Excused: x.Excused, Errors: x.Errors, Losses: x.Losses,
			Checkpoint: x.Checkpoint, Result: x.Result, State: x.State,
		})
	}
	return e
}

// start notes when deliveries began; a rescued attempt began when the lost one did.
func (h *history) start(rows []storage.Execution) {
	for _, e := range rows {
		h.began[delivery{e.ID, e.Delivery}] = h.now
	}
}

// finish ends up to three running rows of one worker, sometimes as a late writer.
func (h *history) finish() {
	running := h.rows(storage.Running)
	if len(running) == 0 {
		h.rt.Skip("nothing runs")
	}
	r := storage.FinishRequest{Now: h.now, Worker: pick(h, "holder", running...).WorkerID}
	for _, e := range running {
		if e.WorkerID == r.Worker && len(r.Outcomes) < 3 {
			r.Outcomes = append(r.Outcomes, h.outcome(e))
		}
	}
	if h.chance(8, "late writer") {
		r.Outcomes[0].Delivery--
	}
	if h.chance(8, "stranger") {
		r.Worker = h.worker()
	}
	if h.chance(3, "fused claim") {
		c := h.claimRequest()
		c.Worker, c.Queues = r.Worker, c.Queues[:len(c.Queues)-1]
		r.Claim = &c
	}
	finish := func(s storage.Store) (storage.Finished, error) {
		done, err := s.Finish(h.ctx, r)
		done.Claimed = essence(done.Claimed)
		done.Flows = slices.DeleteFunc(done.Flows, func(f storage.Flow) bool { // a store may leave these out; they are compared as stored
			return f.Phase == storage.PhaseForward && !f.Over()
		})
		return done, err
	}
	done := write(h, "Finish", r, finish)
	h.start(done.Claimed.Executions)
	if h.chance(6, "lost answer") {
		r.Claim = nil
		write(h, "Finish again", r, finish)
	}
}

func (h *history) outcome(e storage.Execution) storage.Outcome {
	to := pick(h, "outcome", storage.Completed, storage.Completed, storage.Completed, storage.Failed, storage.Failed,
		storage.Pending, storage.Pending, storage.Skipped, storage.Cancelled, storage.Interrupted)
	if e.Kind == storage.Nested { // its flow is empty
		to = storage.Completed
	}
	o := outcome(e, to)
	switch to {
	case storage.Failed, storage.Interrupted:
		o = failure(e, to, pick(h, "message", "boom", "crash"))
	case storage.Pending:
		if rapid.Bool().Draw(h.rt, "by failure") {
			o = failure(e, to, "again")
		}
		o.Delay = pick(h, "delay", 0, time.Second, time.Minute)
		o.Excuse = h.chance(3, "excuse") && e.Attempts() > 0 // a row rescued before it ever ran has none to excuse
		o.Park, o.Rewind = h.chance(4, "park"), h.chance(4, "rewind")
	case storage.Skipped:
		o.Reason, o.ForNow, o.Env = "need not", h.chance(3, "for now"), pick(h, "environment", "", "staging")
	case storage.Cancelled:
		o.Reason = "asked to"
	case storage.Completed:
		o.Result = []byte(pick(h, "result", "kept", "other"))
		if !e.FlowID.IsZero() && e.Kind != storage.Undo && e.Kind != storage.KindCallback && h.chance(4, "adds") {
			o.Adds = append(o.Adds, h.added(e.FlowID))
		}
	case storage.Running, storage.RolledBack:
	}
	o.Watched = pick(h, "watched", nil, nil, []string{"billing"}, []string{"billing", "vip:7"})
	if e.Kind != storage.Hook && to.Over() && h.chance(3, "hook") {
		hook := e.Hook(storage.MethodAfter)
		if hook.WorkerID = e.WorkerID; h.chance(3, "hook waits") {
			if hook.WorkerID = pick(h, "home", storage.ID{}, h.worker()); !hook.WorkerID.IsZero() {
				hook.Queue = h.private(hook.WorkerID)
			}
		}
		o.Hook = &hook
	}
	if began, known := h.began[delivery{e.ID, e.Delivery}]; known {
		o.Ran = h.now.Sub(began)
	}
	return o
}
