//go:build linux

package crashtest_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/crashtest"
)

// through is a shift whose workers reach the server by a proxy; the test does not.
func through(t *testing.T, s shift, host string) (shift, *crashtest.Proxy) {
	t.Helper()
	proxy := crashtest.NewProxy(t, host)
	if !strings.Contains(s.Place.Address, host) {
		t.Fatalf("the address does not name %s", host)
	}
	s.Place.Address = strings.Replace(s.Place.Address, host, proxy.Host, 1)
	return s, proxy
}

// Workers are killed too, so that what is cut off is a rescue as well.
func TestCrashOfConnectionsThatDropStallAndBreakOffLosesNothing_Q0_6_Q2_16(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	onBackends(t, withServer, func(t *testing.T, b backend) {
		random := rand.New(rand.NewPCG(seed, 3))
		s, _, host := privately(t, b)
		s.dispatch(t, mixture(random, many(), 20_000), sequencer.Tries(50))
		bad, proxy := through(t, s, host)
		f := fleet{shift: bad, from: s.Place, random: random, mayFail: true}
		did, faults := map[string]int{}, 0
		began, last := time.Now(), many()
		f.serve(t, func(left int) {
			proxy.Resume()
			if last-left < 5 { // work comes between, on a slow machine too
				return
			}
			last = left
			if random.IntN(3) > 0 {
				return
			}
			switch faults++; faults % 3 { // in turn, so that a fast server meets each kind too
			case 0:
				did["drop"] += proxy.Drop()
			case 1:
				did["cut"] += proxy.Cut(random.IntN(4000))
			case 2:
				did["stall"] += proxy.Stall()
			}
		})
		took := time.Since(began)
		c := count(t, s, f.gone, "error")
		t.Logf("%s: %d executions, connections: %v, %d processes killed, %d executions with failed attempts, in %s: %v", b.name, len(c.rows), did, len(f.gone), len(c.log), took.Round(time.Millisecond), c.states())
		if n := c.ended("completed"); n != many() {
			t.Errorf("%d completed, want %d", n, many())
		}
		for _, kind := range []string{"drop", "cut", "stall"} {
			if did[kind] == 0 && !testing.Short() {
				t.Errorf("no connection was made to %s: that shows nothing", kind)
			}
		}
	})
}
