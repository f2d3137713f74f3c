package sequencer_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
)

// mail is an operation with input.
type mail struct{ To string }

func (*mail) Handle(context.Context) error { return nil }

func TestWhatIsWrongWithASchedule(t *testing.T) {
	t.Parallel()
	declare := func(op sequencer.Operation, opts ...sequencer.ScheduleOption) func(*sequencer.Registry) {
		return func(reg *sequencer.Registry) { sequencer.Schedule(reg, "nightly", "0 3 * * *", op, opts...) }
	}
	spec := func(spec string, opts ...sequencer.ScheduleOption) func(*sequencer.Registry) {
		return func(reg *sequencer.Registry) { sequencer.Schedule(reg, "nightly", spec, &mail{}, opts...) }
	}
	for name, c := range map[string]struct {
		add  func(*sequencer.Registry)
		want string
	}{
		"a field out of range":           {spec("0 25 * * *"), "column 3, hour"},
		"no expression":                  {spec(""), "the expression is empty"},
		"never due":                      {spec("0 0 31 2 *"), "never due"},
		"an unknown zone":                {spec("0 3 * * *", sequencer.InZone("Europe/Berlim")), `time zone "Europe/Berlim" is unknown`},
		"an empty zone":                  {spec("0 3 * * *", sequencer.InZone(" ")), "the time zone is empty"},
		"an interval in a zone":          {spec("@every 90s", sequencer.InZone("Europe/Berlin")), "an interval has no time zone"},
		"a bound that is none":           {spec("0 3 * * *", sequencer.RunMissed(0)), "RunMissed(0): want 1 to 1000"},
		"a bound without end":            {spec("0 3 * * *", sequencer.RunMissed(1001)), "RunMissed(1001)"},
		"a nil option":                   {spec("0 3 * * *", nil), "a nil option"},
		"a nil operation":                {declare(nil), "a nil operation"},
		"an operation nobody registered": {declare(sequencer.Named("mial", nil)), `operation "mial" is not registered`},
		"an ordered operation":           {declare(sequencer.Named("20240101000000_seed", nil)), "20240101000000_seed is an ordered operation"},
		"a type nobody registered":       {declare(&alone{}), "is not registered"},
		"an input that does not fit":     {declare(sequencer.Named("mail", map[string]int{"To": 1})), "input field To"},
		"a time of its own":              {declare(&mail{}, sequencer.At(time.Now())), "leave Delay and At out"},
		"a delay inside With":            {declare(sequencer.With(&mail{}, sequencer.Delay(time.Hour))), "leave Delay and At out"},
		"a queue with a blank":           {declare(&mail{}, sequencer.OnQueue("two words")), `queue "two words" contains ' '`},
		"a priority there is not":        {declare(&mail{}, sequencer.Priority(9)), "priority 9 does not exist"},
		"a connection there is not":      {declare(&mail{}, sequencer.OnConnection("fast")), `connection "fast" is not configured`},
		"a nil function":                 {declare(sequencer.ForTick(nil)), "ForTick(nil)"},
		"a function that returns nil":    {declare(sequencer.ForTick(func(time.Time) sequencer.Operation { return nil })), "returns nil"},
		"a function that panics":         {declare(sequencer.ForTick(func(time.Time) sequencer.Operation { panic("boo") })), "panics: boo"},
		"a name with a blank":            {func(reg *sequencer.Registry) { sequencer.Schedule(reg, "every night", "0 3 * * *", &mail{}) }, `schedule name "every night" contains ' '`},
		"no name":                        {func(reg *sequencer.Registry) { sequencer.Schedule(reg, "", "0 3 * * *", &mail{}) }, "the schedule name is empty"},
		"two of one name": {func(reg *sequencer.Registry) {
			sequencer.Schedule(reg, "nightly", "0 3 * * *", &mail{})
			sequencer.Schedule(reg, "nightly", "0 4 * * *", &mail{})
		}, "the name is taken by the schedule at schedule_test.go:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			sequencer.Register(l.reg, "mail", sequencer.Make[mail])
			l.op("20240101000000_seed", nil)
			c.add(l.reg)
			_, err := sequencer.New(l.store, l.reg, l.cfg)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), " at schedule_test.go:") {
				t.Errorf("New: %v; want the place and something with %q", err, c.want)
			}
		})
	}
}

func TestProblemsOfSchedulesComeBackTogetherWithAllOthers(t *testing.T) {
	t.Parallel()
	reg := sequencer.NewRegistry()
	sequencer.Register[*mail](reg, "mail", nil)
	sequencer.Schedule(reg, "of-a-broken-one", "0 3 * * *", sequencer.Named("mail", nil))
	sequencer.Schedule(reg, "bad-spec", "0 3 * *", sequencer.Named("mail", nil))
	sequencer.Schedule(reg, "bad-name", "0 3 * * *", sequencer.Named("lost", nil))
	_, err := sequencer.New(memory.New(), reg, sequencer.Config{Tries: -1})
	for _, want := range []string{"config Tries", "the factory is nil", "there are 4 fields", `operation "lost"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New: %v; want something with %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "of-a-broken-one") {
		t.Errorf("New: %v; a schedule is blamed for its operation", err)
	}
}

func TestForTickIsForSchedulesAlone(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	sequencer.Register(l.reg, "mail", sequencer.Make[mail])
	l.open()
	_, err := l.Dispatch(t.Context(), sequencer.ForTick(func(time.Time) sequencer.Operation { return &mail{} }))
	if err == nil || !strings.Contains(err.Error(), "belongs to a Schedule") {
		t.Errorf("Dispatch: %v", err)
	}
}

func TestATickDispatchesAsItsScheduleSays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.cfg.Connections = map[string]storage.Store{"fast": memory.New()}
		sequencer.Register(l.reg, "mail", sequencer.Make[mail])
		sequencer.Schedule(l.reg, "hourly", "0 * * * *", sequencer.With(&mail{To: "ops"}, sequencer.OnQueue("low")),
			sequencer.Priority(4), sequencer.Tagged("report"), sequencer.Tries(3))
		sequencer.Schedule(l.reg, "elsewhere", "0 * * * *", &mail{}, sequencer.OnConnection("fast"))
		l.open()
		stop := l.work() // of another queue, and of this connection
		time.Sleep(90 * time.Minute)
		stop()
		rows, err := l.store.Executions(t.Context(), storage.Filter{})
		if err != nil || len(rows) != 1 {
			t.Fatalf("%d executions, %v; want one", len(rows), err)
		}
		row := rows[0]
		if row.Queue != "low" || row.Priority != 4 || !slices.Equal(row.Tags, []string{"report"}) || row.Method != "schedule" ||
			row.State != storage.Pending || !strings.Contains(string(row.Input), "ops") || !strings.Contains(string(row.Policy), "3") {
			t.Errorf("the tick enqueued %+v with input %q and policy %q", row, row.Input, row.Policy)
		}
		states, err := l.Schedules(t.Context())
		if err != nil || len(states) != 1 || states[0].LastID != row.ID || states[0].LastState != storage.Pending {
			t.Errorf("schedules %+v, %v; want the one of this connection with its last execution", states, err)
		}
	})
}

func TestSchedulesAreShownAsLedgerAndBuildKnowThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := memory.New()
		open := func(build int64, declare func(l *lab)) *lab {
			l := newLab(t)
			l.store, l.cfg.Build = shared, build
			sequencer.Register(l.reg, "mail", sequencer.Make[mail])
			l.op("local", nil, sequencer.Environments("production"))
			declare(l)
			return l.open()
		}
		first := open(1, func(l *lab) {
			for _, name := range []string{"same", "changed", "gone", "held"} {
				sequencer.Schedule(l.reg, name, "0 3 * * *", &mail{}, sequencer.InZone("Asia/Tokyo"))
			}
			sequencer.Schedule(l.reg, "local", "0 3 * * *", sequencer.Named("local", nil))
		})
		first.drain()
		if err := first.Pause(t.Context(), storage.PauseSchedule, "held", ""); err != nil {
			t.Fatal(err)
		}
		second := open(2, func(l *lab) {
			for name, spec := range map[string]string{"same": "0 3 * * *", "changed": "0 4 * * *", "held": "0 3 * * *", "fresh": "0 3 * * *"} {
				sequencer.Schedule(l.reg, name, spec, &mail{}, sequencer.InZone("Asia/Tokyo"))
			}
		})
		want := func(l *lab, all ...string) {
			t.Helper()
			states, err := l.Schedules(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, st := range states {
				next := "-"
				if !st.Next.IsZero() {
					next = st.Next.Format("15:04")
				}
				got = append(got, st.Name+" "+string(st.Standing)+" "+next)
			}
			if !slices.Equal(got, all) {
				t.Errorf("got  %q\nwant %q", got, all)
			}
		}
		want(second, "changed changed 19:00", "fresh new 18:00", "gone orphaned -", "held paused -", "same active 18:00")
		second.drain()
		want(second, "changed active 19:00", "fresh active 18:00", "gone orphaned -", "held paused -", "same active 18:00")
		want(first, "changed active 19:00", "fresh newer -", "gone active 18:00", "held paused -", "local elsewhere -", "same active 18:00")
	})
}

func TestRunningAScheduleByHandLeavesItsTicksAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.every("report", "0 * * * *")
		l.open()
		stop := l.work()
		until(t, "2000-01-01 00:20")
		receipt, err := l.RunSchedule(t.Context(), "report", "the numbers were late")
		if err != nil || receipt.ID == "" || receipt.Duplicate {
			t.Errorf("RunSchedule: %+v, %v", receipt, err)
		}
		log, err := l.Store().Audit(t.Context(), storage.AuditFilter{Target: "schedule report"})
		if err != nil || len(log) != 1 || log[0].Action != storage.AuditRunSchedule || log[0].Actor != l.Config().Actor || log[0].Reason != "the numbers were late" || log[0].Count != 1 {
			t.Errorf("the audit log has %+v, %v", log, err)
		}
		if err := l.Pause(t.Context(), storage.PauseSchedule, "report", ""); err != nil {
			t.Fatal(err)
		}
		if _, err := l.RunSchedule(t.Context(), "report", ""); err != nil {
			t.Errorf("RunSchedule while it is paused: %v", err)
		}
		if err := l.Resume(t.Context(), storage.PauseSchedule, "report", ""); err != nil {
			t.Fatal(err)
		}
		until(t, "2000-01-01 01:20")
		stop()
		l.fired("ticks", "01 00:20", "01 00:20", "01 01:00")
	})
}

func TestTheNextTicksOfAScheduleAreToldInItsZone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.every("report", "30 2 * * *", sequencer.InZone("Europe/Berlin"))
		l.open()
		until(t, "2000-03-25 12:00")
		ticks, err := l.NextTicks(t.Context(), "report", 2)
		if err != nil || len(ticks) != 2 || ticks[0].Format("02 15:04 MST") != "26 03:30 CEST" || ticks[1].Format("02 15:04 MST") != "27 02:30 CEST" {
			t.Errorf("%v, %v", ticks, err)
		}
	})
}

func TestAScheduleThatIsNotThereIsSaidToBeSo(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.every("nightly_report", "0 3 * * *")
	l.open()
	for name, call := range map[string]func(name string) error{
		"RunSchedule": func(n string) error { _, err := l.RunSchedule(t.Context(), n, ""); return err },
		"NextTicks":   func(n string) error { _, err := l.NextTicks(t.Context(), n, 1); return err },
	} {
		if err := call("report"); !errors.Is(err, storage.ErrNotFound) || !strings.Contains(err.Error(), "nightly_report") {
			t.Errorf("%s: %v; want ErrNotFound and what looks like it", name, err)
		}
	}
}
