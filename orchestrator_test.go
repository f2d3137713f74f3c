package sequencer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/migration"
	"github.com/gosequencer/sequencer/storage"
)

// meeting is where handlers wait until so many are there: those that meet run at the
// same time. One that waits in vain fails with its test's patience.
type meeting struct {
	mu   sync.Mutex
	left int
	all  chan struct{}
}

func meet(n int) *meeting { return &meeting{left: n, all: make(chan struct{})} }

func (m *meeting) wait(ctx context.Context) error {
	m.mu.Lock()
	if m.left--; m.left == 0 {
		close(m.all)
	}
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	select {
	case <-m.all:
		return nil
	case <-ctx.Done():
		return errors.New("the others did not come")
	}
}

// numbered is the name of the nth operation.
func numbered(n int) string { return fmt.Sprintf("202401010000%02d_op", n) }

func table(n int) migration.Migration {
	return migration.Migration{Version: 20240101000000 + int64(n), Name: fmt.Sprintf("202401010000%02d_table", n)}
}

// migrations gives the lab's runs some.
func (l *lab) migrations(list ...migration.Migration) {
	l.cfg.Migrations = &fakeSource{l: l, list: list}
}

// before fails the test unless each of the first was noted before each of the last.
func before(t *testing.T, did, first, last []string) {
	t.Helper()
	for _, a := range first {
		for _, b := range last {
			if i, j := slices.Index(did, a), slices.Index(did, b); i < 0 || j < 0 || i > j {
				t.Errorf("did %q: %s has to come before %s", did, a, b)
			}
		}
	}
}

func TestABatchRunsOperationsBetweenTwoMigrationsSideBySide(t *testing.T) {
	t.Parallel()
	for _, o := range []sequencer.Orchestrator{sequencer.ParallelBatch(), sequencer.TransactionalBatch(), sequencer.AllowedToFailBatch(), sequencer.DependencyGraph(), sequencer.DependencyGraph().Eager()} {
		t.Run(o.Name(), func(t *testing.T) {
			t.Parallel()
			onFlows(t, func(t *testing.T, l *lab) { // S21.1, decisions 16
				m, later := meet(3), meet(2)
				l.migrations(table(0), table(4), table(5))
				for n := 1; n <= 3; n++ {
					l.op(numbered(n), m.wait)
				}
				l.op(numbered(6), later.wait)
				l.op(numbered(7), later.wait)
				l.open()
				r, err := l.process(sequencer.RunOptions{Orchestrator: o})
				if err != nil || r.State != storage.Completed || len(r.Tasks) != 8 {
					t.Fatalf("got %+v, %v", r, err)
				}
				did := l.done()
				first, last := []string{numbered(1), numbered(2), numbered(3)}, []string{numbered(6), numbered(7)}
				before(t, did, []string{"up " + table(0).Name}, first)
				before(t, did, first, []string{"up " + table(4).Name})
				before(t, did, []string{"up " + table(4).Name}, []string{"up " + table(5).Name})
				before(t, did, []string{"up " + table(5).Name}, last)
			})
		})
	}
}

func TestSlotsBoundWhatRunsAtATime(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var mu sync.Mutex
	at, most := 0, 0
	m := meet(2) // control: two do meet
	for n := range 8 {
		l.op(numbered(n), func(ctx context.Context) error {
			mu.Lock()
			at++
			most = max(most, at)
			mu.Unlock()
			defer func() { mu.Lock(); at--; mu.Unlock() }()
			if n < 2 {
				return m.wait(ctx)
			}
			return nil
		})
	}
	l.open()
	if _, err := l.process(sequencer.RunOptions{Orchestrator: sequencer.ParallelBatch(), Slots: 2}); err != nil {
		t.Fatal(err)
	}
	if most != 2 {
		t.Errorf("S19.10: %d ran at a time, want 2", most)
	}
}

func TestAFailureInABatchCancelsWhatHasNotStartedAndUndoesNothing(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) { // S21.1, W20
		m := meet(3)
		failed := make(chan struct{})
		for n := range 5 {
			l.op(numbered(n), func(ctx context.Context) error {
				err := m.wait(ctx)
				if n == 2 {
					return errors.Join(errBoom, err)
				}
				<-failed
				return err
			})
		}
		l.open()
		ctx := sequencer.WithObserver(t.Context(), func(_ context.Context, e sequencer.Event) {
			if e.Kind == sequencer.EventFailed {
				close(failed)
			}
		})
		r, err := l.Process(ctx, sequencer.RunOptions{Orchestrator: sequencer.ParallelBatch(), Slots: 3})
		if !errors.Is(err, errBoom) || !errors.Is(err, sequencer.ErrBatchFailed) || r.State != storage.Failed {
			t.Fatalf("got %+v, %v", r, err)
		}
		if n := r.Count(storage.Ordered, storage.Completed); n != 2 {
			t.Errorf("%d completed, want 2: %+v", n, r.Tasks)
		}
		if n := r.Count(storage.Ordered, storage.Cancelled); n != 2 {
			t.Errorf("%d cancelled, want the 2 that had not started: %+v", n, r.Tasks)
		}
		if did := l.done(); len(did) != 3 || slices.ContainsFunc(did, func(s string) bool { return strings.HasPrefix(s, "undo") }) {
			t.Errorf("did %q", did)
		}
	})
}

func TestSeveralFailuresAreJoined(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) { // S19.10
		m := meet(2)
		other := errors.New("another bang")
		l.op(first, func(ctx context.Context) error { return errors.Join(errBoom, m.wait(ctx)) })
		l.op(second, func(ctx context.Context) error { return errors.Join(other, m.wait(ctx)) })
		l.open()
		_, err := l.process(sequencer.RunOptions{Orchestrator: sequencer.ParallelBatch()})
		if !errors.Is(err, errBoom) || !errors.Is(err, other) {
			t.Errorf("err = %v, want both", err)
		}
	})
}

func TestInAnAllowedToFailBatchTheOthersGoOn(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) { // S23.1, S23.2, S23.4
		var log strings.Builder
		var mu sync.Mutex
		l.cfg.Logger = slog.New(slog.NewTextHandler(locked{&mu, &log}, nil))
		fails := func(context.Context) error { return errBoom }
		l.op(numbered(0), fails)
		l.op(numbered(1), fails, sequencer.Mark[sequencer.AllowedToFail]())
		l.op(numbered(2), nil, sequencer.DependsOn(sequencer.Op(numbered(0))))
		l.op(numbered(3), nil)
		l.op(numbered(5), nil)
		l.migrations(table(4))
		l.open()
		o := sequencer.RunOptions{Orchestrator: sequencer.AllowedToFailBatch(), Slots: 1}
		r, err := l.process(o)
		if !errors.Is(err, errBoom) || !errors.Is(err, sequencer.ErrBatchFailed) {
			t.Fatalf("S23.2: err = %v", err)
		}
		var failed *sequencer.RunError
		if !errors.As(err, &failed) || len(failed.Failures) != 1 {
			t.Errorf("S23.1: failures %v, want the critical one alone", err)
		}
		got := map[string]storage.State{}
		for _, task := range r.Tasks {
			got[task.Name] = task.State
		}
		for name, want := range map[string]storage.State{
			numbered(0): storage.Failed, numbered(1): storage.Failed, numbered(2): storage.Cancelled, numbered(3): storage.Completed,
			table(4).Name: storage.Completed, numbered(5): storage.Completed,
		} {
			if got[name] != want {
				t.Errorf("%s is %s, want %s", name, got[name], want)
			}
		}
		mu.Lock()
		text := log.String()
		mu.Unlock()
		for _, want := range []string{
			"level=ERROR msg=failed operation=" + numbered(0), "level=WARN msg=failed operation=" + numbered(1),
			`level=ERROR msg="run ended"`, `reason="1 of 6 failed"`,
		} {
			if strings.Count(text, want) != 1 {
				t.Errorf("S23.1: the log has %q %d times, want once:\n%s", want, strings.Count(text, want), text)
			}
		}
	})
}

// locked writes under a mutex.
type locked struct {
	mu *sync.Mutex
	to *strings.Builder
}

func (w locked) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(p)
}

func TestAnAllowedFailureDoesNotFailABatch(t *testing.T) {
	t.Parallel()
	for _, o := range everyOrchestrator() {
		t.Run(nameOf(o), func(t *testing.T) {
			t.Parallel()
			l := newLab(t) // S20.3, S23.1
			l.op(first, func(context.Context) error { return errBoom }, sequencer.Mark[sequencer.AllowedToFail]())
			l.op(second, nil)
			l.open()
			r, err := l.process(sequencer.RunOptions{Orchestrator: o, Slots: 1})
			if err != nil || r.State != storage.Completed {
				t.Errorf("got %+v, %v", r, err)
			}
			l.expect(first, second)
		})
	}
}

func TestNothingComesAfterAMigrationThatFailed(t *testing.T) {
	t.Parallel()
	for _, o := range everyOrchestrator() {
		t.Run(nameOf(o), func(t *testing.T) {
			t.Parallel()
			l := newLab(t) // S37.8
			l.cfg.Migrations = &brokenSource{&fakeSource{l: l, list: []migration.Migration{table(2), table(5)}}}
			for _, n := range []int{1, 3, 4, 6} {
				l.op(numbered(n), nil)
			}
			l.open()
			r, err := l.process(sequencer.RunOptions{Orchestrator: o})
			if !errors.Is(err, errBoom) || r.State != storage.Failed {
				t.Fatalf("got %+v, %v", r, err)
			}
			if did := slices.DeleteFunc(l.done(), func(s string) bool { return strings.HasPrefix(s, "undo") }); !slices.Equal(did, []string{numbered(1), "broken"}) {
				t.Errorf("did %q, want nothing behind the migration", did)
			}
		})
	}
}

// brokenSource has migrations that fail.
type brokenSource struct{ *fakeSource }

func (s *brokenSource) Apply(context.Context, int64, func(context.Context, storage.Tx) error) error {
	s.l.note("broken")
	return errBoom
}

// bent is an orchestrator that arranges what it is told to.
type bent struct {
	shape sequencer.Arrangement
	err   error
}

func (bent) Name() string { return "bent" }

func (b bent) Arrange(*sequencer.Plan) (sequencer.Arrangement, error) { return b.shape, b.err }

func after(policy storage.FlowPolicy, lists ...[]int) sequencer.Arrangement {
	return sequencer.Arrangement{Policy: policy, After: lists}
}

func TestAnArrangementThatCannotBeCarriedOutIsRefused(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		o    bent
		want string
	}{
		"a cycle":              {bent{shape: after(storage.PolicyStop, []int{1}, []int{0}, nil)}, "orchestrator bent: circular dependency: " + first + " → " + second + " → " + first},
		"itself":               {bent{shape: after(storage.PolicyStop, []int{0}, nil, nil)}, first + " → " + first},
		"against a dependency": {bent{shape: after(storage.PolicyStop, []int{2}, nil, nil)}, first + " → " + third + " → " + first},
		"a stranger":           {bent{shape: after(storage.PolicyStop, nil, []int{3}, nil)}, "orchestrator bent: task 1 is to wait for task 3, and there are 3"},
		"too few":              {bent{shape: after(storage.PolicyStop, nil)}, "orchestrator bent: it arranges 1 tasks, the plan has 3"},
		"no policy":            {bent{}, `orchestrator bent: it has the policy "", which there is not`},
		"its own refusal":      {bent{err: errBoom}, "orchestrator bent: boom"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			l := newLab(t) // S9.10, S19.14
			l.op(first, nil)
			l.op(second, nil)
			l.op(third, nil, sequencer.DependsOn(sequencer.Op(first)))
			l.open()
			o := sequencer.RunOptions{Orchestrator: c.o}
			_, err := l.process(o)
			_, again := l.Preview(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), c.want) || again == nil || again.Error() != err.Error() {
				t.Errorf("err = %v, in a preview %v; want %q", err, again, c.want)
			}
			l.nothingWritten()
		})
	}
	l := newLab(t) // control
	l.op(first, nil)
	l.op(second, nil)
	l.op(third, nil)
	l.open()
	if _, err := l.process(sequencer.RunOptions{Orchestrator: bent{shape: after(storage.PolicyStop, []int{1}, []int{2}, nil)}}); err != nil {
		t.Error(err)
	}
	l.expect(third, second, first)
}

func TestW19ARunningTaskLearnsThatItsRunFailed_S18_9(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) {
		for n, o := range []sequencer.Orchestrator{sequencer.ParallelBatch(), sequencer.TransactionalBatch()} {
			l.reg = sequencer.NewRegistry()
			started := make(chan struct{})
			var id, named string
			var added error
			l.op(numbered(10*n), func(ctx context.Context) error {
				b := sequencer.CurrentBatch(ctx)
				id, named, added = b.ID, b.Name, b.Add(ctx, op(numbered(10*n+1)))
				close(started)
				for !b.Cancelled() { // nothing else ends it
					select {
					case <-time.After(time.Millisecond):
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				return nil
			})
			l.op(numbered(10*n+1), func(context.Context) error { <-started; return errBoom })
			l.open()
			r, err := l.process(sequencer.RunOptions{Orchestrator: o})
			if !errors.Is(err, sequencer.ErrBatchFailed) {
				t.Fatalf("%s: %v", o.Name(), err)
			}
			if id != r.RunID || named != "" {
				t.Errorf("%s: it saw the batch %q named %q, want run %s", o.Name(), id, named, r.RunID)
			}
			if added == nil || !strings.Contains(added.Error(), "it does what was planned: dispatch the work instead") {
				t.Errorf("%s: adding to it: %v", o.Name(), added)
			}
		}
	})
}

func TestOtherRunsAreNoBatches_S18_9(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(first, func(ctx context.Context) error {
		if b := sequencer.CurrentBatch(ctx); b.ID != "" {
			t.Errorf("in a line it saw the batch %s", b.ID)
		}
		if c := sequencer.CurrentChain(ctx); c.ID != "" {
			t.Errorf("in a line it saw the chain %s", c.ID)
		}
		return nil
	})
	l.open().mustProcess()
	l.expect(first)
}
