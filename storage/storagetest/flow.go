package storagetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// states is what the members of a flow are expected to be, by name.
type states = map[string]storage.State

var flowRules = []rule{
	{"F1 Q6.1 Q5.15 a line runs member by member, and the flow counts each ending", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a", "c needs b")
		f.enqueue()
		for i, name := range []string{"a", "b", "c"} {
			l.tick(time.Second)
			got := f.end(name, storage.Completed)
			if got.Completed != i+1 || got.Open() != 2-i {
				t.Errorf("after %s: %d completed, %d open; want %d, %d", name, got.Completed, got.Open(), i+1, 2-i)
			}
		}
		f.wantOver(storage.Completed)
	}},
	{"F3 a diamond's last member waits for both arms", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a", "c needs a", "d needs b", "d needs c")
		f.enqueue()
		f.end("a", storage.Completed)
		f.end("c", storage.Completed)
		if e := f.get("d"); e.Waits != 1 || !e.DueAt.IsZero() {
			t.Errorf("after one arm d waits for %d, due %v; want 1, never", e.Waits, e.DueAt)
		}
		l.tick(time.Second)
		f.end("b", storage.Completed)
		if e := f.get("d"); e.Waits != 0 || !e.DueAt.Equal(l.now) {
			t.Errorf("after both d waits for %d, due %v; want 0, %v", e.Waits, e.DueAt, l.now)
		}
		f.end("d", storage.Completed)
		f.wantOver(storage.Completed)
	}},
	{"F3 both arms ended by one call settle both edges", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "b", "c", "d needs b", "d after c")
		f.enqueue()
		b, c := f.take("b"), f.take("c")
		l.settle(f.worker, outcome(b, storage.Completed), outcome(c, storage.Completed))
		f.end("d", storage.Completed)
		f.wantOver(storage.Completed)
	}},
	{"F3 Q6.7 delay and deadline of a member count from its activation", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a")
		f.member("b").Delay, f.member("b").RetryFor = time.Minute, time.Hour
		f.enqueue()
		l.tick(10 * time.Minute)
		f.end("a", storage.Completed)
		e := f.get("b")
		if !e.DueAt.Equal(l.now.Add(time.Minute)) || !e.DeadlineAt.Equal(l.now.Add(61*time.Minute)) {
			t.Errorf("b due %v, deadline %v; want %v, %v", e.DueAt, e.DeadlineAt, l.now.Add(time.Minute), l.now.Add(61*time.Minute))
		}
	}},
	{"F3 Q6.4 under continue a failure cancels what needs it, transitively and with a reason, and releases what only comes after", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyContinue, "a", "b needs a", "c needs b", "after-a after a", "after-c after c", "other")
		f.enqueue()
		got := f.end("a", storage.Failed)
		f.wantStates(states{
			"a": storage.Failed, "b": storage.Cancelled, "c": storage.Cancelled,
			"after-a": storage.Pending, "after-c": storage.Pending, "other": storage.Running,
		})
		if got.Failed != 1 || got.Cancelled != 2 || got.Open() != 3 {
			t.Errorf("%d failed, %d cancelled, %d open; want 1, 2, 3", got.Failed, got.Cancelled, got.Open())
		}
		for name, culprit := range map[string]string{"b": "a", "c": "b"} {
			e := f.get(name)
			if !strings.Contains(e.Reason, culprit) || !e.FinishedAt.Equal(l.now) || !e.StartedAt.IsZero() {
				t.Errorf("%s: reason %q, finished %v, started %v; want a reason that names %s, %v, never", name, e.Reason, e.FinishedAt, e.StartedAt, culprit, l.now)
			}
		}
		f.end("after-a", storage.Completed)
		f.end("after-c", storage.Completed)
		f.wantOpen()
		f.end("other", storage.Completed)
		f.wantOver(storage.Failed)
	}},
	{"F3 Q6.4 Q5.29 down a long line all is cancelled as down a short one, and taken back", deepCancellation},
	{"F3 a member that needs one which failed is cancelled though others before it are open", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyContinue, "a", "b", "c needs a", "c after b", "d needs c", "d needs b")
		f.enqueue()
		f.end("a", storage.Failed)
		f.wantStates(states{"a": storage.Failed, "b": storage.Running, "c": storage.Cancelled, "d": storage.Cancelled})
		f.end("b", storage.Completed)
		f.wantOver(storage.Failed)
	}},
	{"S20.3 Q5.24 F1 an allowed failure stops nobody, blocks who needs it, and leaves the flow completed", func(t *testing.T, l *lab) {
		for _, policy := range []storage.FlowPolicy{storage.PolicyStop, storage.PolicyContinue, storage.PolicyCompensate, storage.PolicyAtomic} {
			f := l.draft(policy, "a", "b needs a", "c after a", "d")
			f.member("a").AllowedToFail = true
			f.enqueue()
			got := f.end("a", storage.Failed)
			if got.FailedAllowed != 1 || got.Failed != 0 {
				t.Errorf("%s: %d allowed, %d failed; want 1, 0", policy, got.FailedAllowed, got.Failed)
			}
			f.end("c", storage.Completed)
			f.end("d", storage.Completed)
			f.wantStates(states{"a": storage.Failed, "b": storage.Cancelled, "c": storage.Completed, "d": storage.Completed})
			f.wantOver(storage.Completed)
		}
	}},
	{"S20.3 control: the same failure, not allowed, stops the flow", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a", "c after a")
		f.enqueue()
		f.end("a", storage.Failed)
		f.wantStates(states{"a": storage.Failed, "b": storage.Cancelled, "c": storage.Cancelled})
		f.wantOver(storage.Failed)
	}},
	{"F2 Q5.16 under stop a failure cancels all that is pending with its name, and running members end first", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b", "c needs a", "d needs c", "late")
		f.member("late").Delay = time.Hour
		f.enqueue()
		f.take("b")
		got := f.end("a", storage.Failed)
		f.wantStates(states{"a": storage.Failed, "b": storage.Running, "c": storage.Cancelled, "d": storage.Cancelled, "late": storage.Cancelled})
		for _, name := range []string{"c", "d", "late"} {
			if e := f.get(name); !strings.Contains(e.Reason, "a failed") {
				t.Errorf("%s was cancelled because %q, want a reason that names a", name, e.Reason)
			}
		}
		if !strings.Contains(got.Reason, "a failed") {
			t.Errorf("the flow's reason is %q, want one that names a", got.Reason)
		}
		f.wantOpen()
		f.end("b", storage.Completed)
		f.wantOver(storage.Failed)
	}},
	{"F2 control: under continue the others run on", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyContinue, "a", "b", "c needs b")
		f.enqueue()
		f.end("a", storage.Failed)
		f.end("b", storage.Completed)
		f.end("c", storage.Completed)
		f.wantStates(states{"a": storage.Failed, "b": storage.Completed, "c": storage.Completed})
		f.wantOver(storage.Failed)
	}},
	{"F2 F6 an interruption cancels all that is pending under any policy, allowed to fail or not, and compensates nothing", func(t *testing.T, l *lab) {
		for _, policy := range []storage.FlowPolicy{storage.PolicyStop, storage.PolicyContinue, storage.PolicyCompensate, storage.PolicyAtomic} {
			f := l.draft(policy, "a", "b needs a", "c needs b", "d")
			f.member("b").AllowedToFail = true
			f.member("d").Delay = time.Hour
			f.enqueue()
			f.end("a", storage.Completed)
			f.end("b", storage.Interrupted)
			f.wantStates(states{"a": storage.Completed, "b": storage.Interrupted, "c": storage.Cancelled, "d": storage.Cancelled})
			got := f.wantOver(storage.Interrupted)
			if got.Interrupted != 1 || got.Phase != storage.PhaseForward || got.UndoTotal != 0 {
				t.Errorf("%s: %d interrupted, phase %s, %d undo members; want 1, forward, none", policy, got.Interrupted, got.Phase, got.UndoTotal)
			}
		}
	}},
	{"F3 S5.1 a skip for good satisfies a need", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a")
		f.enqueue()
		if got := f.end("a", storage.Skipped); got.Skipped != 1 {
			t.Errorf("%d skipped, want 1", got.Skipped)
		}
		f.end("b", storage.Completed)
		f.wantOver(storage.Completed)
	}},
	{"F3 S8.6 a skip for now satisfies nobody, releases who only comes after, and stops no flow", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a", "c after a")
		f.enqueue()
		o := outcome(f.take("a"), storage.Skipped)
		o.ForNow, o.Reason = true, "not today"
		f.finish(o)
		f.wantStates(states{"a": storage.Skipped, "b": storage.Cancelled, "c": storage.Pending})
		f.end("c", storage.Completed)
		f.wantOver(storage.Completed)
	}},
	{"F3 a cancelled member satisfies nobody and stops no flow", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a", "c after a")
		f.enqueue()
		f.end("a", storage.Cancelled)
		f.end("c", storage.Completed)
		f.wantStates(states{"a": storage.Cancelled, "b": storage.Cancelled, "c": storage.Completed})
		f.wantOver(storage.Completed)
	}},
	{"Q5.25 Q6.1 a member that goes back to pending counts nowhere and keeps those behind it waiting", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a")
		f.enqueue()
		before := f.now()
		f.finish(failure(f.take("a"), storage.Pending, "boom"))
		l.same("flow", f.now(), before)
		if e := f.get("b"); e.Waits != 1 {
			t.Errorf("b waits for %d, want 1", e.Waits)
		}
		f.end("a", storage.Completed)
		f.end("b", storage.Completed)
		f.wantOver(storage.Completed)
	}},
	{"F2 two failures in one call stop the flow once", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b", "c needs a", "d needs b")
		f.enqueue()
		a, b := f.take("a"), f.take("b")
		l.settle(f.worker, failure(a, storage.Failed, "x"), failure(b, storage.Failed, "y"))
		got := f.wantOver(storage.Failed)
		if got.Failed != 2 || got.Cancelled != 2 {
			t.Errorf("%d failed, %d cancelled; want 2, 2", got.Failed, got.Cancelled)
		}
	}},
	{"F3 a failure and a success in one call settle both", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyContinue, "a", "b", "c needs a", "d needs b", "e needs c", "e needs d")
		f.enqueue()
		a, b := f.take("a"), f.take("b")
		l.settle(f.worker, failure(a, storage.Failed, "x"), outcome(b, storage.Completed))
		f.wantStates(states{"a": storage.Failed, "b": storage.Completed, "c": storage.Cancelled, "d": storage.Pending, "e": storage.Cancelled})
		f.end("d", storage.Completed)
		f.wantOver(storage.Failed)
	}},
	{"F6 the call that ends a flow says so, and nothing keeps it", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a")
		f.enqueue()
		for _, e := range l.claim(f.worker) {
			done := l.settle(f.worker, outcome(e, storage.Failed)) // b is cancelled because of it
			if len(done.Flows) != 1 || !done.Flows[0].Ended {
				t.Errorf("Finish tells %+v, want a flow that ended", done.Flows)
			}
		}
		if stands := l.flow(f.flow.ID); stands.Ended || !stands.Over() {
			t.Errorf("the flow stands as %+v", stands)
		}
	}},
	{"F6 Q5.16 a flow without members is over at once", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop)
		f.enqueue()
		f.wantOver(storage.Completed)
	}},
	{"Q5.27 F6 StopFlow cancels what is pending, lets running members end, then takes its state", func(t *testing.T, l *lab) {
		for _, state := range []storage.State{storage.Cancelled, storage.Interrupted} {
			f := l.draft(storage.PolicyStop, "a", "b", "c needs a", "d after c")
			f.enqueue()
			f.take("a")
			f.end("b", storage.Completed)
			got := l.stop(f, state)
			if got.Over() || got.Cancelled != 2 || got.StopState != state || got.Reason != "enough" {
				t.Errorf("after the stop: over %v, %d cancelled, stop state %s, reason %q; want open, 2, %s, enough", got.Over(), got.Cancelled, got.StopState, got.Reason, state)
			}
			if e := f.get("c"); e.Reason != "enough" || !e.FinishedAt.Equal(l.now) {
				t.Errorf("c: reason %q, finished %v; want enough, %v", e.Reason, e.FinishedAt, l.now)
			}
			l.tick(time.Second)
			f.end("a", storage.Completed)
			f.wantStates(states{"a": storage.Completed, "b": storage.Completed, "c": storage.Cancelled, "d": storage.Cancelled})
			f.wantOver(state)
		}
	}},
	{"Q5.27 StopFlow with nothing running ends the flow, and the answer says so", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b needs a")
		f.enqueue()
		got := l.stop(f, storage.Cancelled)
		l.same("answer of StopFlow against the flow as stored", got, f.wantOver(storage.Cancelled))
	}},
	{"Q5.26 StopFlow of a flow that is over, or stopped already, changes nothing", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyStop, "a", "b")
		f.enqueue()
		f.take("a")
		l.stop(f, storage.Cancelled)
		l.tick(time.Second)
		l.unchanged("a repeated stop", func() { l.stop(f, storage.Cancelled) })
		f.end("a", storage.Completed)
		f.end("b", storage.Completed)
		f.wantOver(storage.Cancelled)
		l.unchanged("a stop after the end", func() { l.stop(f, storage.Interrupted) })
	}},
	{"Q5.27 a flow that a person stopped is audited once, and no other is", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyContinue, "a", "b")
		f.enqueue()
		by := storage.StopFlowRequest{Now: l.now, ID: f.flow.ID, State: storage.Cancelled, Reason: "enough", Actor: "ada"}
		for range 2 {
			_, err := l.store.StopFlow(t.Context(), by)
			l.must(err, "StopFlow")
		}
		other := l.draft(storage.PolicyContinue, "a", "b")
		other.enqueue()
		l.stop(other, storage.Cancelled)
		got, err := l.store.Audit(t.Context(), storage.AuditFilter{})
		l.must(err, "Audit")
		if len(got) != 1 || got[0].Actor != "ada" || got[0].Action != storage.AuditStopFlow || got[0].Target != f.flow.ID.String() || got[0].Count != 1 || got[0].Reason != "enough" {
			t.Errorf("the audit log has %+v, want one entry of ada", got)
		}
	}},
	{"Q5.26 StopFlow of an unknown flow is ErrNotFound", func(t *testing.T, l *lab) {
		_, err := l.store.StopFlow(t.Context(), storage.StopFlowRequest{Now: l.now, ID: l.id(), State: storage.Cancelled})
		if !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("got error %v, want ErrNotFound", err)
		}
	}},
	{"F6 F4 a failure after StopFlow makes the flow failed, and a stopped flow compensates nothing", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyCompensate, "a", "b")
		f.enqueue()
		f.end("a", storage.Completed)
		f.take("b")
		l.stop(f, storage.Cancelled)
		f.end("b", storage.Failed)
		f.wantStates(states{"a": storage.Completed, "b": storage.Failed})
		if got := f.wantOver(storage.Failed); got.Phase != storage.PhaseForward || got.UndoTotal != 0 {
			t.Errorf("phase %s, %d undo members; want forward, none", got.Phase, got.UndoTotal)
		}
	}},
	{"F3 Q5.15 a fan of two hundred is joined once all ended", func(t *testing.T, l *lab) {
		lines := []string{"start"}
		for i := range 200 {
			lines = append(lines, fmt.Sprintf("m%03d needs start", i), fmt.Sprintf("join needs m%03d", i))
		}
		f := l.draft(storage.PolicyStop, lines...)
		f.enqueue()
		f.end("start", storage.Completed)
		got := l.claimAs(storage.ClaimRequest{Worker: f.worker, Limit: 500}).Executions
		if len(got) != 200 {
			t.Fatalf("claimed %d, want 200", len(got))
		}
		outcomes := make([]storage.Outcome, len(got))
		for i, e := range got {
			outcomes[i] = outcome(e, storage.Completed)
		}
		l.settle(f.worker, outcomes[:150]...)
		if e := f.get("join"); e.Waits != 50 {
			t.Errorf("join waits for %d, want 50", e.Waits)
		}
		l.settle(f.worker, outcomes[150:]...)
		f.end("join", storage.Completed)
		f.wantOver(storage.Completed)
	}},
	{"Q5.14 Q0.6 members ended by workers at once are counted once each, and the join runs once", flowRace},
}

func (l *lab) stop(f *draft, state storage.State) storage.Flow {
	l.t.Helper()
	got, err := l.store.StopFlow(l.t.Context(), storage.StopFlowRequest{Now: l.now, ID: f.flow.ID, State: state, Reason: "enough"})
	l.must(err, "StopFlow")
	return got
}

func flowRace(t *testing.T, l *lab) {
	t.Helper()
	const flows, width = 4, 20
	var lines []string
	for i := range width {
		lines = append(lines, fmt.Sprintf("m%02d", i), fmt.Sprintf("join needs m%02d", i))
	}
	var drafts []*draft
	for range flows {
		d := l.draft(storage.PolicyStop, lines...)
		d.enqueue()
		drafts = append(drafts, d)
	}
	l.race(func(ctx context.Context, w storage.ID) error {
		for {
			got, err := l.store.Claim(ctx, storage.ClaimRequest{Now: l.now, Worker: w, Queues: []string{"default"}, Limit: 5})
			if err != nil || len(got.Executions) == 0 {
				return err
			}
			r := storage.FinishRequest{Now: l.now, Worker: w}
			for _, e := range got.Executions {
				r.Outcomes = append(r.Outcomes, outcome(e, storage.Completed))
			}
			if _, err := l.store.Finish(ctx, r); err != nil {
				return err
			}
		}
	})
	// A worker may have seen an empty queue just before a join became runnable.
	last := l.join()
	for _, e := range l.claim(last) {
		l.settle(last, outcome(e, storage.Completed))
	}
	for _, d := range drafts {
		if got := d.wantOver(storage.Completed); got.Completed != width+1 {
			t.Errorf("%d completed, want %d", got.Completed, width+1)
		}
		if e := d.get("join"); e.Delivery != 1 {
			t.Errorf("the join was delivered %d times", e.Delivery)
		}
	}
}

// deepCancellation is long enough for a store that looks ahead to do so.
func deepCancellation(t *testing.T, l *lab) {
	t.Helper()
	const steps = 60
	lines := []string{"s0", "other"}
	for i := 1; i < steps; i++ {
		lines = append(lines, fmt.Sprintf("s%d needs s%d", i, i-1))
	}
	lines = append(lines, "side after s30", "joined needs s40", "joined needs other", "nested needs s20", "behind needs nested", "last after behind")
	f := l.draft(storage.PolicyContinue, lines...)
	f.nest("nested", storage.FlowChain, storage.PolicyStop, "x", "y needs x")
	f.enqueue()
	f.end("s0", storage.Failed)
	want := states{"s0": storage.Failed, "other": f.get("other").State, "side": storage.Pending, "last": storage.Pending}
	for i := 1; i < steps; i++ {
		want[fmt.Sprintf("s%d", i)] = storage.Cancelled
	}
	for _, name := range []string{"joined", "nested", "behind"} {
		want[name] = storage.Cancelled
	}
	f.wantStates(want)
	f.inner[0].wantStates(states{"x": storage.Cancelled, "y": storage.Cancelled})
	for name, reason := range map[string]string{
		"s1": "needs s0, which is failed", "s59": "needs s58, which is cancelled", "joined": "needs s40, which is cancelled",
		"nested": "needs s20, which is cancelled", "behind": "needs nested, which is cancelled",
	} {
		if e := f.get(name); e.Reason != reason || !e.ForNow {
			t.Errorf("%s is cancelled because %q, for now %v; want %q, true", name, e.Reason, e.ForNow, reason)
		}
	}
	for _, name := range []string{"side", "last"} {
		if e := f.get(name); e.Waits != 0 || !e.DueAt.Equal(l.now) {
			t.Errorf("%s waits for %d, due %v; want 0, %v", name, e.Waits, e.DueAt, l.now)
		}
	}
	for _, name := range []string{"other", "side", "last"} {
		if !f.get(name).State.Over() {
			f.end(name, storage.Completed)
		}
	}
	f.wantOver(storage.Failed)
	l.tick(time.Second)
	o := l.order(storage.ActResumeFlow)
	o.Flow = f.flow.ID
	l.operate(o)
	Check(t, l.store)
	if e := f.get("s59"); e.State != storage.Pending || e.Waits != 1 {
		t.Errorf("s59 is %s and waits for %d, want pending, 1", e.State, e.Waits)
	}
	if e := f.get("joined"); e.Waits != 1 {
		t.Errorf("joined waits for %d, want 1: what completed stays so", e.Waits)
	}
}
