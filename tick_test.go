package sequencer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/faultstore"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
)

// tick is the input of a scheduled operation: which tick it is for.
type tick struct{ At time.Time }

// every schedules an operation that notes its tick, and when it ran where that is
// more than a second later.
func (l *lab) every(name, spec string, opts ...sequencer.ScheduleOption) {
	op := sequencer.RegisterFuncOf(l.reg, name, func(_ context.Context, in tick) error {
		said := in.At.Format("02 15:04")
		if late := time.Since(in.At); late > time.Second || late < 0 {
			said += fmt.Sprintf(" %+.0fs", late.Seconds())
		}
		l.note(said)
		return nil
	})
	sequencer.Schedule(l.reg, name, spec, sequencer.ForTick(func(at time.Time) sequencer.Operation { return op(tick{at}) }), opts...)
}

// work starts a worker, which the function returned stops.
func (l *lab) work() (stop func()) {
	l.t.Helper()
	ctx, cancel := context.WithCancel(l.t.Context())
	ended := make(chan error, 1)
	poll := time.Hour // what ticks enqueue wakes a worker
	if _, wakes := l.store.(storage.Waker); !wakes {
		poll = time.Second / 2
	}
	go func() { ended <- l.Work(ctx, sequencer.WorkerConfig{Poll: poll}) }()
	return func() {
		l.t.Helper()
		cancel()
		if err := <-ended; err != nil {
			l.t.Errorf("Work: %v", err)
		}
	}
}

// fired compares what was noted since the last call.
func (l *lab) fired(what string, want ...string) {
	l.t.Helper()
	got := l.done()
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		l.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// until sleeps until an instant of the bubble, whose clock begins with the year 2000.
func until(t *testing.T, instant string) {
	t.Helper()
	at, err := time.Parse("2006-01-02 15:04", instant)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(at)) // sleep: inside a bubble
}

func TestTwoWorkersFireEachTickOnceAndAtItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.every("report", "15 * * * *")
		l.open()
		time.Sleep(7*time.Minute + 300*time.Millisecond)
		first := l.work()
		time.Sleep(5 * time.Minute)
		second := l.work()
		time.Sleep(3 * time.Hour)
		first()
		time.Sleep(2 * time.Hour)
		second()
		l.fired("ticks", "01 00:15", "01 01:15", "01 02:15", "01 03:15", "01 04:15")
		l.wantStates(map[string]int{"report completed": 5})
	})
}

func TestManySchedulesFireEachInItsOwnTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.every("a", "*/30 * * * *")
		l.every("b", "@every 40m")
		l.every("c", "20 0 0 * * *")
		l.open()
		stop := l.work()
		time.Sleep(81 * time.Minute)
		stop()
		l.fired("ticks", "01 00:00", "01 00:30", "01 00:40", "01 01:00", "01 01:20")
	})
}

func TestTicksFollowTheClocksOfTheirZone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, from, to, spec, want string }{
		{"set forward", "2000-03-26 00:30", "2000-03-26 02:30", "30 2 * * *", "26 01:30"}, // UTC: 03:30 of summer
		{"set back", "2000-10-29 00:00", "2000-10-29 02:30", "30 2 * * *", "29 00:30"},    // 02:30 of summer, not of winter
		{"set back, a pace", "2000-10-28 23:45", "2000-10-29 02:15", "*/30 * * * *", "29 00:00, 29 00:30, 29 01:00, 29 01:30, 29 02:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				l.every("report", c.spec, sequencer.InZone("Europe/Berlin"))
				l.open()
				until(t, c.from)
				first, second := l.work(), l.work()
				until(t, c.to)
				first()
				second()
				l.fired("ticks", strings.Split(c.want, ", ")...)
			})
		})
	}
}

func TestMissedTicksAreForThePolicyToDecide(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		opt  sequencer.ScheduleOption
		late string // of the worker that comes back
		want []string
	}{
		"the newest, by default":        {nil, "2000-01-01 05:30", []string{"01 01:00", "01 05:00 +1830s", "01 06:00"}},
		"the newest two":                {sequencer.RunMissed(2), "2000-01-01 05:30", []string{"01 01:00", "01 04:00 +5430s", "01 05:00 +1830s", "01 06:00"}},
		"all there were":                {sequencer.RunMissed(1000), "2000-01-01 04:30", []string{"01 01:00", "01 02:00 +9030s", "01 03:00 +5430s", "01 04:00 +1830s", "01 05:00", "01 06:00"}},
		"none":                          {sequencer.SkipMissed(), "2000-01-01 05:30", []string{"01 01:00", "01 06:00"}},
		"none, but half a minute is ok": {sequencer.SkipMissed(), "2000-01-01 05:00", []string{"01 01:00", "01 05:00 +30s", "01 06:00"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				var opts []sequencer.ScheduleOption
				if c.opt != nil {
					opts = append(opts, c.opt)
				}
				l.every("report", "0 * * * *", opts...)
				l.open()
				stop := l.work()
				until(t, "2000-01-01 01:30")
				stop()
				until(t, c.late)
				time.Sleep(30 * time.Second)
				first, second := l.work(), l.work()
				until(t, "2000-01-01 06:30")
				first()
				second()
				l.fired("ticks", c.want...)
			})
		})
	}
}

func TestAPausedScheduleFiresNothingAndItsTicksAreMissedOnes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.every("once", "0 * * * *")
		l.every("skip", "5 * * * *", sequencer.SkipMissed())
		l.open()
		first, second := l.work(), l.work()
		until(t, "2000-01-01 01:30")
		l.fired("before", "01 00:05", "01 01:00", "01 01:05")
		for _, name := range []string{"once", "skip"} {
			if err := l.Pause(t.Context(), storage.PauseSchedule, name, "a holiday"); err != nil {
				t.Fatal(err)
			}
		}
		until(t, "2000-01-01 04:30")
		l.fired("paused")
		for _, name := range []string{"once", "skip"} {
			if err := l.Resume(t.Context(), storage.PauseSchedule, name, "over"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(11 * time.Second)
		got := l.done()
		if len(got) != 1 || !strings.HasPrefix(got[0], "01 04:00 +18") {
			t.Errorf("within eleven seconds of the resume %v fired, want the tick of 04:00 alone", got)
		}
		until(t, "2000-01-01 05:30")
		l.fired("afterwards", "01 05:00", "01 05:05")
		first()
		second()
		entries, err := l.store.Audit(t.Context(), storage.AuditFilter{Target: "schedule once"})
		if err != nil || len(entries) != 2 || entries[1].Reason != "a holiday" {
			t.Errorf("audit %+v, %v; want the pause with its reason, and the resume", entries, err)
		}
	})
}

// shifted is a store whose clock differs from the process's.
type shifted struct {
	storage.Store
	by atomic.Int64 // ahead of the process, nanoseconds
}

func (s *shifted) now() time.Time { return time.Now().Add(time.Duration(s.by.Load())) }

func (s *shifted) Join(ctx context.Context, w storage.Worker) error {
	w.Lease += time.Duration(s.by.Load())
	return s.Store.Join(ctx, w)
}

func (s *shifted) Renew(ctx context.Context, r storage.RenewRequest) (storage.Renewed, error) {
	r.Now = s.now()
	return s.Store.Renew(ctx, r)
}

func (s *shifted) Enqueue(ctx context.Context, r storage.EnqueueRequest) (storage.Enqueued, error) {
	r.Now = s.now()
	return s.Store.Enqueue(ctx, r)
}

func (s *shifted) Announce(ctx context.Context, r storage.AnnounceRequest) error {
	r.Now = s.now()
	return s.Store.Announce(ctx, r)
}

func (s *shifted) Claim(ctx context.Context, r storage.ClaimRequest) (storage.Claimed, error) {
	r.Now = s.now()
	return s.Store.Claim(ctx, r)
}

func (s *shifted) Finish(ctx context.Context, r storage.FinishRequest) (storage.Finished, error) {
	r.Now = s.now()
	return s.Store.Finish(ctx, r)
}

func (s *shifted) Rescue(ctx context.Context, r storage.RescueRequest) ([]storage.Execution, error) {
	r.Now = s.now()
	return s.Store.Rescue(ctx, r)
}

func TestTicksAreDueByTheClockOfTheStore(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]time.Duration{"a worker an hour fast": -time.Hour, "a worker an hour slow": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				s := &shifted{Store: l.store}
				s.by.Store(int64(ahead))
				l.store = s
				l.every("report", "0 * * * *")
				l.open()
				until(t, "2000-01-01 12:30")
				stop := l.work()
				time.Sleep(2 * time.Hour)
				stop()
				noon := time.Date(2000, 1, 1, 13, 0, 0, 0, time.UTC).Add(ahead)
				// Seen from the process each tick comes an hour late, or early.
				l.fired("ticks",
					fmt.Sprintf("%s %+.0fs", noon.Format("02 15:04"), -ahead.Seconds()),
					fmt.Sprintf("%s %+.0fs", noon.Add(time.Hour).Format("02 15:04"), -ahead.Seconds()))
			})
		})
	}
}

func TestAClockThatIsSetBackFiresNoTickTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		s := &shifted{Store: l.store}
		l.store = s
		l.every("report", "*/20 * * * *")
		l.open()
		first, second := l.work(), l.work()
		until(t, "2000-01-01 01:10")
		l.fired("before", "01 00:20", "01 00:40", "01 01:00")
		s.by.Store(int64(-time.Hour)) // 00:10 once more
		until(t, "2000-01-01 02:10")
		l.fired("while the hour comes again")
		until(t, "2000-01-01 02:50")
		first()
		second()
		if got := l.done(); len(got) != 2 || !strings.HasPrefix(got[0], "01 01:20") || !strings.HasPrefix(got[1], "01 01:40") {
			t.Errorf("after it %v fired, want 01:20 and 01:40", got)
		}
		l.wantStates(map[string]int{"report completed": 5})
	})
}

var errKilled = errors.New("killed")

func TestATickIsFiredOnceThoughTheWorkerThatFiredItDies(t *testing.T) {
	t.Parallel()
	for _, side := range []string{"before", "after"} { // the write that it dies in
		t.Run(side, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				shared := memory.New()
				dead, healthy := newLab(t), newLab(t)
				var killed atomic.Bool
				dead.store = faultstore.New(shared, func(point string) error {
					if point == "Enqueue#2/"+side {
						killed.Store(true)
					}
					if killed.Load() { // and it says nothing any more, not even that it leaves
						return errKilled
					}
					return nil
				})
				healthy.store = shared
				for _, l := range []*lab{dead, healthy} {
					l.every("report", "0 * * * *")
					l.open()
				}
				ctx, kill := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- dead.Work(ctx, sequencer.WorkerConfig{Poll: time.Second / 2}) }()
				until(t, "2000-01-01 02:30")
				stop := healthy.work()
				until(t, "2000-01-01 04:30")
				kill()
				if err := <-ended; err != nil && !errors.Is(err, errKilled) {
					t.Error(err)
				}
				stop()
				rows, err := shared.Executions(t.Context(), storage.Filter{Name: "report"})
				if err != nil || len(rows) != 4 {
					t.Errorf("%d executions, %v; want one for each of 4 ticks", len(rows), err)
				}
				var ran []string
				for _, said := range slices.Concat(dead.done(), healthy.done()) {
					ran = append(ran, said[:len("01 15:04")])
				}
				slices.Sort(ran)
				if diff := cmp.Diff([]string{"01 01:00", "01 02:00", "01 03:00", "01 04:00"}, ran); diff != "" {
					t.Errorf("ticks (-want +got):\n%s", diff)
				}
				if !killed.Load() {
					t.Error("nobody was killed")
				}
			})
		})
	}
}

func TestATickDoesNotWaitForTheOneBeforeUnlessItsOperationIsUnique(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		var duplicates atomic.Int32
		l.cfg.Observers = []sequencer.Observer{func(_ context.Context, e sequencer.Event) {
			if e.Kind == sequencer.EventDuplicate {
				duplicates.Add(1)
			}
		}}
		slow := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() } // longer than all of this
		sequencer.Schedule(l.reg, "plain", "0 * * * *", sequencer.RegisterFunc(l.reg, "plain", slow))
		sequencer.Register(l.reg, "alone", func() *alone { return &alone{slow: slow} })
		sequencer.Schedule(l.reg, "alone", "0 * * * *", &alone{})
		l.open()
		first, second := l.work(), l.work()
		until(t, "2000-01-01 03:10")
		l.wantStates(map[string]int{"alone running": 1, "plain running": 3})
		if n := duplicates.Load(); n != 2 {
			t.Errorf("%d duplicates were told, want 2: one per tick, whoever raced for it", n)
		}
		first()
		second()
	})
}

// alone is unique while it is live.
type alone struct{ slow func(context.Context) error }

func (a *alone) Handle(ctx context.Context) error { return a.slow(ctx) }
func (*alone) UniqueID() string                   { return "" }

func TestAWorkerThatStopsWhenEmptyFiresWhatIsDueFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.every("report", "0 * * * *")
		l.open()
		l.drain() // makes the schedule known
		l.fired("at first")
		until(t, "2000-01-01 03:30")
		l.drain()
		l.fired("three ticks later", "01 03:00 +1800s")
	})
}

func TestNothingFiresBehindAClosedGuardOrInAnotherEnvironment(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.every("report", "0 * * * *")
		strange := sequencer.RegisterFunc(l.reg, "strange", func(context.Context) error { return nil }, sequencer.Environments("production"))
		sequencer.Schedule(l.reg, "strange", "0 * * * *", strange)
		var closed atomic.Bool
		closed.Store(true)
		l.cfg.Guards = []sequencer.Guard{gate{&closed}}
		l.open()
		stop := l.work()
		until(t, "2000-01-01 02:30")
		l.fired("behind a closed guard")
		closed.Store(false)
		until(t, "2000-01-01 03:30")
		stop()
		l.fired("behind an open one", "01 03:00")
		l.wantStates(map[string]int{"report completed": 1})
	})
}

// gate is a guard.
type gate struct{ closed *atomic.Bool }

func (gate) Name() string { return "gate" }
func (g gate) Allow(context.Context) (bool, string, error) {
	return !g.closed.Load(), "closed", nil
}

func TestTheNewestBuildThatLivesHasASchedule(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := memory.New()
		build := func(n int64, spec string) *lab {
			l := newLab(t)
			l.store, l.cfg.Build = shared, n
			l.every("report", spec)
			return l.open()
		}
		older, newer := build(4, "0 * * * *"), build(5, "30 * * * *")
		stopOlder := older.work()
		until(t, "2000-01-01 01:10")
		stopNewer := newer.work()
		until(t, "2000-01-01 03:10")
		older.did = append(older.done(), newer.done()...) // either may run what is enqueued
		older.fired("the older one alone, then beside the newer", "01 01:00", "01 01:30", "01 02:30")
		stopNewer() // the deploy is taken back
		until(t, "2000-01-01 05:10")
		older.fired("the older one, alone again", "01 04:00", "01 05:00")
		stopOlder()
		if st, err := older.Schedules(t.Context()); err != nil || st[0].Build != 5 || st[0].Spec != "30 * * * *" {
			t.Errorf("%+v, %v; want the newer build's declaration kept", st, err)
		}
	})
}

func TestOfBuildsThatCannotBeToldApartTheLastToStartHasASchedule(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := memory.New()
		build := func(spec string) *lab {
			l := newLab(t)
			l.store, l.cfg.Build = shared, 1
			l.every("report", spec)
			return l.open()
		}
		one, other := build("0 * * * *"), build("30 * * * *")
		stopOne := one.work()
		until(t, "2000-01-01 01:10")
		stopOther := other.work()
		until(t, "2000-01-01 02:10")
		if got := append(one.done(), other.done()...); len(got) != 2 || got[1] != "01 01:30" {
			t.Errorf("%v fired, want 01:00 by the first and 01:30 by the second", got)
		}
		stopOther()
		until(t, "2000-01-01 04:10")
		one.fired("alone again", "01 03:00", "01 04:00")
		stopOne()
	})
}

// Several sequencers on one ledger, by the clock of a real server: every second has
// its execution, none has two, and none comes early.
func TestSequencersThatRaceForATickOnSQLFireEachOnce(t *testing.T) {
	t.Parallel()
	onSQL(t, func(t *testing.T, l *sqlLab) {
		const racers, enough = 4, 3
		ran := make(chan time.Duration, 1000)
		var all []*lab
		for range racers {
			r := newLab(t)
			r.store = l.store
			op := sequencer.RegisterFuncOf(r.reg, "report", func(_ context.Context, in tick) error {
				r.note(in.At.Format(time.TimeOnly))
				ran <- time.Since(in.At)
				return nil
			})
			work := sequencer.ForTick(func(at time.Time) sequencer.Operation { return op(tick{at}) })
			sequencer.Schedule(r.reg, "report", "@every 1s", work, sequencer.RunMissed(100))
			all = append(all, r.open())
		}
		var stops []func()
		for _, r := range all {
			stops = append(stops, r.work())
		}
		for range enough {
			select {
			case late := <-ran:
				if late < 0 {
					t.Errorf("a tick came %s early", -late)
				}
			case <-time.After(time.Minute):
				t.Fatal("no tick within a minute")
			}
		}
		for _, stop := range stops {
			stop()
		}
		all[0].drain()
		rows, err := l.store.Executions(t.Context(), storage.Filter{Name: "report", Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		var ticks []string
		for _, r := range all {
			ticks = append(ticks, r.done()...)
		}
		slices.Sort(ticks)
		if len(ticks) != len(rows) || len(slices.Compact(slices.Clone(ticks))) != len(ticks) {
			t.Errorf("%d executions ran as %v, want each tick once", len(rows), ticks)
		}
		if at, err := time.Parse(time.TimeOnly, ticks[0]); err == nil && ticks[0] < ticks[len(ticks)-1] { // not over midnight
			if last := at.Add(time.Duration(len(ticks)-1) * time.Second).Format(time.TimeOnly); last != ticks[len(ticks)-1] {
				t.Errorf("ticks %v, want one for each second", ticks)
			}
		}
	})
}
