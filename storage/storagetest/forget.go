package storagetest

import (
	"errors"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

var forgetRules = []rule{
	{"Q10.24 S4.8 forget deletes what is over, with attempts, tags and edges, and returns it as it was; flows keep their counts", func(t *testing.T, l *lab) {
		f := l.draft(storage.PolicyContinue, "a", "b after a")
		f.member("a").Tags = []string{"t"}
		f.enqueue()
		f.end("a", storage.Failed)
		f.end("b", storage.Completed)
		flow := f.wantOver(storage.Failed)
		was := f.get("a")
		l.tick(time.Second)
		l.same("answer against the row as it was", l.operate(l.order(storage.ActForget, was.ID)), []storage.Execution{was})
		if got := l.list(storage.Filter{IDs: []storage.ID{was.ID}}); len(got) != 0 {
			t.Errorf("still there: %v", names(got))
		}
		if got := l.list(storage.Filter{Tag: "t"}); len(got) != 0 {
			t.Errorf("its tag finds %v", names(got))
		}
		if log := l.attempts(was.ID); len(log) != 0 {
			t.Errorf("its attempts are still there: %+v", log)
		}
		edges, err := l.store.Edges(t.Context(), f.flow.ID)
		l.must(err, "Edges")
		if len(edges) != 0 {
			t.Errorf("its edges are still there: %+v", edges)
		}
		l.same("flow", f.now(), flow)
		audit, err := l.store.Audit(t.Context(), storage.AuditFilter{Target: was.ID.String()})
		l.must(err, "Audit")
		if len(audit) != 1 || audit[0].Action != "forget" || audit[0].Count != 1 {
			t.Errorf("audit %+v, want one forget", audit)
		}
	}},
	{"Q10.24 S5.5 forget refuses what is not over and what is unknown, and then deletes nothing", func(t *testing.T, l *lab) {
		fine := l.reach(storage.Failed)
		for _, s := range storage.States {
			e := l.reach(s)
			if s.Over() {
				l.operate(l.order(storage.ActForget, e.ID))
				continue
			}
			o := l.order(storage.ActForget, fine.ID, e.ID)
			l.refusedMove(o, e.ID)
			_, err := l.store.Operate(t.Context(), o)
			if refused, ok := errors.AsType[*storage.TransitionError](err); ok && refused.To != storage.Forgotten {
				t.Errorf("the error says %q, want %q", refused.To, storage.Forgotten)
			}
		}
		l.unchanged("an unknown id", func() {
			if _, err := l.store.Operate(t.Context(), l.order(storage.ActForget, fine.ID, l.id())); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("got error %v, want ErrNotFound", err)
			}
		})
	}},
	{"S5.6 Q10.24 forget refuses what pruning keeps: migrations, effective rows of ordered operations, members of open flows", func(t *testing.T, l *lab) {
		w := l.join()
		var op []storage.ID
		for _, s := range []storage.State{storage.Failed, storage.Completed, storage.Cancelled} {
			e := l.ordered("20200101000000_op")
			l.enqueue(e)
			l.settle(w, outcome(l.take(w), s))
			op = append(op, e.ID)
			l.tick(time.Second)
		}
		migration := l.finished("20200102000000_migration", storage.Migration)
		l.record(migration)
		f := l.draft(storage.PolicyContinue, "a", "b")
		f.enqueue()
		f.end("a", storage.Completed)
		for what, id := range map[string]storage.ID{
			"a migration": migration.ID, "the effective row": op[1], "the newest row": op[2], "a member of an open flow": f.id("a"),
		} {
			l.unchanged("forgetting "+what, func() {
				_, err := l.store.Operate(t.Context(), l.order(storage.ActForget, op[0], id))
				if _, move := errors.AsType[*storage.TransitionError](err); err == nil || move || errors.Is(err, storage.ErrNotFound) {
					t.Errorf("%s: got error %v, want one that names it", what, err)
				}
			})
		}
		l.operate(l.order(storage.ActForget, op[0]))
		f.end("b", storage.Completed)
		l.operate(l.order(storage.ActForget, f.id("a"), f.id("b")))
	}},
	{"S34.26 an order that says what it is about is audited in these words", func(t *testing.T, l *lab) {
		a, b := l.reach(storage.Failed), l.reach(storage.Failed)
		o := l.order(storage.ActRetry, a.ID, b.ID)
		o.Target = "state=failed tag=mail"
		l.operate(o)
		audit, err := l.store.Audit(t.Context(), storage.AuditFilter{})
		l.must(err, "Audit")
		if len(audit) != 1 || audit[0].Target != o.Target || audit[0].Count != 2 {
			t.Errorf("audit %+v, want one entry for %q of 2", audit, o.Target)
		}
	}},
}
