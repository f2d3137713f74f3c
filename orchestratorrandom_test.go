package sequencer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/migration"
	"github.com/gosequencer/sequencer/storage"
)

// span is when a task ran, in turns of one counter; 0 = it did not.
type span struct{ began, ended int }

// diary notes when tasks run.
type diary struct {
	mu    sync.Mutex
	turn  int
	spans map[string]span
}

func (d *diary) during(name string, do func()) {
	mark := func(set func(*span, int)) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.turn++
		s := d.spans[name]
		set(&s, d.turn)
		d.spans[name] = s
	}
	mark(func(s *span, at int) { s.began = at })
	do()
	mark(func(s *span, at int) { s.ended = at })
}

// diarist is a source of migrations that notes when they run.
type diarist struct {
	*fakeSource
	d *diary
}

func (s *diarist) Apply(ctx context.Context, version int64, record func(context.Context, storage.Tx) error) error {
	var err error
	s.d.during(fmt.Sprintf("%d_table", version), func() { err = s.fakeSource.Apply(ctx, version, record) })
	return err
}

// Random plans of migrations and operations, with dependencies in any direction,
// failures, allowed ones, skips and Async operations, keep the promises that hold
// whatever the orchestrator is.
func TestRandomPlansKeepTheirOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		l := newLab(t)
		d := &diary{spans: map[string]span{}}
		src := &diarist{&fakeSource{l: l}, d}
		n := rapid.IntRange(1, 16).Draw(rt, "tasks")
		rank := rapid.Permutation(numbers(n)).Draw(rt, "rank") // who may depend on whom
		isMigration := make([]bool, n)
		for i := range n {
			isMigration[i] = rapid.IntRange(0, 3).Draw(rt, "migration") == 0
			if isMigration[i] {
				src.list = append(src.list, table(i))
			}
		}
		for i := range n {
			if isMigration[i] {
				continue
			}
			var opts []sequencer.RegisterOption
			for j := range n {
				switch {
				case i == j || rapid.IntRange(0, 3).Draw(rt, "depends") > 0:
				case isMigration[j]:
					opts = append(opts, sequencer.DependsOn(sequencer.Migration(table(j).Name)))
				case rank[j] < rank[i]:
					opts = append(opts, sequencer.DependsOn(sequencer.Op(numbered(j))))
				}
			}
			if rapid.IntRange(0, 4).Draw(rt, "async") == 0 {
				opts = append(opts, sequencer.Mark[sequencer.Async]())
			}
			allowed := rapid.Bool().Draw(rt, "allowed")
			if allowed {
				opts = append(opts, sequencer.Mark[sequencer.AllowedToFail]())
			}
			end := rapid.SampledFrom([]error{nil, nil, sequencer.Skip("for good"), sequencer.SkipForNow("for now"), errBoom, errBoom}).Draw(rt, "end")
			if errors.Is(end, errBoom) && !allowed && rapid.IntRange(0, 5).Draw(rt, "fails") > 0 {
				end = nil
			}
			l.op(numbered(i), func(context.Context) error {
				var err error
				d.during(numbered(i), func() { time.Sleep(time.Duration(i%3) * 10 * time.Microsecond); err = end }) // sleep: lets others overlap
				return err
			}, opts...)
		}
		l.cfg.Migrations = src
		l.cfg.Orchestrator = rapid.SampledFrom(everyOrchestrator()).Draw(rt, "orchestrator")
		l.open()
		plan, err := l.Preview(t.Context(), sequencer.RunOptions{})
		if err != nil {
			rt.Fatal(err)
		}
		r, err := l.Process(t.Context(), sequencer.RunOptions{Slots: rapid.IntRange(1, 4).Draw(rt, "slots")})
		if r == nil {
			rt.Fatal(err)
		}
		promises(rt, plan, r, err, d.spans)
	})
}

func numbers(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// promises checks a run against the plan it carried out.
func promises(rt *rapid.T, plan *sequencer.Plan, r *sequencer.Report, err error, spans map[string]span) {
	state := map[string]storage.State{}
	for _, t := range r.Tasks {
		state[t.Name] = t.State
		if !t.State.Over() {
			rt.Errorf("S19.10: %s is %s when the run is over", t.Name, t.State)
		}
	}
	precedes := func(why, a, b string) {
		if from, to := spans[a], spans[b]; from.began > 0 && to.began > 0 && from.ended > to.began {
			rt.Errorf("%s: %s ran from %d to %d, and %s began at %d", why, a, from.began, from.ended, b, to.began)
		}
	}
	segment := 0
	in := make([]int, len(plan.Tasks))
	for i, b := range plan.Tasks {
		for _, on := range b.DependsOn {
			precedes("S9.9", on.Name, b.Name)
			if spans[b.Name].began > 0 && spans[on.Name].began == 0 && slices.Contains(plan.Names(), on.Name) {
				rt.Errorf("S9.9: %s ran, and %s, which it depends on, did not", b.Name, on.Name)
			}
		}
		if b.Kind == storage.Migration {
			segment++
		}
		in[i] = segment
		for j, a := range plan.Tasks[:i] {
			switch {
			case b.Kind == storage.Migration && !a.Async:
				precedes("decisions 16, before a migration", a.Name, b.Name)
			case a.Kind == storage.Migration:
				precedes("decisions 16, behind a migration", a.Name, b.Name)
			case r.Method == "sequential" && !a.Async:
				precedes("S20.1", a.Name, b.Name)
			}
			if a.Kind == storage.Migration && state[a.Name] != storage.Completed && spans[b.Name].began > 0 {
				rt.Errorf("%s ran, and the migration %s is %s", b.Name, a.Name, state[a.Name])
			}
			if r.Method == "dependency_graph" && waits(plan) && in[i] == in[j] && a.Wave < b.Wave && !a.Async && !b.Async {
				precedes("S24.1", a.Name, b.Name)
			}
			if b.Wave < a.Wave && r.Method == "dependency_graph" && waits(plan) && in[i] == in[j] && !a.Async && !b.Async {
				precedes("S24.1", b.Name, a.Name)
			}
		}
	}
	if r.Method != "transactional_batch" {
		return
	}
	for _, t := range plan.Tasks {
		if t.Kind == storage.Ordered && err != nil && state[t.Name] == storage.Completed {
			rt.Errorf("S22.1: the batch failed, and %s stays", t.Name)
		}
		if err == nil && state[t.Name] == storage.RolledBack {
			rt.Errorf("S22.1: the batch is done, and %s is undone", t.Name)
		}
	}
}

// waits reports a graph whose operations wait for waves: then somebody waits for more
// than dependencies and migrations.
func waits(plan *sequencer.Plan) bool {
	migrations := map[string]bool{}
	for _, t := range plan.Tasks {
		if t.Kind == storage.Migration {
			migrations[t.Name] = true
		}
	}
	for _, t := range plan.Tasks {
		if t.Kind == storage.Ordered && slices.ContainsFunc(t.After, func(name string) bool { return !migrations[name] }) {
			return true
		}
	}
	return false
}

var _ migration.Source = (*diarist)(nil)
