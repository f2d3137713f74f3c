//go:build linux

package crashtest_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/crashtest"
)

func TestNoCrashTogetherEachTaskRunsOnceAndTheOthersAreRefused_S26_1_S26_6(t *testing.T) {
	t.Parallel()
	together(t, false)
}

func TestNoCrashTogetherIsolatedRunsWaitForEachOther_S26_1(t *testing.T) {
	t.Parallel()
	together(t, true)
}

// together starts several processes against one empty ledger at the same moment.
func together(t *testing.T, isolate bool) {
	t.Helper()
	onEach(t, func(t *testing.T, fresh func(*testing.T) place) {
		undisturbed := fresh(t)
		mustRun(t, deploy{Place: undisturbed, Program: "everything"})
		want := contents(t, undisturbed)
		for _, n := range []int{2, 4} {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				p := fresh(t)
				var children []*crashtest.Child
				for range n {
					d := deploy{Place: p, Program: "everything", Isolate: isolate}
					children = append(children, crashtest.Start(t, crashtest.Order{Program: "deploy", PauseAt: []string{start}}, d))
				}
				for _, c := range children {
					c.AwaitPause(start)
				}
				for _, c := range children {
					c.Resume()
				}
				ran := 0
				for _, c := range children {
					var o outcome
					end := c.Wait()
					end.Answer(t, &o)
					switch {
					case o.Locked && !isolate:
						wantHolder(t, o, children)
					case o.Error != "":
						t.Errorf("a run ended with %s\n%s", o.Error, end.Log)
					case o.Tasks > 0:
						ran++
					}
				}
				if ran != 1 {
					t.Errorf("%d runs did the work, want 1", ran)
				}
				same(t, "the contents", contents(t, p), want)
				settled(t, p)
			})
		}
	})
}

// wantHolder checks that a refusal names one of these processes.
func wantHolder(t *testing.T, o outcome, children []*crashtest.Child) {
	t.Helper()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range children {
		if strings.Contains(o.Error, host) && strings.Contains(o.Error, fmt.Sprintf("pid %d", c.PID())) {
			return
		}
	}
	t.Errorf("the refusal names no process: %s", o.Error)
}

func TestNoCrashASecondRunIsRefusedOrWaitsWhileTheFirstIsInAHandler_S26_1_S26_4(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, fresh func(*testing.T) place) {
		d := deploy{Place: fresh(t), Program: "everything"}
		// The migration before it has committed, and the handler has no transaction yet.
		const inside = "migration 20240103000000/before"
		holder := crashtest.Start(t, crashtest.Order{Program: "deploy", PauseAt: []string{inside}}, d)
		holder.AwaitPause(inside)

		for _, d.WaitLock = range []time.Duration{0, time.Millisecond} {
			d.Isolate = d.WaitLock > 0
			o, _ := run(t, d)
			if !o.Locked {
				t.Errorf("a second run that waits %s ended with %q, want a refusal", d.WaitLock, o.Error)
			}
			wantHolder(t, o, []*crashtest.Child{holder})
		}
		d.Isolate, d.WaitLock = true, atOnce
		waiting := crashtest.Start(t, crashtest.Order{Program: "deploy"}, d)
		waiting.AwaitNote(string(sequencer.EventLockWaiting))
		holder.Resume()
		for _, c := range []*crashtest.Child{holder, waiting} {
			var o outcome
			c.Wait().Answer(t, &o)
			if o.Error != "" {
				t.Errorf("ended with %s", o.Error)
			}
		}
		settled(t, d.Place)
	})
}
