package guides_test

import (
	"context"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
)

// SyncInventory may be tried ten times, but not after three real errors.
type SyncInventory struct {
	sequencer.Async
	api *inventory
}

func (*SyncInventory) Tries() int { return 10 }

func (*SyncInventory) MaxExceptions() int { return 3 }

func (s *SyncInventory) Handle(ctx context.Context) error {
	if s.api.busy() {
		return sequencer.Release(time.Minute) // no error: the other side said when
	}
	return s.api.Post(ctx, "", nil)
}

// inventory says now and then that it is busy.
type inventory struct {
	flaky
	calls int
}

func (i *inventory) busy() bool { i.calls++; return i.calls%2 == 1 }

func TestMaxExceptions(t *testing.T) { // S12, Q1.20
	reg := sequencer.NewRegistry()
	api := &inventory{flaky: flaky{failures: 9}}
	sequencer.Register(reg, "sync_inventory", func() *SyncInventory { return &SyncInventory{api: api} })
	example(t, "MaxExceptions", reg, sequencer.Config{}, dispatch(&SyncInventory{}))
}
