package guides_test

import (
	"context"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
)

// work takes so long, or until it is told to stop.
func work(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// CrunchNumbers may take two minutes, twice.
type CrunchNumbers struct{ sequencer.Async }

func (*CrunchNumbers) Handle(ctx context.Context) error {
	return work(ctx, 3*time.Minute) // gives up when ctx is done
}

func (*CrunchNumbers) Timeout() time.Duration { return 2 * time.Minute }

func (*CrunchNumbers) FailOnTimeout() bool { return false }
func (*CrunchNumbers) Tries() int          { return 2 }

func TestTimeout(t *testing.T) { // S12, Q2
	reg := sequencer.NewRegistry()
	sequencer.Register(reg, "crunch_numbers", sequencer.Make[CrunchNumbers])
	example(t, "Timeout", reg, sequencer.Config{}, dispatch(&CrunchNumbers{}))
}

// CrunchOnce is not tried again after a timeout, whatever its tries.
type CrunchOnce struct{ CrunchNumbers }

func (*CrunchOnce) FailOnTimeout() bool { return true }

func TestFailOnTimeout(t *testing.T) { // Q2
	reg := sequencer.NewRegistry()
	sequencer.Register(reg, "crunch_once", sequencer.Make[CrunchOnce])
	example(t, "FailOnTimeout", reg, sequencer.Config{}, dispatch(&CrunchOnce{}))
}
