package storagetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gosequencer/sequencer/storage"
)

var enqueueRules = []rule{
	{"Q9.16 an enqueued row is pending, due at once, and carries no other instant", func(t *testing.T, l *lab) {
		a := l.row("a")
		got := l.enqueue(a)
		l.same("receipts", got, []storage.Receipt{{ID: a.ID}})
		want := a
		want.State, want.CreatedAt, want.DueAt = storage.Pending, base, base
		l.same("row", l.get(a.ID), want)
	}},
	{"S34.26 what a person asked for is audited with the rows, once, and only if there are any", enqueueAudited},
	{"S4.2 every field Enqueue reads comes back as it was, and no other is taken", enqueueRoundTrip},
	{"S4.2 instants come back in UTC with microseconds", func(t *testing.T, l *lab) {
		l.now = base.Add(123456789 * time.Nanosecond).In(time.FixedZone("east", 3600))
		a := l.row("a")
		l.enqueue(a)
		got := l.get(a.ID).CreatedAt
		if want := base.Add(123456 * time.Microsecond); !got.Equal(want) || got.Location() != time.UTC {
			t.Errorf("created at %v, want %v", got, want)
		}
		l.now = base
	}},
	{"S4.2 the production clock writes present instants when a request has no Now", func(t *testing.T, l *lab) {
		a := l.row("a")
		before := time.Now().Add(-time.Hour)
		if _, err := l.store.Enqueue(t.Context(), storage.EnqueueRequest{Executions: []storage.Execution{a}}); err != nil {
			t.Fatal(err)
		}
		if got := l.get(a.ID).CreatedAt; got.Before(before) || got.After(before.Add(2*time.Hour)) {
			t.Errorf("created at %v, want the present", got)
		}
	}},
	{"S4.2 two executions of one name in the same microsecond are two rows", func(t *testing.T, l *lab) {
		a, b := l.row("same"), l.row("same")
		l.enqueue(a)
		l.enqueue(b)
		w := l.join()
		for _, e := range l.claim(w) {
			l.settle(w, outcome(e, storage.Completed))
		}
		if got := l.list(storage.Filter{Name: "same", States: []storage.State{storage.Completed}}); len(got) != 2 {
			t.Errorf("%d completed rows of the name, want 2", len(got))
		}
	}},
	{"Q10.5 Delay moves the due time, RetryFor counts the deadline from there (Q1.13)", func(t *testing.T, l *lab) {
		a, b := l.row("a"), l.row("b")
		a.Delay, a.RetryFor = time.Minute, time.Hour
		b.RetryFor = 90 * time.Millisecond
		l.enqueue(a, b)
		if e := l.get(a.ID); !e.DueAt.Equal(base.Add(time.Minute)) || !e.DeadlineAt.Equal(base.Add(61*time.Minute)) {
			t.Errorf("due %v, deadline %v; want %v and %v", e.DueAt, e.DeadlineAt, base.Add(time.Minute), base.Add(61*time.Minute))
		}
		if e := l.get(b.ID); !e.DueAt.Equal(base) || !e.DeadlineAt.Equal(base.Add(90*time.Millisecond)) {
			t.Errorf("due %v, deadline %v; want %v and %v", e.DueAt, e.DeadlineAt, base, base.Add(90*time.Millisecond))
		}
	}},
	{"Q0.6 repeating Enqueue gives the same receipts and changes nothing", func(t *testing.T, l *lab) {
		a, b, twin := l.row("a"), l.row("b"), l.row("a")
		a.UniqueKey, twin.UniqueKey = "k", "k"
		r := storage.EnqueueRequest{Executions: []storage.Execution{a, twin, b}}
		first := l.send(r)
		l.tick(time.Second)
		l.unchanged("a repeated Enqueue", func() {
			l.same("receipts of the repeat", l.send(r).Receipts, first.Receipts)
		})
	}},
	{"Q0.6 repeating Enqueue of a flow changes nothing, even after its members moved", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a")
		f.enqueue()
		f.end("a", storage.Completed)
		l.unchanged("a repeated Enqueue", func() { l.send(f.request()) })
	}},
	{"Q0.6 repeating Enqueue after the rows are over brings nothing back", func(t *testing.T, l *lab) {
		a := l.row("a")
		a.UniqueKey = "k"
		l.enqueue(a)
		w := l.join()
		l.settle(w, outcome(l.take(w), storage.Completed))
		l.unchanged("a repeated Enqueue", func() {
			l.same("receipts", l.enqueue(a), []storage.Receipt{{ID: a.ID}})
		})
	}},
	{"Q4.1 Q4.11 a live unique key makes the next row a duplicate that names the holder and leaves no row", func(t *testing.T, l *lab) {
		a, b, c := l.row("a"), l.row("a"), l.row("c")
		a.UniqueKey, b.UniqueKey, c.UniqueKey = "k", "k", "other"
		l.enqueue(a)
		got := l.enqueue(b, c)
		l.same("receipts", got, []storage.Receipt{{ID: b.ID, Duplicate: true, HolderID: a.ID}, {ID: c.ID}})
		if rows := l.list(storage.Filter{IDs: []storage.ID{b.ID}}); len(rows) != 0 {
			t.Errorf("the duplicate left a row: %+v", rows)
		}
	}},
	{"Q4.1 control: rows without a key are never duplicates", func(t *testing.T, l *lab) {
		got := l.enqueue(l.row("a"), l.row("a"), l.row("a"))
		for _, r := range got {
			if r.Duplicate {
				t.Errorf("receipt %+v of a row without a key", r)
			}
		}
	}},
	{"Q4.1 two rows of one request with the same key: the first holds it", func(t *testing.T, l *lab) {
		a, b := l.row("a"), l.row("a")
		a.UniqueKey, b.UniqueKey = "k", "k"
		l.same("receipts", l.enqueue(a, b), []storage.Receipt{{ID: a.ID}, {ID: b.ID, Duplicate: true, HolderID: a.ID}})
	}},
	{"Q4.9 RefuseDuplicates writes nothing: no row, no flow, no edge", func(t *testing.T, l *lab) {
		a := l.row("a")
		a.UniqueKey = "k"
		l.enqueue(a)
		f := l.draft(storage.PolicyStop, "x", "y needs x", "z needs y")
		f.member("z").UniqueKey = "k"
		r := f.request()
		r.RefuseDuplicates, r.Now = true, l.now
		l.unchanged("a refused Enqueue", func() {
			_, err := l.store.Enqueue(t.Context(), r)
			duplicate, ok := errors.AsType[*storage.DuplicateError](err)
			if !ok {
				t.Fatalf("got error %v, want a *DuplicateError", err)
			}
			l.same("error", *duplicate, storage.DuplicateError{Name: "z", Key: "k", HolderID: a.ID})
		})
		edges, err := l.store.Edges(t.Context(), f.flow.ID)
		l.must(err, "Edges")
		if len(edges) != 0 {
			t.Errorf("the refused flow left %d edges", len(edges))
		}
		l.same("claimable", names(l.claim(l.join())), []string{"a"})
	}},
	{"Q4.6 a key is held across a retry and free after any end", func(t *testing.T, l *lab) {
		w := l.join()
		for _, end := range []storage.State{storage.Completed, storage.Failed, storage.Skipped, storage.Cancelled, storage.Interrupted} {
			a, b, c := l.row("a"), l.row("a"), l.row("a")
			a.UniqueKey, b.UniqueKey, c.UniqueKey = "k", "k", "k"
			l.enqueue(a)
			l.settle(w, outcome(l.take(w), storage.Pending))
			if got := l.enqueue(b); !got[0].Duplicate {
				t.Errorf("a row that waits for a retry gave its key up: %+v", got)
			}
			l.settle(w, outcome(l.take(w), end))
			if got := l.enqueue(c); got[0].Duplicate {
				t.Errorf("key still held after %s: %+v", end, got)
			}
			l.settle(w, outcome(l.take(w), storage.Completed))
		}
	}},
	{"Q4.4 a waiting row gives its key up when UniqueFor has passed, not before", func(t *testing.T, l *lab) {
		a, early, late := l.row("a"), l.row("a"), l.row("a")
		a.UniqueKey, early.UniqueKey, late.UniqueKey = "k", "k", "k"
		a.UniqueFor = time.Minute
		l.enqueue(a)
		l.tick(time.Minute - time.Millisecond)
		if got := l.enqueue(early); !got[0].Duplicate {
			t.Errorf("the key was free after %v of %v", l.now.Sub(base), a.UniqueFor)
		}
		l.tick(2 * time.Millisecond)
		if got := l.enqueue(late); got[0].Duplicate {
			t.Errorf("the key was held for longer than %v: %+v", a.UniqueFor, got)
		}
		if e := l.get(a.ID); e.State != storage.Pending || e.UniqueKey != "" {
			t.Errorf("the former holder is %s with key %q, want pending without one", e.State, e.UniqueKey)
		}
	}},
	{"Q4.4 control: a running row keeps its key however long it takes", func(t *testing.T, l *lab) {
		a, b := l.row("a"), l.row("a")
		a.UniqueKey, b.UniqueKey, a.UniqueFor = "k", "k", time.Minute
		l.enqueue(a)
		l.take(l.join())
		l.tick(time.Hour)
		l.same("receipts", l.enqueue(b), []storage.Receipt{{ID: b.ID, Duplicate: true, HolderID: a.ID}})
	}},
	{"Q4.4 control: without UniqueFor a waiting row keeps its key while it is live", func(t *testing.T, l *lab) {
		a, b := l.row("a"), l.row("a")
		a.UniqueKey, b.UniqueKey = "k", "k"
		l.enqueue(a)
		l.tick(1000 * time.Hour)
		if got := l.enqueue(b); !got[0].Duplicate {
			t.Errorf("receipt %+v, want a duplicate", got[0])
		}
	}},
	{"S3.3 an ordered operation and its undoing share one key", func(t *testing.T, l *lab) {
		op := l.ordered("20260101000000_seed")
		op.Undoable = true
		l.enqueue(op)
		w := l.join()
		l.settle(w, outcome(l.take(w), storage.Completed))
		done := l.get(op.ID)
		undo, again := done.Undo(), l.ordered(op.Name)
		undo.ID = l.id()
		l.enqueue(undo)
		l.same("a second deploy during the rollback", l.enqueue(again),
			[]storage.Receipt{{ID: again.ID, Duplicate: true, HolderID: undo.ID}})
	}},
	{"Q5.35 a blocked member has no due time and cannot be claimed, its control without edges can", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a", "c after a", "c needs b", "free")
		f.member("b").Delay, f.member("b").RetryFor = time.Minute, time.Hour
		f.enqueue()
		for name, waits := range map[string]int{"a": 0, "b": 1, "c": 2, "free": 0} {
			e := f.get(name)
			if e.Waits != waits || e.DueAt.IsZero() != (waits > 0) || !e.DeadlineAt.IsZero() {
				t.Errorf("%s: waits %d, due %v, deadline %v; want %d open edges", name, e.Waits, e.DueAt, e.DeadlineAt, waits)
			}
		}
		got := names(l.claim(l.join()))
		slices.Sort(got)
		l.same("claimed", got, []string{"a", "free"})
	}},
	{"Q5.35 Q5.15 a new flow is open and counts its members, forward and undo apart", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyContinue, "a", "b", "c needs a")
		f.flow.Options, f.flow.Name, f.flow.Host, f.flow.Build = []byte(`{"x":1}`), "nightly", "lab", 7
		f.flow.WorkerID, f.flow.Actor = l.join(), "ada@lab"
		f.enqueue()
		want := f.flow
		want.State, want.Phase, want.CreatedAt, want.Total, want.RootID, want.Generation = storage.Running, storage.PhaseForward, base, 3, f.flow.ID, 1
		l.same("flow", l.flow(f.flow.ID), want)
		edges, err := l.store.Edges(t.Context(), f.flow.ID)
		l.must(err, "Edges")
		l.same("edges", edges, f.edges)

		a := l.ordered("op")
		l.enqueue(a)
		undo := a.Undo()
		undo.ID, undo.UniqueKey = l.id(), ""
		back := l.draft(storage.PolicyContinue)
		back.flow.Kind = storage.FlowRollback
		undo.FlowID = back.flow.ID
		back.members = append(back.members, undo)
		back.enqueue()
		if got := l.flow(back.flow.ID); got.Total != 0 || got.UndoTotal != 1 || got.Over() {
			t.Errorf("rollback flow counts %d forward and %d undo members, over: %v; want 0 and 1, open", got.Total, got.UndoTotal, got.Over())
		}
	}},
	{"Q4.13 a duplicate member is left out with its edges, and the flow does without it", func(t *testing.T, l *lab) {
		busy := l.row("busy")
		busy.UniqueKey, busy.Queue = "k", "elsewhere"
		l.enqueue(busy)
		f := l.draft(storage.PolicyStop, "a", "b needs a", "c needs b")
		f.member("b").UniqueKey = "k"
		f.enqueue()
		if got := l.flow(f.flow.ID); got.Total != 2 {
			t.Errorf("the flow counts %d members, want 2", got.Total)
		}
		f.end("c", storage.Completed)
		f.end("a", storage.Completed)
		f.wantOver(storage.Completed)
	}},
	{"Q0.2 an edge cannot lead outside its flow, and the call that tries writes nothing", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a")
		r := f.request()
		r.Now = l.now
		r.Executions = slices.Clone(r.Executions)
		r.Executions[1].FlowID = storage.ID{}
		l.unchanged("a refused Enqueue", func() {
			if _, err := l.store.Enqueue(t.Context(), r); err == nil {
				t.Error("an edge to an execution of no flow was accepted")
			}
		})
	}},
	{"Q9.16 a thousand rows in one call are a thousand receipts and rows", func(t *testing.T, l *lab) {
		rows := make([]storage.Execution, 1000)
		for i := range rows {
			rows[i] = l.row(fmt.Sprintf("bulk-%04d", i))
			rows[i].Tags = []string{"bulk"}
		}
		for i, r := range l.enqueue(rows...) {
			if r.ID != rows[i].ID || r.Duplicate {
				t.Fatalf("receipt %d is %+v, want %s", i, r, rows[i].ID)
			}
		}
		if got := l.list(storage.Filter{Tag: "bulk", Limit: 2000}); len(got) != 1000 {
			t.Errorf("found %d rows, want 1000", len(got))
		}
		w := l.join()
		got := l.claimAs(storage.ClaimRequest{Worker: w, Limit: 2000}).Executions
		outcomes := make([]storage.Outcome, len(got))
		for i, e := range got {
			outcomes[i] = outcome(e, storage.Completed)
		}
		l.settle(w, outcomes...)
		l.same("counts", l.snapshot().Counts, []storage.Count{{Queue: "default", State: storage.Completed, N: 1000}})
	}},
	{"S4.2 input of the full size survives", func(t *testing.T, l *lab) {
		if testing.Short() {
			t.Skip("8 MiB of input")
		}
		a := l.row("a")
		a.Input = make([]byte, storage.MaxInput)
		for i := range a.Input {
			a.Input[i] = byte(i * 7)
		}
		l.enqueue(a)
		if got := l.get(a.ID).Input; string(got) != string(a.Input) {
			t.Errorf("%d bytes came back, want the same %d", len(got), len(a.Input))
		}
	}},
	{"Q0.2 a claim fused with Enqueue takes the rows just written", func(t *testing.T, l *lab) {
		w := l.join()
		a := l.row("a")
		done := l.send(storage.EnqueueRequest{
			Executions: []storage.Execution{a},
			Claim:      &storage.ClaimRequest{Now: l.now, Worker: w, Queues: []string{"default"}, Limit: 10},
		})
		if got := done.Claimed.Executions; len(got) != 1 || got[0].ID != a.ID || got[0].Delivery != 1 {
			t.Fatalf("claimed %+v, want a at delivery 1", got)
		}
		if e := l.wantState(a.ID, storage.Running); e.WorkerID != w {
			t.Errorf("held by %s, want %s", e.WorkerID, w)
		}
	}},
	{"Q2.15 a claim of a worker that left, fused with Enqueue, writes nothing", func(t *testing.T, l *lab) {
		w := l.join()
		l.leave(w)
		l.unchanged("the refused call", func() {
			_, err := l.store.Enqueue(t.Context(), storage.EnqueueRequest{
				Now: l.now, Executions: []storage.Execution{l.row("a")},
				Claim: &storage.ClaimRequest{Now: l.now, Worker: w, Queues: []string{"default"}, Limit: 10},
			})
			if !errors.Is(err, storage.ErrLeaseLost) {
				t.Errorf("got error %v, want ErrLeaseLost", err)
			}
		})
	}},
}

// enqueueRoundTrip fills every field that Enqueue reads, and garbage in those it
// must not read.
func enqueueRoundTrip(t *testing.T, l *lab) {
	t.Helper()
	home := l.join()
	f := l.draft(storage.PolicyStop)
	a := storage.Execution{
		ID: l.id(), Name: "20260102030405_all:fields/x", Kind: storage.Ordered, Method: "sequential", Actor: "ada@lab",
		Queue: "@home", Priority: 3, Delay: 1500 * time.Millisecond, RetryFor: time.Hour,
		Input: []byte{0, 1, 255, '\'', '"', 0}, Policy: []byte(`{"tries":3}`), UniqueKey: "op:x", UniqueFor: 2 * time.Hour,
		OnLoss: storage.LossInterrupt, MinBuild: 1 << 40, Tags: []string{"b", "a", "with space"}, Undoable: true, AllowedToFail: true,
		Checksum: "sha256:ab", FlowID: f.flow.ID, Member: "the member", Position: 7, WorkerID: home,
	}
	want := a
	want.State, want.CreatedAt = storage.Pending, base
	want.DueAt, want.DeadlineAt = base.Add(a.Delay), base.Add(a.Delay+a.RetryFor)

	a.State, a.Reason, a.ForNow, a.Environment = storage.Failed, "garbage", true, "garbage"
	a.CreatedAt, a.DueAt, a.StartedAt, a.FinishedAt, a.DeadlineAt = base.Add(1), base.Add(2), base.Add(3), base.Add(4), base.Add(5)
	a.Waits, a.Delivery, a.Excused, a.Errors, a.Losses, a.Parked = 9, 9, 9, 9, 9, true
	a.Done, a.Total, a.Checkpoint, a.Result = 9, 9, []byte("garbage"), []byte("garbage")
	a.LastError, a.ErrorGroup, a.UndoError = "garbage", "garbage", "garbage"
	f.members = append(f.members, a)
	f.enqueue()
	l.same("ordered row", l.get(a.ID), want, sortedTags)

	undo := want.Undo()
	undo.ID, undo.UniqueKey, undo.Result = l.id(), "", []byte("kept")
	l.enqueue(undo)
	wantUndo := undo
	wantUndo.State, wantUndo.CreatedAt, wantUndo.DueAt = storage.Pending, base, base
	l.same("undo row keeps its result", l.get(undo.ID), wantUndo, sortedTags)
}

// sortedTags lets a store keep tags as a set.
var sortedTags = cmpopts.SortSlices(func(a, b string) bool { return a < b })

// enqueueAudited sends a request that somebody made by hand, repeats it, and has it refused.
func enqueueAudited(t *testing.T, l *lab) {
	t.Helper()
	entries := func() []storage.AuditEntry {
		got, err := l.store.Audit(t.Context(), storage.AuditFilter{Target: "schedule nightly"})
		l.must(err, "Audit")
		for i := range got {
			got[i].ID = storage.ID{}
		}
		return got
	}
	send := func(refuse bool, rows ...storage.Execution) ([]storage.Receipt, error) {
		done, err := l.store.Enqueue(t.Context(), storage.EnqueueRequest{
			Now: l.now, Executions: rows, RefuseDuplicates: refuse,
			Audit: &storage.AuditEntry{Actor: "ada", Action: storage.AuditRunSchedule, Target: "schedule nightly", Reason: "it was late"},
		})
		return done.Receipts, err
	}
	one := storage.AuditEntry{At: l.now, Actor: "ada", Action: storage.AuditRunSchedule, Target: "schedule nightly", Count: 1, Reason: "it was late"}
	plain, unique := l.row("plain"), l.row("unique")
	unique.UniqueKey = "key"
	for range 2 {
		receipts, err := send(false, plain)
		l.must(err, "Enqueue")
		l.same("receipts", receipts, []storage.Receipt{{ID: plain.ID}})
		l.same("audit", entries(), []storage.AuditEntry{one})
	}
	l.tick(time.Second)
	_, err := send(true, unique)
	l.must(err, "Enqueue")
	two := one
	two.At = l.now
	l.same("audit", entries(), []storage.AuditEntry{two, one})

	// With a duplicate beside it, one row is written; without, none.
	again, beside := l.row("again"), l.row("beside")
	again.UniqueKey = "key"
	l.tick(time.Second)
	for range 2 {
		receipts, err := send(false, again, beside)
		l.must(err, "Enqueue")
		l.same("receipts", receipts, []storage.Receipt{{ID: again.ID, Duplicate: true, HolderID: unique.ID}, {ID: beside.ID}})
	}
	three := one
	three.At = l.now
	l.unchanged("duplicates alone", func() {
		for _, refuse := range []bool{false, true} {
			late := l.row("again")
			late.UniqueKey = "key"
			if _, err := send(refuse, late); (err != nil) != refuse {
				t.Errorf("refuse %v: %v", refuse, err)
			}
		}
	})
	l.same("audit", entries(), []storage.AuditEntry{three, two, one})
}
