package window_test

import (
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/internal/window"
)

// The conformance suite proves the rest, on every store; what no store shows is
// which counters have to be written.
func TestOnlyWhatChangesHasToBeWritten(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	limit := storage.Limit{Name: "a", N: 1, Window: time.Minute}
	full := window.Counter{EndsAt: now.Add(time.Second), Used: 1}
	over := window.Counter{EndsAt: now, Used: 1}
	for _, c := range []struct {
		what    string
		action  storage.TakeAction
		before  window.Counter
		changed bool
		wait    time.Duration
		after   window.Counter
	}{
		{"the last one", storage.TakeOne, over, true, 0, window.Counter{EndsAt: now.Add(time.Minute), Used: 1}},
		{"one too many", storage.TakeOne, full, false, time.Second, full},
		{"a look at a full one", storage.TakeLook, full, false, time.Second, full},
		{"a look at one that is over", storage.TakeLook, over, false, 0, window.Counter{}},
		{"a reset", storage.TakeReset, full, true, 0, window.Counter{}},
	} {
		counters := []window.Counter{c.before}
		taken, changed := window.Take(now, storage.TakeRequest{Limits: []storage.Limit{limit}, Action: c.action}, counters)
		if changed != c.changed || taken.Wait != c.wait || counters[0] != c.after || taken.Used[0] != c.after.Used {
			t.Errorf("%s (Q3.12): %+v, changed %v, counter %+v; want wait %s, changed %v, counter %+v",
				c.what, taken, changed, counters[0], c.wait, c.changed, c.after)
		}
	}
}
