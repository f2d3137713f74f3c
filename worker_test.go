package sequencer_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/guard"
	"github.com/gosequencer/sequencer/storage"
)

// count is a piece of work with an input.
type count struct {
	N int `json:"n"`
}

// enqueue dispatches n of an operation.
func (l *lab) enqueue(op func(int) sequencer.Operation, n int, opts ...sequencer.DispatchOption) {
	l.t.Helper()
	ops := make([]sequencer.Operation, n)
	for i := range ops {
		ops[i] = sequencer.With(op(i), opts...)
	}
	if _, err := l.DispatchAll(l.t.Context(), ops...); err != nil {
		l.t.Fatal(err)
	}
}

// drain works until nothing runnable is left.
func (l *lab) drain(queues ...string) {
	l.t.Helper()
	if err := l.Work(l.t.Context(), sequencer.WorkerConfig{Queues: queues, StopWhenEmpty: true}); err != nil {
		l.t.Fatalf("Work: %v", err)
	}
}

// states counts executions by name and state.
func (l *lab) states() map[string]int {
	l.t.Helper()
	rows, err := l.store.Executions(l.t.Context(), storage.Filter{Limit: 10_000})
	if err != nil {
		l.t.Fatal(err)
	}
	got := map[string]int{}
	for _, row := range rows {
		got[row.Name+" "+string(row.State)]++
	}
	return got
}

func (l *lab) wantStates(want map[string]int) {
	l.t.Helper()
	if got := l.states(); fmt.Sprint(got) != fmt.Sprint(want) {
		l.t.Errorf("got %v, want %v", got, want)
	}
}

func TestAWorkerServesItsQueuesInOrderAndStopsWhenTheyAreEmpty(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		op := sequencer.RegisterFuncOf(l.reg, "mail", func(ctx context.Context, in count) error {
			l.note(fmt.Sprint(in.N))
			return nil
		})
		l.open()
		at := func(n int) func(int) sequencer.Operation {
			return func(i int) sequencer.Operation { return op(count{n + i}) }
		}
		l.enqueue(at(30), 2, sequencer.OnQueue("low"))
		l.enqueue(at(10), 2, sequencer.OnQueue("high"))
		l.enqueue(at(20), 2, sequencer.OnQueue("default"))
		l.enqueue(at(40), 1, sequencer.OnQueue("low"), sequencer.Delay(time.Hour)) // does not count (Q10.11)
		if err := l.Work(t.Context(), sequencer.WorkerConfig{Queues: []string{"high", " default", "low"}, Slots: 1, StopWhenEmpty: true}); err != nil {
			t.Fatal(err)
		}
		if got, want := l.done(), []string{"10", "11", "20", "21", "30", "31"}; !slices.Equal(got, want) {
			t.Errorf("Q10.8: ran %v, want %v", got, want)
		}
		l.wantStates(map[string]int{"mail completed": 6, "mail pending": 1})
	})
}

// held is a store that others hold when it is first asked for work.
type held struct {
	storage.Store
	asked atomic.Int32
}

func (h *held) Finish(ctx context.Context, r storage.FinishRequest) (storage.Finished, error) {
	if h.asked.Add(1) == 1 {
		return storage.Finished{Applied: make([]bool, len(r.Outcomes)), Claimed: storage.Claimed{NextDue: 50 * time.Millisecond}}, nil
	}
	return h.Store.Finish(ctx, r)
}

func TestAQueueThatCouldNotBeLookedAtIsNotEmpty(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]sequencer.WorkerConfig{"stop when empty": {StopWhenEmpty: true}, "once": {Once: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { // Q10.11
				l := newLab(t)
				op := sequencer.RegisterFuncOf(l.reg, "mail", func(context.Context, count) error { return nil })
				l.store = &held{Store: l.store}
				l.open()
				l.enqueue(func(i int) sequencer.Operation { return op(count{i}) }, 1)
				if err := l.Work(t.Context(), cfg); err != nil {
					t.Fatal(err)
				}
				l.wantStates(map[string]int{"mail completed": 1})
			})
		})
	}
}

func TestAWorkerTakesNoMoreThanItIsToldTo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg  sequencer.WorkerConfig
		want int
	}{
		"Q10.9 once":       {sequencer.WorkerConfig{Once: true}, 1},
		"Q10.12 max jobs":  {sequencer.WorkerConfig{MaxJobs: 7, Slots: 3}, 7},
		"Q10.12 more jobs": {sequencer.WorkerConfig{MaxJobs: 70, Slots: 3, StopWhenEmpty: true}, 20},
		"Q10.12 max time":  {sequencer.WorkerConfig{MaxTime: 5 * time.Second, Slots: 2}, 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				op := sequencer.RegisterFuncOf(l.reg, "mail", func(ctx context.Context, _ count) error {
					time.Sleep(time.Second) // sleep: inside a bubble
					return nil
				})
				l.open()
				l.enqueue(func(i int) sequencer.Operation { return op(count{i}) }, 20)
				if err := l.Work(t.Context(), c.cfg); err != nil {
					t.Fatal(err)
				}
				if got := l.states()["mail completed"]; got != c.want {
					t.Errorf("%d completed, want %d", got, c.want)
				}
			})
		})
	}
}

func TestAWorkerWaitsForWorkThatIsDueLaterAndRetriesWithBackoff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // Q13.1
		l := newLab(t)
		began := time.Now()
		op := sequencer.RegisterFuncOf(l.reg, "flaky", func(context.Context, count) error {
			l.note(time.Since(began).Round(100 * time.Millisecond).String())
			return errors.New("boom")
		}, sequencer.Tries(5), sequencer.Backoff(time.Second, 5*time.Second, 10*time.Second, 30*time.Second, time.Minute))
		l.open()
		l.enqueue(func(i int) sequencer.Operation { return op(count{i}) }, 1, sequencer.Delay(10*time.Second))
		if err := l.Work(t.Context(), sequencer.WorkerConfig{StopWhenEmptyFor: 2 * time.Minute}); err != nil {
			t.Fatal(err)
		}
		if got, want := l.done(), []string{"10s", "11s", "16s", "26s", "56s"}; !slices.Equal(got, want) {
			t.Errorf("Q13.1: attempts at %v, want %v", got, want)
		}
		l.wantStates(map[string]int{"flaky failed": 1})
	})
}

func TestAWorkerLeavesAloneWhatItCannotRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // Q1.37
		l := newLab(t)
		op := sequencer.RegisterFuncOf(l.reg, "known", func(context.Context, count) error { l.note("known"); return nil })
		strange := sequencer.RegisterFuncOf(l.reg, "strange", func(context.Context, count) error { return nil })
		l.open()
		l.enqueue(func(i int) sequencer.Operation { return strange(count{i}) }, 50)
		l.enqueue(func(i int) sequencer.Operation { return op(count{i}) }, 3)

		old := newLab(t)
		old.store = l.store
		sequencer.RegisterFuncOf(old.reg, "known", func(context.Context, count) error { old.note("known"); return nil })
		old.open()
		old.drain()
		if got := len(old.done()); got != 3 {
			t.Errorf("a worker with strange work in front ran %d of 3", got)
		}
		rows, err := l.store.Executions(t.Context(), storage.Filter{Name: "strange", Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			if row.State != storage.Pending || row.Attempts() != 0 {
				t.Errorf("strange work is %s after %d attempts, want pending after none", row.State, row.Attempts())
			}
		}
		l.drain()
		l.wantStates(map[string]int{"known completed": 3, "strange completed": 50})
	})
}

// newer asks for a build.
type newer struct{ N int }

func (newer) Handle(context.Context) error { return nil }
func (newer) MinBuild() int64              { return 200 }

func TestWorkForANewerBuildWaitsForIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		sequencer.Register(l.reg, "newer", sequencer.Make[newer])
		l.cfg.Build = 100
		l.open()
		l.enqueue(func(i int) sequencer.Operation { return &newer{N: i} }, 3)
		l.drain()
		l.drain() // and a second time: it is not passed to and fro
		rows, err := l.store.Executions(t.Context(), storage.Filter{Name: "newer"})
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			if row.State != storage.Pending || row.Attempts() != 0 || row.Delivery != 1 {
				t.Errorf("%s after %d attempts and %d deliveries, want pending after 0 and 1", row.State, row.Attempts(), row.Delivery)
			}
		}
		l.cfg.Build = 200
		l.open().drain()
		l.wantStates(map[string]int{"newer completed": 3})
	})
}

func TestAWorkerThatIsAskedToStopLetsRunningWorkEndAndGivesTheRestBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // Q10.15
		l := newLab(t)
		ctx, stop := context.WithCancel(t.Context())
		quick := sequencer.RegisterFuncOf(l.reg, "quick", func(context.Context, count) error {
			stop()
			time.Sleep(10 * time.Second) // sleep: inside a bubble; within the grace period
			return nil
		})
		slow := sequencer.RegisterFuncOf(l.reg, "slow", func(ctx context.Context, _ count) error {
			<-ctx.Done()
			return context.Cause(ctx)
		})
		l.open()
		l.enqueue(func(i int) sequencer.Operation { return slow(count{i}) }, 1)
		l.enqueue(func(i int) sequencer.Operation { return quick(count{i}) }, 1)
		l.enqueue(func(i int) sequencer.Operation { return slow(count{i}) }, 5)
		began := time.Now()
		if err := l.Work(ctx, sequencer.WorkerConfig{Slots: 2}); err != nil {
			t.Fatalf("Work: %v", err)
		}
		if took := time.Since(began); took != sequencer.DefaultShutdownGrace {
			t.Errorf("stopping took %s, want the grace period", took)
		}
		l.wantStates(map[string]int{"quick completed": 1, "slow pending": 6})
		rows, _ := l.store.Executions(t.Context(), storage.Filter{Name: "slow"})
		for _, row := range rows {
			if row.Attempts() != 0 {
				t.Errorf("a shutdown spent %d attempts", row.Attempts())
			}
		}
	})
}

func TestBadHandlersNeverStopAWorker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // Q2.9 to Q2.13
		l := newLab(t)
		release := make(chan struct{})
		panics := sequencer.RegisterFuncOf(l.reg, "panics", func(context.Context, count) error { panic("boom") })
		exits := sequencer.RegisterFuncOf(l.reg, "exits", func(context.Context, count) error { runtime.Goexit(); return nil })
		ignores := sequencer.RegisterFuncOf(l.reg, "ignores", func(context.Context, count) error { <-release; return nil },
			sequencer.Timeout(2*time.Second))
		fine := sequencer.RegisterFuncOf(l.reg, "fine", func(context.Context, count) error { return nil })
		l.open()
		for _, op := range []func(count) sequencer.Operation{panics, exits, ignores, fine} {
			l.enqueue(func(i int) sequencer.Operation { return op(count{i}) }, 2)
		}
		if err := l.Work(t.Context(), sequencer.WorkerConfig{Slots: 8, StopWhenEmpty: true}); err != nil {
			t.Fatal(err)
		}
		l.wantStates(map[string]int{"panics failed": 2, "exits failed": 2, "ignores failed": 2, "fine completed": 2})
		close(release)
	})
}

func TestAbandonedHandlersKeepTheirSlotsAndEndTheWorkerWhenTheyAreMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // Q2.11, Q2.12
		l := newLab(t)
		release := make(chan struct{})
		var mu sync.Mutex
		running, most := 0, 0
		ignores := sequencer.RegisterFuncOf(l.reg, "ignores", func(context.Context, count) error {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			<-release
			mu.Lock()
			running--
			mu.Unlock()
			return nil
		}, sequencer.Timeout(2*time.Second))
		l.open()
		l.enqueue(func(i int) sequencer.Operation { return ignores(count{i}) }, 20)
		err := l.Work(t.Context(), sequencer.WorkerConfig{Slots: 4, MaxAbandoned: 3})
		if !errors.Is(err, sequencer.ErrAbandoned) {
			t.Errorf("Work: %v, want ErrAbandoned", err)
		}
		mu.Lock()
		defer mu.Unlock()
		if most > 4 {
			t.Errorf("%d handlers ran in 4 slots", most)
		}
		if got := l.states()["ignores failed"]; got != 4 {
			t.Errorf("%d failed, want the 4 that had a slot", got)
		}
		close(release)
	})
}

func TestAPoisonPillIsQuarantinedAfterFiveLostWorkers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // Q2.17, decisions: losses apart from errors
		l := newLab(t)
		op := sequencer.RegisterFuncOf(l.reg, "poison", func(context.Context, count) error { return nil })
		once := sequencer.RegisterFuncOf(l.reg, "once", func(context.Context, count) error { return nil }, sequencer.Tries(1))
		l.open()
		l.enqueue(func(i int) sequencer.Operation { return op(count{i}) }, 1)
		l.enqueue(func(i int) sequencer.Operation { return once(count{i}) }, 1)
		store := l.store
		for i := range sequencer.MaxLost {
			dead := storage.Worker{ID: storage.NewID(), Lease: time.Second}
			if err := store.Join(t.Context(), dead); err != nil {
				t.Fatal(err)
			}
			claimed, err := store.Claim(t.Context(), storage.ClaimRequest{Worker: dead.ID, Queues: []string{"default"}, Limit: 10})
			if err != nil || len(claimed.Executions) == 0 {
				t.Fatalf("loss %d: claimed %d, %v", i+1, len(claimed.Executions), err)
			}
			time.Sleep(2 * time.Second) // sleep: inside a bubble; the lease runs out
			// A worker of another queue takes over what the dead one held.
			if err := l.Work(t.Context(), sequencer.WorkerConfig{Queues: []string{"other"}, StopWhenEmptyFor: time.Second}); err != nil {
				t.Fatal(err)
			}
		}
		l.wantStates(map[string]int{"once failed": 1, "poison failed": 1})
		rows, _ := store.Executions(t.Context(), storage.Filter{Name: "poison"})
		if rows[0].Errors != 0 || rows[0].Losses != sequencer.MaxLost {
			t.Errorf("errors %d, losses %d; want 0 and %d", rows[0].Errors, rows[0].Losses, sequencer.MaxLost)
		}
	})
}

func TestABadWorkerConfigNamesEachField(t *testing.T) {
	t.Parallel()
	l := newLab(t).open()
	err := l.Work(t.Context(), sequencer.WorkerConfig{Queues: []string{"two words", "a", "a", ""}, Slots: -1, MaxTime: -time.Second})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"two words", `"a" is named twice`, "queue is empty", "Slots = -1", "MaxTime = -1s"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not say %s", err, want)
		}
	}
}

func TestHistoryIsPrunedByRetention(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // Q10.24
		l := newLab(t)
		op := sequencer.RegisterFuncOf(l.reg, "mail", func(_ context.Context, in count) error {
			if in.N == 0 {
				return errors.New("boom")
			}
			return nil
		})
		l.op("20240101000000_seed", nil)
		l.cfg.Retention = sequencer.Retention{Completed: 2 * time.Hour, Failed: 5 * time.Hour}
		l.cfg.Poll = time.Minute
		l.open()
		if _, err := l.process(sequencer.RunOptions{}); err != nil {
			t.Fatal(err)
		}
		l.enqueue(func(i int) sequencer.Operation { return op(count{i}) }, 5)
		l.drain()
		ctx, stop := context.WithCancel(t.Context())
		worked := make(chan error)
		go func() { worked <- l.Work(ctx, sequencer.WorkerConfig{Poll: time.Minute}) }()
		time.Sleep(4 * time.Hour) // sleep: inside a bubble
		l.wantStates(map[string]int{"20240101000000_seed completed": 1, "mail failed": 1})
		time.Sleep(3 * time.Hour) // sleep: inside a bubble
		l.wantStates(map[string]int{"20240101000000_seed completed": 1})
		stop()
		if err := <-worked; err != nil {
			t.Error(err)
		}
	})
}

func TestAWorkerAsksItsGuardsAndTakesOverFromTheDeadBeforeItClaimsOrEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // Q2.16, Q10.11
		l := newLab(t)
		op := sequencer.RegisterFuncOf(l.reg, "mail", func(context.Context, count) error { l.note("mail"); return nil })
		l.open()
		l.enqueue(func(i int) sequencer.Operation { return op(count{i}) }, 3)
		dead := storage.Worker{ID: storage.NewID(), Lease: time.Second}
		if err := l.store.Join(t.Context(), dead); err != nil {
			t.Fatal(err)
		}
		if _, err := l.store.Claim(t.Context(), storage.ClaimRequest{Worker: dead.ID, Queues: []string{"default"}, Limit: 3}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second) // sleep: inside a bubble; the lease runs out
		l.drain()
		l.wantStates(map[string]int{"mail completed": 3})

		no, err := guard.Func("never", func(context.Context) (bool, string, error) { return false, "not here", nil })
		if err != nil {
			t.Fatal(err)
		}
		l.cfg.Guards = []sequencer.Guard{no}
		l.open()
		l.enqueue(func(i int) sequencer.Operation { return op(count{i}) }, 3)
		if err := l.Work(t.Context(), sequencer.WorkerConfig{MaxTime: time.Minute}); err != nil {
			t.Fatal(err)
		}
		l.wantStates(map[string]int{"mail completed": 3, "mail pending": 3})
	})
}

func TestInputThatDoesNotDecodeAnyMoreFailsAndSaysSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // Q1.36
		l := newLab(t)
		op := sequencer.RegisterFuncOf(l.reg, "mail", func(context.Context, count) error { return nil }, sequencer.Tries(5))
		l.open()
		l.enqueue(func(i int) sequencer.Operation { return op(count{i}) }, 3)
		var rows []storage.Execution
		for _, input := range []string{"", "\x00", `{"n":1}`, "\x01\x00{", "\x01\x00" + `{"n":"text"}`, "\xff\xfe"} {
			rows = append(rows, storage.Execution{
				ID: storage.NewID(), Name: "mail", Kind: storage.Unlisted, Queue: "default", Priority: storage.PriorityDefault,
				OnLoss: storage.LossRetry, Input: []byte(input),
			})
		}
		if _, err := l.store.Enqueue(t.Context(), storage.EnqueueRequest{Executions: rows}); err != nil {
			t.Fatal(err)
		}
		l.drain()
		failed, err := l.store.Executions(t.Context(), storage.Filter{States: []storage.State{storage.Failed}})
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range failed {
			if row.Attempts() != 1 || !strings.Contains(row.LastError, sequencer.ErrDecode.Error()) {
				t.Errorf("input %q: %d attempts, %q; want one, and the reason", row.Input, row.Attempts(), row.LastError)
			}
		}
		l.wantStates(map[string]int{"mail completed": 3, "mail failed": 6})
	})
}

// unlucky is a store that loses one answer of a rescue, or refuses to record what it found.
type unlucky struct {
	storage.Store
	rescue, finish atomic.Bool // the next one
}

var errUnlucky = errors.New("connection reset")

func (u *unlucky) Rescue(ctx context.Context, r storage.RescueRequest) ([]storage.Execution, error) {
	rows, err := u.Store.Rescue(ctx, r)
	if len(rows) > 0 && u.rescue.CompareAndSwap(true, false) {
		return nil, errUnlucky
	}
	return rows, err
}

func (u *unlucky) Finish(ctx context.Context, r storage.FinishRequest) (storage.Finished, error) {
	for _, o := range r.Outcomes {
		if o.Losses > 0 && u.finish.CompareAndSwap(true, false) {
			return storage.Finished{}, errUnlucky
		}
	}
	return u.Store.Finish(ctx, r)
}

func TestARescueThatWasCutOffIsMadeAgainWhileTheWorkerLives(t *testing.T) {
	t.Parallel()
	for name, unluck := range map[string]func(*unlucky){
		"Q2.16 after taking over":    func(u *unlucky) { u.rescue.Store(true) },
		"Q2.16 before recording":     func(u *unlucky) { u.finish.Store(true) },
		"Q2.16 control: no ill luck": func(*unlucky) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				op := sequencer.RegisterFuncOf(l.reg, "mail", func(ctx context.Context, _ count) error {
					l.note(fmt.Sprint(sequencer.Current(ctx).Number))
					return nil
				})
				l.open()
				l.enqueue(func(i int) sequencer.Operation { return op(count{i}) }, 1)
				dead := storage.Worker{ID: storage.NewID(), Lease: time.Second}
				if err := l.store.Join(t.Context(), dead); err != nil {
					t.Fatal(err)
				}
				if _, err := l.store.Claim(t.Context(), storage.ClaimRequest{Worker: dead.ID, Queues: []string{"default"}, Limit: 1}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Second) // sleep: inside a bubble; the lease runs out
				store := &unlucky{Store: l.store}
				unluck(store)
				l.store = store
				l.open()
				if err := l.Work(t.Context(), sequencer.WorkerConfig{MaxTime: time.Minute}); err != nil {
					t.Fatal(err)
				}
				if got := l.done(); !slices.Equal(got, []string{"2"}) {
					t.Errorf("attempts %v were made, want the second", got)
				}
				rows, err := l.store.Executions(t.Context(), storage.Filter{})
				if err != nil || len(rows) != 1 || rows[0].State != storage.Completed || rows[0].Attempts() != 2 {
					t.Errorf("%+v, %v; want it completed by its second attempt", rows, err)
				}
			})
		})
	}
}
