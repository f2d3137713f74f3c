package sequencer_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// S28.1, S28.5 to S28.7, with the waits in fake time.
func TestADeferredOperationWaitsForItsTimeAndIsTriedThreeTimesAMinuteApart_S28(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		var at []time.Duration
		began := time.Now()
		op := sequencer.RegisterFuncOf(l.reg, "remind", func(context.Context, count) error {
			at = append(at, time.Since(began))
			return errors.New("nobody answers")
		})
		l.open()
		if _, err := l.Defer(t.Context(), op(count{7}), began.Add(2*time.Hour)); err != nil {
			t.Fatal(err)
		}
		if row := l.rows(storage.Filter{})[0]; row.Method != sequencer.MethodDeferred || !row.DueAt.Equal(began.Add(2*time.Hour)) {
			t.Errorf("stored with method %s, due %v", row.Method, row.DueAt)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour)
		defer cancel()
		if err := l.Work(ctx, sequencer.WorkerConfig{}); err != nil {
			t.Fatal(err)
		}
		if len(at) != 3 {
			t.Fatalf("attempted at %v, want three times", at)
		}
		for i, d := range at {
			if due := 2*time.Hour + time.Duration(i)*time.Minute; d < due || d > due+time.Second {
				t.Errorf("attempt %d after %v, want %v", i+1, d, due)
			}
		}
		l.wantStates(map[string]int{"remind failed": 1})
	})
}

func TestWhatIsDeclaredWinsOverTheDefaultsOfADeferral_S28_1_S28_12(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	own := sequencer.RegisterFunc(l.reg, "own", nothing, sequencer.Tries(7), sequencer.Backoff(time.Second))
	plain := sequencer.RegisterFunc(l.reg, "plain", nothing)
	l.cfg.Tries = 5
	l.open()
	tomorrow := time.Now().Add(24 * time.Hour)
	for want, deferral := range map[string]func() (sequencer.Receipt, error){
		`{"tries":7,"backoff_ms":[1000]}`:  func() (sequencer.Receipt, error) { return l.Defer(t.Context(), own, tomorrow) },
		`{"tries":5,"backoff_ms":[60000]}`: func() (sequencer.Receipt, error) { return l.Defer(t.Context(), plain, tomorrow) },
		`{"tries":2,"backoff_ms":[60000]}`: func() (sequencer.Receipt, error) {
			return l.Defer(t.Context(), plain, tomorrow, sequencer.Tries(2))
		},
	} {
		receipt, err := deferral()
		if err != nil {
			t.Fatal(err)
		}
		row := l.rows(storage.Filter{IDPrefix: receipt.ID})[0]
		if string(row.Policy) != want {
			t.Errorf("policy %s, want %s", row.Policy, want)
		}
	}
}

func nothing(context.Context) error { return nil }

func TestADedupeKeyKeepsOneOfItsKind_S28_13(t *testing.T) {
	t.Parallel()
	onEvery(t, func(t *testing.T, l *lab) {
		op := sequencer.RegisterFunc(l.reg, "remind", nothing)
		other := sequencer.RegisterFunc(l.reg, "bill", nothing)
		l.open()
		tomorrow := time.Now().Add(24 * time.Hour)
		put := func(op sequencer.Operation, key string) sequencer.Receipt {
			t.Helper()
			r, err := l.Defer(t.Context(), op, tomorrow, sequencer.DedupeKey(key))
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		first := put(op, "42")
		if again := put(op, "42"); !again.Duplicate || again.HolderID != first.ID {
			t.Errorf("got %+v, want a duplicate of %s", again, first.ID)
		}
		if r := put(op, "43"); r.Duplicate {
			t.Error("another key is a duplicate")
		}
		if r := put(other, "42"); r.Duplicate {
			t.Error("another operation is a duplicate")
		}
		if err := l.Cancel(t.Context(), first.ID, "paid"); err != nil {
			t.Fatal(err)
		}
		if r := put(op, "42"); r.Duplicate {
			t.Error("the key of what was cancelled is still held")
		}
	})
}

func TestRescheduleMovesWhatIsQueued_S28_13(t *testing.T) {
	t.Parallel()
	onEvery(t, func(t *testing.T, l *lab) {
		op := sequencer.RegisterFunc(l.reg, "remind", func(context.Context) error { l.note("reminded"); return nil })
		l.open()
		receipt, err := l.Defer(t.Context(), op, time.Now().Add(24*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		l.drain()
		l.expect()
		next := time.Now().Add(48 * time.Hour)
		if err := l.Reschedule(t.Context(), receipt.ID, next, "the holidays"); err != nil {
			t.Fatal(err)
		}
		if row := l.rows(storage.Filter{})[0]; row.DueAt.Sub(next).Abs() > time.Minute {
			t.Errorf("due %v, want %v", row.DueAt, next)
		}
		if entry := l.audit(); entry.Action != "reschedule" || entry.Reason != "the holidays" || entry.Target != receipt.ID {
			t.Errorf("the audit log has %+v", entry)
		}
		if err := l.Reschedule(t.Context(), "remind", time.Now().Add(-time.Hour), ""); err != nil {
			t.Fatal(err)
		}
		l.drain()
		l.expect("reminded")
		var move *storage.TransitionError
		if err := l.Reschedule(t.Context(), receipt.ID, next, ""); !errors.As(err, &move) {
			t.Errorf("what is over is rescheduled: %v", err)
		}
	})
}

func TestADeferralThatCannotBeMeantWritesNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	op := sequencer.RegisterFunc(l.reg, "remind", nothing)
	ordered := sequencer.RegisterFunc(l.reg, "20240101000000_seed", nothing)
	l.open()
	tomorrow := time.Now().Add(24 * time.Hour)
	for want, try := range map[string]func() error{
		"the time to defer it to is zero": func() error { _, err := l.Defer(t.Context(), op, time.Time{}); return err },
		"the dedupe key is empty": func() error {
			_, err := l.Defer(t.Context(), op, tomorrow, sequencer.DedupeKey(""))
			return err
		},
		"queued once anyway": func() error {
			_, err := l.Defer(t.Context(), ordered, tomorrow, sequencer.DedupeKey("k"))
			return err
		},
		"is not registered": func() error { _, err := l.Defer(t.Context(), sequencer.Named("nobody", nil), tomorrow); return err },
		"the time is zero":  func() error { return l.Reschedule(t.Context(), "remind", time.Time{}, "") },
		"only inside an attempt": func() error {
			_, err := sequencer.From(t.Context()).Defer(t.Context(), op, tomorrow)
			return err
		},
	} {
		if err := try(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error that says: %s", err, want)
		}
	}
	if rows := l.rows(storage.Filter{}); len(rows) > 0 {
		t.Errorf("%d rows were written", len(rows))
	}
}
