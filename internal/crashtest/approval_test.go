//go:build linux

package crashtest_test

import (
	"math/rand/v2"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/crashtest"
)

const dropped = "20240105000000_drop"

// registerApproved has an operation that a person must approve, in the middle.
func registerApproved(p *program) {
	sequencer.RegisterFunc(p.Registry, seed, p.inTx(seed, effect("seed")))
	sequencer.RegisterFunc(p.Registry, dropped, p.inTx(dropped, effect("dropped")), sequencer.ApprovedBy("dba"))
	sequencer.RegisterFunc(p.Registry, last, p.inTx(last, effect("last")))
}

// approve does so in this process.
func approve(t *testing.T, d deploy) {
	t.Helper()
	within(t, d.Place, func(l *ledger) {
		seq, err := d.sequencer(l, func(string) error { return nil })
		if err == nil {
			_, err = seq.Approve(t.Context(), dropped, "the test has looked")
		}
		if err != nil {
			t.Fatalf("approving: %v", err)
		}
	})
}

// unattended is what a run that nobody disturbs leaves, with the points of its two parts.
func unattended(t *testing.T, p place) (want, asking, approved []string) {
	t.Helper()
	d := deploy{Place: p, Program: "approved"}
	o, asking := run(t, d)
	if !o.Asks {
		t.Fatalf("it does not wait for the approval: %+v", o)
	}
	approve(t, d)
	_, approved = run(t, d)
	settled(t, p)
	return contents(t, p), decisive(asking), decisive(approved)
}

func TestCrashBeforeOrAfterAnApprovalLosesNeitherQuestionNorAnswer_S6_6_S34_26(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, fresh func(*testing.T) place) {
		want, asking, approved := unattended(t, fresh(t))
		goesOn := func(t *testing.T, d deploy) {
			t.Helper()
			mustRun(t, d)
			same(t, "the contents", contents(t, d.Place), want)
			settled(t, d.Place)
		}
		for _, point := range asking {
			t.Run("asking "+point, func(t *testing.T) {
				t.Parallel()
				d := deploy{Place: fresh(t), Program: "approved"}
				kill(t, d, point)
				if o, _ := run(t, d); !o.Asks {
					t.Fatalf("the next run does not wait: %+v", o)
				}
				approve(t, d)
				goesOn(t, d)
			})
		}
		for _, point := range approved {
			t.Run("approved "+point, func(t *testing.T) {
				t.Parallel()
				d := deploy{Place: fresh(t), Program: "approved"}
				if o, _ := run(t, d); !o.Asks {
					t.Fatalf("it does not wait: %+v", o)
				}
				approve(t, d)
				kill(t, d, point)
				goesOn(t, d)
			})
		}
	})
}

func TestCrashOfARunThatIsBeingApprovedIsFollowedByOneThatGoesOn_S6_6_S34_26(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	onEach(t, func(t *testing.T, fresh func(*testing.T) place) {
		want, _, _ := unattended(t, fresh(t))
		for round := range 3 {
			span := time.Duration(random.Int64N(int64(20*time.Millisecond))) * time.Duration(round) // the first at once
			t.Run(strconv.Itoa(round), func(t *testing.T) {
				t.Parallel()
				d := deploy{Place: fresh(t), Program: "approved", Patience: time.Minute}
				c := crashtest.Start(t, crashtest.Order{Program: "deploy"}, d)
				c.AwaitNote(string(sequencer.EventApprovalNeeded))
				approve(t, d)
				select {
				case <-time.After(span):
				case <-c.Over():
				}
				c.Signal(syscall.SIGKILL)
				c.Wait()
				d.Patience = 0
				mustRun(t, d)
				same(t, "the contents", contents(t, d.Place), want)
				settled(t, d.Place)
			})
		}
	})
}
