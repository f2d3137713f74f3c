package sequencer_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/faultstore"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
)

// chargeOnce is unique by its order, in all ledgers that have the connection keys.
type chargeOnce struct {
	Order string `json:"order"`
	l     *lab
}

func (c *chargeOnce) Handle(context.Context) error { c.l.note("charge " + c.Order); return nil }
func (c *chargeOnce) UniqueID() string             { return c.Order }
func (*chargeOnce) UniqueFor() time.Duration       { return time.Hour }
func (*chargeOnce) UniqueVia() string              { return "keys" }

// chargeLab has the connection, and the operation.
func chargeLab(t *testing.T) (*lab, *memory.Store) {
	t.Helper()
	l, keys := newLab(t), memory.New()
	l.cfg.Connections = map[string]storage.Store{"keys": keys}
	sequencer.Register(l.reg, "charge", func() *chargeOnce { return &chargeOnce{l: l} })
	return l, keys
}

func (l *lab) receipt(want bool, opts ...sequencer.DispatchOption) sequencer.Receipt {
	l.t.Helper()
	r, err := l.Dispatch(l.t.Context(), &chargeOnce{Order: "7"}, opts...)
	if err != nil || r.Duplicate == want {
		l.t.Fatalf("a dispatch is %+v, %v; is it to be accepted? %v", r, err, want)
	}
	return r
}

func heldKeys(t *testing.T, keys *memory.Store) int {
	t.Helper()
	locks, err := keys.Locks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return len(locks)
}

func TestS14_6_AKeyInAnotherStoreIsFreedHoweverTheExecutionEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, keys := chargeLab(t)
		l.open()
		first := l.receipt(true)
		if again := l.receipt(false); again.HolderID != first.ID {
			t.Errorf("the holder is %q, want %s", again.HolderID, first.ID)
		}
		l.drain()
		l.expect("charge 7")
		second := l.receipt(true, sequencer.Delay(time.Minute))
		if err := l.Cancel(t.Context(), second.ID, ""); err != nil {
			t.Fatal(err)
		}
		l.receipt(true)
		l.drain()
		if n := heldKeys(t, keys); n != 0 {
			t.Errorf("%d keys are still held", n)
		}
	})
}

func TestS14_6_WhatACrashLeavesOfAKeyIsTakenOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, keys := chargeLab(t)
		l.open()
		lock := storage.LockRequest{Name: "unique:id:charge:7", For: time.Hour}
		first := l.receipt(true)
		l.drain()
		if heldKeys(t, keys) != 0 {
			t.Fatal("the key is still held")
		}
		var err error
		if lock.Execution, err = storage.ParseID(first.ID); err != nil {
			t.Fatal(err)
		}
		if err := keys.Lock(t.Context(), lock); err != nil { // as if its process had died before it freed it
			t.Fatal(err)
		}
		l.receipt(true)
		l.drain()

		lock.Execution = storage.NewID() // of whom nobody knows: of another ledger, or about to be written
		if err := keys.Lock(t.Context(), lock); err != nil {
			t.Fatal(err)
		}
		if r := l.receipt(false); r.HolderID != lock.Execution.String() {
			t.Errorf("the holder is %q", r.HolderID)
		}
		time.Sleep(time.Hour) // sleep: in a bubble
		l.receipt(true)       // UniqueFor is over
	})
}

func TestS14_6_AWriteThatFailsHoldsNoKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, keys := chargeLab(t)
		broken := true
		down := errors.New("the database is down")
		s, err := sequencer.New(faultstore.New(memory.New(), func(point string) error {
			if broken && strings.HasPrefix(point, "Enqueue") {
				return down
			}
			return nil
		}), l.reg, l.cfg)
		if err != nil {
			t.Fatal(err)
		}
		_, dispatched := s.Dispatch(t.Context(), &chargeOnce{Order: "7"})
		_, batched := s.Batch(&chargeOnce{Order: "8"}).Dispatch(t.Context())
		for _, err := range []error{dispatched, batched, s.ExecuteSync(t.Context(), &chargeOnce{Order: "9"})} {
			if !errors.Is(err, down) {
				t.Errorf("it is %v", err)
			}
		}
		if n := heldKeys(t, keys); n != 0 {
			t.Errorf("%d keys are held for nobody", n)
		}
		broken = false // control
		if _, err := s.Dispatch(t.Context(), &chargeOnce{Order: "7"}); err != nil || heldKeys(t, keys) != 1 {
			t.Errorf("%v, with %d keys held", err, heldKeys(t, keys))
		}
	})
}

func TestQ4_13_MembersWhoseKeyIsHeldElsewhereAreSkippedAndStepsWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, _ := chargeLab(t)
		l.op("a", nil)
		l.open()
		holder := l.receipt(true, sequencer.Delay(time.Minute))
		batch := l.start(l.Batch(&chargeOnce{Order: "7"}, op("a")))
		chain := l.start(l.Chain(op("a"), &chargeOnce{Order: "7"}))
		ctx, stop := context.WithCancel(t.Context())
		worked := make(chan error)
		go func() { worked <- l.Work(ctx, sequencer.WorkerConfig{}) }()
		began := time.Now()
		for _, f := range []*sequencer.Flow{batch, chain} {
			if _, err := f.Wait(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if waited := time.Since(began); waited < time.Minute {
			t.Errorf("the step waited %s", waited)
		}
		stop()
		if err := <-worked; err != nil {
			t.Error(err)
		}
		l.expect("a", "a", "charge 7", "charge 7")
		rows, err := l.store.Executions(t.Context(), storage.Filter{Name: "charge", States: []storage.State{storage.Skipped}})
		if err != nil || len(rows) != 1 || !strings.Contains(rows[0].Reason, holder.ID) {
			t.Errorf("the duplicate is %+v, %v; want it to name %s", rows, err, holder.ID)
		}
	})
}

func TestUniqueViaHasToNameAConnection(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	sequencer.Register(l.reg, "charge", func() *chargeOnce { return &chargeOnce{l: l} })
	_, err := sequencer.New(l.store, l.reg, l.cfg)
	if err == nil || !strings.Contains(err.Error(), `UniqueVia is "keys"`) {
		t.Errorf("New returns %v", err)
	}
}

func TestUniqueUntilStartHasToBeUnique(t *testing.T) {
	t.Parallel()
	reg := sequencer.NewRegistry()
	sequencer.RegisterFunc(reg, "report", func(context.Context) error { return nil }, sequencer.Mark[sequencer.UniqueUntilStart]())
	sequencer.Register(reg, "20240115120000_seed", sequencer.Make[uniqueSeed])
	err := reg.Err()
	for _, want := range []string{"is not unique", "has its name as key"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the registry says %v, want %q", err, want)
		}
	}
}

type uniqueSeed struct{ sequencer.UniqueUntilStart }

func (*uniqueSeed) Handle(context.Context) error { return nil }
func (*uniqueSeed) UniqueID() string             { return "" }
