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
	atRandom(t, func(r round) {
		d := deploy{Place: r.place, Program: "everything"}
		r.killTwice(d, r.span)
		o, _ := run(r.T, d)
		if slices.Equal(o.Interrupted, []string{index}) {
			resolve(r.T, d, index, sequencer.ResolveFailed)
			o, _ = run(r.T, d)
		}
		if o.Error != "" {
			r.Fatalf("the third run ended with: %s", o.Error)
		}
		same(r.T, "the contents", contents(r.T, d.Place), r.want[0])
		settled(r.T, d.Place)
	}, "everything")
}

// round is one try of what comes out differently each time.
type round struct {
	*testing.T
	n      int
	random *rand.Rand
	place  place
	span   time.Duration // how long the first program takes undisturbed
	want   [][]string    // what is there after each program
}

// killTwice kills two runs in a row, each within span.
func (r round) killTwice(d deploy, span time.Duration) {
	r.Helper()
	for range 2 {
		killWithin(r.T, d, time.Duration(r.random.Int64N(int64(span))))
	}
}

// atRandom runs programs undisturbed, one after the other, and then judges some rounds with
// a ledger of their own, all at once. What each does at random follows from the seed, which
// is logged.
func atRandom(t *testing.T, judge func(round), programs ...string) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	onEach(t, func(t *testing.T, fresh func(*testing.T) place) {
		undisturbed := fresh(t)
		began := time.Now()
		var span time.Duration
		var want [][]string
		for i, program := range programs {
			run(t, deploy{Place: undisturbed, Program: program})
			if i == 0 {
				span = time.Since(began)
			}
			want = append(want, contents(t, undisturbed))
		}
		rounds := 10
		if testing.Short() {
			rounds = 3
		}
		for n := range rounds {
			t.Run(strconv.Itoa(n), func(t *testing.T) {
				t.Parallel()
				judge(round{T: t, n: n, random: rand.New(rand.NewPCG(seed, uint64(n))), place: fresh(t), span: span, want: want})
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
