package storagetest

import (
	"errors"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

var scheduleRules = []rule{
	{"T1 a schedule begins at the instant it is announced, keeps how far it has fired, and a repeat changes nothing", func(t *testing.T, l *lab) {
		c := storage.Schedule{Name: "nightly", Spec: "0 3 * * *", Zone: "Europe/Rome", Operation: "report", Queue: "low", Missed: "once", Build: 3}
		other := storage.Schedule{Name: "hourly", Spec: "0 * * * *", Operation: "sweep", Queue: "default"}
		l.announce(c, other)
		want := c
		want.AnnouncedAt, want.LastTick = base, base
		also := other
		also.AnnouncedAt, also.LastTick = base, base
		l.same("schedules, by name", l.schedules(), []storage.Schedule{also, want})

		l.tick(time.Hour)
		e := l.row("report")
		l.fire("nightly", l.now, e)
		want.LastTick, want.LastID = l.now, e.ID
		l.tick(time.Minute)
		l.announce(c)
		l.same("after a repeat", l.schedules(), []storage.Schedule{also, want})

		c.Operation, c.Queue, c.Missed, c.Build = "report-2", "high", "skip", 4
		l.announce(c)
		want.Operation, want.Queue, want.Missed, want.Build, want.AnnouncedAt = "report-2", "high", "skip", 4, l.now
		l.same("after a change of what it does", l.schedules(), []storage.Schedule{also, want})
	}},
	{"T1 a new expression or time zone starts anew: no ticks of the past", func(t *testing.T, l *lab) {
		c := storage.Schedule{Name: "nightly", Spec: "a", Operation: "report", Queue: "low"}
		l.announce(c)
		for _, change := range []func(){func() { c.Spec = "b" }, func() { c.Zone = "UTC" }} {
			e := l.row("report")
			l.tick(time.Second)
			l.fire("nightly", l.now, e)
			l.tick(time.Hour)
			change()
			l.announce(c)
			got := l.schedules()[0]
			if !got.LastTick.Equal(l.now) || got.LastID != e.ID || got.Spec != c.Spec || got.Zone != c.Zone {
				t.Errorf("%+v, want its last tick at %v and its last execution %s", got, l.now, e.ID)
			}
		}
	}},
	{"T1 an older build does not replace what a newer one announced; a name is announced once in a call", func(t *testing.T, l *lab) {
		c := storage.Schedule{Name: "nightly", Spec: "new", Operation: "report", Queue: "low", Build: 5}
		l.announce(c)
		before := l.schedules()
		l.tick(time.Hour)
		old := c
		old.Spec, old.Build = "old", 4
		l.announce(old)
		l.same("schedules", l.schedules(), before)
		for _, wrong := range [][]storage.Schedule{{c, c}, {{Spec: "nameless"}}} {
			if err := l.store.Announce(t.Context(), storage.AnnounceRequest{Now: l.now, Schedules: wrong}); err == nil {
				t.Errorf("%+v was accepted", wrong)
			}
		}
		l.same("schedules", l.schedules(), before)
	}},
	{"T2 a tick writes its executions and moves the schedule on, and an unknown schedule is ErrNotFound", func(t *testing.T, l *lab) {
		l.announce(storage.Schedule{Name: "s", Spec: "x", Operation: "a", Queue: "default"})
		l.tick(time.Minute)
		a, b := l.row("a"), l.row("b")
		l.same("receipts", l.fire("s", l.now, a, b), []storage.Receipt{{ID: a.ID}, {ID: b.ID}})
		if got := l.schedules()[0]; !got.LastTick.Equal(l.now) || got.LastID != a.ID {
			t.Errorf("last tick %v with %s, want %v with %s", got.LastTick, got.LastID, l.now, a.ID)
		}
		l.same("claimed", names(l.claim(l.join())), []string{"a", "b"})
		l.unchanged("a tick of nothing", func() {
			_, err := l.store.Enqueue(t.Context(), storage.EnqueueRequest{
				Now: l.now, Executions: []storage.Execution{l.row("c")}, Tick: &storage.Tick{Schedule: "none", At: l.now},
			})
			if !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("got error %v, want ErrNotFound", err)
			}
		})
	}},
	{"T3 a tick that was fired, or an earlier one, writes nothing and names the execution that has it; a repeat gets its own receipts", func(t *testing.T, l *lab) {
		l.announce(storage.Schedule{Name: "s", Spec: "x", Operation: "a", Queue: "default"})
		late := l.row("late")
		l.same("receipts of the instant it was announced", l.fire("s", base, late), []storage.Receipt{{ID: late.ID, Duplicate: true}})
		l.tick(time.Minute)
		first, second, keyed := l.row("a"), l.row("a"), l.row("b")
		keyed.UniqueKey = "k"
		l.fire("s", l.now, first)
		l.unchanged("ticks that are over", func() {
			for _, at := range []time.Time{l.now, l.now.Add(-time.Second)} {
				r := storage.EnqueueRequest{
					Executions: []storage.Execution{second, keyed}, Tick: &storage.Tick{Schedule: "s", At: at},
					RefuseDuplicates: true, Flows: []storage.Flow{{ID: l.id(), Policy: storage.PolicyStop}},
				}
				l.same("receipts", l.send(r).Receipts, []storage.Receipt{
					{ID: second.ID, Duplicate: true, HolderID: first.ID}, {ID: keyed.ID, Duplicate: true, HolderID: first.ID},
				})
			}
			l.same("receipts of the repeat", l.fire("s", l.now, first), []storage.Receipt{{ID: first.ID}})
		})
		if got := l.schedules()[0]; !got.LastTick.Equal(l.now) || got.LastID != first.ID {
			t.Errorf("last tick %v with %s, want %v with %s", got.LastTick, got.LastID, l.now, first.ID)
		}
	}},
	{"T3 of callers that fire one tick at once exactly one writes it", func(t *testing.T, l *lab) {
		l.announce(storage.Schedule{Name: "s", Spec: "x", Operation: "a", Queue: "default"})
		l.tick(time.Minute)
		type answer struct {
			receipts []storage.Receipt
			err      error
		}
		answers := make(chan answer)
		for range 4 {
			r := storage.EnqueueRequest{Now: l.now, Executions: []storage.Execution{l.row("a")}, Tick: &storage.Tick{Schedule: "s", At: l.now}}
			go func() {
				done, err := l.store.Enqueue(t.Context(), r)
				answers <- answer{done.Receipts, err}
			}()
		}
		fired := map[bool]int{}
		for range 4 {
			a := <-answers
			l.must(a.err, "Enqueue")
			fired[!a.receipts[0].Duplicate]++
		}
		if rows := l.list(storage.Filter{}); fired[true] != 1 || len(rows) != 1 || l.schedules()[0].LastID != rows[0].ID {
			t.Errorf("%d fired and %d rows, want one, which the schedule names", fired[true], len(rows))
		}
	}},
	{"T4 a paused schedule fires nothing, and says that it is paused", func(t *testing.T, l *lab) {
		l.announce(storage.Schedule{Name: "s", Spec: "x", Operation: "a", Queue: "default"})
		l.pause(storage.PauseSchedule, "s")
		l.tick(time.Minute)
		a := l.row("a")
		l.unchanged("a tick of a paused schedule", func() {
			l.same("receipts", l.fire("s", l.now, a), []storage.Receipt{{ID: a.ID, Duplicate: true}})
		})
		if got := l.schedules()[0]; !got.Paused || !got.LastTick.Equal(base) {
			t.Errorf("paused %v, last tick %v; want true, %v", got.Paused, got.LastTick, base)
		}
		l.resume(storage.PauseSchedule, "s")
		l.same("receipts after the resume", l.fire("s", l.now, a), []storage.Receipt{{ID: a.ID}})
		if got := l.schedules()[0]; got.Paused || !got.LastTick.Equal(l.now) {
			t.Errorf("paused %v, last tick %v; want false, %v", got.Paused, got.LastTick, l.now)
		}
	}},
	{"T2 a tick without executions is skipped: it only moves the schedule on", func(t *testing.T, l *lab) {
		l.announce(storage.Schedule{Name: "s", Spec: "x", Operation: "a", Queue: "default"})
		l.tick(time.Minute)
		a := l.row("a")
		l.fire("s", l.now, a)
		l.tick(time.Minute)
		if got := l.fire("s", l.now); len(got) != 0 {
			t.Errorf("receipts %+v for nobody", got)
		}
		if got := l.schedules()[0]; !got.LastTick.Equal(l.now) || got.LastID != a.ID {
			t.Errorf("last tick %v with %s, want %v with %s still", got.LastTick, got.LastID, l.now, a.ID)
		}
	}},
	{"T2 Q4.1 a row left out for its unique key is a receipt as always, and its tick counts as fired", func(t *testing.T, l *lab) {
		l.announce(storage.Schedule{Name: "s", Spec: "x", Operation: "a", Queue: "default"})
		holder, again := l.row("a"), l.row("a")
		holder.UniqueKey, again.UniqueKey = "k", "k"
		l.enqueue(holder)
		l.tick(time.Minute)
		l.same("receipts", l.fire("s", l.now, again), []storage.Receipt{{ID: again.ID, Duplicate: true, HolderID: holder.ID}})
		if got := l.schedules()[0]; !got.LastTick.Equal(l.now) || got.LastID != again.ID {
			t.Errorf("last tick %v with %s, want %v with %s", got.LastTick, got.LastID, l.now, again.ID)
		}
		refused := l.row("a")
		refused.UniqueKey = "k"
		l.tick(time.Minute)
		before := l.schedules()
		_, err := l.store.Enqueue(t.Context(), storage.EnqueueRequest{
			Now: l.now, Executions: []storage.Execution{refused}, Tick: &storage.Tick{Schedule: "s", At: l.now}, RefuseDuplicates: true,
		})
		if _, ok := errors.AsType[*storage.DuplicateError](err); !ok {
			t.Errorf("got error %v, want a *DuplicateError", err)
		}
		l.same("schedules after an error", l.schedules(), before)
	}},
}

func (l *lab) announce(list ...storage.Schedule) {
	l.t.Helper()
	l.must(l.store.Announce(l.t.Context(), storage.AnnounceRequest{Now: l.now, Schedules: list}), "Announce")
}

func (l *lab) schedules() []storage.Schedule {
	l.t.Helper()
	list, err := l.store.Schedules(l.t.Context())
	l.must(err, "Schedules")
	return list
}

func (l *lab) fire(schedule string, at time.Time, rows ...storage.Execution) []storage.Receipt {
	l.t.Helper()
	return l.send(storage.EnqueueRequest{Executions: rows, Tick: &storage.Tick{Schedule: schedule, At: at}}).Receipts
}
