//go:build linux

package crashtest_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/crashtest"
	"github.com/gosequencer/sequencer/internal/faultstore"
)

// kill runs a program that dies at a point, and fails the test if it does not.
func kill(t *testing.T, d deploy, point string) {
	t.Helper()
	end := crashtest.Run(t, crashtest.Order{Program: "deploy", KillAt: point}, d)
	if !end.Killed {
		t.Fatalf("the child was to die at %s and passed only %q\n%s", point, end.Points, end.Log)
	}
}

// run runs a program to its end and returns how it ended, and the points it passed.
func run(t *testing.T, d deploy) (outcome, []string) {
	t.Helper()
	var o outcome
	end := crashtest.Run(t, crashtest.Order{Program: "deploy"}, d)
	end.Answer(t, &o)
	if t.Failed() || o.Error != "" {
		t.Logf("log of %s:\n%s", d.Program, end.Log)
	}
	return o, end.Points
}

// mustRun is run for a program that has to complete.
func mustRun(t *testing.T, d deploy) {
	t.Helper()
	if o, _ := run(t, d); o.Error != "" {
		t.Fatalf("%s: %s", d.Program, o.Error)
	}
}

// decisive picks the points worth dying at: those of handlers and of verbs that
// change something, and "before" only where no "after" came just before, because
// nothing lasting lies between the two. Each is passed by every run.
func decisive(points []string) []string {
	var distinct []string
	left := slices.DeleteFunc(slices.Clone(points), faultstore.Reads)
	for _, point := range slices.DeleteFunc(left, faultstore.Chance) {
		again := slices.Contains(distinct, point) // by a retry
		if n := len(distinct); n > 0 && strings.HasSuffix(distinct[n-1], "/after") && strings.HasSuffix(point, "/before") || again {
			continue
		}
		distinct = append(distinct, point)
	}
	return sample(distinct)
}

// sample is every fifth of the points with -short, else all.
func sample(points []string) []string {
	if !testing.Short() {
		return points
	}
	var some []string
	for i := 0; i < len(points); i += 5 {
		some = append(some, points[i])
	}
	return some
}

// resolve is what a person does about what a dead process left half done.
func resolve(t *testing.T, d deploy, name string, as sequencer.Resolution) {
	t.Helper()
	look(t, d.Place, func(l *ledger) {
		seq, err := d.sequencer(l, func(string) error { return nil })
		if err == nil {
			err = seq.Resolve(t.Context(), name, as, "the test has looked")
		}
		if err != nil {
			t.Fatalf("resolving %s: %v", name, err)
		}
	})
}

func TestCrashAtEachPointAndARunAtOnceEndsLikeAnUndisturbedOne_S6_6_S7_5(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, fresh func(*testing.T) place) {
		undisturbed := fresh(t)
		_, points := run(t, deploy{Place: undisturbed, Program: "everything"})
		want := contents(t, undisturbed)
		settled(t, undisturbed)
		for _, point := range decisive(points) {
			t.Run(point, func(t *testing.T) {
				t.Parallel()
				d := deploy{Place: fresh(t), Program: "everything"}
				kill(t, d, point)
				died := openRuns(t, d.Place)
				again, _ := run(t, d)
				if slices.Equal(again.Interrupted, []string{index}) {
					// It has no transaction and goose's table does not have it: only a person knows.
					resolve(t, d, index, sequencer.ResolveFailed)
					again, _ = run(t, d)
				}
				if again.Error != "" {
					t.Fatalf("the next run ended with: %s", again.Error)
				}
				same(t, "the contents", contents(t, d.Place), want)
				settled(t, d.Place)
				for _, id := range died {
					wantInterrupted(t, d.Place, id)
				}
			})
		}
	})
}
