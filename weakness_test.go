package sequencer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/migration"
	"github.com/gosequencer/sequencer/storage"
)

// Each test here shows that a weakness of the tool that started this one (the
// register W1…W40 of the behaviours) is not ours.

func TestW1RolledBackOperationsArePendingAgain(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, nil)
	l.open()
	l.mustProcess()
	if _, err := l.Rollback(t.Context(), first, sequencer.RollbackOptions{}); err != nil {
		t.Fatal(err)
	}
	l.expect(first, "undo "+first)
	if done, err := l.HasExecuted(t.Context(), first); err != nil || done {
		t.Errorf("S31.7: HasExecuted = %v, %v after a rollback; want false", done, err)
	}
	l.mustProcess()
	l.expect(first)
}

func TestW2DependenciesAreNamesAndCountWhatRanBefore(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(second, nil)
	l.open()
	l.mustProcess()
	l.op(third, nil, sequencer.DependsOn(sequencer.Op(second)))
	l.op(first, nil, sequencer.DependsOn(sequencer.Op(third))) // S9.1: wins over the timestamp
	l.open()
	l.done()
	l.mustProcess()
	l.expect(third, first)
}

func TestW2WaysOfMissingADependencyAreToldApart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		depends sequencer.Dependency
		opts    sequencer.RunOptions
		want    error
		says    string
	}{
		{"S9.4 unknown operation", sequencer.Op("20240109000000_gone"), sequencer.RunOptions{}, sequencer.ErrUnknownDependency, "20240109000000_gone"},
		{"S9.3 an operation is no migration", sequencer.Migration(first), sequencer.RunOptions{}, sequencer.ErrUnknownDependency, first},
		{"S9.4 cycle, printed", sequencer.Op(third), sequencer.RunOptions{}, sequencer.ErrCircularDependency, third + " → " + third},
		{"S3.8 left out by from", sequencer.Op(first), sequencer.RunOptions{From: "20240102000000"}, sequencer.ErrDependencyExcluded, first},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.op(first, nil)
			l.op(second, nil)
			if c.want == sequencer.ErrCircularDependency { //nolint:errorlint // comparing table entries
				l.op(third, nil, sequencer.DependsOn(sequencer.Op(second)))
				l.op("20240104000000_fourth", nil, sequencer.DependsOn(sequencer.Op("20240105000000_fifth")))
				l.op("20240105000000_fifth", nil, sequencer.DependsOn(sequencer.Op("20240104000000_fourth")))
				c.says = "20240104000000_fourth → 20240105000000_fifth → 20240104000000_fourth"
			} else {
				l.op(third, nil, sequencer.DependsOn(c.depends))
			}
			l.open()
			_, err := l.process(c.opts)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("err = %v, want %v naming %s", err, c.want, c.says)
			}
			l.expect() // S9.10: an invalid graph runs nothing
			if rows, _ := l.store.Executions(t.Context(), storage.Filter{}); len(rows) != 0 {
				t.Errorf("%d rows were written", len(rows))
			}
		})
	}
}

func TestW2AnAsyncDependencyIsWaitedFor(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	release := make(chan struct{})
	l.op(first, func(context.Context) error { <-release; l.note("first ended"); return nil }, sequencer.Mark[sequencer.Async]())
	l.op(second, func(context.Context) error { close(release); return nil })
	l.op(third, nil, sequencer.DependsOn(sequencer.Op(first)))
	l.open()
	l.mustProcess()
	did := l.done()
	if at := slices.Index(did, third); at < slices.Index(did, "first ended") {
		t.Errorf("S9.9: did %q, third must come after first has ended", did)
	}
	// The control is second: it does not depend on first, and ran while first did.
}

func TestW3OnlyWhatReallyRanIsUndone(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, func(context.Context) error { return sequencer.Skip("nothing to do") })
	l.op(second, nil, sequencer.When(func(context.Context) (bool, error) { return false, nil }))
	l.op("20240102000001_elsewhere", nil, sequencer.Environments("production"))
	l.op("20240102000002_real", nil)
	l.op(third, func(context.Context) error { return errors.New("boom") })
	l.open()
	if _, err := l.process(sequencer.RunOptions{}); err == nil {
		t.Fatal("no error")
	}
	l.expect(first, "20240102000002_real", third, "undo 20240102000002_real") // S10.5
}

func TestW4RollbackGetsTheInputAndTheResultOfWhatItUndoes(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	sequencer.RegisterFunc(l.reg, first, func(ctx context.Context) error {
		return sequencer.SetResult(ctx, map[string]int{"id": 42})
	}, sequencer.Undo(func(ctx context.Context) error {
		kept, err := sequencer.ResultOf[map[string]int](ctx, "")
		l.note(fmt.Sprint("undo with ", kept["id"]))
		return err
	}))
	l.open()
	l.mustProcess()
	l.open() // S10.7: another process, as far as memory goes
	if _, err := l.Rollback(t.Context(), first, sequencer.RollbackOptions{}); err != nil {
		t.Fatal(err)
	}
	l.expect("undo with 42")
}

func TestW5AnAllowedFailureStopsNobodyButItsDependents(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, func(context.Context) error { return errors.New("boom") }, sequencer.Mark[sequencer.AllowedToFail]())
	l.op(second, nil)
	l.op(third, nil, sequencer.DependsOn(sequencer.Op(first)))
	l.open()
	r := l.mustProcess() // S20.3
	l.expect(first, second)
	if got := l.state(third); got != storage.Cancelled {
		t.Errorf("the dependent is %s, want cancelled", got)
	}
	if r.Tasks[0].State != storage.Failed || !r.Tasks[0].Allowed {
		t.Errorf("report says %+v, want failed (allowed)", r.Tasks[0])
	}
}

func TestW6InFlightOperationsAreNotOfferedAgain(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, nil)
	l.open()
	receipt, err := l.Dispatch(t.Context(), sequencer.Named(first, nil))
	if err != nil {
		t.Fatal(err)
	}
	l.mustProcess() // S3.3; wholly shown once there are workers
	l.expect()
	again, err := l.Dispatch(t.Context(), sequencer.Named(first, nil))
	if err != nil || !again.Duplicate || again.HolderID != receipt.ID {
		t.Errorf("dispatching again gives %+v, %v; want a duplicate of %s", again, err, receipt.ID)
	}
}

func TestW7AListenerCannotChangeAnOutcome(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.cfg.Observers = []sequencer.Observer{func(context.Context, sequencer.Event) { panic("listener") }}
	l.op(first, nil)
	l.op(second, nil)
	l.open()
	l.mustProcess() // S6.3, S6.4
	l.expect(first, second)
}

func TestW8ARetriedSuccessIsNoFailureAnyMore(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	tries := 0
	l.op(first, func(context.Context) error {
		if tries++; tries < 3 {
			return fmt.Errorf("attempt %d", tries)
		}
		return nil
	}, sequencer.Tries(3))
	l.open()
	r := l.mustProcess()
	if r.Tasks[0].Attempts != 3 {
		t.Errorf("attempts = %d, want 3", r.Tasks[0].Attempts)
	}
	if failed, err := l.HasFailed(t.Context(), first); err != nil || failed {
		t.Errorf("S31.8: HasFailed = %v, %v; want false", failed, err)
	}
	attempts, err := l.Errors(t.Context(), first)
	if err != nil || len(attempts) != 2 || attempts[0].Message != "attempt 1" || attempts[1].Number != 2 {
		t.Errorf("S12.7: attempts = %+v, %v; want the two that failed", attempts, err)
	}
	rows, _ := l.store.Executions(t.Context(), storage.Filter{Name: first})
	if row := rows[0]; row.State != storage.Completed || row.FinishedAt.IsZero() {
		t.Errorf("S5.4: row = %+v", row)
	}
}

func TestW9TwoExecutionsMayStartInOneInstant(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op("quick", nil)
	l.open()
	for range 3 {
		if err := l.Execute(t.Context(), sequencer.Named("quick", nil)); err != nil {
			t.Fatal(err)
		}
	}
	l.expect("quick", "quick", "quick")
	if rows, _ := l.store.Executions(t.Context(), storage.Filter{Name: "quick"}); len(rows) != 3 {
		t.Errorf("S4.1: %d rows, want one for each execution", len(rows))
	}
}

func TestW10StartedIsNotQueued(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, nil)
	l.open()
	if _, err := l.Dispatch(t.Context(), sequencer.Named(first, nil), sequencer.Delay(time.Hour)); err != nil {
		t.Fatal(err)
	}
	rows, _ := l.store.Executions(t.Context(), storage.Filter{Name: first})
	if row := rows[0]; !row.StartedAt.IsZero() || row.CreatedAt.IsZero() || row.DueAt.Sub(row.CreatedAt) != time.Hour {
		t.Errorf("S4.3: row = %+v, want created now, due in an hour, not started", row)
	}
}

func TestW12TwoKindsOfSkip(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, func(context.Context) error { return sequencer.Skip("already there") })
	l.op(second, func(context.Context) error { return sequencer.SkipForNow("not ready") })
	l.op(third, nil, sequencer.DependsOn(sequencer.Op(first)))
	l.open()
	r := l.mustProcess()
	l.expect(first, second, third) // S9.8: the final skip satisfies
	if r.Tasks[0].Reason != "already there" || r.Count(storage.Ordered, storage.Skipped) != 2 {
		t.Errorf("report = %+v", r.Tasks)
	}
	l.mustProcess()
	l.expect(second) // S8.6: offered again, the other not
	if attempts, _ := l.Errors(t.Context(), first); len(attempts) != 0 {
		t.Errorf("S30.6: a skip left %d error rows", len(attempts))
	}
}

func TestW13AnEnvironmentSkipHoldsOnlyThere(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, nil, sequencer.Environments("production"))
	l.op(second, nil, sequencer.When(func(context.Context) (bool, error) { return false, nil }))
	l.open()
	r := l.mustProcess()
	l.expect()
	if r.Tasks[0].State != storage.Skipped || r.Tasks[1].State != storage.Skipped || r.Tasks[1].Reason != "condition" {
		t.Errorf("S8.2: report = %+v, want two skips", r.Tasks)
	}
	l.mustProcess()
	l.expect()
	l.cfg.Environment = "production" // the same ledger, restored elsewhere
	l.open()
	l.mustProcess()
	l.expect(first) // S8.5
}

func TestW21TheConfiguredOrchestratorIsUsed(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.cfg.Orchestrator = backwards{}
	l.op(first, nil)
	l.op(second, nil)
	l.open()
	r := l.mustProcess() // S19.8
	l.expect(second, first)
	if r.Method != "backwards" {
		t.Errorf("S19.5: method = %q", r.Method)
	}
	l.op(third, nil)
	l.open()
	if r, err := l.process(sequencer.RunOptions{Orchestrator: sequencer.Sequential()}); err != nil || r.Method != "sequential" {
		t.Errorf("S19.9: method = %q, %v", r.Method, err)
	}
}

// backwards is a custom orchestrator (S19.14).
type backwards struct{}

func (backwards) Name() string { return "backwards" }

func (backwards) Arrange(p *sequencer.Plan) (sequencer.Arrangement, error) {
	a := sequencer.Arrangement{Policy: storage.PolicyStop, After: make([][]int, len(p.Tasks))}
	for i := range p.Tasks[:len(p.Tasks)-1] {
		a.After[i] = []int{i + 1}
	}
	return a, nil
}

func TestW22TheActorIsRecorded(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, nil)
	l.open()
	r := l.mustProcess()
	rows, _ := l.store.Executions(t.Context(), storage.Filter{Name: first})
	id, _ := storage.ParseID(r.RunID)
	flows, _ := l.store.Flows(t.Context(), storage.FlowFilter{IDs: []storage.ID{id}})
	if rows[0].Actor != "tester@lab" || flows[0].Actor != "tester@lab" || flows[0].Host == "" {
		t.Errorf("S4.5: row by %q, run by %q on %q", rows[0].Actor, flows[0].Actor, flows[0].Host)
	}
}

func TestW25RollbackChecksHistory(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, nil)
	sequencer.RegisterFunc(l.reg, second, func(context.Context) error { return nil })
	l.op(third, nil, sequencer.DependsOn(sequencer.Op(first)))
	l.open()
	roll := func(name string, o sequencer.RollbackOptions) error {
		_, err := l.Rollback(t.Context(), name, o)
		return err
	}
	if err := roll(first, sequencer.RollbackOptions{}); !errors.Is(err, sequencer.ErrNotExecuted) {
		t.Errorf("never ran: %v", err)
	}
	l.mustProcess()
	l.done()
	for _, c := range []struct {
		name string
		o    sequencer.RollbackOptions
		want error
	}{
		{"20240109000000_gone", sequencer.RollbackOptions{}, sequencer.ErrOperationNotFound},
		{second, sequencer.RollbackOptions{}, sequencer.ErrNotRollbackable},
	} {
		if err := roll(c.name, c.o); !errors.Is(err, c.want) {
			t.Errorf("rollback of %s: %v, want %v", c.name, err, c.want)
		}
	}
	if err := roll(first, sequencer.RollbackOptions{}); err == nil || !strings.Contains(err.Error(), third) {
		t.Errorf("S10.12: %v, want a refusal that names %s", err, third)
	}
	l.expect()
	if err := roll(first, sequencer.RollbackOptions{Cascade: true}); err != nil {
		t.Fatal(err)
	}
	l.expect("undo "+third, "undo "+first)
	if err := roll(first, sequencer.RollbackOptions{}); !errors.Is(err, sequencer.ErrAlreadyRolledBack) {
		t.Errorf("S10.11: twice: %v", err)
	}
}

func TestW26AnImpossibleFromIsRefused(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, nil)
	l.op(second, nil)
	l.open()
	for _, from := range []string{"yesterday", "20241301000000", "2024", "20240102"} {
		if _, err := l.process(sequencer.RunOptions{From: from}); err == nil || !strings.Contains(err.Error(), from) {
			t.Errorf("S3.7: from %q: %v, want an error that names it", from, err)
		}
	}
	l.expect()
	if _, err := l.process(sequencer.RunOptions{From: "2024_01_02_000000"}); err != nil {
		t.Fatal(err)
	}
	l.expect(second) // S3.6: inclusive
}

func TestW27RepeatLooksOnlyAtWhatIsSelected(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, nil, sequencer.Tagged("safe"))
	l.open()
	l.mustProcess()
	l.op(second, nil) // brand new
	l.open()
	l.done()
	if _, err := l.process(sequencer.RunOptions{Repeat: true}); !errors.Is(err, sequencer.ErrNeverExecuted) || !strings.Contains(err.Error(), second) {
		t.Errorf("S3.10: %v, want ErrNeverExecuted naming %s", err, second)
	}
	for _, o := range []sequencer.RunOptions{{Repeat: true, Tags: []string{"safe"}}, {Repeat: true, Only: []string{first}}} {
		if _, err := l.process(o); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
		l.expect(first) // S3.11
	}
}

func TestW28PreviewIsTheSamePlanAndRunsNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.cfg.Guards = []sequencer.Guard{closed{}}
	l.op(first, nil, sequencer.When(func(context.Context) (bool, error) { l.note("asked"); return true, nil }))
	l.op(second, nil, sequencer.Environments("production"), sequencer.DependsOn(sequencer.Op(first)), sequencer.Mark[sequencer.Async]())
	l.open()
	p, err := l.Preview(t.Context(), sequencer.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	l.expect()
	a, b := p.Tasks[0], p.Tasks[1]
	if a.Name != first || !a.Conditional || b.Name != second || !b.Elsewhere || !b.Async || b.Wave != 2 {
		t.Errorf("S19.7: plan = %+v", p.Tasks)
	}
	if !strings.Contains(p.Blocked, "closed") {
		t.Errorf("blocked = %q, want the guard", p.Blocked)
	}
	if rows, _ := l.store.Executions(t.Context(), storage.Filter{}); len(rows) != 0 {
		t.Errorf("a preview wrote %d rows", len(rows))
	}
}

// closed is a guard that lets nobody through.
type closed struct{}

func (closed) Name() string { return "closed" }

func (closed) Allow(context.Context) (bool, string, error) { return false, "for the test", nil }

func TestW32GuardsHoldAtEveryEntrance(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, nil)
	l.open()
	l.mustProcess()
	l.done()
	l.cfg.Guards = []sequencer.Guard{closed{}}
	l.op(second, nil)
	l.open()
	_, processErr := l.process(sequencer.RunOptions{})
	_, rollbackErr := l.Rollback(t.Context(), first, sequencer.RollbackOptions{})
	for entrance, err := range map[string]error{
		"process": processErr, "rollback": rollbackErr,
		"execute": l.Execute(t.Context(), sequencer.Named(second, nil)),
		"retry":   l.Retry(t.Context(), first, "test"),
	} {
		var g *sequencer.GuardError
		if !errors.As(err, &g) || g.Guard != "closed" || !errors.Is(err, sequencer.ErrGuard) {
			t.Errorf("S27.9: %s: %v, want the guard's refusal", entrance, err)
		}
	}
	l.expect()
}

func TestW35OnlyNamesAreExecuted(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, nil)
	l.op(second, nil) // never ran, and hinders nobody
	l.open()
	if err := l.Execute(t.Context(), sequencer.Named("/etc/passwd", nil)); !errors.Is(err, sequencer.ErrOperationNotFound) {
		t.Errorf("S31.10: %v", err)
	}
	if err := l.Execute(t.Context(), sequencer.Named(first, nil)); err != nil {
		t.Fatal(err)
	}
	l.expect(first)
	if err := l.ExecuteIf(t.Context(), false, sequencer.Named("unknown", nil)); err != nil {
		t.Errorf("S31.2: %v", err)
	}
}

func TestW37StatusShowsWhatOthersHide(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, func(context.Context) error { return sequencer.Skip("no need") })
	l.op(second, nil)
	l.open()
	l.mustProcess()
	if _, err := l.Rollback(t.Context(), second, sequencer.RollbackOptions{}); err != nil {
		t.Fatal(err)
	}
	l.reg = sequencer.NewRegistry()
	l.op(second, nil)
	l.op(third, nil)
	l.open()
	st, err := l.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]storage.State{}
	for _, row := range st.Newest {
		states[row.Name] = row.State
	}
	if states[first] != storage.Skipped || states[second] != storage.RolledBack {
		t.Errorf("S34.11: states = %v", states)
	}
	if !slices.Equal(st.Plan.Unknown, []string{first}) || !slices.Equal(st.Plan.Names(), []string{second, third}) {
		t.Errorf("S2.8: unknown %q, pending %q", st.Plan.Unknown, st.Plan.Names())
	}
}

func TestW39MigrationsAndOperationsKeepTheirPlaces(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	src := &fakeSource{l: l, list: []migration.Migration{
		{Version: 20240102000000, Name: "20240102000000_table"},
		{Version: 20240103000001, Name: "20240103000001_index"},
	}}
	l.cfg.Migrations = src
	l.op(third, nil)
	l.op(first, nil)
	l.op(second, nil)
	l.open()
	l.mustProcess()
	l.expect(first, "up 20240102000000_table", second, third, "up 20240103000001_index") // S3.4: at equal timestamps the migration first
}

func migrationNamed(name string) migration.Migration {
	return migration.Migration{Version: 20240101000000, Name: name}
}

// fakeSource is a Source in memory; goose's is tested with real databases.
type fakeSource struct {
	l    *lab
	list []migration.Migration
}

func (s *fakeSource) Migrations(context.Context) ([]migration.Migration, error) {
	return slices.Clone(s.list), nil
}

func (s *fakeSource) Apply(_ context.Context, version int64, _ func(context.Context, storage.Tx) error) error {
	for i := range s.list {
		if s.list[i].Version == version {
			s.l.note("up " + s.list[i].Name)
			s.list[i].AppliedAt = time.Now()
			return nil
		}
	}
	return migration.ErrUnknown
}
