//go:build linux

package crashtest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// hooks is the file that hooks write to: one line for each call, with what its execution
// looked like then.
func (s shift) hooks() string { return s.Journal + ".hooks" }

// registerHooked registers what has hooks: one that succeeds and one that fails.
func (d *desk) registerHooked(reg *sequencer.Registry, l *ledger, all *jobs) {
	after := func(ctx context.Context) error { return d.hook(ctx, l, storage.MethodAfter) }
	failed := func(ctx context.Context, cause error) error {
		if cause == nil {
			return errors.New("no cause")
		}
		return d.hook(ctx, l, storage.MethodFailed)
	}
	all.care = sequencer.RegisterFuncOf(reg, "care", d.outside("care"), sequencer.OnAfter(after), sequencer.OnFailed(failed))
	all.lose = sequencer.RegisterFuncOf(reg, "loses", func(ctx context.Context, in job) error {
		return errors.Join(d.outside("loses")(ctx, in), errors.New("lost"))
	}, sequencer.OnAfter(after), sequencer.OnFailed(failed))
}

func (d *desk) hook(ctx context.Context, l *ledger, method string) error {
	if err := d.point("hook/before"); err != nil {
		return err
	}
	id, err := storage.ParseID(sequencer.Current(ctx).ID)
	if err != nil {
		return err
	}
	rows, err := l.Executions(ctx, storage.Filter{IDs: []storage.ID{id}})
	if err != nil || len(rows) != 1 {
		return fmt.Errorf("%d rows, %w", len(rows), err)
	}
	if err := appendLine(d.hooks, fmt.Sprintf("%s %s %s", method, id, rows[0].State)); err != nil {
		return err
	}
	return d.point("hook/after")
}

// wantHooks compares the journal of hooks with the ledger: each execution that has one
// had the one of its end, after it could be seen (Q9.20), once, or up to so often more
// in all as workers were killed. Hardly any has lost its three workers by chance.
func (s shift) wantHooks(t *testing.T, c *tally, mayRepeat int) {
	t.Helper()
	text, err := os.ReadFile(s.hooks())
	if err != nil {
		t.Fatal(err)
	}
	called := map[string]int{}
	for line := range strings.Lines(string(text)) {
		called[strings.TrimSpace(line)]++
	}
	repeats, givenUp := 0, 0
	for i := range c.rows {
		row := &c.rows[i]
		if row.Name != "care" && row.Name != "loses" {
			continue
		}
		method := storage.MethodAfter
		if row.State == storage.Failed {
			method = storage.MethodFailed
		}
		want := fmt.Sprintf("%s %s %s", method, row.ID, row.State)
		n := called[want]
		if given := slices.ContainsFunc(c.log[row.ID], func(a storage.Attempt) bool { return a.Outcome == "hook" }); given {
			givenUp++
		} else if n == 0 {
			t.Errorf("Q9.20: the %s hook of %s %s was never called", method, row.Name, row.ID)
		}
		repeats += max(n-1, 0)
		delete(called, want)
	}
	if repeats > mayRepeat {
		t.Errorf("Q9.20: hooks were called %d times more than once, at most %d are explained", repeats, mayRepeat)
	}
	if givenUp > mayRepeat/100 {
		t.Errorf("Q9.20: %d hooks lost %d workers: too many for chance", givenUp, sequencer.MaxHookDeliveries)
	}
	for line := range called {
		t.Errorf("Q9.20: a hook that should not have been called: %s", line)
	}
}

func TestCrashAtEachPointLosesNoHookAndCallsNoneTooEarly_Q9_20(t *testing.T) {
	t.Parallel()
	hooked := func(all jobs) []sequencer.Operation {
		return []sequencer.Operation{all.care(job{}), all.lose(job{}), all.care(job{})}
	}
	onBackends(t, every, func(t *testing.T, b backend) {
		s := inOneSlot(newShift(t, b.at(t)))
		s.dispatch(t, hooked)
		points := decisive(mustWork(t, s))
		c := count(t, s, nil, "error")
		s.wantHooks(t, c, 0)
		c.wantStates(t, map[string]int{"care completed": 2, "loses failed": 1})
		for _, point := range points {
			t.Run(point, func(t *testing.T) {
				t.Parallel()
				s := inOneSlot(newShift(t, b.at(t)))
				s.dispatch(t, hooked)
				gone := killWorker(t, s, point)
				mustWork(t, s)
				c := count(t, s, gone, "error")
				s.wantHooks(t, c, 1)
				if c.states()["care completed"] != 2 {
					t.Errorf("%v, want both completed", c.states())
				}
			})
		}
	})
}

func TestCrashOfWorkersAtRandomLosesNoHook_Q9_20(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	onBackends(t, every, func(t *testing.T, b backend) {
		random := rand.New(rand.NewPCG(seed, 1))
		s := newShift(t, b.at(t))
		n := executions / 5 // of fewer, those who die might have none in hand
		s.dispatch(t, func(all jobs) []sequencer.Operation {
			ops := make([]sequencer.Operation, n)
			for i := range ops {
				in := job{Micros: random.IntN(20_000)}
				if ops[i] = all.care(in); i%4 == 0 {
					ops[i] = all.lose(in)
				}
			}
			return ops
		})
		f := fleet{shift: s, from: s.Place, random: random}
		f.serve(t, func(int) {})
		c := count(t, s, f.gone, "error", "hook")
		if len(c.rows) != n {
			t.Errorf("the ledger holds %d rows, want %d", len(c.rows), n)
		}
		s.wantHooks(t, c, len(f.gone)*s.Slots)
		if len(f.gone) <= workers || c.lost == 0 {
			t.Errorf("%d processes were killed and %d attempts lost: that shows nothing", len(f.gone), c.lost)
		}
	})
}
