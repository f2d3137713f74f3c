//go:build linux

package crashtest_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/gosequencer/sequencer/storage"
)

func TestCrashWhileRollingBackAndTheNextRunFinishesItOnce_S10_6_S10_7(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, fresh func(*testing.T) place) {
		undisturbed := fresh(t)
		end, points := run(t, deploy{Place: undisturbed, Program: "failing"})
		if end.State != storage.Failed || !strings.Contains(end.Error, broken) {
			t.Fatalf("the broken deploy ended %s: %s", end.State, end.Error)
		}
		failed := contents(t, undisturbed)
		wantDone(t, undisturbed, 0)
		mustRun(t, deploy{Place: undisturbed, Program: "fixed"})
		fixed := contents(t, undisturbed)
		wantDone(t, undisturbed, 1)

		// From where the failure is recorded, which is where the rollback begins.
		from := slices.Index(points, broken)
		for i, point := range decisive(points[from+1:]) {
			t.Run(point, func(t *testing.T) {
				t.Parallel()
				p := fresh(t)
				kill(t, deploy{Place: p, Program: "failing"}, point)
				if !undoing(t, p) {
					if i > 0 {
						t.Error("no rollback is in the ledger although the failure is recorded")
					}
					return // only the failure itself was lost: then the run was interrupted, see the points of a run
				}
				// It finishes the rollback, does everything again, and fails for its own part.
				if again, _ := run(t, deploy{Place: p, Program: "failing"}); !strings.Contains(again.Error, broken) {
					t.Errorf("the next run ended with %q, want the failure of %s", again.Error, broken)
				}
				settled(t, p)
				wantDone(t, p, 0)
				same(t, "states and settings", standing(contents(t, p)), standing(failed))
				mustRun(t, deploy{Place: p, Program: "fixed"})
				settled(t, p)
				wantDone(t, p, 1)
				same(t, "states and settings after the fix", standing(contents(t, p)), standing(fixed))
			})
		}
	})
}

// undoing reports whether a rollback had begun, and had perhaps ended, at the death.
func undoing(t *testing.T, p place) bool {
	t.Helper()
	found := false
	look(t, p, func(l *ledger) {
		found = slices.ContainsFunc(flows(t, l), func(f storage.Flow) bool { return f.Phase == storage.PhaseUndo })
	})
	return found
}

// standing is contents without the effects, of which a run more leaves more.
func standing(lines []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return strings.HasPrefix(line, "effect ") })
}

// wantDone checks that each operation with a rollback was done so many times more
// than it was undone, and that the note, which has none, was written once.
func wantDone(t *testing.T, p place, want int) {
	t.Helper()
	look(t, p, func(l *ledger) {
		for name, want := range map[string]int{"user": want, "grant": want, "note": 1} {
			var done, undone int
			err := l.db.QueryRowContext(t.Context(), "SELECT count(CASE WHEN name LIKE 'do "+name+"%' THEN 1 END),"+
				" count(CASE WHEN name LIKE 'undo "+name+"%' THEN 1 END) FROM effects").Scan(&done, &undone)
			if err != nil {
				t.Fatal(err)
			}
			if done-undone != want {
				t.Errorf("%s was done %d times and undone %d times, want a difference of %d", name, done, undone, want)
			}
		}
	})
}
