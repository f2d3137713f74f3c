package sequencer_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// stateHere is the state of the attempt's execution, as anybody sees it.
func (l *lab) stateHere(ctx context.Context) storage.State {
	id, err := storage.ParseID(sequencer.Current(ctx).ID)
	if err != nil {
		return storage.State(err.Error())
	}
	rows, err := l.store.Executions(ctx, storage.Filter{IDs: []storage.ID{id}})
	if err != nil || len(rows) != 1 {
		return storage.State(fmt.Sprint(len(rows), err))
	}
	return rows[0].State
}

// hooked registers "work" and "broken", and notes what their hooks see.
func (l *lab) hooked() {
	after := func(ctx context.Context) error {
		l.note(fmt.Sprint("after ", l.stateHere(ctx)))
		return nil
	}
	failed := func(ctx context.Context, cause error) error {
		l.note(fmt.Sprintf("failed %s: %v", l.stateHere(ctx), errors.Is(cause, errBoom)))
		return nil
	}
	sequencer.RegisterFunc(l.reg, "work", func(context.Context) error { l.note("work"); return nil }, sequencer.OnAfter(after), sequencer.OnFailed(failed))
	sequencer.RegisterFunc(l.reg, "broken", func(context.Context) error { l.note("broken"); return errBoom }, sequencer.OnAfter(after), sequencer.OnFailed(failed))
	sequencer.RegisterFunc(l.reg, "20240101000000_step", func(context.Context) error { l.note("step"); return nil }, sequencer.OnAfter(after))
	sequencer.RegisterFunc(l.reg, "20240102000000_next", func(context.Context) error { l.note("next"); return errBoom }, sequencer.OnFailed(failed))
}

// nothingLives demands that no hook is left anywhere.
func (l *lab) nothingLives() {
	l.t.Helper()
	rows, err := l.store.Executions(l.t.Context(), storage.Filter{Kinds: []storage.Kind{storage.Hook}})
	if err != nil || len(rows) > 0 {
		l.t.Errorf("%d hooks are left: %v", len(rows), err)
	}
}

func TestHooksFollowTheCommitOnEveryPath_S17_2_Q9_7_Q9_20(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, store storage.Store, _ func() string) {
		l := newLab(t)
		l.store = store
		l.hooked()
		l.open()
		if err := l.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := l.ExecuteSync(t.Context(), sequencer.Named("work", nil)); err != nil {
			t.Error(err)
		}
		l.expect("work", "after completed")
		if err := l.ExecuteSync(t.Context(), sequencer.Named("broken", nil)); !errors.Is(err, errBoom) {
			t.Error(err)
		}
		l.expect("broken", "failed failed: true")
		for _, once := range []sequencer.WorkerConfig{{Once: true}, {MaxJobs: 1}, {StopWhenEmpty: true, Slots: 3}} {
			if _, err := l.Dispatch(t.Context(), sequencer.Named("work", nil)); err != nil {
				t.Fatal(err)
			}
			if err := l.Work(t.Context(), once); err != nil {
				t.Error(err)
			}
			l.expect("work", "after completed")
		}
		if _, err := l.process(sequencer.RunOptions{}); !errors.Is(err, errBoom) {
			t.Error(err)
		}
		l.expect("step", "after completed", "next", "failed failed: true")
		l.nothingLives()
	})
}

func TestTheTerminalEventComesBeforeTheHook_Q9_21(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.cfg.Observers = []sequencer.Observer{func(_ context.Context, e sequencer.Event) {
		if e.Name == "work" {
			l.note(fmt.Sprint(e.Kind, " ", e.Attempt))
		}
	}}
	tries := 0
	sequencer.RegisterFunc(l.reg, "work", func(context.Context) error {
		if tries++; tries < 2 {
			return errBoom
		}
		return nil
	}, sequencer.Tries(2), sequencer.OnBefore(func(context.Context) error { l.note("before"); return nil }),
		sequencer.OnAfter(func(context.Context) error { l.note("after"); return nil }))
	l.open()
	if _, err := l.Dispatch(t.Context(), sequencer.Named("work", nil)); err != nil {
		t.Fatal(err)
	}
	l.drain()
	l.expect("queued 0", "started 1", "before", "retrying 1", "started 2", "before", "completed 2", "after")
}

func TestAHookMayFailInAnyWayAndIsToldByItsExecution_Q9_3_Q9_6_Q9_14(t *testing.T) {
	t.Parallel()
	for name, hook := range map[string]func(context.Context) error{
		"error": func(context.Context) error { return errors.New("the hook broke") },
		"panic": func(context.Context) error { panic("the hook broke") },
		"timeout": func(ctx context.Context) error {
			<-ctx.Done()
			return fmt.Errorf("the hook broke: %w", context.Cause(ctx))
		},
		"skip": func(context.Context) error { return sequencer.Skip("the hook broke") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				sequencer.RegisterFunc(l.reg, "work", func(context.Context) error { return errBoom },
					sequencer.OnFailed(func(ctx context.Context, _ error) error { return hook(ctx) }))
				l.open()
				began := time.Now()
				if err := l.ExecuteSync(t.Context(), sequencer.Named("work", nil)); !errors.Is(err, errBoom) {
					t.Errorf("Q9.6: %v", err)
				}
				if took := time.Since(began); name == "timeout" && took != sequencer.HookLimit {
					t.Errorf("Q9.14: the hook ran for %s, want %s", took, sequencer.HookLimit)
				}
				rows := l.rows(storage.Filter{})
				log, err := l.store.Attempts(t.Context(), rows[0].ID)
				slices.SortFunc(log, func(a, b storage.Attempt) int { return b.Delivery - a.Delivery }) // at one instant, in the bubble
				if err != nil || len(rows) != 1 || len(log) != 2 || log[1].Outcome != "hook" || log[1].Delivery != -1 || !strings.Contains(log[1].Message, "the hook broke") {
					t.Errorf("%d rows, attempts %+v, %v", len(rows), log, err)
				}
				if rows[0].LastError != errBoom.Error() {
					t.Errorf("the error is %q", rows[0].LastError)
				}
			})
		})
	}
}

func TestAHookHasWhatItsExecutionHad(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, store storage.Store, _ func() string) {
		l := newLab(t)
		l.store = store
		sequencer.RegisterFunc(l.reg, "work", func(ctx context.Context) error {
			return errors.Join(sequencer.Checkpoint(ctx, "cursor"), sequencer.SetResult(ctx, "kept"))
		}, sequencer.Tagged("red"), sequencer.OnAfter(func(ctx context.Context) error {
			a := sequencer.Current(ctx)
			var cursor string
			_, err := sequencer.Resume(ctx, &cursor)
			result, rerr := sequencer.ResultOf[string](ctx, "")
			l.note(fmt.Sprintf("%s %d %v %s %s %v %v", a.Name, a.Number, a.Tags, cursor, result, errors.Join(err, rerr), a.HandlerStillRunning()))
			if s, ok := store.(storage.TxStore); ok && len(s.TxKinds()) > 0 {
				if _, err := sequencer.Tx[*sql.Tx](ctx); err != nil {
					l.note("Tx: " + err.Error())
				}
			}
			_, err = sequencer.From(ctx).Dispatch(ctx, sequencer.Named("more", nil)) // Q4.6: a successor
			return err
		}))
		sequencer.RegisterFunc(l.reg, "more", func(context.Context) error { l.note("more"); return nil })
		l.open()
		if err := l.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Dispatch(t.Context(), sequencer.Named("work", nil)); err != nil {
			t.Fatal(err)
		}
		l.drain()
		l.expect("work 1 [red] cursor kept <nil> false", "more")
		l.nothingLives()
	})
}

// A worker dies with the hook in hand; another calls it with what the ledger knows.
func TestAHookOfADeadWorkerIsCalledByAnother_Q9_5_Q9_20(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, store storage.Store, _ func() string) {
		l := newLab(t)
		l.store = store
		var mu sync.Mutex // guards causes
		var causes []error
		sequencer.RegisterFunc(l.reg, "work", func(context.Context) error { return nil }, sequencer.Tries(1),
			sequencer.OnFailed(func(_ context.Context, cause error) error {
				mu.Lock()
				defer mu.Unlock()
				causes = append(causes, cause)
				return nil
			}))
		l.open()
		if err := l.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := l.Dispatch(t.Context(), sequencer.Named("work", nil)); err != nil {
				t.Fatal(err)
			}
		}
		w := l.join(storage.Worker{Lease: time.Minute})
		got, err := store.Claim(t.Context(), storage.ClaimRequest{Worker: w, Queues: []string{"default"}, Limit: 3})
		if err != nil || len(got.Executions) != 3 {
			t.Fatal(len(got.Executions), err)
		}
		for i, e := range got.Executions[:2] {
			h := e.Hook(storage.MethodFailed)
			h.WorkerID, h.Policy = w, []byte(`{"attempt":1}`)
			if i == 1 {
				h.Policy = []byte(`{"attempt":1,"lost":2}`) // as many workers have died of it
			}
			done, err := store.Finish(t.Context(), storage.FinishRequest{Worker: w, Outcomes: []storage.Outcome{{
				ID: e.ID, Delivery: e.Delivery, Of: &e, State: storage.Failed, Errors: 1, Hook: &h,
				Failure: &storage.Failure{Outcome: "timeout", Type: "T", Message: "too slow"},
			}}})
			if err != nil || !done.Applied[0] {
				t.Fatal(done, err)
			}
		}
		if err := store.Leave(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		l.drain()
		if len(causes) != 2 {
			t.Fatalf("failed was called with %v, want twice", causes)
		}
		slices.SortFunc(causes, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
		var recorded *sequencer.RecordedError
		if !errors.As(causes[0], &recorded) || !errors.Is(causes[0], sequencer.ErrTimeout) || causes[0].Error() != "too slow" {
			t.Errorf("the cause from the ledger is %T: %v", causes[0], causes[0])
		}
		var lost *sequencer.LostError
		if !errors.As(causes[1], &lost) || !errors.Is(causes[1], sequencer.ErrLost) {
			t.Errorf("S17.5: the cause of a lost worker is %T: %v", causes[1], causes[1])
		}
		l.nothingLives()
		log, err := store.Attempts(t.Context(), got.Executions[1].ID)
		if err != nil || len(log) != 2 || log[1].Outcome != "hook" || !strings.Contains(log[1].Message, "given up") {
			t.Errorf("a hook that was lost three times: attempts %+v, %v", log, err)
		}
	})
}

// The hook was homed in the queue of a process that is gone.
func TestAHookOfADeadCallIsCalledByTheNextProcessOrAWorker_Q9_20(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]func(*lab) error{
		"a worker": func(l *lab) error { return l.Work(l.t.Context(), sequencer.WorkerConfig{StopWhenEmpty: true}) },
		"a run":    func(l *lab) error { _, err := l.process(sequencer.RunOptions{}); return err },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			sequencer.RegisterFunc(l.reg, "work", func(context.Context) error { return nil },
				sequencer.OnAfter(func(ctx context.Context) error { l.note(fmt.Sprint("after ", l.stateHere(ctx))); return nil }))
			sequencer.RegisterFunc(l.reg, "20240101000000_step", func(context.Context) error { return nil })
			l.open()
			w := l.join(storage.Worker{Lease: time.Minute})
			if _, err := l.Dispatch(t.Context(), sequencer.Named("work", nil)); err != nil {
				t.Fatal(err)
			}
			got, err := l.store.Claim(t.Context(), storage.ClaimRequest{Worker: w, Queues: []string{"default"}, Limit: 1})
			if err != nil || len(got.Executions) != 1 {
				t.Fatal(len(got.Executions), err)
			}
			e := got.Executions[0]
			h := e.Hook(storage.MethodAfter)
			h.Queue, h.WorkerID, h.Policy = storage.PrivateQueue+"gone", w, []byte(`{"attempt":1}`)
			if _, err := l.store.Finish(t.Context(), storage.FinishRequest{Worker: w, Outcomes: []storage.Outcome{
				{ID: e.ID, Delivery: 1, Of: &e, State: storage.Completed, Hook: &h},
			}}); err != nil {
				t.Fatal(err)
			}
			if err := l.store.Leave(t.Context(), w); err != nil {
				t.Fatal(err)
			}
			if err := next(l); err != nil {
				t.Error(err)
			}
			l.expect("after completed")
			l.nothingLives()
		})
	}
}

func TestHooksTakeSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		var now, most atomic.Int32
		busy := func(context.Context) error {
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(time.Second)
			now.Add(-1)
			return nil
		}
		sequencer.RegisterFunc(l.reg, "work", busy, sequencer.OnAfter(busy))
		l.open()
		for range 40 {
			if _, err := l.Dispatch(t.Context(), sequencer.Named("work", nil)); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Work(t.Context(), sequencer.WorkerConfig{Slots: 3, StopWhenEmpty: true}); err != nil {
			t.Fatal(err)
		}
		if n := most.Load(); n != 3 {
			t.Errorf("%d handlers and hooks at a time in 3 slots", n)
		}
		l.wantStates(map[string]int{"work completed": 40})
		l.nothingLives()
	})
}

func TestAFailedHookKnowsThatItsHandlerStillRuns_Q9_19(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		release := make(chan struct{})
		sequencer.RegisterFunc(l.reg, "stuck", func(context.Context) error { <-release; return nil }, sequencer.Timeout(time.Second),
			sequencer.OnFailed(func(ctx context.Context, _ error) error {
				l.note(fmt.Sprint(sequencer.Current(ctx).HandlerStillRunning()))
				close(release)
				synctest.Wait()
				l.note(fmt.Sprint(sequencer.Current(ctx).HandlerStillRunning()))
				return nil
			}))
		l.open()
		if err := l.ExecuteSync(t.Context(), sequencer.Named("stuck", nil)); !errors.Is(err, sequencer.ErrTimeout) {
			t.Error(err)
		}
		l.expect("true", "false")
	})
}
