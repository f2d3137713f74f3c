package sequencer_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// detached begins a run whose operations are left to workers.
func (l *lab) detached() *sequencer.Report {
	l.t.Helper()
	r, err := l.process(sequencer.RunOptions{Detach: true})
	if err != nil || r.State != storage.Running {
		l.t.Fatalf("got %+v, %v; want a run that goes on", r, err)
	}
	return r
}

func (l *lab) serve() {
	l.t.Helper()
	if err := l.Work(l.t.Context(), sequencer.WorkerConfig{Queues: []string{"default", "high"}, StopWhenEmpty: true}); err != nil {
		l.t.Fatal(err)
	}
}

func TestADetachedRunIsLeftToWorkers(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) { // decisions 17, 3.17
		for _, o := range []sequencer.Orchestrator{sequencer.Sequential(), sequencer.DependencyGraph(), sequencer.TransactionalBatch()} {
			l.cfg.Orchestrator, l.reg = o, sequencer.NewRegistry()
			base := map[string]int{"sequential": 0, "dependency_graph": 20, "transactional_batch": 40}[o.Name()]
			l.migrations(table(base))
			for n := range 8 {
				opts := []sequencer.RegisterOption{sequencer.OnQueue("high")}
				if n >= 4 {
					opts = append(opts, sequencer.DependsOn(sequencer.Op(numbered(base+n-3))))
				}
				l.op(numbered(base+1+n), nil, opts...)
			}
			l.open()
			r := l.detached()
			l.expect("up " + table(base).Name)
			if n := r.Count(storage.Ordered, storage.Pending); n != 8 {
				t.Errorf("%d operations are left, want 8", n)
			}
			_, err := l.process(sequencer.RunOptions{})
			if !errors.Is(err, sequencer.ErrLocked) || !strings.Contains(err.Error(), r.RunID) {
				t.Errorf("meanwhile: %v; want a refusal that names the run", err)
			}
			var mu sync.Mutex
			var ended []sequencer.Event
			ctx := sequencer.WithObserver(t.Context(), func(_ context.Context, e sequencer.Event) {
				if mu.Lock(); e.Kind == sequencer.EventRunEnded {
					ended = append(ended, e)
				}
				mu.Unlock()
			})
			if err := l.Work(ctx, sequencer.WorkerConfig{Queues: []string{"high"}, StopWhenEmpty: true}); err != nil {
				t.Fatal(err)
			}
			if did := l.done(); len(did) != 8 {
				t.Errorf("workers did %q", did)
			}
			if len(ended) != 1 || ended[0].RunID != r.RunID || ended[0].State != storage.Completed || ended[0].Method != o.Name() {
				t.Errorf("S19.4: events of its end: %+v", ended)
			}
			if r := l.mustProcess(); r.RunID != "" {
				t.Errorf("then: %+v", r)
			}
		}
	})
}

func TestADetachedRunWaitsForWorkersBeforeEachMigration(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) {
		l.migrations(table(1), table(3))
		l.op(numbered(0), nil)
		l.op(numbered(2), nil)
		l.op(numbered(4), nil)
		l.cfg.Poll = 10 * time.Millisecond
		l.open()
		ctx, stop := context.WithCancel(t.Context())
		worked := make(chan error, 1)
		go func() { worked <- l.Work(ctx, sequencer.WorkerConfig{}) }()
		r, err := l.process(sequencer.RunOptions{Detach: true})
		if err != nil || r.Count(storage.Migration, storage.Completed) != 2 {
			t.Fatalf("got %+v, %v", r, err)
		}
		if _, err := l.process(sequencer.RunOptions{Isolate: true}); err != nil { // it waits for the run to be over
			t.Error(err)
		}
		stop()
		if err := <-worked; err != nil {
			t.Error(err)
		}
		l.expect(numbered(0), "up "+table(1).Name, numbered(2), "up "+table(3).Name, numbered(4))
	})
}

func TestADetachedRunThatFailsIsUndoneByWorkers(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) { // S10.1, S10.14
		l.op(first, nil)
		l.op(second, func(context.Context) error { return errBoom })
		l.op(third, nil)
		l.open()
		l.detached()
		l.serve()
		l.expect(first, second, "undo "+first)
		if got := l.state(third); got != storage.Cancelled {
			t.Errorf("%s is %s", third, got)
		}
	})
}

func TestADetachedRunThatLostItsProcessBeforeItsMigrationsIsAnOrphan(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) {
		l.migrations(table(1))
		l.op(numbered(0), nil)
		l.op(numbered(2), nil)
		l.cfg.Poll = 10 * time.Millisecond
		l.open()
		ctx, stop := context.WithCancel(t.Context())
		ctx = sequencer.WithObserver(ctx, func(_ context.Context, e sequencer.Event) {
			if e.Kind == sequencer.EventRunStarted {
				stop() // Ctrl-C while it waits for a worker
			}
		})
		r, err := l.Process(ctx, sequencer.RunOptions{Detach: true})
		if !errors.Is(err, sequencer.ErrShutdown) || r.State != storage.Interrupted {
			t.Fatalf("got %+v, %v", r, err)
		}
		l.serve() // nothing of it is left to do
		l.expect()
		l.mustProcess()
		if did := l.done(); !slices.Equal(did, []string{numbered(0), "up " + table(1).Name, numbered(2)}) {
			t.Errorf("did %q", did)
		}
	})
}
