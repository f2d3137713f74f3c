package sequencer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/faultstore"
	"github.com/gosequencer/sequencer/storage"
)

func TestAChangeOfKeysLeavesNothingThatNeedsTheOldOne(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, store storage.Store, _ func() string) {
		l := newLab(t)
		l.store = store
		mode := "release"
		work := sequencer.RegisterFuncOf(l.reg, "work", func(ctx context.Context, in secretNote) error {
			var at string
			if was, err := sequencer.Resume(ctx, &at); err != nil || was != (mode == "done") {
				return fmt.Errorf("resumed %v at %q, %w", was, at, err)
			}
			if err := sequencer.Checkpoint(ctx, "at "+in.Text); err != nil {
				return err
			}
			l.note(in.Text + " " + at)
			switch mode {
			case "fail":
				return errors.New("no")
			case "release":
				return sequencer.Release(time.Hour)
			}
			return sequencer.SetResult(ctx, in.Text)
		}, sequencer.Tries(9), sequencer.OnFailed(func(context.Context, error) error { return nil }), sequencer.Mark[sequencer.Encrypted]())
		sequencer.Register(l.reg, first, func() *undone { return &undone{l: l, secretNote: secretNote{Text: "given"}} })
		r := rings(t, "k1", "k1 k2", "k2")
		l.with(r[0])
		l.mustProcess()
		for _, text := range []string{"waits", "later"} {
			if _, err := l.Dispatch(t.Context(), work(secretNote{Text: text})); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Work(t.Context(), sequencer.WorkerConfig{Once: true}); err != nil {
			t.Fatal(err)
		}
		if err := l.Cancel(t.Context(), l.rows(storage.Filter{Name: "work"})[1].ID.String(), "not now"); err != nil {
			t.Fatal(err)
		}
		l.with(r[1])
		want := []sequencer.KeyUse{{KeyID: "k1", Waiting: 1, Kept: 2}, {KeyID: "k2", Current: true}}
		if got, err := l.KeyUsage(t.Context()); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("Q7.7: usage %+v, %v; want %+v", got, err, want)
		}
		done, err := l.Rekey(t.Context(), "rotation")
		if err != nil || *done != (sequencer.Rekeyed{KeyID: "k2", Changed: 3}) {
			t.Errorf("Rekey: %+v, %v; want 3 changed", done, err)
		}
		if done, err = l.Rekey(t.Context(), "again"); err != nil || *done != (sequencer.Rekeyed{KeyID: "k2", Current: 3}) {
			t.Errorf("a second Rekey: %+v, %v; want nothing to do", done, err)
		}
		audit, err := l.store.Audit(t.Context(), storage.AuditFilter{Target: "key k2"})
		if err != nil || len(audit) != 1 || audit[0].Action != "rekey" || audit[0].Reason != "rotation" || audit[0].Actor != "tester@lab" {
			t.Errorf("audit %+v, %v; want one entry", audit, err)
		}
		l.with(r[2])
		l.done()
		mode = "done"
		rows := l.rows(storage.Filter{Name: "work"})
		if err := l.Cancel(t.Context(), rows[0].ID.String(), "to retry it now"); err != nil {
			t.Fatal(err)
		}
		if err := l.Retry(t.Context(), rows[0].ID.String(), ""); err != nil {
			t.Errorf("what waited, without the old key: %v", err)
		}
		l.drain()
		mode = "fail"
		if err := l.Retry(t.Context(), rows[1].ID.String(), ""); err != nil {
			t.Errorf("what was cancelled, without the old key: %v", err)
		}
		l.drain()
		if row := l.rows(storage.Filter{IDs: []storage.ID{rows[1].ID}})[0]; row.State != storage.Failed || strings.Contains(row.LastError, "does not open") {
			t.Errorf("what was cancelled is %s with %q, without the old key; want failed with its own error", row.State, row.LastError)
		}
		l.done()
		if _, err := l.Rollback(t.Context(), first, sequencer.RollbackOptions{}); err != nil {
			t.Errorf("rollback without the old key: %v", err)
		}
		l.expect("undid given result of given")
	})
}

func TestAChangeOfKeysWhileWorkersWorkLosesNothing(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, store storage.Store, _ func() string) {
		const n = 100
		l := newLab(t)
		l.store = store
		var ran atomic.Int32
		work := sequencer.RegisterFuncOf(l.reg, "work", func(ctx context.Context, in secretNote) error {
			var step int
			if _, err := sequencer.Resume(ctx, &step); err != nil {
				return err
			}
			if step++; step <= 3 {
				return errors.Join(sequencer.Checkpoint(ctx, step), sequencer.Release(0))
			}
			ran.Add(1)
			return nil
		}, sequencer.Tries(9), sequencer.Mark[sequencer.Encrypted]())
		r := rings(t, "k1", "k2 k1", "k1 k2")
		l.with(r[0])
		if err := l.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		var ops []sequencer.Operation
		for i := range n {
			ops = append(ops, work(secretNote{Text: fmt.Sprint(i)}))
		}
		if _, err := l.DispatchAll(t.Context(), ops...); err != nil {
			t.Fatal(err)
		}
		old := *l.with(r[1]).Sequencer // still seals with k1
		worked := make(chan error)
		go func() { worked <- old.Work(t.Context(), sequencer.WorkerConfig{StopWhenEmpty: true}) }()
		l.with(r[2])
		changed := 0
		for busy := true; busy; {
			select {
			case err := <-worked:
				if err != nil {
					t.Fatal(err)
				}
				busy = false
			default:
				done, err := l.Rekey(t.Context(), "")
				if err != nil || done.Failed > 0 {
					t.Fatalf("Rekey: %+v, %v", done, err)
				}
				changed += done.Changed
			}
		}
		l.wantStates(map[string]int{"work completed": n})
		if ran.Load() != n {
			t.Errorf("%d ran to their end, want %d", ran.Load(), n)
		}
		if changed == 0 {
			t.Error("nothing was changed while they ran: the test shows nothing")
		}
	})
}

func TestAChangeOfKeysThatWasCutOffGoesOnWhereItStopped(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	inner := l.store
	work := sequencer.RegisterFuncOf(l.reg, "work", func(context.Context, secretNote) error { return nil }, sequencer.Mark[sequencer.Encrypted]())
	r := rings(t, "k1", "k1 k2", "k2")
	l.with(r[0])
	var ops []sequencer.Operation
	for range 250 {
		ops = append(ops, work(secretNote{Text: "x"}))
	}
	if _, err := l.DispatchAll(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the connection broke")
	// The first writes a slice of 100; the second writes another, and its answer is lost.
	for _, point := range []string{"Reseal#2/before", "Reseal#1/after"} {
		l.store = faultstore.New(inner, func(at string) error {
			if at == point {
				return broken
			}
			return nil
		})
		if _, err := l.with(r[1]).Rekey(t.Context(), ""); !errors.Is(err, broken) || !strings.Contains(err.Error(), "run it again") {
			t.Errorf("%s: %v, want the error and what to do", point, err)
		}
	}
	l.store = inner
	done, err := l.with(r[1]).Rekey(t.Context(), "")
	if err != nil || done.Changed != 50 || done.Current != 200 {
		t.Errorf("Rekey after two that broke off: %+v, %v; want the rest, 50 of 250", done, err)
	}
	l.with(r[2]).drain()
	l.wantStates(map[string]int{"work completed": 250})
}

func TestRekeyLeavesWhatItCannotOpenAndSaysSo(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	sequencer.Register(l.reg, "note", func() *noting { return &noting{l: l} })
	r := rings(t, "k1", "k2")
	for _, ring := range r {
		if _, err := l.with(ring).Dispatch(t.Context(), &noting{secretNote: secretNote{Text: "hello"}}); err != nil {
			t.Fatal(err)
		}
	}
	done, err := l.Rekey(t.Context(), "")
	if err != nil || done.Failed != 1 || done.Current != 1 || !strings.Contains(done.Unknown, `"k1"`) {
		t.Errorf("Rekey: %+v, %v; want one failed, which names the key", done, err)
	}
	use, err := l.KeyUsage(t.Context())
	if err != nil || len(use) != 2 || !use[0].Missing || use[1].Missing {
		t.Errorf("usage %+v, %v; want k1 missing", use, err)
	}
	l.with(r[0]).drain() // nothing was lost
	if got := l.done(); len(got) != 1 {
		t.Errorf("did %q, want what k1 sealed", got)
	}
}
