//go:build linux

package crashtest_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/crashtest"
)

// Both sides have a short lease: the second one's is what it waits for, once.
const shortLease = 2 * time.Second

func TestCrashOnlyInAppearanceAStoppedHolderIsReplacedAndFencedOff_S6_6_S26_3(t *testing.T) {
	t.Parallel()
	// Nothing is on its way into the ledger beside these: what is, keeps its rows locked.
	for inside, program := range map[string]string{
		flaky + "/after":                  "everything", // its change waits in a transaction
		setLimit + "/after":               "fixed",      // its change is durable, and may be made again
		"Enqueue#1/before":                "everything", // its run is not in the ledger yet
		"migration 20240107000000/before": "everything", // next comes a transaction with the ledger
	} {
		t.Run(inside, func(t *testing.T) {
			t.Parallel()
			undisturbed := onPostgres(t)
			mustRun(t, deploy{Place: undisturbed, Program: program})
			want := contents(t, undisturbed)
			d := deploy{Place: onPostgres(t), Program: program, Lease: shortLease}
			stopped := crashtest.Start(t, crashtest.Order{Program: "deploy", PauseAt: []string{inside}}, d)
			stopped.AwaitPause(inside)
			stopped.Stop()

			d.Isolate, d.WaitLock = true, atOnce
			mustRun(t, d)
			same(t, "the contents", contents(t, d.Place), want)

			stopped.Continue()
			stopped.Resume()
			var o outcome
			end := stopped.Wait()
			end.Answer(t, &o)
			if o.Error == "" {
				t.Errorf("the run that was stopped ended well (%d tasks), want an error: another one had taken over", o.Tasks)
			}
			t.Logf("the stopped run: %s", o.Error)
			same(t, "the contents after the stopped process went on", contents(t, d.Place), want)
			settled(t, d.Place)
		})
	}
}

// The transaction that waits for its commit holds the row of its own task, and has
// claimed the next one where nobody else can see it yet. Whoever takes over cannot
// rescue what it cannot see: it has to look again.
func TestCrashOnlyInAppearanceAStoppedHolderWithACommitOnItsWayMayFinishIt_S7_5(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ program, inside, waiting string }{
		{"everything", "Commit#2/before", "StopFlow#1/before"}, // in the line: stopping the run waits for the rows
		{"failing", "Commit#4/before", "Look#1/after"},         // in the rollback: claiming its members passes the rows over
	} {
		t.Run(c.program, func(t *testing.T) {
			t.Parallel()
			fixed := deploy{Program: c.program, Lease: shortLease, Isolate: true, WaitLock: atOnce}
			if c.program == "failing" {
				fixed.Program = "fixed"
			}
			undisturbed := onPostgres(t)
			run(t, deploy{Place: undisturbed, Program: c.program})
			run(t, deploy{Place: undisturbed, Program: fixed.Program})
			want := contents(t, undisturbed)

			p := onPostgres(t)
			fixed.Place = p
			stopped := crashtest.Start(t, crashtest.Order{Program: "deploy", PauseAt: []string{c.inside}}, deploy{Place: p, Program: c.program, Lease: shortLease})
			stopped.AwaitPause(c.inside)
			stopped.Stop()
			second := crashtest.Start(t, crashtest.Order{Program: "deploy"}, fixed)
			second.AwaitPoint(c.waiting)
			stopped.Continue()
			stopped.Resume()
			stopped.Wait()
			var o outcome
			second.Wait().Answer(t, &o)
			if o.Error != "" {
				t.Errorf("the second run ended with %s", o.Error)
			}
			same(t, "the contents", contents(t, p), want)
			settled(t, p)
		})
	}
}

func TestCrashOnlyInAppearanceOnSQLiteAStoppedHolderIsWaitedForUntilItIsKilled_S26_4(t *testing.T) {
	t.Parallel()
	fresh := func() place { return place{"sqlite", t.TempDir() + "/sequencer.db"} }
	undisturbed := fresh()
	mustRun(t, deploy{Place: undisturbed, Program: "everything"})

	const inside = "migration 20240107000000/before" // no transaction is open
	d := deploy{Place: fresh(), Program: "everything", Lease: shortLease}
	stopped := crashtest.Start(t, crashtest.Order{Program: "deploy", PauseAt: []string{inside}}, d)
	stopped.AwaitPause(inside)
	stopped.Stop()

	// Its lease has long been over when this gives up.
	d.Isolate, d.WaitLock = true, 2*shortLease
	o, _ := run(t, d)
	if !o.Locked {
		t.Errorf("the second run ended with %q, want a refusal: the holder may go on at any time", o.Error)
	}
	wantHolder(t, o, []*crashtest.Child{stopped})

	d.WaitLock = atOnce
	waiting := crashtest.Start(t, crashtest.Order{Program: "deploy"}, d)
	waiting.AwaitNote(string(sequencer.EventLockWaiting))
	stopped.Signal(syscall.SIGKILL)
	waiting.Wait().Answer(t, &o)
	if o.Error != "" {
		t.Errorf("the run that waited ended with %s", o.Error)
	}
	same(t, "the contents", contents(t, d.Place), contents(t, undisturbed))
	settled(t, d.Place)
}
