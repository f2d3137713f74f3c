package sequencer_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/memory"
	"github.com/gosequencer/sequencer/storage/mysql"
	"github.com/gosequencer/sequencer/storage/postgres"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

// letter is input that strangers may have a hand in.
type letter struct {
	Text  string
	Bytes []byte
	Own   json.RawMessage `json:"own,omitempty"`
	Key   string          `json:"key,omitempty"`
	Line  string          `json:"line,omitempty"`
}

func (l *letter) UniqueID() string { return l.Key + string(l.Bytes) }
func (l *letter) Queue() string {
	if l.Line == "" {
		return "default"
	}
	return l.Line
}

// letters registers an operation that keeps the letters it was handed.
func (l *lab) letters() (op func(letter) sequencer.Operation, got func() []letter) {
	var all []letter
	op = sequencer.RegisterFuncOf(l.reg, "letter", func(_ context.Context, in letter) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		all = append(all, in)
		return nil
	})
	return op, func() []letter {
		l.mu.Lock()
		defer l.mu.Unlock()
		return all
	}
}

// onEvery runs a test on memory and on both SQL stores.
func onEvery(t *testing.T, test func(t *testing.T, l *lab)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, newLab(t))
	})
	onSQL(t, func(t *testing.T, l *sqlLab) { test(t, l.lab) })
}

func TestInputIsRestoredWhateverIsInIt_S1_6(t *testing.T) {
	t.Parallel()
	onEvery(t, func(t *testing.T, l *lab) {
		op, got := l.letters()
		l.open()
		var want []letter
		for _, text := range []string{"", "a\x00b", "\x00", `"'; DROP TABLE x; --`, "<&>\u2028\ufffd", "日本語 🚂", strings.Repeat("long ", 10_000)} {
			want = append(want, letter{Text: text, Bytes: []byte("\xff\x00" + text), Key: fmt.Sprint(len(want))})
			if _, err := l.Dispatch(t.Context(), op(want[len(want)-1])); err != nil {
				t.Fatalf("Dispatch of %.40q: %v", text, err)
			}
		}
		if err := l.Work(t.Context(), sequencer.WorkerConfig{Slots: 1, StopWhenEmpty: true}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got()); diff != "" {
			t.Errorf("input (-handed over +restored):\n%.2000s", diff)
		}
	})
}

func TestADispatchThatCannotBeMeantWritesNothing(t *testing.T) {
	t.Parallel()
	onEvery(t, func(t *testing.T, l *lab) {
		op, _ := l.letters()
		l.open()
		good := op(letter{Text: "good"})
		for name, c := range map[string]struct {
			op   sequencer.Operation
			want string
		}{
			"Q10.5 a negative delay":            {sequencer.With(good, sequencer.Delay(-time.Second)), "letter: a delay of -1s is negative: use zero to start at once"},
			"a queue with a blank":              {sequencer.With(good, sequencer.OnQueue("two words")), `letter: queue "two words" contains ' '`},
			"a queue of its own, with a blank":  {op(letter{Line: "two words"}), `queue "two words" contains ' '`},
			"a queue with a NUL byte":           {sequencer.With(good, sequencer.OnQueue("a\x00b")), `queue "a\x00b" contains '\x00'`},
			"a private queue":                   {sequencer.With(good, sequencer.OnQueue("@x")), `queue "@x" contains '@'`},
			"a queue without a name":            {sequencer.With(good, sequencer.OnQueue(" ")), "the queue is empty"},
			"a queue whose name has no end":     {sequencer.With(good, sequencer.OnQueue(strings.Repeat("x", 129))), "has 129 bytes: 128 is the limit"},
			"a tag with a NUL byte":             {sequencer.With(good, sequencer.Tagged("a\x00b")), `tag "a\x00b" contains`},
			"an operation with a NUL byte":      {sequencer.Named("let\x00ter", nil), `operation "let\x00ter" is not registered`},
			"an input of 10 MB":                 {op(letter{Text: strings.Repeat("x", 10<<20)}), "letter: the input has 10485"},
			"a string that is not UTF-8":        {op(letter{Text: "half a rune \xe2\x82"}), "letter: the input has a string that is not UTF-8"},
			"the same by name":                  {sequencer.Named("letter", map[string]string{"Text": "\xe2\x82"}), "letter: the input has a string that is not UTF-8"},
			"the same as JSON":                  {sequencer.Named("letter", json.RawMessage("{\"Text\":\"\xe2\x82\"}")), "letter: the input has a string that is not UTF-8"},
			"no priority":                       {sequencer.With(good, sequencer.Priority(0)), "priority 0 does not exist"},
			"a connection that is not there":    {sequencer.With(good, sequencer.OnConnection("fast")), `connection "fast" is not configured`},
			"tries without an end":              {sequencer.With(good, sequencer.Tries(-1)), "Tries is -1"},
			"input of another shape":            {sequencer.Named("letter", map[string]any{"Text": 1}), "letter: input field Text: a JSON number does not fit string"},
			"input with a field too many":       {sequencer.Named("letter", map[string]any{"Texd": "x"}), `letter: input: json: unknown field "Texd"`},
			"a nil operation":                   {nil, "a nil operation was handed over"},
			"a nil option":                      {sequencer.With(good, nil), "a nil option"},
			"a deadline before it is runnable":  {sequencer.With(good, sequencer.RetryFor(-time.Second)), "RetryFor is -1s"},
			"a type that nobody has registered": {&alone{}, "is not registered"},
		} {
			if _, err := l.DispatchAll(t.Context(), good, c.op); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %.300v; want something with %q", name, err, c.want)
			}
		}
		if rows := l.rows(storage.Filter{}); len(rows) > 0 {
			t.Errorf("%d executions were written by dispatches that failed", len(rows))
		}
	})
}

func TestAReplacementCharacterThatIsMeantIsNoDamage(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	op, got := l.letters()
	l.open()
	for _, good := range []sequencer.Operation{
		op(letter{Text: "\ufffd", Key: "1"}),
		op(letter{Own: json.RawMessage(`"\ufffd"`), Key: "2"}),
		sequencer.Named("letter", json.RawMessage(`{"Text":"\ufffd","key":"3"}`)),
	} {
		if _, err := l.Dispatch(t.Context(), good); err != nil {
			t.Error(err)
		}
	}
	_, err := l.Dispatch(t.Context(), op(letter{Text: "\xff", Own: json.RawMessage(`"\ufffd"`), Key: "4"}))
	if err == nil || !strings.Contains(err.Error(), "not UTF-8") {
		t.Errorf("damage beside one that is meant: %v", err)
	}
	l.drain()
	if n := len(got()); n != 3 {
		t.Errorf("%d letters arrived, want 3", n)
	}
}

func TestAnInputMayBeAsLargeAsTheConfigurationSaysOnEveryStore(t *testing.T) {
	t.Parallel()
	onEvery(t, func(t *testing.T, l *lab) {
		op, got := l.letters()
		l.cfg.MaxInput = storage.MaxInput
		l.open()
		frame := len("\x01\x00" + `{"Text":"","Bytes":null}`)
		most := op(letter{Text: strings.Repeat("x", storage.MaxInput-frame)})
		if _, err := l.Dispatch(t.Context(), most); err != nil {
			t.Fatalf("8 MiB: %v", err)
		}
		_, err := l.Dispatch(t.Context(), op(letter{Text: strings.Repeat("x", storage.MaxInput-frame+1)}))
		if large, ok := errors.AsType[*sequencer.InputTooLargeError](err); !ok || large.Size != storage.MaxInput+1 || large.Limit != storage.MaxInput {
			t.Errorf("a byte more: %v", err)
		}
		l.drain()
		if all := got(); len(all) != 1 || len(all[0].Text) != storage.MaxInput-frame {
			t.Errorf("%d letters arrived, want the large one whole", len(all))
		}
	})
}

// A unique id is whatever text an operation answers: a URL, bytes, nothing.
func TestAUniqueIDMayBeAnyText_Q4_1(t *testing.T) {
	t.Parallel()
	onEvery(t, func(t *testing.T, l *lab) {
		op, _ := l.letters()
		l.open()
		long := "" // more than an index takes
		for i := range 3000 {
			long += fmt.Sprint(i * i)
		}
		for _, id := range []string{"", "a b", "a\x00b", "half a rune \xe2\x82", "\xff", "\xfe", long, long + "y"} {
			first, err := l.Dispatch(t.Context(), op(letter{Bytes: []byte(id)}))
			if err != nil {
				t.Fatalf("%.40q: %v", id, err)
			}
			second, err := l.Dispatch(t.Context(), op(letter{Bytes: []byte(id)}))
			if err != nil || first.Duplicate || !second.Duplicate || second.HolderID != first.ID {
				t.Errorf("%.40q: %+v, then %+v, %v; want the second a duplicate of the first", id, first, second, err)
			}
		}
	})
}

func TestInputThatNoLongerDecodesFailsForGoodAndRunsOnceItIsMended_Q1_36(t *testing.T) {
	t.Parallel()
	onEvery(t, func(t *testing.T, l *lab) {
		op, _ := l.letters()
		l.open()
		first, err := l.Dispatch(t.Context(), op(letter{Text: "four", Key: "k"}))
		if err != nil {
			t.Fatal(err)
		}

		broken := newLab(t)
		broken.store = l.store
		sequencer.RegisterFuncOf(broken.reg, "letter", func(context.Context, struct{ Text int }) error { return nil },
			sequencer.Tries(5), sequencer.OnFailed(func(context.Context, error) error { broken.note("hook"); return nil }))
		broken.open().drain()
		row := broken.rows(storage.Filter{Name: "letter"})[0]
		if row.State != storage.Failed || row.Attempts() != 1 ||
			row.LastError != "stored input does not fit the operation: letter: input field Text: a JSON string does not fit int" {
			t.Errorf("%s after %d attempts with %q, want failed at the first", row.State, row.Attempts(), row.LastError)
		}
		if attempts, err := l.store.Attempts(t.Context(), row.ID); err != nil || len(attempts) != 1 || attempts[0].Group == "" {
			t.Errorf("attempts %+v, %v; want one, with its group", attempts, err)
		}
		second, err := l.Dispatch(t.Context(), op(letter{Text: "five", Key: "k"}))
		if err != nil || second.Duplicate {
			t.Errorf("%+v, %v; want the failed one to have given up its key", second, err)
		}
		if err := l.Cancel(t.Context(), second.ID, ""); err != nil {
			t.Fatal(err)
		}

		mended := newLab(t)
		mended.store = l.store
		_, got := mended.letters()
		mended.open()
		if err := mended.Retry(t.Context(), first.ID, "the field is text again"); err != nil {
			t.Fatal(err)
		}
		mended.drain()
		if all := got(); len(all) != 1 || all[0].Text != "four" {
			t.Errorf("%+v arrived, want the letter as it was handed over", all)
		}
	})
}

func TestInATransactionThatIsNoneNothingIsQueued_Q10_4(t *testing.T) {
	t.Parallel()
	onSQL(t, func(t *testing.T, l *sqlLab) {
		op, _ := l.letters()
		l.cfg.Connections = map[string]storage.Store{"fast": memory.New()}
		l.open()
		wrap := map[string]func(*sql.Tx) storage.Tx{"sqlite": sqlite.Tx, "postgres": postgres.SQLTx, "mysql": mysql.Tx}[l.store.Name()]
		for name, tx := range map[string]storage.Tx{"none": nil, "a nil pgx.Tx": postgres.Tx(nil), "a nil *sql.Tx": wrap(nil)} {
			if _, err := l.In(tx).Dispatch(t.Context(), op(letter{})); !errors.Is(err, sequencer.ErrNoTx) || !strings.Contains(err.Error(), "it is nil") {
				t.Errorf("%s: %v, want ErrNoTx", name, err)
			}
		}
		over, err := l.db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.In(wrap(over)).Dispatch(t.Context(), op(letter{}), sequencer.OnConnection("fast")); !errors.Is(err, storage.ErrForeignTx) {
			t.Errorf("for another connection: %v, want ErrForeignTx", err)
		}
		if err := over.Rollback(); err != nil {
			t.Fatal(err)
		}
		if _, err := l.In(wrap(over)).Dispatch(t.Context(), op(letter{})); !errors.Is(err, sql.ErrTxDone) || errors.Is(err, storage.ErrForeignTx) {
			t.Errorf("one that is over: %v, want sql.ErrTxDone", err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := l.Dispatch(ended, op(letter{})); !errors.Is(err, context.Canceled) {
			t.Errorf("a context that has ended: %v", err)
		}
		if receipts, err := l.DispatchAll(t.Context()); err != nil || len(receipts) != 0 {
			t.Errorf("nothing to dispatch: %v, %v", receipts, err)
		}
		if rows := l.rows(storage.Filter{}); len(rows) > 0 {
			t.Errorf("%d executions were written", len(rows))
		}
	})
}

// All forms of dispatch in one transaction of the caller's, kept and given up.
func TestDispatchesInATransactionAreOneWithIt_Q10_4(t *testing.T) {
	t.Parallel()
	onSQL(t, func(t *testing.T, l *sqlLab) {
		op, _ := l.letters()
		l.open()
		wrap := map[string]func(*sql.Tx) storage.Tx{"sqlite": sqlite.Tx, "postgres": postgres.SQLTx, "mysql": mysql.Tx}[l.store.Name()]
		for _, commit := range []bool{false, true} {
			tx, err := l.db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			in := l.In(wrap(tx))
			first, err := in.Dispatch(t.Context(), op(letter{Key: "one"}), sequencer.OnQueue("low"), sequencer.Priority(3), sequencer.Delay(time.Hour))
			if err != nil || first.Duplicate {
				t.Fatalf("Dispatch: %+v, %v", first, err)
			}
			again, err := in.DispatchAll(t.Context(), op(letter{Key: "one"}), op(letter{Key: "two"}))
			if err != nil || !again[0].Duplicate || again[0].HolderID != first.ID || again[1].Duplicate {
				t.Fatalf("DispatchAll: %+v, %v; want the first a duplicate inside the transaction", again, err)
			}
			if commit {
				err = tx.Commit()
			} else {
				err = tx.Rollback()
			}
			if err != nil {
				t.Fatal(err)
			}
			if rows := l.rows(storage.Filter{Name: "letter"}); len(rows) != map[bool]int{true: 2}[commit] {
				t.Errorf("commit %v: %d executions", commit, len(rows))
			}
		}
		for _, row := range l.rows(storage.Filter{Name: "letter"}) {
			if row.UniqueKey == "id:letter:one" && (row.Queue != "low" || row.Priority != 3 || time.Until(row.DueAt) < 50*time.Minute) {
				t.Errorf("queued as %+v", row)
			}
		}
	})
}

func TestADelayBoundsTheFirstAttemptAlone_Q10_5_S12_10(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		began := time.Now()
		op := sequencer.RegisterFuncOf(l.reg, "letter", func(context.Context, letter) error {
			l.note(time.Since(began).Round(time.Second).String())
			return errBoom
		}, sequencer.Tries(2), sequencer.Backoff(time.Second))
		l.open()
		for key, opt := range map[string]sequencer.DispatchOption{
			"later": sequencer.Delay(time.Minute), "at": sequencer.At(began.Add(2 * time.Minute)),
			"past": sequencer.At(began.Add(-time.Hour)), "never set": sequencer.At(time.Time{}), "at once": sequencer.Delay(0),
		} {
			if _, err := l.Dispatch(t.Context(), op(letter{Key: key}), opt); err != nil {
				t.Errorf("%s: %v", key, err)
			}
		}
		if err := l.Work(t.Context(), sequencer.WorkerConfig{StopWhenEmptyFor: 10 * time.Minute}); err != nil {
			t.Fatal(err)
		}
		l.fired("attempts", "0s", "0s", "0s", "1m0s", "1m1s", "1s", "1s", "1s", "2m0s", "2m1s")
	})
}

func TestAConditionOfTheCallerDecidesBeforeAnythingIsLookedAt_S31_2_Q10_1(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op("work", nil)
	l.open()
	unknown := sequencer.Named("unknown", nil)
	if err := errors.Join(l.ExecuteIf(t.Context(), false, unknown), l.ExecuteUnless(t.Context(), true, unknown)); err != nil {
		t.Errorf("a condition that does not hold looked at the operation: %v", err)
	}
	if err := l.ExecuteIf(t.Context(), true, unknown); !errors.Is(err, sequencer.ErrOperationNotFound) { // S31.5
		t.Errorf("ExecuteIf(true): %v, want ErrOperationNotFound", err)
	}
	work := sequencer.Named("work", nil)
	if err := errors.Join(l.ExecuteIf(t.Context(), true, work), l.ExecuteUnless(t.Context(), false, work, sequencer.Tagged("x"))); err != nil {
		t.Error(err)
	}
	l.expect("work", "work")
	if n := len(l.rows(storage.Filter{})); n != 2 {
		t.Errorf("%d executions, want the two that ran", n)
	}
}

func TestTheMarkDecidesWhereExecuteRuns_Q10_2_S31_3(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.op("here", nil)
	l.op("queued", nil, sequencer.Mark[sequencer.Async]())
	l.open()
	for _, name := range []string{"here", "queued"} {
		if err := l.Execute(t.Context(), sequencer.Named(name, nil), sequencer.OnQueue("low"), sequencer.Priority(1)); err != nil {
			t.Fatal(err)
		}
	}
	l.expect("here")
	row := l.rows(storage.Filter{Name: "queued"})[0]
	if row.State != storage.Pending || row.Queue != "low" || row.Priority != 1 {
		t.Errorf("the queued one is %s in %s at priority %d", row.State, row.Queue, row.Priority)
	}
	if err := l.ExecuteSync(t.Context(), sequencer.Named("queued", nil)); err != nil {
		t.Error(err)
	}
	l.expect("queued")
	l.wantStates(map[string]int{"here completed": 1, "queued completed": 1, "queued pending": 1})
}
