package storagetest

import (
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

var keepRules = []rule{
	{"S4.1 Record writes executions that are over as given, and says how many were new", func(t *testing.T, l *lab) {
		w := l.join()
		a, m := l.finished("20200101000000_seed", storage.Ordered), l.finished("20200102000000_schema", storage.Migration)
		a.StartedAt, a.Result, a.Tags, a.WorkerID, a.Delivery = a.CreatedAt.Add(time.Second), []byte("r"), []string{"t"}, w, 1
		m.Checksum = "sha256:ab"
		if got := l.record(a, m); got != 2 {
			t.Errorf("%d were new, want 2", got)
		}
		for _, want := range []storage.Execution{a, m} {
			got := l.get(want.ID)
			if got.State != want.State || !got.CreatedAt.Equal(want.CreatedAt) || !got.StartedAt.Equal(want.StartedAt) || !got.FinishedAt.Equal(want.FinishedAt) {
				t.Errorf("%s: %s, created %v, started %v, finished %v; want %s, %v, %v, %v", want.Name,
					got.State, got.CreatedAt, got.StartedAt, got.FinishedAt, want.State, want.CreatedAt, want.StartedAt, want.FinishedAt)
			}
			if got.Kind != want.Kind || got.Method != want.Method || got.Checksum != want.Checksum || string(got.Result) != string(want.Result) {
				t.Errorf("%s came back as %+v, want %+v", want.Name, got, want)
			}
		}
		newest, err := l.store.Newest(t.Context(), storage.NewestRequest{})
		l.must(err, "Newest")
		l.same("effective rows", byState(newest), states{a.Name: storage.Completed, m.Name: storage.Completed})
	}},
	{"S4.1 Record leaves out a name that has any row, and a repeat writes nothing", func(t *testing.T, l *lab) {
		live := l.ordered("20200101000000_live")
		l.enqueue(live)
		a, known := l.finished("20200102000000_new", storage.Ordered), l.finished(live.Name, storage.Ordered)
		if got := l.record(a, known); got != 1 {
			t.Errorf("%d were new, want 1", got)
		}
		again := l.finished(a.Name, storage.Ordered)
		l.tick(time.Second)
		l.unchanged("a repeated Record", func() {
			if got := l.record(a, known, again); got != 0 {
				t.Errorf("%d were new, want 0", got)
			}
		})
	}},
	{"S34.26 Record is audited with who, why and how many", func(t *testing.T, l *lab) {
		l.record(l.finished("20200101000000_a", storage.Ordered), l.finished("20200102000000_b", storage.Ordered))
		got, err := l.store.Audit(t.Context(), storage.AuditFilter{})
		l.must(err, "Audit")
		if len(got) != 1 || got[0].Actor != "grace@lab" || got[0].Reason != "import" || got[0].Count != 2 || !got[0].At.Equal(l.now) {
			t.Errorf("audit %+v, want one entry of grace@lab for 2, because import", got)
		}
	}},
	{"Q10.24 S4.8 Prune deletes by age and state, with the attempts; zero keeps for ever", func(t *testing.T, l *lab) {
		w := l.join()
		end := func(name string, o func(storage.Execution) storage.Outcome) storage.ID {
			e := l.row(name)
			l.enqueue(e)
			l.settle(w, o(l.take(w)))
			return e.ID
		}
		fails := func(e storage.Execution) storage.Outcome { return failure(e, storage.Failed, "boom") }
		completes := func(e storage.Execution) storage.Outcome { return outcome(e, storage.Completed) }
		skips := func(e storage.Execution) storage.Outcome { return outcome(e, storage.Skipped) }
		failed := end("old-failed", fails)
		end("old-completed", completes)
		end("old-skipped", skips)
		l.tick(time.Hour)
		end("new-completed", completes)
		end("new-failed", fails)
		waiting, running := l.row("pending"), l.row("running")
		waiting.Delay = 100 * time.Hour
		l.enqueue(waiting, running)
		l.take(w)
		l.tick(time.Hour)

		l.unchanged("a prune that keeps all", func() {
			if n := l.prune(storage.PruneRequest{Limit: 100}); n != 0 {
				t.Errorf("pruned %d with all ages zero", n)
			}
		})
		if n := l.prune(storage.PruneRequest{Completed: 90 * time.Minute, Others: 3 * time.Hour, Limit: 100}); n != 1 {
			t.Errorf("pruned %d, want the old completed one", n)
		}
		if n := l.prune(storage.PruneRequest{Failed: 90 * time.Minute, Others: 90 * time.Minute, Limit: 100}); n != 2 {
			t.Errorf("pruned %d, want the old failed and the old skipped one", n)
		}
		l.same("what is left", byState(effective(l.list(storage.Filter{}))), states{
			"new-completed": storage.Completed, "new-failed": storage.Failed, "pending": storage.Pending, "running": storage.Running,
		})
		if log := l.attempts(failed); len(log) != 0 {
			t.Errorf("attempts of a pruned execution: %+v", log)
		}
	}},
	{"Q10.24 Limit bounds a prune, which takes the rest when called again", func(t *testing.T, l *lab) {
		w := l.join()
		l.bulk(5)
		for _, e := range l.claim(w) {
			l.settle(w, outcome(e, storage.Completed))
		}
		l.tick(time.Hour)
		for _, want := range []int{2, 2, 1, 0} {
			if n := l.prune(storage.PruneRequest{Completed: time.Minute, Limit: 2}); n != want {
				t.Errorf("pruned %d, want %d", n, want)
			}
		}
	}},
	{"S5.6 Prune keeps the newest row of an ordered operation and every migration", func(t *testing.T, l *lab) {
		w := l.join()
		var last storage.ID
		for range 3 {
			op, plain := l.ordered("20200101000000_op"), l.row("plain")
			l.enqueue(op, plain)
			for _, e := range l.claim(w) {
				l.settle(w, outcome(e, storage.Completed))
			}
			last = op.ID
			l.tick(time.Hour)
		}
		l.record(l.finished("20200102000000_migration", storage.Migration))
		l.tick(1000 * time.Hour)
		l.pruneAll()
		left := l.list(storage.Filter{})
		l.same("what is left", byState(effective(left)), states{"20200101000000_op": storage.Completed, "20200102000000_migration": storage.Completed})
		l.wantState(last, storage.Completed)
	}},
	{"S5.6 S8.5 Prune never deletes a row that is effective: behind a cancelled one, or behind a skip of one environment", func(t *testing.T, l *lab) {
		w := l.join()
		end := func(name string, s storage.State, env string) {
			l.enqueue(l.ordered(name))
			o := outcome(l.take(w), s)
			o.Env = env
			l.settle(w, o)
			l.tick(time.Hour)
		}
		end("20200101000000_cancelled", storage.Completed, "")
		end("20200101000000_cancelled", storage.Cancelled, "")
		end("20200102000000_bound", storage.Completed, "")
		end("20200102000000_bound", storage.Skipped, "staging")
		l.tick(1000 * time.Hour)
		newest := func(environment string) states {
			got, err := l.store.Newest(t.Context(), storage.NewestRequest{Environment: environment})
			l.must(err, "Newest")
			return byState(got)
		}
		before := map[string]states{"production": newest("production"), "staging": newest("staging")}
		l.pruneAll()
		l.same("effective rows after the prune", map[string]states{"production": newest("production"), "staging": newest("staging")}, before)
	}},
	{"Q10.24 F1 Prune spares members of open flows, and leaves the counts of flows that are over", func(t *testing.T, l *lab) {
		over, open := l.draft(storage.PolicyStop, "a", "b"), l.draft(storage.PolicyStop, "c", "d needs c", "e needs d")
		over.member("b").Kind = storage.Ordered // its only row, so it stays, and its flow with it
		over.enqueue()
		over.end("a", storage.Completed)
		over.end("b", storage.Completed)
		open.enqueue()
		open.end("c", storage.Completed)
		before := []storage.Flow{over.now(), open.now()}
		l.tick(1000 * time.Hour)
		l.pruneAll()
		l.same("flows", []storage.Flow{over.now(), open.now()}, before)
		over.wantStates(states{"b": storage.Completed})
		open.wantStates(states{"c": storage.Completed, "d": storage.Pending, "e": storage.Pending})
		open.end("d", storage.Completed)
		open.end("e", storage.Completed)
		open.wantOver(storage.Completed)
	}},
}

// finished is an execution as an import brings it, a month old.
func (l *lab) finished(name string, kind storage.Kind) storage.Execution {
	e := l.row(name)
	e.Kind, e.Method, e.Queue, e.State = kind, "import", "default", storage.Completed
	e.CreatedAt = base.Add(-30 * 24 * time.Hour)
	e.FinishedAt = e.CreatedAt.Add(time.Minute)
	return e
}

func (l *lab) record(rows ...storage.Execution) int {
	l.t.Helper()
	n, err := l.store.Record(l.t.Context(), storage.RecordRequest{Now: l.now, Executions: rows, Actor: "grace@lab", Reason: "import"})
	l.must(err, "Record")
	return n
}

func (l *lab) prune(r storage.PruneRequest) int {
	l.t.Helper()
	r.Now = l.now
	n, err := l.store.Prune(l.t.Context(), r)
	l.must(err, "Prune")
	return n
}

func (l *lab) pruneAll() {
	l.t.Helper()
	l.prune(storage.PruneRequest{Completed: time.Minute, Failed: time.Minute, Others: time.Minute, Limit: 1000})
}

func byState(rows []storage.Effective) states {
	got := states{}
	for _, e := range rows {
		got[e.Name] = e.State
	}
	return got
}

func effective(rows []storage.Execution) []storage.Effective {
	list := make([]storage.Effective, len(rows))
	for i := range rows {
		list[i] = rows[i].Effective()
	}
	return list
}
