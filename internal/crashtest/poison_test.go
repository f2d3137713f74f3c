//go:build linux

package crashtest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/crashtest"
	"github.com/gosequencer/sequencer/storage"
)

// serveThrough starts one worker after the other until one ends by itself, and returns
// the processes that did not.
func serveThrough(t *testing.T, s shift) map[int]bool {
	t.Helper()
	s.Idle = time.Millisecond
	gone := map[int]bool{}
	for range 50 {
		c := crashtest.Start(t, crashtest.Order{Program: "work"}, s)
		end := c.Wait()
		if !end.Answered() {
			gone[c.PID()] = true
			continue
		}
		var e shiftEnd
		if end.Answer(t, &e); e.Error != "" {
			t.Fatalf("a worker ended with %s\n%s", e.Error, end.Log)
		}
		return gone
	}
	t.Fatal("fifty workers died")
	return nil
}

func TestCrashOfAPoisonPillEndsItAfterFiveWorkersAndHarmsNobodyElse_Q2_17(t *testing.T) {
	t.Parallel()
	onBackends(t, every, func(t *testing.T, b backend) {
		for _, pills := range []int{1, 3} {
			t.Run(fmt.Sprint(pills), func(t *testing.T) {
				t.Parallel()
				s := newShift(t, b.at(t))
				s.dispatch(t, func(all jobs) []sequencer.Operation {
					var ops []sequencer.Operation
					for i := range 1000 {
						if i*pills%1000 < pills {
							ops = append(ops, all.kill(job{}))
						}
						ops = append(ops, all.mail(job{Micros: 1000}))
					}
					return ops
				})
				gone := serveThrough(t, s)
				c := count(t, s, gone)
				want := map[string]int{"kill failed": pills, "mail completed": 1000}
				if got := c.states(); fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("%v, want %v", got, want)
				}
				for _, row := range c.rows {
					if row.Name == "kill" && (row.Losses != sequencer.MaxLost || row.Errors != 0 || row.State != storage.Failed) {
						t.Errorf("the pill is %s after %d losses and %d errors", row.State, row.Losses, row.Errors)
					}
				}
				t.Logf("%d workers died, %d attempts were lost", len(gone), c.lost)
			})
		}
	})
}
