package sequencer_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
)

// lab is a sequencer on a ledger of its own, and a list of what its operations did.
type lab struct {
	*sequencer.Sequencer
	t     *testing.T
	store storage.Store
	reg   *sequencer.Registry
	cfg   sequencer.Config

	mu  sync.Mutex
	did []string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	return &lab{
		t: t, store: memory.New(), reg: sequencer.NewRegistry(),
		cfg: sequencer.Config{Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Environment: "test", Actor: "tester@lab"},
	}
}

// open makes the sequencer once everything is registered; again after a change.
func (l *lab) open() *lab {
	l.t.Helper()
	seq, err := sequencer.New(l.store, l.reg, l.cfg)
	if err != nil {
		l.t.Fatalf("New: %v", err)
	}
	l.Sequencer = seq
	return l
}

func (l *lab) note(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.did = append(l.did, what)
}

// done returns what was noted since the last call.
func (l *lab) done() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	did := l.did
	l.did = nil
	return did
}

// op registers an operation that notes its name and returns what fn does; its
// rollback notes "undo" and the name.
func (l *lab) op(name string, fn func(context.Context) error, opts ...sequencer.RegisterOption) {
	sequencer.RegisterFunc(l.reg, name, func(ctx context.Context) error {
		l.note(name)
		if fn == nil {
			return nil
		}
		return fn(ctx)
	}, append(opts, sequencer.Undo(func(context.Context) error { l.note("undo " + name); return nil }))...)
}

func (l *lab) process(o sequencer.RunOptions) (*sequencer.Report, error) {
	l.t.Helper()
	return l.Process(l.t.Context(), o)
}

func (l *lab) mustProcess() *sequencer.Report {
	l.t.Helper()
	r, err := l.process(sequencer.RunOptions{})
	if err != nil {
		l.t.Fatalf("Process: %v", err)
	}
	return r
}

func (l *lab) expect(want ...string) {
	l.t.Helper()
	if got := l.done(); !slices.Equal(got, want) {
		l.t.Fatalf("did %q, want %q", got, want)
	}
}

func (l *lab) state(name string) storage.State {
	l.t.Helper()
	rows, err := l.store.Executions(l.t.Context(), storage.Filter{Name: name, Kinds: []storage.Kind{storage.Ordered, storage.Unlisted}, Limit: 1})
	if err != nil {
		l.t.Fatal(err)
	}
	if len(rows) == 0 {
		return ""
	}
	return rows[0].State
}

const (
	first  = "20240101000000_first"
	second = "20240102000000_second"
	third  = "20240103000000_third"
)

func TestARunDoesWhatIsPendingInOrderAndOnlyOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op(third, nil)
	l.op(first, nil)
	l.op(second, nil)
	l.open()
	r := l.mustProcess()
	l.expect(first, second, third) // S3.4
	if r.State != storage.Completed || len(r.Tasks) != 3 {
		t.Errorf("report = %+v, want three completed tasks", r)
	}
	if r := l.mustProcess(); r.RunID != "" {
		t.Errorf("S3.1: the second run did something: %+v", r)
	}
	l.expect()
}

func TestAFailureStopsTheRunAndUndoesWhatItDid(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	boom := errors.New("boom")
	fail := true
	l.op(first, nil)
	l.op(second, nil)
	l.op(third, func(context.Context) error {
		if fail {
			return boom
		}
		return nil
	})
	l.open()
	r, err := l.process(sequencer.RunOptions{})
	if !errors.Is(err, boom) || !strings.Contains(err.Error(), third) {
		t.Errorf("err = %v, want boom and the operation's name", err)
	}
	l.expect(first, second, third, "undo "+second, "undo "+first) // S10.1
	if r == nil || r.State != storage.Failed {
		t.Fatalf("report = %+v, want failed", r)
	}
	for name, want := range map[string]storage.State{first: storage.RolledBack, second: storage.RolledBack, third: storage.Failed} {
		if got := l.state(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	fail = false
	l.mustProcess() // W1: what was rolled back is pending again
	l.expect(first, second, third)
}

func TestACheckSeesThePlanBeforeAnythingIsWritten(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	sequencer.RegisterFunc(l.reg, "20240101000000_a", func(context.Context) error { l.note("a"); return nil })
	l.open()
	var seen []string
	answer := errors.New("not like this")
	o := sequencer.RunOptions{Check: func(_ context.Context, p *sequencer.Plan) error {
		seen = append(seen, p.Names()...)
		return answer
	}}
	if report, err := l.Process(t.Context(), o); !errors.Is(err, answer) || report != nil {
		t.Errorf("got %v, %v, want the check's own error", report, err)
	}
	runs, err := l.store.Flows(t.Context(), storage.FlowFilter{})
	if err != nil || len(runs) != 0 {
		t.Errorf("%d runs, %v, want none", len(runs), err)
	}
	answer = nil
	for range 2 { // the second time there is nothing to ask about
		if _, err := l.Process(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	if did := l.done(); !slices.Equal(did, []string{"a"}) || len(seen) != 2 {
		t.Errorf("it did %q and the check saw %q", did, seen)
	}
}

// A run is a flow, and no batch: what its process drives is not cancelled beside it, and what
// failed in it is for the next run, under the run lock.
func TestADeployRunIsNeitherCancelledNorRetriedAsAFlow_S10_6(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var during error
	l.op("20240101000000_one", func(ctx context.Context) error {
		f, err := l.Flow(ctx, sequencer.Current(ctx).RunID)
		if err == nil {
			during = f.Cancel(ctx, "not wanted")
		}
		return err
	})
	l.op("20240102000000_two", func(context.Context) error { return errBoom })
	l.open()
	report, err := l.process(sequencer.RunOptions{})
	if !errors.Is(err, errBoom) {
		t.Fatalf("the run ended with %v", err)
	}
	if during == nil || !strings.Contains(during.Error(), "its process drives") {
		t.Errorf("cancelled while it ran: %v; want a refusal", during)
	}
	f, err := l.Flow(t.Context(), report.RunID)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Retry(t.Context(), sequencer.RetryOptions{Force: true}); err == nil || !strings.Contains(err.Error(), "the next run does it") {
		t.Errorf("retried as a flow: %v; want a refusal", err)
	}
	if live := l.rows(storage.Filter{States: []storage.State{storage.Pending, storage.Running}}); len(live) > 0 {
		t.Errorf("%d rows live after that", len(live))
	}
}
