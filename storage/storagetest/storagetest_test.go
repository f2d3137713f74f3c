package storagetest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
)

func TestEveryCaseCitesKnownRules(t *testing.T) {
	t.Parallel()
	var cases []string
	for _, group := range [][]rule{
		setupRules, enqueueRules, claimRules, finishRules, holdKeyRules, flowRules, nextRules, undoRules, leaseRules, operateRules, keepRules, readRules,
		pauseRules, forgetRules, approveRules, scheduleRules, wakeRules, limitRules, resealRules,
		hookRules, callbackRules, nestRules, addRules, resumeRules, stopRules,
	} {
		for _, r := range group {
			cases = append(cases, r.name)
		}
	}
	for _, r := range txRules {
		cases = append(cases, r.name)
	}
	cited := map[string]bool{}
	for _, name := range cases {
		ids := ruleID.FindAllString(name, -1)
		if len(ids) == 0 {
			t.Errorf("%q cites no rule", name)
		}
		for _, id := range ids {
			cited[id] = true
			if rules[id] == "" {
				t.Errorf("%q cites %s, which has no text", name, id)
			}
		}
	}
	for id := range rules {
		if !cited[id] {
			t.Errorf("no case defends %s", id)
		}
	}
}

// heard collects what Check has to say.
type heard struct {
	testing.TB
	said []string
}

func (h *heard) Helper()                      {}
func (h *heard) Errorf(f string, args ...any) { h.said = append(h.said, fmt.Sprintf(f, args...)) }

// liar is a ledger whose answers are bent.
type liar struct {
	storage.Store
	bendRow  func(*storage.Execution)
	bendFlow func(*storage.Flow)
}

func (l liar) Executions(ctx context.Context, f storage.Filter) ([]storage.Execution, error) {
	rows, err := l.Store.Executions(ctx, f)
	for i := range rows {
		if l.bendRow != nil {
			l.bendRow(&rows[i])
		}
	}
	return rows, err
}

func (l liar) Flows(ctx context.Context, f storage.FlowFilter) ([]storage.Flow, error) {
	flows, err := l.Store.Flows(ctx, f)
	for i := range flows {
		if l.bendFlow != nil {
			l.bendFlow(&flows[i])
		}
	}
	return flows, err
}

func TestCheckNoticesContradictions(t *testing.T) {
	t.Parallel()
	l := newLab(t, memory.New())
	a, b := l.row("keyed"), l.row("other")
	a.UniqueKey, b.Delay = "k", time.Hour
	l.enqueue(a, b)
	f := l.draft(storage.PolicyContinue, "done", "failed", "waits after running", "running")
	f.enqueue()
	f.end("done", storage.Completed)
	f.end("failed", storage.Failed)
	f.take("running")
	over := l.draft(storage.PolicyStop, "last")
	over.enqueue()
	over.end("last", storage.Completed)

	sound := &heard{TB: t}
	Check(sound, l.store)
	if len(sound.said) > 0 {
		t.Fatalf("a sound ledger is reported: %q", sound.said)
	}
	on := func(name string, bend func(*storage.Execution)) liar {
		return liar{Store: l.store, bendRow: func(e *storage.Execution) {
			if e.Name == name {
				bend(e)
			}
		}}
	}
	flows := func(open bool, bend func(*storage.Flow)) liar {
		return liar{Store: l.store, bendFlow: func(f *storage.Flow) {
			if f.Over() != open {
				bend(f)
			}
		}}
	}
	for what, store := range map[string]liar{
		"completed without a finished time": on("done", func(e *storage.Execution) { e.FinishedAt = time.Time{} }),
		"pending with a finished time":      on("other", func(e *storage.Execution) { e.FinishedAt = base }),
		"running without a worker":          on("running", func(e *storage.Execution) { e.WorkerID = storage.ID{} }),
		"pending without a due time":        on("other", func(e *storage.Execution) { e.DueAt = time.Time{} }),
		"more excused than delivered":       on("done", func(e *storage.Execution) { e.Excused = 2 }),
		"an unknown state":                  on("done", func(e *storage.Execution) { e.State = "succeeded" }),
		"two holders of a key":              on("other", func(e *storage.Execution) { e.UniqueKey = "k" }),
		"waiting for nobody":                on("waits", func(e *storage.Execution) { e.Waits = 2 }),
		"attempts from the future":          on("failed", func(e *storage.Execution) { e.Delivery = 0 }),
		"a wrong counter":                   flows(true, func(f *storage.Flow) { f.Completed, f.Skipped = f.Completed-1, f.Skipped+1 }),
		"an open flow that is over":         flows(true, func(f *storage.Flow) { f.FinishedAt, f.State = base, storage.Failed }),
		"a flow that is over but open":      flows(false, func(f *storage.Flow) { f.FinishedAt, f.State = time.Time{}, storage.Running }),
		"a wrong verdict":                   flows(false, func(f *storage.Flow) { f.State = storage.Failed }),
	} {
		report := &heard{TB: t}
		Check(report, store)
		if len(report.said) == 0 {
			t.Errorf("%s: Check says nothing", what)
		}
	}
}

func TestCheckOfAClosedStoreSaysNothing(t *testing.T) {
	t.Parallel()
	s := memory.New()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	report := &heard{TB: t}
	Check(report, s)
	if len(report.said) > 0 {
		t.Errorf("a closed store is reported: %q", report.said)
	}
}

func TestBriefLeavesOutWhatIsZero(t *testing.T) {
	t.Parallel()
	id := numberedID(1)
	got := brief(storage.EnqueueRequest{
		Executions: []storage.Execution{{ID: id, Delay: time.Second, Input: []byte("x"), Tags: []string{"a", "b"}}},
		Claim:      &storage.ClaimRequest{Limit: 2},
	})
	want := fmt.Sprintf(`{Executions:[{ID:%s Delay:1s Input:"x" Tags:[a b]}] Claim:{Limit:2}}`, id)
	if got != want {
		t.Errorf("brief is %s, want %s", got, want)
	}
	if strings.Contains(got, "0001-01-01") {
		t.Error("a zero instant is printed")
	}
}
