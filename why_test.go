package sequencer_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/process"
	"github.com/gosequencer/sequencer/storage"
)

// join registers a worker that does nothing, until the test ends.
func (l *lab) join(w storage.Worker) storage.ID {
	l.t.Helper()
	w.ID, w.Hostname, w.Actor, w.Lease = storage.NewID(), "lab", "tester@lab", time.Hour
	self := process.Self()
	w.PID, w.Boot, w.PIDStart = self.PID, self.Boot, self.Start
	if err := l.store.Join(l.t.Context(), w); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = l.store.Leave(context.WithoutCancel(l.t.Context()), w.ID) })
	return w.ID
}

// why asks, and wants reasons of these kinds whose first text contains the words.
func (l *lab) why(nameOrID string, words string, kinds ...sequencer.ReasonKind) *sequencer.Answer {
	l.t.Helper()
	a, err := l.Why(l.t.Context(), nameOrID)
	if err != nil {
		l.t.Fatalf("why %s: %v", nameOrID, err)
	}
	var got []sequencer.ReasonKind
	for _, r := range a.Reasons {
		got = append(got, r.Kind)
	}
	if !equal(got, kinds) {
		l.t.Fatalf("why %s: %v, want %v", nameOrID, a.Reasons, kinds)
	}
	if !strings.Contains(a.Reasons[0].Text, words) {
		l.t.Errorf("why %s: %q does not say %q", nameOrID, a.Reasons[0].Text, words)
	}
	return a
}

func equal[T comparable](a, b []T) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestWhyNamesWhatKeepsQueuedWorkFromRunning(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, l *lab) {
		mail := sequencer.RegisterFuncOf(l.reg, "mail", func(context.Context, count) error { return nil })
		sequencer.Register(l.reg, "newer", sequencer.Make[newer])
		l.open()
		dispatch := func(op sequencer.Operation, opts ...sequencer.DispatchOption) string {
			t.Helper()
			r, err := l.Dispatch(t.Context(), op, opts...)
			if err != nil {
				t.Fatal(err)
			}
			return r.ID
		}
		id := dispatch(mail(count{1}))
		l.why(id, "no worker serves queue default", sequencer.ReasonNoWorker)
		l.join(storage.Worker{Purpose: "work", Queues: []string{"other"}, Names: []string{"mail"}})
		l.why(id, "no worker serves queue default", sequencer.ReasonNoWorker)
		l.join(storage.Worker{Purpose: "work", Queues: []string{"default"}, Names: []string{"ping"}})
		l.why(id, "has mail registered; there is lab", sequencer.ReasonUnknown)
		l.join(storage.Worker{Purpose: "work", Queues: []string{"default"}, Names: []string{"mail", "newer"}, Build: 100})
		l.why(id, "next in queue default", sequencer.ReasonNext)
		l.why("mail", "next in queue default", sequencer.ReasonNext)

		build := l.why(dispatch(&newer{N: 1}), "wants build 200 or later", sequencer.ReasonBuild)
		if build.Reasons[0].Build != 100 {
			t.Errorf("the highest build is %d, want 100", build.Reasons[0].Build)
		}
		behind := l.why(dispatch(mail(count{2})), "behind 2 others in queue default", sequencer.ReasonBehind)
		if behind.Reasons[0].Count != 2 {
			t.Errorf("behind %d, want 2", behind.Reasons[0].Count)
		}
		l.why(dispatch(mail(count{3}), sequencer.Priority(storage.PriorityHighest)), "next in", sequencer.ReasonNext)

		later := dispatch(mail(count{4}), sequencer.Delay(time.Hour))
		a := l.why(later, "scheduled for", sequencer.ReasonScheduled)
		if a.Reasons[0].At.IsZero() {
			t.Error("it does not say when")
		}
		for kind, name := range map[storage.PauseKind]string{storage.PauseQueue: "default", storage.PauseOperation: "mail"} {
			if err := l.Pause(t.Context(), kind, name, "a fire"); err != nil {
				t.Fatal(err)
			}
		}
		a = l.why(later, "operation mail is paused since", sequencer.ReasonOperationPaused, sequencer.ReasonQueuePaused, sequencer.ReasonScheduled)
		if p := a.Reasons[1].Pause; p == nil || p.Reason != "a fire" || p.Actor != "tester@lab" {
			t.Errorf("the pause: %+v", p)
		}
	})
}

func TestWhySaysWhatBecameOfWorkAndWhoHasIt(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, l *lab) {
		var during *sequencer.Answer
		l.op("look", func(ctx context.Context) (err error) {
			during, err = l.Why(context.WithoutCancel(ctx), sequencer.Current(ctx).ID)
			return err
		})
		flaky := sequencer.RegisterFuncOf(l.reg, "flaky", func(context.Context, unique) error { return errors.New("no money") },
			sequencer.Tries(2), sequencer.Backoff(time.Hour))
		l.op("skip", func(context.Context) error { return sequencer.Skip("there is no work") })
		l.op("broken", func(context.Context) error { return errors.New("boom") })
		l.open()
		for _, op := range []sequencer.Operation{
			sequencer.Named("look", nil), sequencer.Named("skip", nil), sequencer.Named("broken", nil), flaky(unique{"a"}),
		} {
			if _, err := l.Dispatch(t.Context(), op); err != nil {
				t.Fatal(err)
			}
		}
		l.drain()
		if during == nil || len(during.Reasons) != 1 || during.Reasons[0].Kind != sequencer.ReasonRunning {
			t.Fatalf("while it ran: %+v", during)
		}
		host, _ := os.Hostname()
		if w := during.Reasons[0].Worker; w == nil || w.Hostname != host || !strings.Contains(during.Reasons[0].Text, host) {
			t.Errorf("the worker: %+v, %s", w, during.Reasons[0].Text)
		}
		l.why("look", "it completed", sequencer.ReasonOver)
		l.why("skip", "it was skipped: there is no work", sequencer.ReasonOver)
		l.why("broken", "it failed: boom", sequencer.ReasonOver)
		l.why("flaky", "after 1 attempt: no money", sequencer.ReasonRetrying, sequencer.ReasonNoWorker)

		// What holds the unique key of one that could be retried.
		first, err := l.Why(t.Context(), "flaky")
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Cancel(t.Context(), first.Execution.ID.String(), "by mistake"); err != nil {
			t.Fatal(err)
		}
		second, err := l.Dispatch(t.Context(), flaky(unique{"a"}))
		if err != nil {
			t.Fatal(err)
		}
		a := l.why(first.Execution.ID.String(), "it was cancelled by tester@lab: by mistake", sequencer.ReasonOver, sequencer.ReasonDuplicate)
		if len(a.Reasons[1].Others) != 1 || a.Reasons[1].Others[0].String() != second.ID {
			t.Errorf("its key is held by %v, want %s", a.Reasons[1].Others, second.ID)
		}
		if _, err := l.Why(t.Context(), "0190c0de-dead"); !errors.Is(err, sequencer.ErrOperationNotFound) {
			t.Errorf("an unknown id: %v", err)
		}
	})
}

func TestWhySaysThatAWorkerIsGone(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	mail := sequencer.RegisterFuncOf(l.reg, "mail", func(context.Context, count) error { return nil })
	l.open()
	l.enqueue(func(i int) sequencer.Operation { return mail(count{i}) }, 1)
	id := l.join(storage.Worker{Purpose: "work", Queues: []string{"default"}, Names: []string{"mail"}})
	if _, err := l.store.Claim(t.Context(), storage.ClaimRequest{Worker: id, Queues: []string{"default"}, Limit: 1}); err != nil {
		t.Fatal(err)
	}
	l.why("mail", "it runs on worker "+id.String(), sequencer.ReasonRunning)
	if err := l.store.Leave(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	l.why("mail", "is gone: the next worker or run takes it over", sequencer.ReasonLost)
}

func TestWhyNamesWhatATaskOfARunWaitsFor(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, l *lab) {
		var waiting, running *sequencer.Answer
		l.op(first, func(ctx context.Context) (err error) {
			free := context.WithoutCancel(ctx)
			if running, err = l.Why(free, first); err != nil {
				return err
			}
			waiting, err = l.Why(free, second)
			return err
		})
		l.op(second, nil)
		l.open()
		l.mustProcess()
		if running == nil || waiting == nil {
			t.Fatal("it was not asked")
		}
		if got := running.Reasons[0]; got.Kind != sequencer.ReasonRunning || !strings.Contains(got.Text, "process on") {
			t.Errorf("what runs: %+v", got)
		}
		got := waiting.Reasons
		if len(got) != 2 || got[0].Kind != sequencer.ReasonWaits || !strings.Contains(got[0].Text, first+" (running)") ||
			got[1].Kind != sequencer.ReasonOwner || !strings.Contains(got[1].Text, "part of run") {
			t.Errorf("what waits: %+v", got)
		}
	})
}
