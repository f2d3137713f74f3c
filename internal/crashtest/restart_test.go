//go:build linux

package crashtest_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
)

// privately is a shift on a server of the test's own.
func privately(t *testing.T, b backend) (s shift, restart func(), host string) {
	t.Helper()
	b.fresh(t) // left out, or failed, like every other test of this backend
	address, server := b.private(t)
	return newShift(t, place{b.name, address}), server.Restart, server.Host
}

// The workers live on, and their leases outlast the restart: nothing may count as lost.
// What was in a transaction has failed, and is tried again.
func TestCrashOfTheServerInTheMiddleLosesNothing_Q0_6_Q2_16(t *testing.T) {
	t.Parallel()
	onBackends(t, withServer, func(t *testing.T, b backend) {
		s, restart, _ := privately(t, b)
		s.dispatch(t, mixture(rand.New(rand.NewPCG(1, 2)), many(), 20_000), sequencer.Tries(20))
		f := fleet{shift: s, from: s.Place, mayFail: true}
		restarts, next := 0, many()*4/5
		began := time.Now()
		f.serve(t, func(left int) {
			if left < next {
				restart()
				restarts++
				next = left - many()/5
			}
		})
		took := time.Since(began)
		c := count(t, s, nil, "error")
		t.Logf("%s: %d executions, %d restarts, %d failed attempts, in %s: %v", b.name, len(c.rows), restarts, len(c.log), took.Round(time.Millisecond), c.states())
		if restarts < 2 || len(c.rows) != many() {
			t.Errorf("the server was restarted %d times, the ledger holds %d executions, want %d", restarts, len(c.rows), many())
		}
		if n := c.ended("completed"); n != many() {
			t.Errorf("%d completed, want %d", n, many())
		}
	})
}
