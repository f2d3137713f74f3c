package sequencer_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// refusing is an error that no other attempt follows.
func refusing(context.Context) error { return sequencer.Fail(errors.New("broken")) }

// heldUp is the one approval that a call gave up on.
func heldUp(t *testing.T, err error) sequencer.Approval {
	t.Helper()
	var waits *sequencer.ApprovalError
	if !errors.As(err, &waits) || len(waits.Waiting) != 1 {
		t.Fatalf("got %v, want what waits for approval", err)
	}
	return waits.Waiting[0]
}

// stoppedLab is where a run stopped because its one operation, first, waits for the dba.
func stoppedLab(t *testing.T) *lab {
	t.Helper()
	l := newLab(t)
	l.op(first, nil, sequencer.ApprovedBy("dba"))
	l.open()
	if _, err := l.process(sequencer.RunOptions{}); !errors.Is(err, sequencer.ErrNotApproved) {
		t.Fatalf("got %v, want it to wait for approval", err)
	}
	return l
}

// setup makes the ledger, for what is to be approved before the first run.
func (l *lab) setup() {
	l.t.Helper()
	if _, err := l.store.Setup(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
}

func TestAnApprovalIsForOneEndAlsoOfWhatIsTriedAgain_A2(t *testing.T) {
	t.Parallel()
	for _, quiet := range []bool{false, true} {
		l := newLab(t)
		l.cfg.DisableErrorRecords = quiet
		l.op(first, refusing, sequencer.ApprovedBy("dba"))
		l.open()
		l.setup()
		l.approve(first)
		if _, err := l.process(sequencer.RunOptions{}); err == nil || errors.Is(err, sequencer.ErrNotApproved) {
			t.Fatalf("got %v, want its failure", err)
		}
		l.expect(first)
		for range 2 { // the second retry finds the question
			a := heldUp(t, l.Retry(t.Context(), first, "again"))
			if a.By != "dba" || a.State != storage.Pending {
				t.Errorf("it waits for %+v", a)
			}
			l.expect()
		}
		if got := l.state(first); got != storage.Failed {
			t.Errorf("it is %s, want failed as before", got)
		}
		l.approve(l.asked(first).ID)
		if err := l.Retry(t.Context(), first, "again"); err == nil || errors.Is(err, sequencer.ErrNotApproved) {
			t.Errorf("approved anew: %v, want its failure", err)
		}
		l.expect(first)
		heldUp(t, l.Retry(t.Context(), first, "once more"))
		l.expect()
	}
}

func TestAnApprovalSpentInAWorkerIsNotUsedAgain_A2(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, refusing, sequencer.ApprovedBy("dba"))
	l.open()
	l.detached()
	l.serve()
	l.approve(first)
	l.serve()
	l.expect(first)
	if _, err := l.RetryAll(t.Context(), sequencer.Selection{Name: first}, "again"); err != nil {
		t.Fatal(err)
	}
	l.serve()
	l.expect()
	l.asked(first)
}

func TestTriesOfOneExecutionShareItsApproval_A2(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	left := 2
	l.op(first, func(context.Context) error {
		if left--; left >= 0 {
			return errors.New("not yet")
		}
		return nil
	}, sequencer.ApprovedBy("dba"), sequencer.Tries(3), sequencer.Backoff(0))
	l.open()
	l.setup()
	l.approve(first)
	l.mustProcess()
	l.expect(first, first, first)
}

func TestAnApprovalBySomebodyElseDoesNotCount_A2(t *testing.T) {
	t.Parallel()
	store := newLab(t).store
	build := func(by string) *lab {
		l := newLab(t)
		l.store = store
		l.op(first, nil, sequencer.ApprovedBy(by))
		l.open()
		l.setup()
		return l
	}
	old, l := build("dba"), build("security")
	old.approve(first)
	plan, err := l.Preview(t.Context(), sequencer.RunOptions{})
	if err != nil || plan.Tasks[0].Approved {
		t.Errorf("plan %+v, %v; want it not approved", plan, err)
	}
	_, err = l.process(sequencer.RunOptions{})
	if a := heldUp(t, err); a.By != "security" {
		t.Errorf("it waits for %+v, want security", a)
	}
	l.expect()
	third := build("audit") // while a question is open
	_, err = third.process(sequencer.RunOptions{})
	if a := heldUp(t, err); a.By != "audit" {
		t.Errorf("it waits for %+v, want audit", a)
	}
	if a := third.asked(first); a.By != "audit" {
		t.Errorf("asked is %+v, want audit alone", a)
	}
	third.approve(first)
	third.mustProcess()
	third.expect(first)
}

func TestRetryingWhatWasRejectedDoesNotWaitWithTheLock_A2(t *testing.T) {
	t.Parallel()
	l := stoppedLab(t)
	reject := func() {
		t.Helper()
		if _, err := l.Reject(t.Context(), l.asked(first).ID, "not on a Friday"); err != nil {
			t.Fatal(err)
		}
	}
	reject()
	var rejected *sequencer.RejectedError
	if _, err := l.process(sequencer.RunOptions{}); !errors.As(err, &rejected) || rejected.Answer != "rejected by tester@lab: not on a Friday" {
		t.Fatalf("rejected between two runs: %v, want the next one to fail of it", err)
	}
	heldUp(t, l.Retry(t.Context(), first, "it is Monday"))
	if got := l.state(first); got != storage.Failed {
		t.Errorf("it is %s, want failed as before", got)
	}
	if locks, err := l.store.Locks(t.Context()); err != nil || len(locks) != 0 {
		t.Errorf("locks %+v, %v; want none", locks, err)
	}
	reject()
	if err := l.Retry(t.Context(), first, "it is Tuesday"); !errors.As(err, &rejected) {
		t.Errorf("rejected again: %v", err)
	}
	if _, err := l.process(sequencer.RunOptions{}); !errors.Is(err, sequencer.ErrNotApproved) {
		t.Errorf("got %v, want it to be asked for anew: the rejections have served", err)
	}
	l.approve(first)
	l.mustProcess()
	l.expect(first)
}

func TestWhoRejectedBetweenTwoRunsMayThinkBetterOfIt_A2(t *testing.T) {
	t.Parallel()
	l := stoppedLab(t)
	if _, err := l.Reject(t.Context(), first, "no"); err != nil {
		t.Fatal(err)
	}
	atomic := sequencer.RunOptions{Orchestrator: sequencer.TransactionalBatch()}
	if _, err := l.process(atomic); !errors.Is(err, sequencer.ErrNotApproved) {
		t.Errorf("all or nothing: %v", err)
	}
	l.approve(first)
	if _, err := l.process(atomic); err != nil {
		t.Error(err)
	}
	l.expect(first)
}

func TestSkipsDoNotHideTheLastEnd_A2(t *testing.T) {
	t.Parallel()
	l, elsewhere := newLab(t), newLab(t)
	elsewhere.store, elsewhere.cfg.Environment = l.store, "staging"
	for _, each := range []*lab{l, elsewhere} {
		each.op(first, nil, sequencer.ApprovedBy("dba"), sequencer.Environments("test"))
		each.open()
	}
	l.setup()
	l.approve(first)
	l.mustProcess()
	l.expect(first)
	again := sequencer.RunOptions{Repeat: true}
	for range 25 {
		if _, err := elsewhere.process(again); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(l.rows(storage.Filter{Name: first, States: []storage.State{storage.Skipped}})); n != 25 {
		t.Fatalf("%d were skipped, want 25", n)
	}
	if _, err := l.process(again); !errors.Is(err, sequencer.ErrNotApproved) {
		t.Errorf("got %v, want it to be asked for anew", err)
	}
	l.expect()
}

func TestAnActorCanBeShownOnALine_A2(t *testing.T) {
	t.Parallel()
	l := newLab(t).open()
	for given, want := range map[string]string{
		"ada": "ada", "da\nna": "da\ufffdna", "\x00": "\ufffd", "\xff": "\ufffd", strings.Repeat("x", 3000): strings.Repeat("x", 125) + "…",
	} {
		got := l.As(given).Config().Actor
		if got != want || !utf8.ValidString(got) || len(got) > storage.MaxName {
			t.Errorf("As(%q) is %q, want %q", given, got, want)
		}
	}
}
