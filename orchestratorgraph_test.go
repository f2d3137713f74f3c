package sequencer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

func TestADependencyGraphRunsInWaves(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) { // S24.1, S24.2: a diamond has three waves
		m := meet(2)
		on := func(n int) sequencer.RegisterOption { return sequencer.DependsOn(sequencer.Op(numbered(n))) }
		l.op(numbered(0), nil)
		l.op(numbered(1), m.wait, on(0))
		l.op(numbered(2), m.wait, on(0))
		l.op(numbered(3), nil, on(1), on(2))
		l.cfg.Orchestrator = sequencer.DependencyGraph()
		l.open()
		plan := l.preview(sequencer.RunOptions{})
		var waves []int
		for _, task := range plan.Tasks {
			waves = append(waves, task.Wave)
		}
		if !slices.Equal(waves, []int{1, 2, 2, 3}) {
			t.Errorf("waves %v", waves)
		}
		l.mustProcess()
		did := l.done()
		before(t, did, did[:1], []string{numbered(1), numbered(2)})
		before(t, did, []string{numbered(1), numbered(2)}, []string{numbered(3)})
	})
}

func TestAWaveWaitsForTheOneBeforeItUnlessEager(t *testing.T) {
	t.Parallel()
	for _, eager := range []bool{false, true} {
		t.Run(fmt.Sprint("eager ", eager), func(t *testing.T) {
			t.Parallel()
			onFlows(t, func(t *testing.T, l *lab) { // S24.5
				release := make(chan struct{})
				l.op(numbered(0), nil)
				l.op(numbered(1), func(ctx context.Context) error {
					if eager { // it ends only after the dependent of the other has begun
						select {
						case <-release:
						case <-time.After(30 * time.Second):
							return errors.New("nobody of the second wave came")
						}
					}
					l.note("slow ended")
					return nil
				})
				l.op(numbered(2), func(context.Context) error { close(release); return nil }, sequencer.DependsOn(sequencer.Op(numbered(0))))
				o := sequencer.DependencyGraph()
				if eager {
					o = o.Eager()
				}
				l.cfg.Orchestrator = o
				l.open()
				l.mustProcess()
				did := l.done()
				if first := slices.Index(did, numbered(2)) < slices.Index(did, "slow ended"); first != eager {
					t.Errorf("did %q", did)
				}
			})
		})
	}
}

func TestAFailureEndsAGraphAndNamesItsWave(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) { // S24.4, S24.6
		m := meet(3)
		on := func(n int) sequencer.RegisterOption { return sequencer.DependsOn(sequencer.Op(numbered(n))) }
		fails := func(ctx context.Context) error { return errors.Join(errBoom, m.wait(ctx)) }
		l.op(numbered(0), nil)
		l.op(numbered(1), fails, on(0))
		l.op(numbered(2), m.wait, on(0))
		l.op(numbered(3), fails, on(0))
		l.op(numbered(4), nil, on(2))
		l.open()
		r, err := l.process(sequencer.RunOptions{Orchestrator: sequencer.DependencyGraph().RollbackOnFailure()})
		var wave *sequencer.WaveError
		if !errors.As(err, &wave) || wave.Wave != 2 || wave.Failed != 2 || !slices.Equal(wave.Names, []string{numbered(1), numbered(3)}) || !errors.Is(err, errBoom) {
			t.Fatalf("err = %v, wave %+v", err, wave)
		}
		if r.Tasks[4].State != storage.Cancelled || r.Tasks[4].Wave != 3 {
			t.Errorf("the last wave: %+v", r.Tasks[4])
		}
		did := l.done()
		before(t, did, []string{"undo " + numbered(2)}, []string{"undo " + numbered(0)})
	})
}

func TestManyThatWaitForManyMeetInAJoin(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) { // decisions 2.2
		const wide = 6
		for n := range 3 * wide {
			var opts []sequencer.RegisterOption
			if n >= wide {
				opts = append(opts, sequencer.DependsOn(sequencer.Op(numbered(n-wide))))
			}
			l.op(numbered(n), nil, opts...)
		}
		l.cfg.Orchestrator = sequencer.DependencyGraph()
		l.open()
		plan := l.preview(sequencer.RunOptions{})
		if len(plan.Joins) != 2 || len(plan.Joins[0].After) != wide || !slices.Equal(plan.Tasks[wide].After, []string{plan.Joins[0].Name}) {
			t.Errorf("joins %+v, after %q", plan.Joins, plan.Tasks[wide].After)
		}
		var told []string
		ctx := sequencer.WithObserver(t.Context(), func(_ context.Context, e sequencer.Event) {
			if e.Kind == sequencer.EventRunStarted || e.Kind == sequencer.EventRunEnded {
				told = append(told, fmt.Sprint(e.Kind, " ", e.Tasks))
			}
		})
		r, err := l.Process(ctx, sequencer.RunOptions{})
		if err != nil || len(r.Tasks) != 3*wide || !slices.Equal(told, []string{"run_started 18", "run_ended 18"}) {
			t.Fatalf("%d tasks, told %q, %v", len(r.Tasks), told, err)
		}
		did := l.done()
		for w := range 2 {
			for a := range wide {
				for b := range wide {
					before(t, did, []string{numbered(w*wide + a)}, []string{numbered((w+1)*wide + b)})
				}
			}
		}
		id, err := storage.ParseID(r.RunID)
		if err != nil {
			t.Fatal(err)
		}
		edges, err := l.store.Edges(t.Context(), id)
		if err != nil || len(edges) > 5*3*wide {
			t.Errorf("%d edges, %v; want a few per task", len(edges), err)
		}
	})
}

func TestWhatNeedsAnAllowedFailureLetsNobodyOvertake(t *testing.T) {
	t.Parallel()
	l := newLab(t) // S3.4, S20.3: it is over as soon as that fails, long before its turn
	l.op(numbered(0), func(context.Context) error { return errBoom }, sequencer.Mark[sequencer.AllowedToFail]())
	l.op(numbered(1), nil)
	l.op(numbered(2), nil)
	l.op(numbered(3), nil, sequencer.DependsOn(sequencer.Op(numbered(0))))
	l.op(numbered(4), nil)
	l.op(numbered(5), nil, sequencer.DependsOn(sequencer.Op(numbered(0))))
	l.op(numbered(7), nil)
	l.migrations(table(6))
	l.open()
	l.mustProcess()
	l.expect(numbered(0), numbered(1), numbered(2), numbered(4), "up "+table(6).Name, numbered(7))
}
