//go:build linux

package crashtest_test

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/crashtest"
)

func TestCrashAtRandomTimesTwiceInARowLosesNothing_S6_6_S7_5(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	onEach(t, func(t *testing.T, fresh func(*testing.T) place) {
		undisturbed := fresh(t)
		began := time.Now()
		mustRun(t, deploy{Place: undisturbed, Program: "everything"})
		span := time.Since(began)
		want := contents(t, undisturbed)
		rounds := 10
		if testing.Short() {
			rounds = 3
		}
		for round := range rounds {
			t.Run(strconv.Itoa(round), func(t *testing.T) {
				t.Parallel()
				random := rand.New(rand.NewPCG(seed, uint64(round)))
				d := deploy{Place: fresh(t), Program: "everything"}
				for range 2 {
					killWithin(t, d, time.Duration(random.Int64N(int64(span))))
				}
				o, _ := run(t, d)
				if slices.Equal(o.Interrupted, []string{index}) {
					resolve(t, d, index, sequencer.ResolveFailed)
					o, _ = run(t, d)
				}
				if o.Error != "" {
					t.Fatalf("seed %d: the third run ended with: %s", seed, o.Error)
				}
				same(t, "the contents", contents(t, d.Place), want)
				settled(t, d.Place)
			})
		}
	})
}

// killWithin kills a run some time after its store is open, unless it is over by then.
func killWithin(t *testing.T, d deploy, delay time.Duration) {
	t.Helper()
	c := crashtest.Start(t, crashtest.Order{Program: "deploy"}, d)
	c.AwaitPoint(start)
	select {
	case <-time.After(delay):
	case <-c.Over():
	}
	c.Signal(syscall.SIGKILL)
	c.Wait()
}
