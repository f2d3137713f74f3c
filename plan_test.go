package sequencer_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/migration"
	"github.com/gosequencer/sequencer/storage"
)

func (l *lab) preview(o sequencer.RunOptions) *sequencer.Plan {
	l.t.Helper()
	p, err := l.Preview(l.t.Context(), o)
	if err != nil {
		l.t.Fatalf("Preview: %v", err)
	}
	return p
}

func TestFiltersOfAPlan(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.cfg.Migrations = &fakeSource{l: l, list: []migration.Migration{{Version: 20240101120000, Name: "20240101120000_table"}}}
	l.op(first, nil, sequencer.Tagged("billing", "slow"))
	l.op(second, nil, sequencer.Tagged("billing"))
	l.op(third, nil)
	l.open()
	const table = "20240101120000_table"
	for _, c := range []struct {
		name string
		o    sequencer.RunOptions
		want []string
	}{
		{"everything", sequencer.RunOptions{}, []string{first, table, second, third}},
		{"S3.6 from is inclusive, for migrations too", sequencer.RunOptions{From: "20240102000000"}, []string{second, third}},
		{"S16.2 a tag leaves out the untagged, migrations stay", sequencer.RunOptions{Tags: []string{"billing"}}, []string{first, table, second}},
		{"S16.5 minus excludes", sequencer.RunOptions{Tags: []string{"-slow"}}, []string{table, second, third}},
		{"both", sequencer.RunOptions{Tags: []string{"billing", "-slow"}}, []string{table, second}},
		{"names", sequencer.RunOptions{Only: []string{third}}, []string{table, third}},
		{"S16.5 a filter that matches nothing says so", sequencer.RunOptions{Tags: []string{"none"}}, []string{table}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := l.preview(c.o)
			if got := p.Names(); !slices.Equal(got, c.want) {
				t.Errorf("plan = %q, want %q", got, c.want)
			}
			if left := 4 - len(c.want); p.Filtered != left {
				t.Errorf("Filtered = %d, want %d", p.Filtered, left)
			}
		})
	}
	if _, err := l.Preview(t.Context(), sequencer.RunOptions{Only: []string{"typo"}}); !errors.Is(err, sequencer.ErrOperationNotFound) {
		t.Errorf("an unknown name in Only: %v", err)
	}
	if _, err := l.Preview(t.Context(), sequencer.RunOptions{Sync: true, Async: true}); err == nil {
		t.Error("S11.1: sync and async together are not refused")
	}
}

func TestDependenciesOnMigrations(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	src := &fakeSource{l: l, list: []migration.Migration{
		{Version: 20240101120000, Name: "20240101120000_old", AppliedAt: time.Now()},
		{Version: 20240109000000, Name: "20240109000000_late"},
	}}
	l.cfg.Migrations = src
	l.op(first, nil, sequencer.DependsOn(sequencer.Migration("20240109000000_late.sql"), sequencer.Migration("20240101120000")))
	l.op(second, nil)
	l.open()
	l.mustProcess()
	l.expect(second, "up 20240109000000_late", first) // S9.7
}

func TestFormerNamesCountAsTheOperation(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, nil)
	l.open()
	l.mustProcess()
	l.done()
	l.reg = sequencer.NewRegistry()
	l.op("20240101000000_renamed", nil, sequencer.FormerNames(first))
	l.op(second, nil, sequencer.DependsOn(sequencer.Op(first)))
	l.open()
	l.mustProcess() // S2.5
	l.expect(second)
	if done, err := l.HasExecuted(t.Context(), "20240101000000_renamed"); err != nil || !done {
		t.Errorf("HasExecuted = %v, %v under the new name", done, err)
	}
}

func TestLateArrivals(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(second, nil)
	l.open()
	l.mustProcess()
	l.op(first, nil)
	var warned []string
	l.cfg.Observers = []sequencer.Observer{func(_ context.Context, e sequencer.Event) {
		if e.Kind == sequencer.EventWarning {
			warned = append(warned, e.Name)
		}
	}}
	l.open()
	l.done()
	if _, err := l.process(sequencer.RunOptions{OutOfOrder: sequencer.OutOfOrderRefuse}); !errors.Is(err, sequencer.ErrOutOfOrder) || !strings.Contains(err.Error(), first) {
		t.Errorf("refuse: %v", err)
	}
	l.expect()
	l.mustProcess()
	l.expect(first)
	if !slices.Equal(warned, []string{first}) {
		t.Errorf("warned about %q, want %s", warned, first)
	}
}

func TestDriftOfAppliedMigrationsIsReported(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	src := &fakeSource{l: l, list: []migration.Migration{
		{Version: 20240101120000, Name: "20240101120000_table", Checksum: "aa"},
		{Version: 20240101130000, Name: "20240101130000_gone", AppliedAt: time.Now(), Missing: true},
	}}
	l.cfg.Migrations = src
	l.open()
	l.mustProcess()
	if p := l.preview(sequencer.RunOptions{}); len(p.Drift) != 0 || !slices.Equal(p.Missing, []string{"20240101130000_gone"}) {
		t.Errorf("drift %v, missing %q; want none and the one without a file", p.Drift, p.Missing)
	}
	src.list[0].Checksum = "bb"
	if p := l.preview(sequencer.RunOptions{}); len(p.Drift) != 1 || p.Drift[0] != (sequencer.Drift{Name: "20240101120000_table", Applied: "aa", Found: "bb"}) {
		t.Errorf("drift = %+v", p.Drift)
	}
	g, err := l.Verify(t.Context())
	if err != nil || g.Ready || len(g.Drift) != 1 {
		t.Errorf("gate = %+v, %v", g, err)
	}
}

func TestScheduledOperationsWaitForTheirTime(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	later := &timed{at: time.Now().Add(time.Hour)}
	sequencer.Register(l.reg, first, func() *timed { return &timed{at: later.at, l: l} })
	l.open()
	if p := l.preview(sequencer.RunOptions{}); !p.Empty() || len(p.Scheduled) != 1 || p.Scheduled[0].Name != first {
		t.Errorf("plan = %+v, want it scheduled", p)
	}
	l.mustProcess()
	l.expect()
	later.at = time.Now().Add(-time.Second)
	l.mustProcess()
	l.expect("timed")
}

type timed struct {
	at time.Time
	l  *lab
}

func (o *timed) Handle(context.Context) error { o.l.note("timed"); return nil }
func (o *timed) ExecuteAt() time.Time         { return o.at }

func TestValidateLooksAtTheWholeGraph(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, nil)
	l.open()
	l.mustProcess()
	l.op(second, nil, sequencer.DependsOn(sequencer.Op(third)))
	l.op(third, nil, sequencer.DependsOn(sequencer.Op(first)))
	l.open()
	if err := l.Validate(t.Context()); err != nil {
		t.Errorf("a valid graph: %v", err)
	}
	l.op("20240105000000_loop", nil, sequencer.DependsOn(sequencer.Op("20240106000000_loop")))
	l.op("20240106000000_loop", nil, sequencer.DependsOn(sequencer.Op("20240105000000_loop")))
	l.open()
	var cycle *sequencer.CycleError
	if err := l.Validate(t.Context()); !errors.As(err, &cycle) {
		t.Errorf("a cycle: %v", err)
	}
}

func TestTheGateOpensWhenAllIsDone(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	fail := true
	l.op(first, func(context.Context) error {
		if fail {
			return errBoom
		}
		return nil
	})
	l.open()
	gate := func() *sequencer.Gate {
		t.Helper()
		g, err := l.Verify(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	if g := gate(); g.Ready || !slices.Equal(g.Pending, []string{first}) {
		t.Errorf("before: %+v", g)
	}
	_, _ = l.process(sequencer.RunOptions{})
	if g, err := l.Wait(t.Context(), time.Hour); err != nil || g.Ready || !slices.Equal(g.Failed, []string{first}) {
		t.Errorf("failed: %+v, %v; waiting cannot help, so it returns", g, err)
	}
	fail = false
	l.mustProcess()
	if g := gate(); !g.Ready {
		t.Errorf("after: %+v", g)
	}
}

func TestAnInterruptedOperationStopsRunsUntilAPersonDecides(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		decide func(l *lab) error
		want   []string // what the next run does
	}{
		{"completed: it counts as done", func(l *lab) error {
			return l.Resolve(l.t.Context(), first, sequencer.ResolveCompleted, "looked")
		}, []string{second}},
		{"failed: it is offered again", func(l *lab) error {
			return l.Resolve(l.t.Context(), first, sequencer.ResolveFailed, "looked")
		}, []string{first, second}},
		{"retry: it runs now", func(l *lab) error {
			err := l.Retry(l.t.Context(), first, "looked")
			l.expect(first)
			return err
		}, []string{second}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.op(first, nil)
			l.op(second, nil)
			l.open()
			l.interrupt(first)
			_, err := l.process(sequencer.RunOptions{})
			if !errors.Is(err, sequencer.ErrInterrupted) || !strings.Contains(err.Error(), first) || !strings.Contains(err.Error(), "retry") {
				t.Fatalf("process: %v, want a refusal that names %s and the remedy", err, first)
			}
			l.expect()
			if err := c.decide(l); err != nil {
				t.Fatal(err)
			}
			l.mustProcess()
			l.expect(c.want...)
			entries, err := l.store.Audit(t.Context(), storage.AuditFilter{})
			if err != nil || len(entries) != 1 || entries[0].Actor != "tester@lab" || entries[0].Reason != "looked" {
				t.Errorf("audit = %+v, %v", entries, err)
			}
		})
	}
}

// interrupt leaves an operation as a process leaves it that dies in the middle.
func (l *lab) interrupt(name string) {
	l.t.Helper()
	ctx, w := l.t.Context(), storage.NewID()
	if err := l.store.Join(ctx, storage.Worker{ID: w, Lease: time.Hour}); err != nil {
		l.t.Fatal(err)
	}
	_, err := l.store.Enqueue(ctx, storage.EnqueueRequest{
		Executions: []storage.Execution{{
			ID: storage.NewID(), Name: name, Kind: storage.Ordered, Queue: "@gone", Priority: storage.PriorityDefault,
			UniqueKey: storage.OrderedKey(name), OnLoss: storage.LossInterrupt, Input: []byte("\x01\x00{}"),
		}},
		Claim: &storage.ClaimRequest{Worker: w, Queues: []string{"@gone"}, Limit: 1},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	if err := l.store.Leave(ctx, w); err != nil {
		l.t.Fatal(err)
	}
	l.rescue()
}

// rescue lets a run notice who has died; it refuses what it finds.
func (l *lab) rescue() {
	l.t.Helper()
	if _, err := l.process(sequencer.RunOptions{}); !errors.Is(err, sequencer.ErrInterrupted) {
		l.t.Fatalf("process: %v, want a refusal", err)
	}
	l.done()
}

func TestASecondRunIsRefusedNamingTheHolder(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	entered, release := make(chan struct{}), make(chan struct{})
	l.op(first, func(context.Context) error { close(entered); <-release; return nil })
	l.open()
	ended := make(chan error)
	go func() { _, err := l.Process(t.Context(), sequencer.RunOptions{}); ended <- err }()
	<-entered
	_, err := l.process(sequencer.RunOptions{})
	var held *storage.LockedError
	if !errors.Is(err, sequencer.ErrLocked) || !errors.As(err, &held) || held.Lock.Worker.Actor != "tester@lab" || held.Lock.Worker.PID == 0 {
		t.Errorf("S26.4: second run: %v, want ErrLocked with the holder", err)
	}
	waited := make(chan error)
	go func() {
		_, err := l.Process(t.Context(), sequencer.RunOptions{Isolate: true, WaitLock: time.Minute})
		waited <- err
	}()
	close(release)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := <-waited; err != nil {
		t.Errorf("S26.1: the one that waited: %v", err)
	}
	l.expect(first)
}

func TestUnlockTakesTheLockFromItsHolder(t *testing.T) {
	t.Parallel()
	l := newLab(t).open()
	if held, err := l.Unlock(t.Context(), "none"); err != nil || held != nil {
		t.Errorf("nobody holds it: %v, %v", held, err)
	}
	w := storage.Worker{ID: storage.NewID(), Hostname: "elsewhere", Lease: time.Hour}
	if err := errors.Join(l.store.Join(t.Context(), w), l.store.Lock(t.Context(), storage.LockRequest{Name: "run", Worker: w.ID})); err != nil {
		t.Fatal(err)
	}
	held, err := l.Unlock(t.Context(), "its machine burned down")
	if err != nil || held == nil || held.Worker.Hostname != "elsewhere" {
		t.Errorf("held = %+v, %v", held, err)
	}
	if locks, _ := l.store.Locks(t.Context()); len(locks) != 0 {
		t.Errorf("locks = %+v", locks)
	}
}

func TestRollbackOfWhatARunDid(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, nil)
	l.open()
	l.mustProcess()
	l.op(second, nil)
	sequencer.RegisterFunc(l.reg, "20240102120000_plain", func(context.Context) error { return nil })
	l.op(third, nil)
	l.open()
	r := l.mustProcess()
	l.done()
	names, err := l.PreviewRollback(t.Context(), "", sequencer.RollbackOptions{Last: true})
	if err != nil || !slices.Equal(names, []string{third, second}) { // S10.2: what has no rollback is left alone
		t.Fatalf("preview = %q, %v", names, err)
	}
	if _, err := l.Rollback(t.Context(), "", sequencer.RollbackOptions{Run: r.RunID[:1]}); err == nil || !strings.Contains(err.Error(), r.RunID) {
		t.Errorf("got %v, want a refusal that names both runs it may be", err)
	}
	l.expect()
	if _, err := l.Rollback(t.Context(), "", sequencer.RollbackOptions{Run: r.RunID[:len(r.RunID)-1]}); err != nil {
		t.Fatal(err)
	}
	l.expect("undo "+third, "undo "+second)
	l.mustProcess()
	l.done()
	if _, err := l.Rollback(t.Context(), "", sequencer.RollbackOptions{To: "20240101000000"}); err != nil {
		t.Fatal(err)
	}
	l.expect("undo "+third, "undo "+second)
	if _, err := l.Rollback(t.Context(), "", sequencer.RollbackOptions{}); err == nil {
		t.Error("a rollback of nothing in particular is not refused")
	}
}

func TestAnIrreversibleOperationIsNotRolledBackPast(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, nil)
	sequencer.RegisterFunc(l.reg, second, func(context.Context) error { return nil }, sequencer.Irreversible())
	l.open()
	l.mustProcess()
	l.done()
	for _, err := range []error{
		func() error { _, err := l.Rollback(t.Context(), second, sequencer.RollbackOptions{}); return err }(),
		func() error {
			_, err := l.Rollback(t.Context(), "", sequencer.RollbackOptions{Last: true})
			return err
		}(),
	} {
		if !errors.Is(err, sequencer.ErrIrreversible) || !strings.Contains(err.Error(), second) {
			t.Errorf("err = %v, want ErrIrreversible naming %s", err, second)
		}
	}
	l.expect()
}

func TestAFailedUndoIsReportedAndDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, nil)
	sequencer.RegisterFunc(l.reg, second, func(context.Context) error { return nil },
		sequencer.Undo(func(context.Context) error { return errors.New("cannot undo") }))
	l.op(third, func(context.Context) error { return errBoom })
	l.open()
	_, err := l.process(sequencer.RunOptions{})
	if !errors.Is(err, errBoom) || !strings.Contains(err.Error(), "cannot undo") { // S10.3
		t.Errorf("err = %v, want both", err)
	}
	l.expect(first, third, "undo "+first)
	if got := l.state(second); got != storage.Completed {
		t.Errorf("what could not be undone is %s, want completed", got)
	}
}

// dyingRun leaves a run of two ordered operations whose process died with the
// first completed and the second as how says.
func (l *lab) dyingRun(how storage.State) {
	l.t.Helper()
	ctx, w := l.t.Context(), storage.NewID()
	flow := storage.Flow{
		ID: storage.NewID(), Kind: storage.FlowRun, Method: "sequential", Policy: storage.PolicyCompensate,
		Phase: storage.PhaseForward, State: storage.Running,
	}
	rows := make([]storage.Execution, 2)
	for i, name := range []string{first, second} {
		rows[i] = storage.Execution{
			ID: storage.NewID(), Name: name, Member: name, Kind: storage.Ordered, Queue: "@" + flow.ID.String(), Priority: storage.PriorityDefault,
			UniqueKey: storage.OrderedKey(name), OnLoss: storage.LossInterrupt, Input: []byte("\x01\x00{}"), FlowID: flow.ID, Undoable: true, Position: i,
		}
	}
	claim := &storage.ClaimRequest{Worker: w, Queues: []string{rows[0].Queue}, Limit: 1}
	finish := func(row int, state storage.State) error {
		_, err := l.store.Finish(ctx, storage.FinishRequest{
			Worker: w, Outcomes: []storage.Outcome{{ID: rows[row].ID, Delivery: 1, State: state}}, Claim: claim,
		})
		return err
	}
	err := l.store.Join(ctx, storage.Worker{ID: w, Lease: time.Hour})
	if err == nil {
		_, err = l.store.Enqueue(ctx, storage.EnqueueRequest{
			Flows: []storage.Flow{flow}, Executions: rows, Edges: []storage.Edge{{From: rows[0].ID, To: rows[1].ID}}, Claim: claim,
		})
	}
	if err == nil {
		err = finish(0, storage.Completed)
	}
	if err == nil && how != storage.Running {
		claim = nil
		err = finish(1, how)
	}
	if err = errors.Join(err, l.store.Leave(ctx, w)); err != nil {
		l.t.Fatal(err)
	}
}

func TestARetryThatFailsAgainUndoesWhatItsRunDid(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, nil)
	sequencer.RegisterFunc(l.reg, second, func(context.Context) error { return errBoom })
	l.open()
	l.dyingRun(storage.Running)
	l.rescue()
	if err := l.Retry(t.Context(), second, "again"); !errors.Is(err, errBoom) {
		t.Errorf("retry: %v, want boom", err)
	}
	l.expect("undo " + first)
	if got := l.state(first); got != storage.RolledBack {
		t.Errorf("first is %s, want rolled back", got)
	}
}

func TestARollbackThatDiedIsFinishedByTheNextRun(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, nil)
	l.op(second, nil)
	l.open()
	l.dyingRun(storage.Failed)
	l.mustProcess() // S10.6
	l.expect("undo "+first, first, second)
}

func TestARollbackWhoseCodeIsGoneDoesNotHoldUpTheNextRun(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(third, nil)
	l.open()
	l.dyingRun(storage.Failed)
	l.mustProcess()
	l.expect(third)
	rows, err := l.store.Executions(t.Context(), storage.Filter{Name: first, Kinds: []storage.Kind{storage.Ordered}})
	if err != nil || rows[0].State != storage.Completed || !strings.Contains(rows[0].UndoError, "not registered") {
		t.Errorf("first = %+v, %v; want completed, with the reason it was not undone", rows, err)
	}
}
