package sequencer_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// asked is the one approval that is open.
func (l *lab) asked(name string) sequencer.Approval {
	l.t.Helper()
	list, err := l.Approvals(l.t.Context())
	if err != nil || len(list) != 1 || list[0].Name != name {
		l.t.Fatalf("approvals %+v, %v; want one of %s", list, err, name)
	}
	return list[0]
}

func (l *lab) approve(nameOrID string) sequencer.Approval {
	l.t.Helper()
	a, err := l.Approve(l.t.Context(), nameOrID, "looks right")
	if err != nil || a.State != storage.Completed || a.Answer != "approved by tester@lab: looks right" {
		l.t.Fatalf("approve %s: %+v, %v", nameOrID, a, err)
	}
	return a
}

// answering runs with an observer that answers when the question is asked.
func answering(ctx context.Context, answer func(id string)) context.Context {
	return sequencer.WithObserver(ctx, func(_ context.Context, e sequencer.Event) {
		if e.Kind == sequencer.EventApprovalNeeded {
			answer(e.ID)
		}
	})
}

func TestARunGoesAsFarAsItMayAndTheNextOneGoesOn_A1_S34_26(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) {
		l.op(first, nil)
		l.op(second, nil, sequencer.ApprovedBy("dba"))
		l.op(third, nil)
		l.open()
		plan, err := l.Preview(t.Context(), sequencer.RunOptions{})
		if err != nil || plan.Tasks[1].ApprovedBy != "dba" || plan.Tasks[1].Approved {
			t.Fatalf("plan %+v, %v", plan, err)
		}
		for range 2 { // the second run finds the question, and does not ask again
			r, err := l.process(sequencer.RunOptions{})
			var waits *sequencer.ApprovalError
			if !errors.As(err, &waits) || !errors.Is(err, sequencer.ErrNotApproved) || len(waits.Waiting) != 1 || waits.Waiting[0].By != "dba" {
				t.Fatalf("got %v, want what waits for dba", err)
			}
			if r.State != storage.Interrupted || !strings.Contains(r.Reason, second+" waits for approval by dba") {
				t.Errorf("the run is %s: %s", r.State, r.Reason)
			}
		}
		l.expect(first)
		a := l.asked(second)
		if a.By != "dba" || a.AskedBy != "tester@lab" || a.Since.IsZero() || a.Execution != "" {
			t.Errorf("asked: %+v", a)
		}
		l.why(a.ID, "it waits for approval by dba since", sequencer.ReasonApproval)
		answer := l.why(second, "was cancelled", sequencer.ReasonOver, sequencer.ReasonApproval)
		if got := answer.Reasons[1].Approval; got == nil || got.ID != a.ID {
			t.Errorf("why: %+v", answer.Reasons[1])
		}
		l.approve(second)
		if plan, err = l.Preview(t.Context(), sequencer.RunOptions{}); err != nil || !plan.Tasks[0].Approved {
			t.Errorf("plan %+v, %v; want it approved", plan, err)
		}
		l.mustProcess()
		l.expect(second, third)
		entries, err := l.store.Audit(t.Context(), storage.AuditFilter{Target: a.ID})
		if err != nil || len(entries) != 1 || entries[0].Actor != "tester@lab" || entries[0].Reason != "looks right" {
			t.Errorf("audit %+v, %v", entries, err)
		}
		if _, err := l.Reject(t.Context(), a.ID, "too late"); !errors.Is(err, sequencer.ErrAnswered) || !strings.Contains(err.Error(), "approved by tester@lab") {
			t.Errorf("a second answer: %v; want who gave the first", err)
		}
	})
}

func TestARunThatWaitsGoesOnWhenItIsApprovedAndFailsWhenItIsRejected_A2(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) {
		l.op(first, nil)
		l.op(second, nil, sequencer.ApprovedBy("dba"))
		l.open()
		no := answering(t.Context(), func(id string) {
			if _, err := l.Reject(t.Context(), id, "not on a Friday"); err != nil {
				t.Errorf("reject: %v", err)
			}
		})
		_, err := l.Process(no, sequencer.RunOptions{WaitApproval: time.Minute})
		var rejected *sequencer.RejectedError
		if !errors.As(err, &rejected) || rejected.By != "dba" || rejected.Answer != "rejected by tester@lab: not on a Friday" {
			t.Fatalf("got %v, want the rejection", err)
		}
		l.expect(first, "undo "+first)
		if got := l.state(second); got != storage.Failed {
			t.Errorf("it is %s, want failed", got)
		}
		yes := answering(t.Context(), func(id string) { l.approve(id) })
		if _, err := l.Process(yes, sequencer.RunOptions{WaitApproval: time.Minute}); err != nil {
			t.Fatalf("asked again, and approved: %v", err)
		}
		l.expect(first, second)
	})
}

func TestAnApprovalInAdvanceCountsOnce_A2(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	fail := true
	l.op(first, func(context.Context) error {
		if fail {
			return errors.New("no")
		}
		return nil
	}, sequencer.ApprovedBy("dba"))
	l.op(second, nil)
	l.op("lone", nil, sequencer.ApprovedBy("dba"))
	l.open()
	if _, err := l.store.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.approve(first)
	if _, err := l.Approve(t.Context(), first, "again"); !errors.Is(err, sequencer.ErrAnswered) || !strings.Contains(err.Error(), "approved by tester@lab: looks right") {
		t.Errorf("twice: %v", err)
	}
	for name, want := range map[string]string{
		second: "needs nobody's approval", "lone": "nothing of it waits", "nobody": "nothing of it waits",
	} {
		if _, err := l.Approve(t.Context(), name, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("approve %s: %v, want %q", name, err, want)
		}
	}
	if _, err := l.Reject(t.Context(), first, "no"); err == nil || !strings.Contains(err.Error(), "nothing of it waits") {
		t.Errorf("rejecting what nobody asks for: %v", err)
	}
	if _, err := l.Reject(t.Context(), first, " "); err == nil || !strings.Contains(err.Error(), "say why") {
		t.Errorf("rejecting without a reason: %v", err)
	}
	if _, err := l.process(sequencer.RunOptions{}); err == nil || errors.Is(err, sequencer.ErrNotApproved) {
		t.Fatalf("got %v, want its failure", err)
	}
	l.expect(first)
	fail = false
	if _, err := l.process(sequencer.RunOptions{}); !errors.Is(err, sequencer.ErrNotApproved) {
		t.Fatalf("got %v, want it to be asked for anew", err)
	}
	l.approve(l.asked(first).ID)
	l.mustProcess()
	l.expect(first, second)
}

func TestOthersOfAGraphGoOnAndAllOrNothingDoesNotBegin_A1_S22_1(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, nil, sequencer.ApprovedBy("dba"))
	l.op(second, nil, sequencer.DependsOn(sequencer.Op(first)))
	l.op(third, nil)
	l.open()
	if _, err := l.process(sequencer.RunOptions{Orchestrator: sequencer.TransactionalBatch()}); !errors.Is(err, sequencer.ErrNotApproved) {
		t.Fatalf("all or nothing: %v", err)
	}
	l.expect()
	if _, err := l.process(sequencer.RunOptions{Orchestrator: sequencer.DependencyGraph()}); !errors.Is(err, sequencer.ErrNotApproved) {
		t.Fatalf("a graph: %v", err)
	}
	l.expect(third)
	l.approve(first)
	if _, err := l.process(sequencer.RunOptions{Orchestrator: sequencer.TransactionalBatch()}); err != nil {
		t.Fatal(err)
	}
	l.expect(first, second)
}

type refund struct {
	Amount int `json:"amount"`
}

func (r *refund) Handle(context.Context) error { return nil }

func (r *refund) ApprovedBy() string {
	if r.Amount > 100 {
		return "finance"
	}
	return ""
}

func TestWhatIsQueuedWaitsAtNoCostAndOneAnswerIsForOneExecution_A1_Q1_3(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) {
		sequencer.Register(l.reg, "refund", func() *refund { return &refund{} })
		l.open()
		small, err := l.Dispatch(t.Context(), &refund{Amount: 1})
		if err != nil {
			t.Fatal(err)
		}
		var large []sequencer.Receipt
		for range 2 {
			r, err := l.Dispatch(t.Context(), &refund{Amount: 1000})
			if err != nil {
				t.Fatal(err)
			}
			large = append(large, r)
		}
		l.serve()
		row := func(id string) storage.Execution {
			t.Helper()
			rows := l.rows(storage.Filter{IDPrefix: id})
			if len(rows) != 1 {
				t.Fatalf("%d rows of %s", len(rows), id)
			}
			return rows[0]
		}
		if got := row(small.ID).State; got != storage.Completed {
			t.Errorf("the small one is %s", got)
		}
		for _, r := range large {
			if e := row(r.ID); e.State != storage.Pending || e.Attempts() != 0 || !strings.HasPrefix(e.Reason, "waits for approval by finance (") {
				t.Errorf("a large one is %s after %d attempts: %s", e.State, e.Attempts(), e.Reason)
			}
		}
		if _, err := l.Approve(t.Context(), "refund", ""); err == nil || !strings.Contains(err.Error(), "2 executions of refund wait") {
			t.Errorf("by a name that two have: %v", err)
		}
		if _, err := l.Approve(t.Context(), small.ID, ""); err == nil || !strings.Contains(err.Error(), "nothing of it waits") {
			t.Errorf("what does not wait: %v", err)
		}
		if a := l.approve(large[0].ID); a.Execution != large[0].ID || a.AskedBy != "tester@lab" {
			t.Errorf("approved %+v, want it for %s", a, large[0].ID)
		}
		if _, err := l.Reject(t.Context(), "refund", "too much"); err != nil {
			t.Fatal(err)
		}
		l.serve()
		if e := row(large[0].ID); e.State != storage.Completed || e.Attempts() != 1 {
			t.Errorf("approved, it is %s after %d attempts", e.State, e.Attempts())
		}
		if e := row(large[1].ID); e.State != storage.Failed || e.LastError != "refund needed approval by finance, and was rejected by tester@lab: too much" {
			t.Errorf("rejected, it is %s: %s", e.State, e.LastError)
		}
		if err := l.Retry(t.Context(), large[1].ID, "they agreed"); err != nil {
			t.Fatal(err)
		}
		l.serve()
		if a := l.asked("refund"); a.Execution != large[1].ID {
			t.Errorf("tried again it asks again: %+v", a)
		}
		l.approve("refund")
		l.serve()
		if e := row(large[1].ID); e.State != storage.Completed {
			t.Errorf("approved at last, it is %s: %s", e.State, e.LastError)
		}
	})
}

func TestAStepOfAChainAndAMemberOfABatchWaitAsAnythingElse_A1_Q6_5(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) {
		sequencer.Register(l.reg, "refund", func() *refund { return &refund{} })
		l.op("before", nil)
		l.op("behind", nil)
		l.open()
		chain, err := l.Chain(sequencer.Named("before", nil), &refund{Amount: 1000}, sequencer.Named("behind", nil)).Dispatch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		l.serve()
		l.expect("before")
		l.approve("refund")
		l.serve()
		l.expect("behind")
		if f, err := chain.Status(t.Context()); err != nil || f.State != storage.Completed || f.Total != 3 {
			t.Errorf("the chain: %+v, %v", f, err)
		}
		batch, err := l.Batch(&refund{Amount: 1000}, sequencer.Named("before", nil)).Dispatch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		l.serve()
		if _, err := l.Reject(t.Context(), "refund", "no"); err != nil {
			t.Fatal(err)
		}
		l.serve()
		if f, err := batch.Status(t.Context()); err != nil || f.State != storage.Failed || f.Completed != 1 || f.Failed != 1 {
			t.Errorf("the batch: %+v, %v", f, err)
		}
	})
}

func TestADetachedRunWaitsWithItsWorkers_A1(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) {
		l.op(first, nil, sequencer.ApprovedBy("dba"))
		l.op(second, nil)
		l.open()
		l.detached()
		l.serve()
		l.expect()
		l.why(first, "waits for approval by dba since", sequencer.ReasonApproval, sequencer.ReasonNoWorker)
		l.approve(first)
		l.serve()
		l.expect(first, second)
	})
}

// moved is for the environment that it is told.
type moved struct {
	To string `json:"to"`
}

func (m *moved) Handle(context.Context) error { return nil }
func (m *moved) Environments() []string       { return []string{m.To} }
func (m *moved) ApprovedBy() string           { return "dba" }

func TestNobodyIsAskedAboutWhatIsForAnotherEnvironment_A1_S8_5(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, nil, sequencer.ApprovedBy("dba"), sequencer.Environments("staging"))
	sequencer.Register(l.reg, "moved", func() *moved { return &moved{To: "staging"} })
	l.open()
	r := l.mustProcess()
	if r.Count(storage.Ordered, storage.Skipped) != 1 || r.Plan.Tasks[0].ApprovedBy != "" {
		t.Errorf("the run: %+v, its plan: %+v", r.Tasks, r.Plan.Tasks)
	}
	for _, to := range []string{"staging", "test"} {
		if _, err := l.Dispatch(t.Context(), &moved{To: to}); err != nil {
			t.Fatal(err)
		}
	}
	l.serve()
	if n := len(l.rows(storage.Filter{Name: "moved", States: []storage.State{storage.Skipped}})); n != 1 {
		t.Errorf("%d are skipped, want the one for staging", n)
	}
	if a := l.asked("moved"); a.Execution == "" {
		t.Errorf("asked for %+v; want the one for this environment", a)
	}
}

func TestAMigrationBehindWhatWaitsDoesNotHangADetachedRun_A1(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.op(first, nil, sequencer.ApprovedBy("dba"))
		l.migrations(table(20))
		l.open()
		if _, err := l.store.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- l.Work(ctx, sequencer.WorkerConfig{}) }()
		began := time.Now()
		const wait = time.Hour + 333*time.Millisecond // not at the instant at which the worker looks for an answer
		r, err := l.process(sequencer.RunOptions{Detach: true, WaitApproval: wait})
		if !errors.Is(err, sequencer.ErrNotApproved) || r.State != storage.Interrupted {
			t.Fatalf("got %+v, %v; want it to give up", r, err)
		}
		if took := time.Since(began); took < wait || took > wait+time.Minute {
			t.Errorf("it waited %s, want an hour", took)
		}
		l.approve(first)
		if _, err := l.process(sequencer.RunOptions{Detach: true}); err != nil {
			t.Error(err)
		}
		l.expect(first, "up "+table(20).Name)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestTheApplicationDecidesWhoMayApprove_A2(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var asked sequencer.Approval
	l.cfg.MayApprove = func(_ context.Context, actor string, a sequencer.Approval) error {
		asked = a
		if actor != "dana" {
			return errors.New("dana is on duty")
		}
		return nil
	}
	l.op(first, nil, sequencer.ApprovedBy("dba"))
	l.open()
	if _, err := l.process(sequencer.RunOptions{}); !errors.Is(err, sequencer.ErrNotApproved) {
		t.Fatal(err)
	}
	for _, answer := range []func(context.Context, string, string) (sequencer.Approval, error){l.Approve, l.Reject} {
		_, err := answer(t.Context(), first, "because")
		if err == nil || !strings.Contains(err.Error(), "dana is on duty") || asked.By != "dba" || asked.ID == "" {
			t.Errorf("got %v about %+v; want a refusal", err, asked)
		}
	}
	if a := l.asked(first); a.State != storage.Pending {
		t.Errorf("after the refusals: %+v", a)
	}
	l.cfg.Actor = "dana"
	l.open()
	if _, err := l.Approve(t.Context(), first, ""); err != nil {
		t.Error(err)
	}
	l.mustProcess()
	l.expect(first)
}

func TestExecutingHereWaitsOrSaysWhatFor_A1(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op("lone", nil, sequencer.ApprovedBy("dba"), sequencer.RetryFor(time.Second))
	l.open()
	if _, err := l.store.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	op := sequencer.Named("lone", nil)
	var off *sequencer.DeferredError
	if err := l.ExecuteSync(t.Context(), op, sequencer.NoWait()); !errors.As(err, &off) || off.Reason != "waits for approval by dba" {
		t.Errorf("got %v, want what it would have waited for", err)
	}
	if list, err := l.Approvals(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("nobody waits, and is asked: %+v, %v", list, err)
	}
	if err := l.ExecuteSync(answering(t.Context(), func(id string) { l.approve(id) }), op); err != nil {
		t.Error(err)
	}
	l.expect("lone")
}

func TestDeadlinesBeginWhenItIsApprovedAndWhatIsOverAsksNoMore_A1_Q1_13(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.op("lone", nil, sequencer.ApprovedBy("dba"), sequencer.RetryFor(time.Minute))
		l.open()
		var told atomic.Int32
		if _, err := l.store.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := l.Dispatch(t.Context(), sequencer.Named("lone", nil)); err != nil {
				t.Fatal(err)
			}
		}
		ctx, stop := context.WithCancel(answering(t.Context(), func(string) { told.Add(1) }))
		ended := make(chan error, 1)
		go func() { ended <- l.Work(ctx, sequencer.WorkerConfig{}) }()
		time.Sleep(5*time.Hour + 5*time.Second) // sleep: in a bubble; between two looks for the answer
		list, err := l.Approvals(t.Context())
		if err != nil || len(list) != 2 || told.Load() != 2 {
			t.Fatalf("approvals %+v, %v; told of %d; want both, each told once", list, err, told.Load())
		}
		l.approve(list[0].ID)
		if err := l.Cancel(t.Context(), list[1].Execution, "not any more"); err != nil {
			t.Fatal(err)
		}
		if left, err := l.Approvals(t.Context()); err != nil || len(left) != 0 {
			t.Errorf("of what was cancelled one is asked: %+v, %v", left, err)
		}
		if _, err := l.Approve(t.Context(), list[1].ID, ""); err == nil || !strings.Contains(err.Error(), "what it was asked for is over") {
			t.Errorf("approving what was cancelled: %v", err)
		}
		time.Sleep(2 * time.Hour) // sleep: in a bubble
		l.expect("lone")
		if list, err := l.Approvals(t.Context()); err != nil || len(list) != 0 {
			t.Errorf("approvals %+v, %v; want none", list, err)
		}
		if _, err := l.Approve(t.Context(), list[1].ID, ""); !errors.Is(err, sequencer.ErrAnswered) || !strings.Contains(err.Error(), "what it was asked for is over") {
			t.Errorf("approving what was withdrawn: %v", err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestAnApproverMustBeNamed_S1_7(t *testing.T) {
	t.Parallel()
	for by, want := range map[string]string{"": "names nobody", "d\nba": "text that can be shown", strings.Repeat("x", 129): "at most 128"} {
		reg := sequencer.NewRegistry()
		sequencer.RegisterFunc(reg, "op", func(context.Context) error { return nil }, sequencer.ApprovedBy(by))
		if _, err := sequencer.New(newLab(t).store, reg, sequencer.Config{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ApprovedBy(%q): %v, want %q", by, err, want)
		}
	}
}
