package sequencer_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
)

func TestWorkGoesToTheConnectionThatIsNamed(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.cfg.Connections = map[string]storage.Store{"fast": memory.New()}
	op := sequencer.RegisterFuncOf(l.reg, "mail", func(context.Context, count) error { l.note("mail"); return nil })
	l.open()
	fast, err := l.On("fast")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Dispatch(t.Context(), op(count{1}), sequencer.OnConnection("fast")); err != nil {
		t.Fatal(err)
	}
	if _, err := fast.Dispatch(t.Context(), op(count{2}), sequencer.OnConnection("default")); err != nil {
		t.Fatal(err)
	}
	l.drain()
	if got := l.done(); len(got) != 1 {
		t.Errorf("the default connection ran %d, want 1", len(got))
	}
	if err := fast.Work(t.Context(), sequencer.WorkerConfig{StopWhenEmpty: true}); err != nil {
		t.Fatal(err)
	}
	if got := l.done(); len(got) != 1 {
		t.Errorf("connection fast ran %d, want 1", len(got))
	}
	if err := l.ExecuteSync(t.Context(), op(count{3}), sequencer.OnConnection("fast")); err != nil {
		t.Fatal(err)
	}
	rows, err := fast.Store().Executions(t.Context(), storage.Filter{Name: "mail"})
	if err != nil || len(rows) != 2 {
		t.Errorf("connection fast has %d executions, %v; want 2", len(rows), err)
	}
}

func TestAConnectionThatDoesNotServeIsNamed(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.cfg.Connections = map[string]storage.Store{"fast": memory.New()}
	op := sequencer.RegisterFuncOf(l.reg, "mail", func(context.Context, count) error { return nil })
	l.open()
	_, err := l.Dispatch(t.Context(), op(count{1}), sequencer.OnConnection("slow"))
	if err == nil || !strings.Contains(err.Error(), `"slow"`) || !strings.Contains(err.Error(), "default, fast") {
		t.Errorf("unknown connection: %v", err)
	}
	_, err = l.DispatchAll(t.Context(), op(count{1}), sequencer.With(op(count{2}), sequencer.OnConnection("fast")))
	if err == nil || !strings.Contains(err.Error(), "two connections") {
		t.Errorf("two connections in one write: %v", err)
	}
	_, err = l.In(foreign{}).Dispatch(t.Context(), op(count{1}), sequencer.OnConnection("fast"))
	if !errors.Is(err, storage.ErrForeignTx) {
		t.Errorf("a transaction of another connection: %v", err)
	}
	l.cfg.Connections = map[string]storage.Store{"default": memory.New(), "two words": memory.New()}
	_, err = sequencer.New(l.store, l.reg, l.cfg)
	if err == nil || !strings.Contains(err.Error(), "another name") || !strings.Contains(err.Error(), "two words") {
		t.Errorf("bad names: %v", err)
	}
}
