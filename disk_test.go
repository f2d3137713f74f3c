package sequencer_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// lagging is a store whose commits reach the disk when it is synced.
type lagging struct {
	storage.Store
	l      *lab
	broken error
}

func (s lagging) Sync(context.Context) error {
	s.l.note("sync")
	return s.broken
}

func TestARunIsOnTheDiskBeforeWhatMustNotBeRepeatedAndBeforeItReports(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.store = lagging{Store: l.store, l: l}
	l.op("20240101000000_repeatable", nil, sequencer.Mark[sequencer.Idempotent]())
	l.op("20240102000000_charge", nil)
	l.op("20240103000000_again", nil, sequencer.Mark[sequencer.Idempotent]())
	if _, err := l.open().process(sequencer.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	want := []string{"20240101000000_repeatable", "sync", "20240102000000_charge", "20240103000000_again", "sync"}
	if got := l.done(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestADiskThatFailsFailsTheRun(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	broken := errors.New("input/output error")
	l.store = lagging{Store: l.store, l: l, broken: broken}
	l.op("20240102000000_charge", nil)
	_, err := l.open().process(sequencer.RunOptions{})
	if got := l.done(); !errors.Is(err, broken) || slices.Contains(got, "20240102000000_charge") {
		t.Errorf("did %q, %v; want the operation not begun and the disk's error", got, err)
	}
}
