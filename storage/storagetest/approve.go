package storagetest

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// approval is a question about an execution, which need not be in the ledger.
func (l *lab) approval(name string, about storage.ID) storage.Execution {
	e := l.row(name)
	e.Kind, e.Queue, e.Undoes = storage.KindApproval, storage.ApprovalQueue, about
	return e
}

var approveRules = []rule{
	{"A1 S3.3 an approval waits in a queue of its own, hides no execution of its operation, and is found by what it is asked for", func(t *testing.T, l *lab) {
		op := l.ordered("20200101000000_drop")
		l.enqueue(op)
		ask := l.approval(op.Name, op.ID)
		ask.UniqueKey, ask.Policy = "approval", []byte(`{"approver":"dba"}`)
		l.enqueue(ask)
		w := l.join()
		l.same("claimed", names(l.claim(w)), []string{op.Name})
		got := l.list(storage.Filter{Undoes: op.ID, Kinds: []storage.Kind{storage.KindApproval}})
		if len(got) != 1 || got[0].ID != ask.ID || got[0].State != storage.Pending || string(got[0].Policy) != string(ask.Policy) {
			t.Errorf("asked for %s: %+v; want the pending approval", op.Name, got)
		}
		newest, err := l.store.Newest(t.Context(), storage.NewestRequest{})
		l.must(err, "Newest")
		l.same("effective rows", byState(newest), states{op.Name: storage.Running})
	}},
	{"A2 S5.4 S34.26 Q4.6 the answer ends it with who and why, frees its key, and is audited in the same write", func(t *testing.T, l *lab) {
		for _, c := range []struct {
			act    storage.Action
			want   storage.State
			reason string
		}{
			{storage.ActApprove, storage.Completed, "approved by grace@lab: because"},
			{storage.ActReject, storage.Failed, "rejected by grace@lab: because"},
		} {
			ask := l.approval("drop", l.id())
			ask.UniqueKey = "approval"
			l.enqueue(ask)
			l.tick(time.Second)
			o := l.order(c.act, ask.ID)
			after := l.operate(o)
			e := l.wantState(ask.ID, c.want)
			l.same("answer against the row", after, []storage.Execution{e})
			if e.Reason != c.reason || !e.FinishedAt.Equal(l.now) || e.Undoes != ask.Undoes || !e.StartedAt.IsZero() {
				t.Errorf("%s: reason %q, finished %v, started %v, for %s", c.act, e.Reason, e.FinishedAt, e.StartedAt, e.Undoes)
			}
			log, err := l.store.Audit(t.Context(), storage.AuditFilter{Target: ask.ID.String()})
			l.must(err, "Audit")
			if len(log) != 1 || log[0].Action != string(c.act) || log[0].Actor != o.Actor || log[0].Reason != o.Reason || !log[0].At.Equal(l.now) {
				t.Errorf("%s: audit %+v, want one entry of %s", c.act, log, o.Actor)
			}
			Check(t, l.store)
		}
	}},
	{"A2 S5.5 an answer is refused for what has one, was withdrawn, or is no approval, and a retry takes none back", func(t *testing.T, l *lab) {
		yes, no, gone, plain := l.approval("a", l.id()), l.approval("a", l.id()), l.approval("a", l.id()), l.row("a")
		l.enqueue(yes, no, gone, plain)
		l.operate(l.order(storage.ActApprove, yes.ID))
		l.operate(l.order(storage.ActReject, no.ID))
		l.operate(l.order(storage.ActCancel, gone.ID))
		for _, e := range []storage.Execution{yes, no, gone} {
			for _, act := range []storage.Action{storage.ActApprove, storage.ActReject, storage.ActRetry} {
				l.refusedMove(l.order(act, e.ID), e.ID)
			}
		}
		l.unchanged("approving a plain execution", func() {
			l.refusedOrder(l.order(storage.ActApprove, plain.ID))
			l.refusedOrder(l.order(storage.ActReject, plain.ID))
		})
		open := l.approval("a", l.id())
		l.enqueue(open)
		l.refusedMove(l.order(storage.ActApprove, open.ID, yes.ID), yes.ID)
	}},
	{"A2 Q3.14 of two that answer at the same time one is refused", func(t *testing.T, l *lab) {
		ask := l.approval("a", l.id())
		l.enqueue(ask)
		errs := make([]error, 4)
		var all sync.WaitGroup
		for i := range errs {
			all.Go(func() {
				act := storage.ActApprove
				if i%2 == 1 {
					act = storage.ActReject
				}
				_, errs[i] = l.store.Operate(t.Context(), l.order(act, ask.ID))
			})
		}
		all.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else if _, refused := errors.AsType[*storage.TransitionError](err); !refused {
				t.Errorf("got error %v, want a *TransitionError", err)
			}
		}
		log, err := l.store.Audit(t.Context(), storage.AuditFilter{Target: ask.ID.String()})
		l.must(err, "Audit")
		if won != 1 || len(log) != 1 {
			t.Errorf("%d answers were taken, and %d audited; want one", won, len(log))
		}
	}},
	{"A3 Q10.24 neither pruning nor forgetting takes an approval, open or answered", func(t *testing.T, l *lab) {
		var all []storage.ID
		for _, act := range []storage.Action{"", storage.ActApprove, storage.ActReject, storage.ActCancel} {
			e := l.approval("a", l.id())
			l.enqueue(e)
			if act != "" {
				l.operate(l.order(act, e.ID))
			}
			all = append(all, e.ID)
		}
		l.tick(1000 * time.Hour)
		l.unchanged("a prune", l.pruneAll)
		for _, id := range all {
			l.unchanged("forgetting", func() { l.refusedOrder(l.order(storage.ActForget, id)) })
		}
	}},
}
