package storagetest

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

var finishRules = []rule{
	{"S5.4 each ending writes its state with one finished time, and leaves the other instants", func(t *testing.T, l *lab) {
		w := l.join()
		for _, end := range []storage.State{storage.Completed, storage.Failed, storage.Skipped, storage.Cancelled, storage.Interrupted} {
			a := l.row("a")
			a.RetryFor = time.Hour
			l.enqueue(a)
			created := l.now
			l.tick(time.Second)
			e := l.take(w)
			l.tick(time.Second)
			l.settle(w, outcome(e, end))
			want := a
			want.State, want.WorkerID, want.Delivery = end, w, 1
			want.CreatedAt, want.DueAt, want.DeadlineAt = created, created, created.Add(time.Hour)
			want.StartedAt, want.FinishedAt = created.Add(time.Second), created.Add(2*time.Second)
			l.same("row that is "+string(end), l.get(a.ID), want)
		}
	}},
	{"S5.4 Q9.15 success after a failed attempt leaves completed and one finished time", func(t *testing.T, l *lab) {
		a := l.row("a")
		l.enqueue(a)
		w := l.join()
		o := failure(l.take(w), storage.Pending, "boom")
		o.Delay = 10 * time.Second
		l.settle(w, o)
		if e := l.get(a.ID); e.State != storage.Pending || !e.FinishedAt.IsZero() {
			t.Errorf("between attempts: %s, finished at %v; want pending, never", e.State, e.FinishedAt)
		}
		l.tick(10 * time.Second)
		l.settle(w, outcome(l.take(w), storage.Completed))
		e := l.wantState(a.ID, storage.Completed)
		if !e.FinishedAt.Equal(l.now) || !e.StartedAt.Equal(base) || e.Errors != 1 || e.Attempts() != 2 {
			t.Errorf("started %v, finished %v, errors %d, attempts %d; want %v, %v, 1, 2", e.StartedAt, e.FinishedAt, e.Errors, e.Attempts(), base, l.now)
		}
		if failed := l.list(storage.Filter{States: []storage.State{storage.Failed}}); len(failed) != 0 {
			t.Errorf("the filter for failed finds %v", names(failed))
		}
	}},
	{"Q0.2 Q1.18 what an outcome carries is in the row: result, reason, environment, counters, progress", func(t *testing.T, l *lab) {
		a, b := l.row("a"), l.row("b")
		l.enqueue(a, b)
		w := l.join()
		got := byName(l.claim(w))
		done := outcome(got["a"], storage.Completed)
		done.Result, done.Progress = []byte{0, 1, 2}, &storage.Progress{Done: 3, Total: 4}
		skip := outcome(got["b"], storage.Skipped)
		skip.Reason, skip.ForNow, skip.Env, skip.Errors, skip.Losses = "not today", true, "staging", 2, 3
		l.settle(w, done, skip)
		if e := l.get(a.ID); !bytes.Equal(e.Result, done.Result) || e.Done != 3 || e.Total != 4 || e.LastError != "" {
			t.Errorf("completed row: result %v, progress %d of %d, error %q", e.Result, e.Done, e.Total, e.LastError)
		}
		if e := l.get(b.ID); e.Reason != "not today" || !e.ForNow || e.Environment != "staging" || e.Errors != 2 || e.Losses != 3 {
			t.Errorf("skipped row: %q, for now %v, in %q, errors %d, losses %d", e.Reason, e.ForNow, e.Environment, e.Errors, e.Losses)
		}
	}},
	{"Q0.2 a nil result and a nil progress leave the row's", func(t *testing.T, l *lab) {
		a := l.row("a")
		l.enqueue(a)
		w := l.join()
		first := outcome(l.take(w), storage.Pending)
		first.Result, first.Progress = []byte("kept"), &storage.Progress{Done: 1, Total: 2}
		l.settle(w, first)
		l.settle(w, outcome(l.take(w), storage.Completed))
		if e := l.get(a.ID); string(e.Result) != "kept" || e.Done != 1 || e.Total != 2 {
			t.Errorf("result %q, progress %d of %d; want kept, 1 of 2", e.Result, e.Done, e.Total)
		}
	}},
	{"S12.7 each failed attempt adds one record with its number, a clean success none", func(t *testing.T, l *lab) {
		a := l.row("a")
		l.enqueue(a)
		w := l.join()
		var want []storage.Attempt
		for n := 1; n <= 2; n++ {
			e := l.take(w)
			l.tick(2 * time.Second)
			o := failure(e, storage.Pending, "boom")
			o.Ran = 2 * time.Second
			l.settle(w, o)
			want = append(want, storage.Attempt{
				ExecutionID: a.ID, Delivery: n, Number: n, WorkerID: w,
				StartedAt: l.now.Add(-2 * time.Second), FinishedAt: l.now, Failure: *o.Failure,
			})
		}
		l.settle(w, outcome(l.take(w), storage.Completed))
		l.same("attempts, oldest first", l.attempts(a.ID), want)
		if got := l.attempts(l.id()); len(got) != 0 {
			t.Errorf("attempts of an unknown execution: %+v", got)
		}
	}},
	{"S12.7 the row shows the latest failure and its group", func(t *testing.T, l *lab) {
		a := l.row("a")
		l.enqueue(a)
		w := l.join()
		l.settle(w, failure(l.take(w), storage.Pending, "first"))
		l.settle(w, failure(l.take(w), storage.Failed, "second"))
		e := l.wantState(a.ID, storage.Failed)
		if e.LastError != "second" || e.ErrorGroup != "group-second" || e.Errors != 2 {
			t.Errorf("error %q in group %q, %d errors; want second, group-second, 2", e.LastError, e.ErrorGroup, e.Errors)
		}
	}},
	{"Q1.23 a retry is due exactly its delay later, and its worker lets go of it", func(t *testing.T, l *lab) {
		a := l.row("a")
		a.RetryFor = time.Hour
		l.enqueue(a)
		w := l.join()
		l.tick(time.Second)
		o := failure(l.take(w), storage.Pending, "boom")
		o.Delay = 90 * time.Second
		l.settle(w, o)
		e := l.get(a.ID)
		if !e.DueAt.Equal(l.now.Add(90*time.Second)) || !e.WorkerID.IsZero() || !e.DeadlineAt.Equal(base.Add(time.Hour)) {
			t.Errorf("due %v, worker %q, deadline %v; want %v, none, %v", e.DueAt, e.WorkerID, e.DeadlineAt, l.now.Add(90*time.Second), base.Add(time.Hour))
		}
		if got := l.claimAs(storage.ClaimRequest{Worker: w}); len(got.Executions) != 0 || got.NextDue != 90*time.Second {
			t.Errorf("claimed %v, next due in %v; want nothing and 90s", names(got.Executions), got.NextDue)
		}
	}},
	{"Q1.3 an excused delivery costs no attempt, its control does", func(t *testing.T, l *lab) {
		a := l.row("a")
		l.enqueue(a)
		w := l.join()
		for i, excuse := range []bool{true, false, true} {
			o := outcome(l.take(w), storage.Pending)
			o.Excuse = excuse
			l.settle(w, o)
			want := []int{0, 1, 1}[i]
			if e := l.get(a.ID); e.Attempts() != want || e.Delivery != i+1 {
				t.Errorf("after delivery %d (excused %v): %d attempts; want %d", e.Delivery, excuse, e.Attempts(), want)
			}
		}
	}},
	{"Q1.13 Rewind counts the deadline anew from the new due time", func(t *testing.T, l *lab) {
		a := l.row("a")
		a.RetryFor = time.Hour
		l.enqueue(a)
		w := l.join()
		l.tick(30 * time.Minute)
		o := outcome(l.take(w), storage.Pending)
		o.Rewind, o.Delay = true, time.Minute
		l.settle(w, o)
		if e := l.get(a.ID); !e.DeadlineAt.Equal(l.now.Add(61 * time.Minute)) {
			t.Errorf("deadline %v, want %v", e.DeadlineAt, l.now.Add(61*time.Minute))
		}
	}},
	{"Q2.16 a row of a private queue that goes back to pending keeps its home", func(t *testing.T, l *lab) {
		w := l.join()
		a := l.row("a")
		a.Queue, a.WorkerID = storage.PrivateQueue+"run", w
		l.enqueue(a)
		got := l.claim(w, a.Queue)
		if len(got) != 1 {
			t.Fatalf("claimed %v, want a", names(got))
		}
		l.settle(w, outcome(got[0], storage.Pending))
		if e := l.get(a.ID); e.WorkerID != w {
			t.Errorf("home is %q, want %s", e.WorkerID, w)
		}
	}},
	{"S5.7 a late writer changes nothing: another worker, an old delivery, a row that is over", func(t *testing.T, l *lab) {
		a := l.row("a")
		l.enqueue(a)
		w, other := l.join(), l.join()
		first := l.take(w)
		l.settle(w, outcome(first, storage.Pending))
		second := l.take(w)
		stale := func(why string, by storage.ID, o storage.Outcome) {
			t.Helper()
			l.unchanged(why, func() {
				done := l.finish(by, o)
				l.same("Applied: "+why, done.Applied, []bool{false})
				if len(done.Flows) != 0 {
					t.Errorf("%s touched flows %+v", why, done.Flows)
				}
			})
		}
		stale("another worker", other, failure(second, storage.Failed, "late"))
		stale("an old delivery", w, failure(first, storage.Failed, "late"))
		next := second
		next.Delivery++
		stale("a delivery that never was", w, outcome(next, storage.Failed))
		l.settle(w, outcome(second, storage.Completed))
		stale("a row that is over", w, failure(second, storage.Failed, "late"))
		stale("an unknown id", w, storage.Outcome{ID: l.id(), Delivery: 1, State: storage.Completed})
	}},
	{"Q0.6 repeating Finish is harmless: no second attempt, count or flow step", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyContinue, "a", "b after a", "c")
		f.enqueue()
		o := failure(f.take("a"), storage.Failed, "boom")
		l.settle(f.worker, o)
		l.tick(time.Second)
		l.unchanged("a repeated Finish", func() {
			l.same("Applied of the repeat", l.finish(f.worker, o).Applied, []bool{false})
		})
	}},
	{"S5.7 outcomes of one call are fenced one by one, in order", func(t *testing.T, l *lab) {
		l.enqueue(l.row("a"), l.row("b"))
		w := l.join()
		got := byName(l.claim(w))
		stale := got["b"]
		stale.Delivery = 0
		done := l.finish(w, outcome(stale, storage.Failed), outcome(got["a"], storage.Completed), failure(got["a"], storage.Failed, "twice"), outcome(got["b"], storage.Skipped))
		l.same("Applied", done.Applied, []bool{false, true, false, true})
		l.wantState(got["a"].ID, storage.Completed)
		l.wantState(got["b"].ID, storage.Skipped)
		if log := l.attempts(got["a"].ID); len(log) != 0 {
			t.Errorf("the void outcome left attempts %+v", log)
		}
	}},
	{"S5.5 an illegal move is a TransitionError, and nothing of the call is written", func(t *testing.T, l *lab) {
		l.enqueue(l.row("a"), l.row("b"))
		w := l.join()
		got := byName(l.claim(w))
		for _, to := range []storage.State{storage.RolledBack, storage.Running} {
			l.unchanged("an illegal move", func() {
				_, err := l.store.Finish(t.Context(), storage.FinishRequest{Now: l.now, Worker: w, Outcomes: []storage.Outcome{
					failure(got["b"], storage.Failed, "boom"), outcome(got["a"], to),
				}})
				refused, ok := errors.AsType[*storage.TransitionError](err)
				if !ok {
					t.Fatalf("running to %s: got error %v, want a *TransitionError", to, err)
				}
				l.same("error", *refused, storage.TransitionError{ID: got["a"].ID, Name: "a", From: storage.Running, To: to})
			})
		}
	}},
	{"Q1.1 history keeps all a row had: input, policy, tags, key, progress, checkpoint", func(t *testing.T, l *lab) {
		a := l.row("a")
		a.Actor, a.Input, a.Policy, a.Tags, a.Checksum = "ada@lab", []byte("in"), []byte("policy"), []string{"t", "u"}, "sum"
		a.UniqueKey, a.MinBuild, a.Delay, a.RetryFor = "k", 3, time.Second, time.Hour
		a.UniqueFor, a.Undoable, a.AllowedToFail, a.Position = 2*time.Hour, true, true, 9
		l.enqueue(a)
		l.tick(time.Second)
		w := l.join()
		e := l.take(w)
		l.must(l.store.Checkpoint(t.Context(), storage.CheckpointRequest{Now: l.now, Worker: w, ID: a.ID, Delivery: 1, Data: []byte("cursor")}), "Checkpoint")
		live := l.get(a.ID)
		l.settle(w, outcome(e, storage.Completed))
		want := live
		want.State, want.FinishedAt = storage.Completed, l.now
		l.same("row in history", l.get(a.ID), want, sortedTags)
	}},
	{"Q0.2 statistics sum run and wait per minute, queue, name and ending", func(t *testing.T, l *lab) {
		w := l.join()
		run := func(name string, o func(storage.Execution) storage.Outcome) {
			l.enqueue(l.row(name))
			l.tick(time.Second)
			e := l.take(w)
			l.tick(2 * time.Second)
			out := o(e)
			out.Ran = 2 * time.Second
			l.settle(w, out)
		}
		completed := func(e storage.Execution) storage.Outcome { return outcome(e, storage.Completed) }
		run("a", completed)
		run("a", completed)
		run("b", func(e storage.Execution) storage.Outcome { return failure(e, storage.Failed, "boom") })
		run("c", func(e storage.Execution) storage.Outcome {
			o := failure(e, storage.Pending, "again")
			o.Delay = 1000 * time.Hour
			return o
		})
		minute := base.Truncate(time.Minute)
		want := []storage.Stat{
			{Minute: minute, Queue: "default", Name: "a", Ending: "completed", N: 2, Ran: 4 * time.Second, Waited: 2 * time.Second},
			{Minute: minute, Queue: "default", Name: "b", Ending: "failed", N: 1, Ran: 2 * time.Second, Waited: time.Second},
			{Minute: minute, Queue: "default", Name: "c", Ending: "retried", N: 1, Ran: 2 * time.Second, Waited: time.Second},
		}
		l.same("stats", l.snapshot().Stats, want)

		l.tick(time.Minute)
		run("a", completed)
		all, err := l.store.Stats(t.Context(), storage.StatsFilter{})
		l.must(err, "Stats")
		for _, step := range []time.Duration{5 * time.Minute, time.Hour, 24 * time.Hour} {
			f := storage.StatsFilter{Step: step}
			got, err := l.store.Stats(t.Context(), f)
			l.must(err, "Stats")
			if want := f.Summed(all); !slices.Equal(got, want) {
				t.Errorf("summed over %s: got %+v, want %+v", step, got, want)
			}
		}
		got, err := l.store.Stats(t.Context(), storage.StatsFilter{Since: minute.Add(time.Minute), Until: minute.Add(2 * time.Minute)})
		l.must(err, "Stats")
		l.same("stats of the next minute", got, []storage.Stat{
			{Minute: minute.Add(time.Minute), Queue: "default", Name: "a", Ending: "completed", N: 1, Ran: 2 * time.Second, Waited: time.Second},
		})
	}},
	{"S16.4 Q8.5 watched tags have statistics of their own, by name and ending, apart from those of queues", func(t *testing.T, l *lab) {
		w := l.join()
		run := func(name string, watched []string, o func(storage.Execution) storage.Outcome) {
			row := l.row(name)
			row.Tags = []string{"billing", "eu", "other"}
			l.enqueue(row)
			l.tick(time.Second)
			e := l.take(w)
			l.tick(2 * time.Second)
			out := o(e)
			out.Ran, out.Watched = 2*time.Second, watched
			l.settle(w, out)
		}
		completed := func(e storage.Execution) storage.Outcome { return outcome(e, storage.Completed) }
		excused := func(e storage.Execution) storage.Outcome {
			o := outcome(e, storage.Pending)
			o.Excuse, o.Delay = true, 1000*time.Hour
			return o
		}
		run("a", []string{"billing", "eu"}, completed)
		run("a", []string{"billing"}, completed)
		run("a", nil, completed)
		run("b", []string{"billing"}, func(e storage.Execution) storage.Outcome { return failure(e, storage.Failed, "boom") })
		run("b", []string{"billing"}, excused)
		minute := base.Truncate(time.Minute)
		stat := func(queue, tag, name, ending string, n int64) storage.Stat {
			return storage.Stat{
				Minute: minute, Queue: queue, Tag: tag, Name: name, Ending: ending, N: n,
				Ran: time.Duration(2*n) * time.Second, Waited: time.Duration(n) * time.Second,
			}
		}
		s := l.snapshot()
		l.same("statistics by tag", s.Watched, []storage.Stat{
			stat("", "billing", "a", "completed", 2), stat("", "billing", "b", "failed", 1), stat("", "eu", "a", "completed", 1),
		})
		l.same("statistics by queue", s.Stats, []storage.Stat{stat("default", "", "a", "completed", 3), stat("default", "", "b", "failed", 1)})
		got, err := l.store.Stats(t.Context(), storage.StatsFilter{Since: minute.Add(time.Minute), Watched: true})
		l.must(err, "Stats")
		l.same("statistics by tag of the next minute", got, []storage.Stat(nil))
	}},
	{"S16.4 members of runs, and endings of one write, count for their watched tags too", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b")
		f.enqueue()
		a, b := outcome(f.take("a"), storage.Completed), outcome(f.take("b"), storage.Skipped)
		a.Watched, b.Watched = []string{"billing"}, []string{"billing"}
		l.settle(f.worker, a)
		l.settle(f.worker, b)
		w := l.join()
		var many []storage.Outcome
		for range 6 {
			l.enqueue(l.row("c"))
			o := outcome(l.take(w), storage.Completed)
			o.Watched = []string{"eu"}
			many = append(many, o)
		}
		l.settle(w, many...)
		sums := map[string]int64{}
		for _, st := range l.snapshot().Watched {
			sums[st.Tag+" "+st.Name+" "+st.Ending] += st.N
		}
		l.same("statistics by tag", sums, map[string]int64{"billing a completed": 1, "billing b skipped": 1, "eu c completed": 6})
	}},
	{"Q0.2 a claim fused with Finish takes the next work in the same step", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a")
		f.enqueue()
		w := f.worker
		done, err := l.store.Finish(t.Context(), storage.FinishRequest{
			Now: l.now, Worker: w, Outcomes: []storage.Outcome{outcome(f.take("a"), storage.Completed)},
			Claim: &storage.ClaimRequest{Queues: []string{"default"}, Limit: 5},
		})
		l.must(err, "Finish")
		if got := done.Claimed; len(got.Executions) != 1 || got.Executions[0].Name != "b" || got.NextDue >= 0 {
			t.Fatalf("claimed %v, next due in %v; want b, which became runnable by this very call, and nothing else", names(got.Executions), got.NextDue)
		}
		if e := f.get("b"); e.State != storage.Running || e.WorkerID != w || e.Delivery != 1 {
			t.Errorf("b is %s for %s at delivery %d", e.State, e.WorkerID, e.Delivery)
		}
	}},
	{"Q0.2 Finish without outcomes but with a claim is a claim", func(t *testing.T, l *lab) {
		l.enqueue(l.row("a"))
		done, err := l.store.Finish(t.Context(), storage.FinishRequest{
			Now: l.now, Worker: l.join(), Claim: &storage.ClaimRequest{Queues: []string{"default"}, Limit: 5},
		})
		l.must(err, "Finish")
		l.same("claimed", names(done.Claimed.Executions), []string{"a"})
	}},
	{"Q2.15 a fused claim of a worker that left is ErrLeaseLost and writes nothing; without it the fence decides", func(t *testing.T, l *lab) {
		l.enqueue(l.row("a"))
		w := l.join()
		e := l.take(w)
		l.leave(w)
		l.unchanged("the refused call", func() {
			_, err := l.store.Finish(t.Context(), storage.FinishRequest{
				Now: l.now, Worker: w, Outcomes: []storage.Outcome{outcome(e, storage.Completed)},
				Claim: &storage.ClaimRequest{Queues: []string{"default"}, Limit: 5},
			})
			if !errors.Is(err, storage.ErrLeaseLost) {
				t.Errorf("got error %v, want ErrLeaseLost", err)
			}
		})
		l.settle(w, outcome(e, storage.Completed))
	}},
	{"Q0.2 a checkpoint survives the attempt that wrote it and comes with the next claim", func(t *testing.T, l *lab) {
		a := l.row("a")
		l.enqueue(a)
		w := l.join()
		e := l.take(w)
		for _, data := range []string{"one", "two"} {
			l.must(l.store.Checkpoint(t.Context(), storage.CheckpointRequest{Now: l.now, Worker: w, ID: a.ID, Delivery: e.Delivery, Data: []byte(data)}), "Checkpoint")
		}
		l.settle(w, failure(e, storage.Pending, "boom"))
		if got := l.take(w); string(got.Checkpoint) != "two" {
			t.Errorf("the next attempt gets checkpoint %q, want two", got.Checkpoint)
		}
	}},
	{"Q2.17 a cursor that moved forgets the losses before it; one that did not, no", func(t *testing.T, l *lab) {
		a := l.row("a")
		l.enqueue(a)
		w := l.join()
		o := outcome(l.take(w), storage.Pending)
		o.Losses = 3
		l.settle(w, o)
		e := l.take(w)
		save := func(data string, moved bool) {
			l.must(l.store.Checkpoint(t.Context(), storage.CheckpointRequest{
				Now: l.now, Worker: w, ID: a.ID, Delivery: e.Delivery, Data: []byte(data), Moved: moved,
			}), "Checkpoint")
		}
		before := l.get(a.ID)
		save("here", false)
		before.Checkpoint = []byte("here")
		l.same("the row with a cursor that did not move", l.get(a.ID), before)
		for _, data := range []string{"there", "beyond"} {
			save(data, true)
			before.Checkpoint, before.Losses = []byte(data), 0
			l.same("the row with a cursor that moved", l.get(a.ID), before)
		}
		if before.Excused+before.Errors+before.Delivery == 0 {
			t.Error("the row counts nothing else: that shows nothing")
		}
	}},
	{"S5.7 a checkpoint of a late writer is ErrLeaseLost and changes nothing", func(t *testing.T, l *lab) {
		a := l.row("a")
		l.enqueue(a)
		w, other := l.join(), l.join()
		first := l.take(w)
		l.settle(w, outcome(first, storage.Pending))
		second := l.take(w)
		for _, r := range []storage.CheckpointRequest{
			{Worker: w, ID: a.ID, Delivery: first.Delivery},
			{Worker: other, ID: a.ID, Delivery: second.Delivery},
			{Worker: w, ID: l.id(), Delivery: 1},
		} {
			r.Now, r.Data = l.now, []byte("late")
			l.unchanged("a late checkpoint", func() {
				if err := l.store.Checkpoint(t.Context(), r); !errors.Is(err, storage.ErrLeaseLost) {
					t.Errorf("got error %v, want ErrLeaseLost", err)
				}
			})
		}
	}},
	{"Q5.14 one call with endings of two flows settles both and returns them in id order", func(t *testing.T, l *lab) {
		one, two := l.draft(storage.PolicyStop, "one"), l.draft(storage.PolicyStop, "two", "three")
		two.enqueue()
		one.enqueue()
		w := l.join()
		got := byName(l.claim(w))
		done := l.settle(w, outcome(got["two"], storage.Completed), failure(got["one"], storage.Failed, "boom"))
		want := []storage.Flow{one.now(), two.now()}
		slices.SortFunc(want, func(a, b storage.Flow) int { return cmp.Compare(a.ID.String(), b.ID.String()) })
		l.sameFlows(done.Flows, want...)
		one.wantOver(storage.Failed)
		two.wantOpen()
	}},
}

func byName(rows []storage.Execution) map[string]storage.Execution {
	m := map[string]storage.Execution{}
	for _, e := range rows {
		m[e.Name] = e
	}
	return m
}
