package sequencer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/middleware"
	"github.com/gosequencer/sequencer/seal"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
)

// secretNote is an input that is sealed.
type secretNote struct {
	sequencer.Encrypted
	Text string `json:"text"`
}

// rings makes key rings that share keys: each argument names the ring's keys, the
// last of which seals.
func rings(t *testing.T, wanted ...string) []*seal.Ring {
	t.Helper()
	all, err := seal.NewFile("k0")
	for id := range strings.FieldsSeq(strings.Join(wanted, " ")) {
		if err == nil && !slices.Contains(all.IDs(), id) {
			err = all.Add(id)
		}
	}
	made := make([]*seal.Ring, len(wanted))
	for i, list := range wanted {
		if err != nil {
			t.Fatal(err)
		}
		f, parseErr := seal.ParseFile(all.Text())
		if err = parseErr; err != nil {
			continue
		}
		ids := strings.Fields(list)
		err = f.Use(ids[len(ids)-1])
		for _, id := range f.IDs() {
			if !slices.Contains(ids, id) {
				err = errors.Join(err, f.Drop(id))
			}
		}
		if err == nil {
			made[i], err = f.Ring()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// with is the lab with another sealer, as another process has it.
func (l *lab) with(s sequencer.Sealer) *lab {
	l.t.Helper()
	l.cfg.Sealer = s
	return l.open()
}

func (l *lab) rows(f storage.Filter) []storage.Execution {
	l.t.Helper()
	f.Oldest, f.Limit = true, 1000
	rows, err := l.store.Executions(l.t.Context(), f)
	if err != nil {
		l.t.Fatal(err)
	}
	return rows
}

// put replaces stored bytes, as somebody with access to the database may.
func (l *lab) put(row storage.Execution, field storage.Field, old, now []byte) {
	l.t.Helper()
	n, err := l.store.Reseal(l.t.Context(), storage.ResealRequest{Changes: []storage.Reseal{{ID: row.ID, Field: field, Old: old, New: now}}})
	if n != 1 || err != nil {
		l.t.Fatalf("Reseal: %d, %v", n, err)
	}
}

func TestACiphertextOpensOnlyWhereItBelongs(t *testing.T) {
	t.Parallel()
	for name, tamper := range map[string]func(l *lab, a, b storage.Execution){
		"Q7.5 another execution's": func(l *lab, a, b storage.Execution) { l.put(a, storage.FieldInput, a.Input, b.Input) },
		"S15.3 a changed byte": func(l *lab, a, _ storage.Execution) {
			now := bytes.Clone(a.Input)
			now[len(now)-1] ^= 1
			l.put(a, storage.FieldInput, a.Input, now)
		},
		"Q7.5 the id of another key": func(l *lab, a, _ storage.Execution) {
			l.put(a, storage.FieldInput, a.Input, append([]byte("\x02\x02k2"), a.Input[4:]...))
		},
		"S15.3 cut off": func(l *lab, a, _ storage.Execution) { l.put(a, storage.FieldInput, a.Input, a.Input[:10]) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			sequencer.Register(l.reg, "note", func() *noting { return &noting{l: l} })
			l.with(rings(t, "k2 k1")[0])
			for _, text := range []string{"a", "b"} {
				if _, err := l.Dispatch(t.Context(), &noting{secretNote: secretNote{Text: text}}); err != nil {
					t.Fatal(err)
				}
			}
			rows := l.rows(storage.Filter{})
			tamper(l, rows[0], rows[1])
			l.drain()
			l.expect("b")
			l.wantStates(map[string]int{"note failed": 1, "note completed": 1})
			failed := l.rows(storage.Filter{States: []storage.State{storage.Failed}})[0]
			if !strings.Contains(failed.LastError, `its input does not open with key "k`) || failed.Attempts() != 1 {
				t.Errorf("the row says %q after %d attempts", failed.LastError, failed.Attempts())
			}
			l.put(failed, storage.FieldInput, failed.Input, rows[0].Input)
			if err := l.Retry(t.Context(), failed.ID.String(), "restored"); err != nil {
				t.Errorf("Retry with the bytes back: %v", err)
			}
			l.drain()
			l.expect("a")
		})
	}
}

// noting notes its secret.
type noting struct {
	secretNote
	l *lab
}

func (n *noting) Handle(context.Context) error { n.l.note(n.Text); return nil }

func (n *noting) Failed(_ context.Context, cause error) error {
	n.l.note("failed: " + cause.Error())
	return nil
}

func (n *noting) Tries() int { return 5 }

func TestACheckpointAndAResultDoNotTakeEachOthersPlace(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var cursor string
	op := sequencer.RegisterFuncOf(l.reg, "walk", func(ctx context.Context, _ count) error {
		if was, err := sequencer.Resume(ctx, &cursor); err != nil || was {
			return err
		}
		if err := errors.Join(sequencer.Checkpoint(ctx, "half"), sequencer.SetResult(ctx, "whole")); err != nil {
			return err
		}
		return sequencer.Release(0)
	}, sequencer.Tries(9), sequencer.Mark[sequencer.Encrypted]())
	l.with(rings(t, "k1")[0])
	for range 2 {
		if _, err := l.Dispatch(t.Context(), op(count{})); err != nil {
			t.Fatal(err)
		}
		if err := l.Work(t.Context(), sequencer.WorkerConfig{Once: true}); err != nil {
			t.Fatal(err)
		}
		row := l.rows(storage.Filter{States: []storage.State{storage.Pending}})[0]
		if bytes.Contains(row.Checkpoint, []byte("half")) || bytes.Contains(row.Result, []byte("whole")) {
			t.Errorf("S15.5: stored are %q and %q", row.Checkpoint, row.Result)
		}
		if cursor == "half" { // the second time, what the first showed to work is moved
			l.put(row, storage.FieldCheckpoint, row.Checkpoint, row.Result)
		}
		if l.drain(); cursor != "half" {
			t.Errorf("resumed at %q, want half", cursor)
		}
	}
	l.wantStates(map[string]int{"walk completed": 1, "walk failed": 1})
	failed := l.rows(storage.Filter{States: []storage.State{storage.Failed}})[0]
	if failed.Attempts() != 2 || !strings.Contains(failed.LastError, "its checkpoint does not open") {
		t.Errorf("Q7.8: after %d attempts it says %q, want it final at once and clear", failed.Attempts(), failed.LastError)
	}
}

func TestAMissingKeyIsAFinalFailureThatCanBeRetriedOnceItIsBack(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, store storage.Store, _ func() string) {
		l := newLab(t)
		l.store = store
		var log bytes.Buffer
		l.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		sequencer.Register(l.reg, "note", func() *noting { return &noting{l: l} })
		r := rings(t, "k1", "k2")
		l.with(r[0])
		if err := l.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Dispatch(t.Context(), &noting{secretNote: secretNote{Text: "hello"}}); err != nil {
			t.Fatal(err)
		}
		l.with(r[1]).drain()
		l.expect() // neither handler nor failed hook
		row := l.rows(storage.Filter{})[0]
		if row.State != storage.Failed || row.Attempts() != 1 || !strings.Contains(row.LastError, `its input is sealed with key "k1", which this process does not have`) {
			t.Errorf("Q7.8: %s after %d attempts: %s", row.State, row.Attempts(), row.LastError)
		}
		if !strings.Contains(log.String(), "failed hook is not called") {
			t.Errorf("Q1.36: the log does not say why the hook is not called: %s", &log)
		}
		if err := l.Retry(t.Context(), row.ID.String(), "still gone"); err != nil {
			t.Errorf("Retry without the key: %v", err)
		}
		l.drain()
		l.expect()
		if row := l.rows(storage.Filter{})[0]; row.State != storage.Failed {
			t.Errorf("without the key it is %s again, want failed", row.State)
		}
		if err := l.with(r[0]).Retry(t.Context(), row.ID.String(), "back"); err != nil {
			t.Errorf("Retry with the key: %v", err)
		}
		l.drain()
		l.expect("hello")
	})
}

func TestARollbackOpensWhatWasSealedForItsTarget(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, store storage.Store, _ func() string) {
		l := newLab(t)
		l.store = store
		sequencer.Register(l.reg, first, func() *undone { return &undone{l: l, secretNote: secretNote{Text: "given"}} })
		l.op(second, func(context.Context) error { return errors.New("broken") })
		r := rings(t, "k1", "k2 k1", "k1 k2", "k2")
		l.with(r[0])
		if _, err := l.Process(t.Context(), sequencer.RunOptions{}); err == nil {
			t.Fatal("the run was to fail")
		}
		l.expect("did given", second, "undid given result of given") // S10: by the flow's own undo members
		if err := l.ExecuteSync(t.Context(), sequencer.Named(first, nil)); err != nil {
			t.Fatal(err)
		}
		l.done()
		if _, err := l.with(r[3]).Rollback(t.Context(), first, sequencer.RollbackOptions{}); !errors.Is(err, sequencer.ErrUnknownKey) && !strings.Contains(fmt.Sprint(err), `"k1"`) {
			t.Errorf("Rollback without the key: %v, want one that names it", err)
		}
		if got := l.state(first); got != storage.Completed {
			t.Errorf("S10.3: after an undo that failed the operation is %s, want completed", got)
		}
		if _, err := l.with(r[2]).Rekey(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if _, err := l.with(r[3]).Rollback(t.Context(), first, sequencer.RollbackOptions{}); err != nil {
			t.Errorf("S15.5: Rollback after Rekey, without the old key: %v", err)
		}
		l.expect("undid given result of given")
	})
}

type undone struct {
	secretNote
	l *lab
}

func (u *undone) Handle(ctx context.Context) error {
	u.l.note("did " + u.Text)
	return sequencer.SetResult(ctx, "result of "+u.Text)
}

func (u *undone) Rollback(ctx context.Context) error {
	kept, err := sequencer.ResultOf[string](ctx, "")
	u.l.note("undid " + u.Text + " " + kept)
	return err
}

func TestAnOperationReadsWhatWasSealedUnderItsFormerName(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	r := rings(t, "k1")[0]
	sequencer.Register(l.reg, "old", func() *noting { return &noting{l: l} })
	l.with(r)
	if _, err := l.Dispatch(t.Context(), &noting{secretNote: secretNote{Text: "hello"}}); err != nil {
		t.Fatal(err)
	}
	l.reg = sequencer.NewRegistry()
	sequencer.Register(l.reg, "new", func() *noting { return &noting{l: l} }, sequencer.FormerNames("old"))
	l.with(r).drain()
	l.expect("hello")
}

func TestUniqueKeysMeetAcrossAChangeOfKeys(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	sequencer.Register(l.reg, "only", func() *only { return &only{} })
	r := rings(t, "k1", "k1 k2", "k9")
	for i, ring := range []*seal.Ring{r[0], r[1]} {
		got, err := l.with(ring).Dispatch(t.Context(), &only{noting{secretNote: secretNote{Text: "one"}}})
		if err != nil || got.Duplicate != (i > 0) {
			t.Errorf("S14.2 dispatch %d: %+v, %v", i, got, err)
		}
	}
	if got, err := l.Dispatch(t.Context(), &only{noting{secretNote: secretNote{Text: "two"}}}); err != nil || got.Duplicate {
		t.Errorf("another key: %+v, %v; want no duplicate", got, err)
	}
	for _, row := range l.rows(storage.Filter{}) {
		if !strings.HasPrefix(row.UniqueKey, "id:only:sealed:") {
			t.Errorf("Q7.3: the key is stored as %q", row.UniqueKey)
		}
	}
	l.with(r[2]).drain() // which cannot open them
	l.wantStates(map[string]int{"only failed": 2})
	if got, err := l.Dispatch(t.Context(), &only{noting{secretNote: secretNote{Text: "one"}}}); err != nil || got.Duplicate {
		t.Errorf("Q1.36: after an undecryptable end the key is not free: %+v, %v", got, err)
	}
}

type only struct{ noting }

func (o *only) UniqueID() string { return o.Text }

func TestOverlapKeysOfEncryptedOperationsStillExclude(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var now, most atomic.Int32
	op := sequencer.RegisterFuncOf(l.reg, "work", func(context.Context, secretNote) error {
		most.Store(max(most.Load(), now.Add(1)))
		time.Sleep(time.Millisecond) // sleep: long enough for another one to begin if it could
		now.Add(-1)
		return nil
	}, sequencer.Mark[sequencer.Encrypted](), sequencer.Use(middleware.WithoutOverlapping("key").ReleaseAfter(0)))
	l.with(rings(t, "k1")[0])
	for range 20 {
		if _, err := l.Dispatch(t.Context(), op(secretNote{})); err != nil {
			t.Fatal(err)
		}
	}
	l.drain()
	l.wantStates(map[string]int{"work completed": 20})
	if most.Load() != 1 {
		t.Errorf("Q3.22: %d ran at a time, want 1", most.Load())
	}
}

// service is a key service that does not always answer.
type service struct {
	*seal.Ring
	down atomic.Int32
}

func (s *service) Open(ctx context.Context, keyID string, sealed, bound []byte) ([]byte, error) {
	if s.down.Add(-1) >= 0 {
		return nil, errors.New("503")
	}
	return s.Ring.Open(ctx, keyID, sealed, bound)
}

func TestAKeyServiceThatDoesNotAnswerCostsAnAttemptAndNoMore(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	sequencer.Register(l.reg, "note", func() *noting { return &noting{l: l} })
	s := &service{Ring: rings(t, "k1")[0]}
	s.down.Store(2)
	l.with(s)
	if err := l.ExecuteSync(t.Context(), &noting{secretNote: secretNote{Text: "hello"}}); err != nil {
		t.Fatal(err)
	}
	l.expect("hello")
	if row := l.rows(storage.Filter{})[0]; row.Attempts() != 3 || row.Errors != 2 {
		t.Errorf("%d attempts, %d errors; want 3 and 2", row.Attempts(), row.Errors)
	}
}

func TestAnOperationThatBecameEncryptedRunsWhatWasQueuedBefore(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	register := func(opts ...sequencer.RegisterOption) func(count) sequencer.Operation {
		l.reg = sequencer.NewRegistry()
		return sequencer.RegisterFuncOf(l.reg, "work", func(_ context.Context, in count) error { l.note(fmt.Sprint(in.N)); return nil }, opts...)
	}
	op := register()
	l.open()
	l.enqueue(func(i int) sequencer.Operation { return op(count{i}) }, 2)
	register(sequencer.Mark[sequencer.Encrypted]())
	l.with(rings(t, "k1")[0])
	if err := l.Work(t.Context(), sequencer.WorkerConfig{Once: true}); err != nil {
		t.Fatal(err)
	}
	use, err := l.KeyUsage(t.Context())
	if err != nil || len(use) != 2 || use[0] != (sequencer.KeyUse{Waiting: 1}) {
		t.Errorf("usage %+v, %v; want one in clear", use, err)
	}
	if done, err := l.Rekey(t.Context(), ""); err != nil || done.Changed != 1 {
		t.Errorf("Rekey: %+v, %v; want one changed", done, err)
	}
	register() // and is no more: what is sealed is still opened
	l.open().drain()
	l.expect("0", "1")
}

func TestASealedInputCountsAsLargeAsItIsStored(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	sequencer.Register(l.reg, "note", func() *noting { return &noting{l: l} })
	l.cfg.MaxInput = 200
	l.with(rings(t, "k1")[0])
	_, err := l.Dispatch(t.Context(), &noting{secretNote: secretNote{Text: strings.Repeat("x", 170)}})
	var large *sequencer.InputTooLargeError
	if !errors.As(err, &large) || large.Size <= 200 {
		t.Errorf("got %v, want *InputTooLargeError with the stored size", err)
	}
	if rows := l.rows(storage.Filter{}); len(rows) != 0 {
		t.Errorf("%d rows were written", len(rows))
	}
}

func TestNewAcceptsEncryptedOperationsWithASealerAlone(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	sequencer.Register(l.reg, "note", func() *noting { return &noting{l: l} })
	if _, err := sequencer.New(memory.New(), l.reg, l.cfg); err == nil || !strings.Contains(err.Error(), "Config.Sealer") {
		t.Errorf("S15.3 without a sealer: %v, want an error that names Config.Sealer", err)
	}
	l.with(rings(t, "k1")[0])
}
