package storagetest

import (
	"context"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gosequencer/sequencer/storage"
)

// base is the instant all cases start from.
var base = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// longLease outlives every case, so that no worker dies by fake time alone.
const longLease = 20 * 365 * 24 * time.Hour

// lab is one ledger under test with its clock. Its helpers end the case on any
// error, so that a case reads as a story.
type lab struct {
	t     *testing.T
	store storage.Store
	now   time.Time
	made  uint64
}

func newLab(t *testing.T, store storage.Store) *lab {
	t.Helper()
	t.Cleanup(func() { Check(t, store) })
	return &lab{t: t, store: store, now: base}
}

func (l *lab) tick(d time.Duration) { l.now = l.now.Add(d) }

// id makes ids that ascend and are the same in every run.
func (l *lab) id() storage.ID {
	l.made++
	return numberedID(l.made)
}

func numberedID(n uint64) storage.ID {
	var id storage.ID
	binary.BigEndian.PutUint64(id[:8], uint64(base.UnixMilli())<<16)
	id[6] = 0x70
	binary.BigEndian.PutUint64(id[8:], n|0x80<<56)
	return id
}

// row is a plain execution in the default queue.
func (l *lab) row(name string) storage.Execution {
	return storage.Execution{
		ID: l.id(), Name: name, Kind: storage.Unlisted, Method: "async",
		Queue: "default", Priority: storage.PriorityDefault, OnLoss: storage.LossRetry,
	}
}

// ordered is an ordered operation with its unique key.
func (l *lab) ordered(name string) storage.Execution {
	e := l.row(name)
	e.Kind, e.UniqueKey, e.OnLoss = storage.Ordered, storage.OrderedKey(name), storage.LossInterrupt
	return e
}

func (l *lab) must(err error, doing string) {
	l.t.Helper()
	if err != nil {
		l.t.Fatalf("%s: %v", doing, err)
	}
}

// same compares values; nil and empty slices are equal, instants compare as such.
func (l *lab) same(what string, got, want any, opts ...cmp.Option) {
	l.t.Helper()
	if diff := cmp.Diff(want, got, append(opts, cmpopts.EquateEmpty())...); diff != "" {
		l.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// sameFlows compares what a Finish says of flows with them as they stand. Those
// that merely went on may be left out.
func (l *lab) sameFlows(got []storage.Flow, stand ...storage.Flow) {
	l.t.Helper()
	told := map[storage.ID]bool{}
	got = slices.Clone(got)
	for i := range got {
		told[got[i].ID], got[i].Ended = true, false
	}
	stand = slices.DeleteFunc(slices.Clone(stand), func(f storage.Flow) bool {
		return !told[f.ID] && f.Phase == storage.PhaseForward && !f.Over() && f.Completed > 0
	})
	l.same("Finished.Flows against the flows as stored", got, stand)
}

func (l *lab) schema() storage.Schema {
	l.t.Helper()
	s, err := l.store.Schema(l.t.Context())
	l.must(err, "Schema")
	return s
}

func (l *lab) enqueue(rows ...storage.Execution) []storage.Receipt {
	l.t.Helper()
	return l.send(storage.EnqueueRequest{Executions: rows}).Receipts
}

func (l *lab) send(r storage.EnqueueRequest) storage.Enqueued {
	l.t.Helper()
	r.Now = l.now
	done, err := l.store.Enqueue(l.t.Context(), r)
	l.must(err, "Enqueue")
	return done
}

// worker describes a worker that has yet to join.
func (l *lab) worker() storage.Worker {
	return storage.Worker{
		ID: l.id(), Purpose: "work", Actor: "ada@lab", Hostname: "lab", Boot: "boot-1", PID: 4711, PIDStart: "99",
		Build: 7, Version: "v7", Queues: []string{"default", "low"}, Names: []string{"a", "b"}, Slots: 4, Lease: longLease, JoinedAt: l.now,
	}
}

func (l *lab) join() storage.ID {
	l.t.Helper()
	w := l.worker()
	l.must(l.store.Join(l.t.Context(), w), "Join")
	return w.ID
}

func (l *lab) claimAs(r storage.ClaimRequest) storage.Claimed {
	l.t.Helper()
	r.Now = l.now
	if r.Queues == nil {
		r.Queues = []string{"default"}
	}
	if r.Limit == 0 {
		r.Limit = 100
	}
	got, err := l.store.Claim(l.t.Context(), r)
	l.must(err, "Claim")
	return got
}

// claim takes what is due in the queues, "default" when none is named.
func (l *lab) claim(worker storage.ID, queues ...string) []storage.Execution {
	l.t.Helper()
	return l.claimAs(storage.ClaimRequest{Worker: worker, Queues: queues}).Executions
}

// take claims and expects exactly one execution.
func (l *lab) take(worker storage.ID) storage.Execution {
	l.t.Helper()
	got := l.claim(worker)
	if len(got) != 1 {
		l.t.Fatalf("claimed %v, want exactly one execution", names(got))
	}
	return got[0]
}

func (l *lab) finish(worker storage.ID, outcomes ...storage.Outcome) storage.Finished {
	l.t.Helper()
	done, err := l.store.Finish(l.t.Context(), storage.FinishRequest{Now: l.now, Worker: worker, Outcomes: outcomes})
	l.must(err, "Finish")
	return done
}

// settle finishes and expects every outcome to be applied.
func (l *lab) settle(worker storage.ID, outcomes ...storage.Outcome) storage.Finished {
	l.t.Helper()
	done := l.finish(worker, outcomes...)
	for i, applied := range done.Applied {
		if !applied {
			l.t.Fatalf("outcome %d of %d was not applied", i+1, len(outcomes))
		}
	}
	if len(done.Applied) != len(outcomes) {
		l.t.Fatalf("Applied has %d entries for %d outcomes", len(done.Applied), len(outcomes))
	}
	return done
}

// outcome ends an attempt without a failure; the counters stay.
func outcome(e storage.Execution, to storage.State) storage.Outcome {
	o := storage.Outcome{ID: e.ID, Delivery: e.Delivery, State: to, Errors: e.Errors, Losses: e.Losses}
	if e.Kind == storage.Hook || e.ID[len(e.ID)-1]%2 == 0 { // a store must manage with and without
		o.Of = &e
	}
	return o
}

// failure ends an attempt with an error.
func failure(e storage.Execution, to storage.State, message string) storage.Outcome {
	o := outcome(e, to)
	o.Errors++
	o.Failure = &storage.Failure{
		Outcome: "error", Type: "*errors.errorString", Message: message, Trace: "main.go:1",
		Context: `{"region":"eu"}`, Group: "group-" + message,
	}
	return o
}

func (l *lab) list(f storage.Filter) []storage.Execution {
	l.t.Helper()
	rows, err := l.store.Executions(l.t.Context(), f)
	l.must(err, "Executions")
	return rows
}

func (l *lab) get(id storage.ID) storage.Execution {
	l.t.Helper()
	rows := l.list(storage.Filter{IDs: []storage.ID{id}})
	if len(rows) != 1 {
		l.t.Fatalf("execution %s: found %d rows, want 1", id, len(rows))
	}
	return rows[0]
}

func (l *lab) wantState(id storage.ID, want storage.State) storage.Execution {
	l.t.Helper()
	e := l.get(id)
	if e.State != want {
		l.t.Fatalf("%s is %s, want %s", e.Name, e.State, want)
	}
	return e
}

func (l *lab) flow(id storage.ID) storage.Flow {
	l.t.Helper()
	flows, err := l.store.Flows(l.t.Context(), storage.FlowFilter{IDs: []storage.ID{id}})
	l.must(err, "Flows")
	if len(flows) != 1 {
		l.t.Fatalf("flow %s: found %d, want 1", id, len(flows))
	}
	return flows[0]
}

func (l *lab) attempts(ids ...storage.ID) []storage.Attempt {
	l.t.Helper()
	got, err := l.store.Attempts(l.t.Context(), ids...)
	l.must(err, "Attempts")
	return got
}

func (l *lab) rescue(worker storage.ID, dead ...storage.ID) []storage.Execution {
	l.t.Helper()
	got, err := l.store.Rescue(l.t.Context(), storage.RescueRequest{Now: l.now, Worker: worker, Dead: dead, Limit: 100})
	l.must(err, "Rescue")
	return got
}

func (l *lab) renew(worker storage.ID, progress ...storage.Progress) storage.Renewed {
	l.t.Helper()
	got, err := l.store.Renew(l.t.Context(), storage.RenewRequest{Now: l.now, Worker: worker, Lease: longLease, Progress: progress})
	l.must(err, "Renew")
	return got
}

func (l *lab) leave(worker storage.ID) {
	l.t.Helper()
	l.must(l.store.Leave(l.t.Context(), worker), "Leave")
}

func (l *lab) findWorker(id storage.ID) storage.Worker {
	l.t.Helper()
	workers, err := l.store.Workers(l.t.Context(), id)
	l.must(err, "Workers")
	for _, w := range workers {
		if w.ID == id {
			return w
		}
	}
	l.t.Fatalf("worker %s is not among the %d listed", id, len(workers))
	return storage.Worker{}
}

// leases reports whether this store lets workers die by the clock.
func (l *lab) leases(worker storage.ID) bool {
	l.t.Helper()
	return !l.findWorker(worker).LeaseUntil.IsZero()
}

// order makes an operator's order with this clock.
func (l *lab) order(a storage.Action, ids ...storage.ID) storage.Order {
	return storage.Order{Now: l.now, Action: a, IDs: ids, Actor: "grace@lab", Reason: "because"}
}

func (l *lab) operate(o storage.Order) []storage.Execution {
	l.t.Helper()
	after, err := l.store.Operate(l.t.Context(), o)
	l.must(err, "Operate "+string(o.Action))
	return after
}

// unchanged runs f and fails the case when the ledger differs afterwards.
func (l *lab) unchanged(what string, f func()) {
	l.t.Helper()
	before := l.snapshot()
	f()
	l.same(what+" must change nothing, but the ledger differs", l.snapshot(), before)
}

// snapshot is all a ledger shows of what it keeps, but workers and locks.
type snapshot struct {
	Executions []storage.Execution
	Attempts   []storage.Attempt
	Flows      []storage.Flow
	Counts     []storage.Count
	Stats      []storage.Stat
	Watched    []storage.Stat // by tag
	Audit      []storage.AuditEntry
	Pauses     []storage.Pause
	Schedules  []storage.Schedule
}

func (l *lab) snapshot() snapshot {
	l.t.Helper()
	ctx := l.t.Context()
	var s snapshot
	var err error
	s.Executions = l.list(storage.Filter{Oldest: true, Limit: 10_000})
	s.Attempts = l.attempts(ids(s.Executions)...)
	s.Flows, err = l.store.Flows(ctx, storage.FlowFilter{Limit: 10_000})
	l.must(err, "Flows")
	s.Counts, err = l.store.Counts(ctx)
	l.must(err, "Counts")
	s.Stats, err = l.store.Stats(ctx, storage.StatsFilter{})
	l.must(err, "Stats")
	s.Watched, err = l.store.Stats(ctx, storage.StatsFilter{Watched: true})
	l.must(err, "Stats by tag")
	s.Audit, err = l.store.Audit(ctx, storage.AuditFilter{})
	l.must(err, "Audit")
	s.Pauses, err = l.store.Pauses(ctx)
	l.must(err, "Pauses")
	s.Schedules, err = l.store.Schedules(ctx)
	l.must(err, "Schedules")
	sortSnapshot(&s)
	return s
}

func ids(rows []storage.Execution) []storage.ID {
	out := make([]storage.ID, len(rows))
	for i := range rows {
		out[i] = rows[i].ID
	}
	return out
}

func names(rows []storage.Execution) []string {
	out := make([]string, len(rows))
	for i := range rows {
		out[i] = rows[i].Name
	}
	return out
}

func cancelled(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx, cancel
}
