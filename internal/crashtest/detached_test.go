//go:build linux

package crashtest_test

import (
	"context"
	"slices"
	"testing"

	"github.com/gosequencer/sequencer"
)

func TestCrashOfADetachedRunAtRandomTimesWhileAWorkerGoesOnLosesNothing_S6_6_S7_5(t *testing.T) {
	t.Parallel()
	atRandom(t, func(r round) {
		d := deploy{Place: r.place, Program: "everything", Detach: true}
		within(r.T, d.Place, func(l *ledger) {
			defer serving(r.T, d, l)()
			r.killTwice(d, 2*r.span)
			toTheEnd(r.T, d) // its migrations
			d.Detach = false
			toTheEnd(r.T, d) // and what workers have left
		})
		same(r.T, "the contents", contents(r.T, d.Place), r.want[0])
		settled(r.T, d.Place)
	}, "everything")
}

// serving has a worker of this process serve a ledger until the answer is called.
func serving(t *testing.T, d deploy, l *ledger) (stop func()) {
	t.Helper()
	d.quiet = true
	seq, err := d.sequencer(l, func(string) error { return nil })
	if err == nil {
		err = seq.Setup(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	worked := make(chan error, 1)
	go func() { worked <- seq.Work(ctx, sequencer.WorkerConfig{}) }()
	return func() {
		cancel()
		if err := <-worked; err != nil {
			t.Errorf("the worker ended with: %v", err)
		}
	}
}

// toTheEnd runs a program until nobody keeps it from completing: a run that workers
// have not finished does, for a while.
func toTheEnd(t *testing.T, d deploy) {
	t.Helper()
	d.Isolate, d.WaitLock = true, atOnce
	for range 20 {
		o, _ := run(t, d)
		switch {
		case o.Error == "":
			return
		case slices.Equal(o.Interrupted, []string{index}):
			resolve(t, d, index, sequencer.ResolveFailed)
		case !o.Locked:
			t.Fatalf("it ended with: %s", o.Error)
		}
	}
	t.Fatal("it is refused again and again")
}
