package storagetest

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gosequencer/sequencer/storage"
)

// line is a situation in which a worker ends a and may go on with b.
type line struct {
	name    string
	members []string
	change  func(b *storage.Execution)
	before  func(l *lab, f *draft) // the Finish
	to      storage.State          // of a; default completed
	err     error
	taken   []string
}

var lines = []line{
	{name: "b waits for a alone", members: []string{"a", "b needs a"}, taken: []string{"b"}},
	{name: "b merely comes after a", members: []string{"a", "b after a", "c needs b"}, taken: []string{"b"}},
	{name: "b has a deadline", members: []string{"a", "b needs a"}, change: func(b *storage.Execution) { b.RetryFor = time.Hour }, taken: []string{"b"}},
	{name: "b is delayed", members: []string{"a", "b needs a"}, change: func(b *storage.Execution) { b.Delay = time.Minute }},
	{name: "b is in another queue", members: []string{"a", "b needs a"}, change: func(b *storage.Execution) { b.Queue = "default" }},
	{name: "b waits for another too", members: []string{"a", "d", "b needs a", "b needs d"}, taken: []string{"d"}},
	{name: "another waits for a too", members: []string{"a", "b needs a", "d needs a"}, taken: []string{"b", "d"}},
	{name: "b does not wait for a", members: []string{"a", "d", "b needs d"}, taken: []string{"d"}},
	{name: "b was ended by a person", members: []string{"a", "b needs a", "c after b"}, taken: []string{"c"}, before: func(l *lab, f *draft) {
		l.operate(l.order(storage.ActCancel, f.id("b")))
	}},
	{name: "the flow was stopped", members: []string{"a", "b needs a"}, before: func(l *lab, f *draft) {
		_, err := l.store.StopFlow(l.t.Context(), storage.StopFlowRequest{Now: l.now, ID: f.flow.ID, State: storage.Cancelled, Reason: "enough"})
		l.must(err, "StopFlow")
	}},
	{name: "a fails", members: []string{"a", "b needs a"}, to: storage.Failed},
	{name: "a fails, and b does not need it", members: []string{"a", "b after a"}, to: storage.Failed, taken: []string{"b"}},
	{name: "a is tried again", members: []string{"a", "b needs a"}, to: storage.Pending, taken: []string{"a"}},
	{name: "the worker has left", members: []string{"a", "b needs a"}, err: storage.ErrLeaseLost, before: func(l *lab, f *draft) {
		l.must(l.store.Leave(l.t.Context(), f.worker), "Leave")
	}},
}

// play ends a with a claim, telling what comes next or not, and returns what was
// claimed and how the members stand, without what differs between two plays.
func (ln line) play(l *lab, told bool) (claimed, stand []storage.Execution, err error) {
	f := l.draft(storage.PolicyContinue, ln.members...)
	queue := storage.PrivateQueue + f.flow.ID.String()
	for i := range f.members {
		f.members[i].Queue, f.members[i].Input, f.members[i].Tags = queue, []byte(f.members[i].Name), []string{"t"}
		f.members[i].Priority = storage.PriorityHighest
	}
	b := f.member("b")
	if ln.change != nil {
		ln.change(b)
	}
	f.enqueue()
	l.tick(time.Second)
	a := l.claimAs(storage.ClaimRequest{Worker: f.worker, Queues: []string{queue}, Limit: 1}).Executions[0]
	if ln.before != nil {
		ln.before(l, f)
	}
	to := ln.to
	if to == "" {
		to = storage.Completed
	}
	r := storage.FinishRequest{
		Now: l.now, Worker: f.worker, Outcomes: []storage.Outcome{outcome(a, to)},
		Claim: &storage.ClaimRequest{Queues: []string{queue}, Limit: 3},
	}
	if to == storage.Failed {
		r.Outcomes[0] = failure(a, to, "boom")
	}
	if told {
		next := *b
		next.CreatedAt = a.CreatedAt
		r.Next = &next
	}
	l.tick(time.Second)
	r.Now = l.now
	done, err := l.store.Finish(l.t.Context(), r)
	return done.Claimed.Executions, l.list(storage.Filter{FlowID: f.flow.ID, Limit: 100, Oldest: true}), err
}

var nextRules = []rule{
	{"F3 Q0.2 a claim that is told what comes next takes what one that is not would take", func(t *testing.T, l *lab) {
		alike := cmpopts.IgnoreFields(storage.Execution{},
			"ID", "WorkerID", "FlowID", "Queue", "CreatedAt", "DueAt", "StartedAt", "FinishedAt", "DeadlineAt")
		for _, ln := range lines {
			plain, stood, err := ln.play(l, false)
			l.same(ln.name+": claimed", names(plain), ln.taken)
			if !errors.Is(err, ln.err) {
				t.Errorf("%s: error %v, want %v", ln.name, err, ln.err)
			}
			claimed, stand, toldErr := ln.play(l, true)
			if !errors.Is(toldErr, ln.err) {
				t.Errorf("%s: when told, error %v, want %v", ln.name, toldErr, ln.err)
			}
			l.same(ln.name+": claimed when told", claimed, plain, alike)
			l.same(ln.name+": how the members stand when told", stand, stood, alike)
			for _, e := range claimed {
				row := l.get(e.ID)
				if got, want := times(e), times(row); got != want {
					t.Errorf("%s: %s was claimed with created, due, started, deadline %v, the row has %v", ln.name, e.Name, got, want)
				}
				if e.WorkerID != row.WorkerID || e.Delivery != row.Delivery {
					t.Errorf("%s: %s was claimed by %s at %d, the row says %s at %d", ln.name, e.Name, e.WorkerID, e.Delivery, row.WorkerID, row.Delivery)
				}
			}
			Check(t, l.store)
		}
	}},
}

func times(e storage.Execution) [4]time.Time {
	return [4]time.Time{e.CreatedAt, e.DueAt, e.StartedAt, e.DeadlineAt}
}
