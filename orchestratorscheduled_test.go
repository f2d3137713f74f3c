package sequencer_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// due is a scheduled operation on a queue of its own, behind another one.
type due struct {
	l     *lab
	at    time.Time
	after string
}

func (o *due) Handle(context.Context) error { o.l.note("due"); return nil }
func (o *due) ExecuteAt() time.Time         { return o.at }
func (o *due) Queue() string                { return "later" }
func (o *due) DependsOn() []sequencer.Dependency {
	if o.after == "" {
		return nil
	}
	return []sequencer.Dependency{sequencer.Op(o.after)}
}

func (l *lab) schedule(name string, at time.Time, after string) {
	sequencer.Register(l.reg, name, func() *due { return &due{l, at, after} })
}

func TestW29WhatIsScheduledIsQueuedOnceAndRunsAtItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // S25.1, S25.2, S25.3
		l := newLab(t)
		l.cfg.Orchestrator = sequencer.QueueScheduled()
		began := time.Now()
		l.op(first, nil)
		l.schedule(second, began.Add(time.Hour), first)
		l.schedule(third, began.Add(-time.Hour), "")
		l.open()
		plan := l.preview(sequencer.RunOptions{})
		if want := []string{first, third}; !slices.Equal(plan.Names(), want) || plan.Queues() != 1 || plan.Method != "scheduled" {
			t.Errorf("plan %q, %+v", plan.Names(), plan.Scheduled)
		}
		r := l.mustProcess()
		l.expect(first, "due") // past: at once, in its place
		if !slices.Equal(r.Queued, []string{second}) {
			t.Errorf("queued %q", r.Queued)
		}
		for range 2 { // each minute, as a cron job would
			time.Sleep(time.Minute)
			if r := l.mustProcess(); len(r.Queued) > 0 || !slices.Equal(r.Plan.InFlight, []string{second}) {
				t.Errorf("S25.3: queued %q again, in flight %q", r.Queued, r.Plan.InFlight)
			}
		}
		rows, err := l.store.Executions(t.Context(), storage.Filter{Name: second})
		if err != nil || len(rows) != 1 || rows[0].Queue != "later" || rows[0].Method != "scheduled" || !rows[0].DueAt.Equal(began.Add(time.Hour)) {
			t.Fatalf("rows %+v, %v", rows, err)
		}
		if err := l.Work(t.Context(), sequencer.WorkerConfig{Queues: []string{"later"}, MaxJobs: 1}); err != nil {
			t.Fatal(err)
		}
		l.expect("due")
		if ran := time.Since(began); ran < time.Hour || ran > time.Hour+time.Minute {
			t.Errorf("S25.2: it ran after %s, want an hour", ran)
		}
		if r := l.mustProcess(); r.RunID != "" || len(r.Queued) > 0 {
			t.Errorf("S3.1: what has run is offered again: %+v", r)
		}
	})
}

func TestWhatIsQueuedForLaterIsMovedWhenItsCodeNamesAnotherTime(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) { // S25.4
		l.cfg.Orchestrator = sequencer.QueueScheduled()
		at := time.Now().Add(time.Hour).Truncate(time.Second)
		sequencer.Register(l.reg, first, func() *due { return &due{l, at, ""} })
		l.open()
		l.mustProcess()
		row := func() storage.Execution {
			t.Helper()
			rows, err := l.store.Executions(t.Context(), storage.Filter{Name: first})
			if err != nil || len(rows) != 1 {
				t.Fatalf("%d rows, %v", len(rows), err)
			}
			return rows[0]
		}
		queued := row()
		if err := l.Reschedule(t.Context(), first, at.Add(24*time.Hour), "the holidays"); err != nil {
			t.Fatal(err)
		}
		queued = row()
		l.mustProcess() // control: what a person said stays
		if again := row(); !again.DueAt.Equal(queued.DueAt) {
			t.Errorf("it is due at %s, and was at %s", again.DueAt, queued.DueAt)
		}
		at = at.Add(time.Hour)
		l.cfg.Orchestrator = sequencer.Sequential() // control: others leave it alone
		l.open()
		l.mustProcess()
		if again := row(); !again.DueAt.Equal(queued.DueAt) {
			t.Errorf("a line moved it from %s to %s", queued.DueAt, again.DueAt)
		}
		l.cfg.Orchestrator = sequencer.QueueScheduled()
		l.open()
		l.mustProcess()
		if moved := row(); moved.ID != queued.ID || moved.DueAt.Sub(at).Abs() > 5*time.Second {
			t.Errorf("it is due at %s, want %s", moved.DueAt, at)
		}
	})
}

func TestOtherOrchestratorsLeaveWhatIsScheduledToALaterRun(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.schedule(first, time.Now().Add(time.Hour), "")
	l.open()
	if r := l.mustProcess(); len(r.Queued) > 0 || len(r.Plan.Scheduled) != 1 {
		t.Errorf("got %+v", r)
	}
	l.nothingWritten()
}

func TestNothingIsQueuedForLaterBeforeItsDependenciesAreDone(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) { // S9.9
		l.cfg.Orchestrator = sequencer.QueueScheduled()
		fail := true
		l.op(first, func(context.Context) error {
			if fail {
				return errBoom
			}
			return nil
		})
		l.schedule(second, time.Now().Add(time.Hour), first)
		l.schedule(third, time.Now().Add(2*time.Hour), second) // behind one that is queued itself
		l.open()
		if _, err := l.process(sequencer.RunOptions{}); err == nil || l.state(second) != "" {
			t.Errorf("after a failed run: %v, %s is %q", err, second, l.state(second))
		}
		fail = false
		r := l.mustProcess()
		if !slices.Equal(r.Queued, []string{second}) || l.state(second) != storage.Pending || l.state(third) != "" {
			t.Errorf("queued %q, %s is %q, %s is %q", r.Queued, second, l.state(second), third, l.state(third))
		}
	})
}
