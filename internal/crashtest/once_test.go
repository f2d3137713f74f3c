//go:build linux

package crashtest_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

func TestCrashInWhatCannotBeRepeatedWaitsForAPerson_S6_6_S11_8(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, fresh func(*testing.T) place) {
		for _, c := range []struct {
			point string
			as    sequencer.Resolution
		}{
			{once + "/before", sequencer.ResolveFailed},
			{once + "/after", sequencer.ResolveCompleted},
		} {
			t.Run(c.point, func(t *testing.T) {
				t.Parallel()
				d := deploy{Place: fresh(t), Program: "once"}
				kill(t, d, c.point)
				died := openRuns(t, d.Place)
				for range 2 { // it stays refused, however often it is asked
					o, _ := run(t, d)
					if !slices.Equal(o.Interrupted, []string{once}) || !strings.Contains(o.Error, once) {
						t.Fatalf("the next run ended with %q and names %q, want a refusal that names %s", o.Error, o.Interrupted, once)
					}
				}
				wantState(t, d.Place, once, storage.Interrupted)
				for _, id := range died {
					wantInterrupted(t, d.Place, id)
				}
				resolve(t, d, once, c.as)
				mustRun(t, d)
				settled(t, d.Place)
				wantState(t, d.Place, once, storage.Completed)
				wantState(t, d.Place, last, storage.Completed)
				look(t, d.Place, func(l *ledger) {
					got := list(t, l.db, "SELECT name FROM effects ORDER BY name")
					if want := []string{"last after 1", "once after 0"}; !slices.Equal(got, want) {
						t.Errorf("effects %q, want %q", got, want)
					}
				})
			})
		}
	})
}

func wantState(t *testing.T, p place, name string, want storage.State) {
	t.Helper()
	look(t, p, func(l *ledger) {
		rows, err := l.Executions(t.Context(), storage.Filter{Name: name, Kinds: []storage.Kind{storage.Ordered}, Limit: 1})
		if err != nil || len(rows) == 0 || rows[0].State != want {
			t.Errorf("%s: %+v, %v; want it to be %s", name, rows, err, want)
		}
	})
}
