package storagetest

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

var limitRules = []rule{
	{"Q3.12 a window opens with the first time, holds so many, and is over so much later", func(t *testing.T, l *lab) {
		two := storage.Limit{Name: "api", N: 2, Window: time.Minute}
		l.takes(0, []int{1}, two)
		l.tick(20 * time.Second)
		l.takes(0, []int{2}, two)
		l.takes(40*time.Second, []int{2}, two)
		l.tick(40*time.Second - time.Microsecond)
		l.takes(time.Microsecond, []int{2}, two)
		l.tick(time.Microsecond)
		l.takes(0, []int{1}, two)
		l.tick(10 * time.Second)
		l.takes(0, []int{2}, two)
		l.takes(50*time.Second, []int{2}, two)
	}},
	{"Q3.10 Q3.11 each name, key, number and window has a counter of its own", func(t *testing.T, l *lab) {
		one := storage.Limit{Name: "api", By: "", N: 1, Window: time.Minute}
		for _, other := range []storage.Limit{
			one,
			{Name: "api", By: "u", N: 1, Window: time.Minute},
			{Name: "apiu", By: "", N: 1, Window: time.Minute},
			{Name: "API", By: "", N: 1, Window: time.Minute},
			{Name: "api", By: "U", N: 1, Window: time.Minute},
			{Name: "api", By: "u ", N: 1, Window: time.Minute},
			{Name: "api", By: "", N: 2, Window: time.Minute},
			{Name: "api", By: "", N: 1, Window: time.Minute + time.Microsecond},
		} {
			l.takes(0, []int{1}, other)
		}
		l.takes(time.Minute, []int{1}, one)
	}},
	{"Q3.13 several limits are charged together or not at all", func(t *testing.T, l *lab) {
		minute := storage.Limit{Name: "api", By: "ada", N: 3, Window: time.Minute}
		hour := storage.Limit{Name: "api", By: "ada", N: 4, Window: time.Hour}
		for n := range 3 {
			l.takes(0, []int{n + 1, n + 1}, minute, hour)
		}
		l.takes(time.Minute, []int{3, 3}, minute, hour)
		l.takes(time.Minute, []int{3, 3}, hour, minute)
		l.tick(time.Minute)
		l.takes(0, []int{1, 4}, minute, hour)
		l.takes(59*time.Minute, []int{1, 4}, minute, hour) // the longest of those without room
		l.takes(0, []int{2}, minute)
		l.tick(59 * time.Minute)
		l.takes(0, []int{1, 1}, hour, minute)
	}},
	{"Q3.14 of many who take at once exactly as many get in as there is room for", func(t *testing.T, l *lab) {
		limits := []storage.Limit{{Name: "b", N: 5, Window: time.Minute}, {Name: "a", N: 7, Window: time.Minute}}
		var in atomic.Int32
		l.race(func(ctx context.Context, _ storage.ID) error {
			for range 4 {
				taken, err := l.store.Take(ctx, storage.TakeRequest{Now: l.now, Limits: limits})
				if err != nil {
					return err
				}
				if taken.Wait == 0 {
					in.Add(1)
				}
			}
			return nil
		})
		if n := in.Load(); n != 5 {
			t.Errorf("%d of %d got in, want 5", n, 4*racers)
		}
		l.looks(time.Minute, []int{5, 5}, limits...)
	}},
	{"Q3.14 the same by the store's own clock, where those who meet may share a call", func(t *testing.T, l *lab) {
		few, many := storage.Limit{Name: "few", N: 5, Window: time.Hour}, storage.Limit{Name: "many", N: 60, Window: time.Hour}
		var in, inMany atomic.Int32
		l.race(func(ctx context.Context, _ storage.ID) error {
			for n := range 8 {
				limits, counter := []storage.Limit{many, few}, &in
				if n%2 == 0 {
					limits, counter = []storage.Limit{many}, &inMany
				}
				taken, err := l.store.Take(ctx, storage.TakeRequest{Limits: limits})
				if err != nil {
					return err
				}
				if taken.Wait == 0 {
					counter.Add(1)
				} else if taken.Wait > time.Hour {
					t.Errorf("a wait of %s for windows of an hour", taken.Wait)
				}
			}
			return nil
		})
		if in.Load() != 5 || inMany.Load() != 4*racers {
			t.Errorf("%d got into both and %d into the large one alone; want 5 and %d", in.Load(), inMany.Load(), 4*racers)
		}
	}},
	{"Q3.15 a limit of 0 lets nobody in, ever", func(t *testing.T, l *lab) {
		none := storage.Limit{Name: "api", N: 0, Window: time.Second}
		one := storage.Limit{Name: "api", N: 1, Window: time.Second}
		l.takes(-1, []int{0}, none)
		l.tick(time.Hour)
		l.takes(-1, []int{0, 0}, one, none)
		l.looks(-1, []int{0, 0}, none, one)
	}},
	{"Q3.41 looking changes nothing, a reset forgets what was counted", func(t *testing.T, l *lab) {
		two := storage.Limit{Name: "api", By: "ada", N: 2, Window: time.Minute}
		other := storage.Limit{Name: "api", By: "grace", N: 1, Window: time.Minute}
		l.looks(0, []int{0, 0}, two, other)
		l.takes(0, []int{1, 1}, two, other)
		l.looks(0, []int{1}, two)
		l.looks(time.Minute, []int{1, 1}, two, other)
		l.takes(0, []int{2}, two)
		l.same("answer to a reset", l.takeAs(storage.TakeReset, two), storage.Taken{Used: []int{0}})
		l.looks(time.Minute, []int{0, 1}, two, other)
		l.takes(0, []int{1}, two)
		l.tick(time.Hour)
		l.looks(0, []int{0, 0}, two, other)
	}},
	{"Q3.12 a request that cannot be counted is refused and counts nothing", func(t *testing.T, l *lab) {
		good := storage.Limit{Name: "api", N: 1, Window: time.Minute}
		for what, limits := range map[string][]storage.Limit{
			"no limit":          nil,
			"one twice":         {good, good},
			"no name":           {good, {N: 1, Window: time.Minute}},
			"a negative number": {good, {Name: "b", N: -1, Window: time.Minute}},
			"no window":         {good, {Name: "b", N: 1}},
			"half a moment":     {good, {Name: "b", N: 1, Window: time.Nanosecond}},
		} {
			if taken, err := l.store.Take(t.Context(), storage.TakeRequest{Now: l.now, Limits: limits}); err == nil {
				t.Errorf("%s: got %+v, want an error", what, taken)
			}
		}
		l.looks(0, []int{0}, good)
	}},
	{"Q10.24 pruning takes counters whose window is over, and no others", func(t *testing.T, l *lab) {
		short, long := storage.Limit{Name: "s", N: 1, Window: time.Minute}, storage.Limit{Name: "l", N: 1, Window: time.Hour}
		l.takes(0, []int{1, 1}, short, long)
		l.tick(2 * time.Minute)
		n, err := l.store.Prune(t.Context(), storage.PruneRequest{Now: l.now, Completed: time.Hour})
		l.must(err, "Prune")
		if n != 0 {
			t.Errorf("Prune counted %d, want no execution", n)
		}
		l.looks(58*time.Minute, []int{0, 1}, short, long)
	}},

	{"Q3.22 a lock of an execution excludes others of the same worker, and is freed with its outcome", func(t *testing.T, l *lab) {
		l.enqueue(l.row("a"), l.row("b"))
		w := l.join()
		rows := l.claim(w)
		l.must(l.lockFor(w, rows[0], 0), "Lock for a")
		l.must(l.lockFor(w, rows[0], 0), "Lock again for a")
		held := refusal(t, l.lockFor(w, rows[1], 0))
		if held.Execution != rows[0].ID || held.Worker.ID != w || !held.AcquiredAt.Equal(l.now) || !held.FreeAt.IsZero() {
			t.Errorf("refused by %+v, want the lock of %s", held, rows[0].ID)
		}
		refusal(t, l.lockFor(l.join(), rows[0], 0))
		o := outcome(rows[0], storage.Completed)
		o.Unlock = []string{"key", "another that it has not"}
		l.settle(w, o)
		l.must(l.lockFor(w, rows[1], 0), "Lock for b once a is over")
	}},
	{"Q3.26 Q4.8 only its holder frees a lock: worker and execution count", func(t *testing.T, l *lab) {
		l.enqueue(l.row("a"), l.row("b"))
		w, other := l.join(), l.join()
		rows := l.claim(w)
		l.must(l.lockFor(w, rows[0], 0), "Lock for a")
		for _, r := range []storage.UnlockRequest{
			{Name: "key", Worker: w},
			{Name: "key", Worker: w, Execution: rows[1].ID, Delivery: 1},
			{Name: "key", Worker: other, Execution: rows[0].ID, Delivery: 1},
			{Name: "key", Worker: w, Execution: rows[0].ID, Delivery: 2},
		} {
			l.must(l.store.Unlock(t.Context(), r), "Unlock")
		}
		o := outcome(rows[1], storage.Completed)
		o.Unlock = []string{"key"}
		l.settle(w, o)
		refusal(t, l.lockFor(other, rows[1], 0))
		l.must(l.store.Unlock(t.Context(), storage.UnlockRequest{Name: "key", Worker: w, Execution: rows[0].ID, Delivery: 1}), "Unlock")
		l.must(l.lockFor(other, rows[1], 0), "Lock for b")
	}},
	{"Q2.11 a lock of one delivery excludes the next delivery of the same execution", func(t *testing.T, l *lab) {
		l.enqueue(l.row("a"))
		w := l.join()
		first := l.take(w)
		l.must(l.lockFor(w, first, 0), "Lock")
		l.settle(w, failure(first, storage.Pending, "timed out, and its handler goes on"))
		second := l.take(w)
		if held := refusal(t, l.lockFor(w, second, 0)); held.Delivery != first.Delivery {
			t.Errorf("refused by the lock of delivery %d, want %d", held.Delivery, first.Delivery)
		}
		stale := outcome(first, storage.Completed)
		stale.Unlock = []string{"key"}
		l.same("Applied", l.finish(w, stale).Applied, []bool{false})
		l.must(l.lockFor(w, second, 0), "Lock once the first has said that it is over")
	}},
	{"Q3.25 a lock is held for as long as was asked at most, and no longer than its worker lives", func(t *testing.T, l *lab) {
		l.enqueue(l.row("a"), l.row("b"))
		w, other := l.join(), l.join()
		rows := l.claim(w)
		l.must(l.lockFor(w, rows[0], time.Minute), "Lock for a minute")
		l.tick(time.Minute - time.Microsecond)
		if held := refusal(t, l.lockFor(other, rows[1], time.Hour)); !held.FreeAt.Equal(l.now.Add(time.Microsecond)) {
			t.Errorf("free at %v, want %v", held.FreeAt, l.now.Add(time.Microsecond))
		}
		l.tick(time.Microsecond)
		l.must(l.lockFor(other, rows[1], time.Hour), "Lock after a minute")
		o := outcome(rows[0], storage.Completed)
		o.Unlock = []string{"key"}
		l.settle(w, o) // its lock is somebody else's now
		refusal(t, l.lockFor(w, rows[0], 0))
		l.leave(other)
		l.must(l.lockFor(w, rows[0], 0), "Lock once the holder has left")
	}},
}

func (l *lab) takeAs(action storage.TakeAction, limits ...storage.Limit) storage.Taken {
	l.t.Helper()
	taken, err := l.store.Take(l.t.Context(), storage.TakeRequest{Now: l.now, Limits: limits, Action: action})
	l.must(err, "Take")
	return taken
}

// takes expects a wait, and what is counted afterwards.
func (l *lab) takes(wait time.Duration, used []int, limits ...storage.Limit) {
	l.t.Helper()
	l.same("taken", l.takeAs(storage.TakeOne, limits...), storage.Taken{Wait: wait, Used: used})
}

func (l *lab) looks(wait time.Duration, used []int, limits ...storage.Limit) {
	l.t.Helper()
	l.same("looked at", l.takeAs(storage.TakeLook, limits...), storage.Taken{Wait: wait, Used: used})
}

// lockFor takes the lock "key" for an execution.
func (l *lab) lockFor(worker storage.ID, e storage.Execution, most time.Duration) error {
	return l.store.Lock(l.t.Context(), storage.LockRequest{Now: l.now, Name: "key", Worker: worker, Execution: e.ID, Delivery: e.Delivery, For: most})
}
