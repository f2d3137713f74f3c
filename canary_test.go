package sequencer_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/cli"
	"github.com/gosequencer/sequencer/middleware"
	"github.com/gosequencer/sequencer/seal"
	"github.com/gosequencer/sequencer/storage"
)

// canary is the secret that must be found nowhere.
const canary = "CANARY-4111-1111"

// spellings are the forms that a text or a dump may show it in.
func spellings() []string {
	numbers := strings.Trim(fmt.Sprintf("%d", []byte(canary)), "[]")
	all := []string{canary, hex.EncodeToString([]byte(canary)), numbers, strings.ReplaceAll(numbers, " ", ", ")}
	for lead := range 3 { // base64 depends on where in three bytes it begins
		text := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", lead) + canary))
		all = append(all, text[4:len(text)-3])
	}
	return all
}

// watch collects all that was shown, by where.
type watch struct {
	mu   sync.Mutex
	seen map[string][]string
}

func (w *watch) show(where string, values ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, v := range values {
		w.seen[where] = append(w.seen[where], fmt.Sprintf("%v %+v", v, v))
		if text, err := json.Marshal(v); err == nil {
			w.seen[where] = append(w.seen[where], string(text))
		}
	}
}

func (w *watch) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen["log"] = append(w.seen["log"], string(p))
	return len(p), nil
}

// leaks are the places where the secret was seen, and one of the texts for each.
func (w *watch) leaks() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	found := map[string]string{}
	for where, texts := range w.seen {
		for _, text := range texts {
			for _, form := range spellings() {
				if at := strings.Index(text, form); at >= 0 {
					found[where] = text[max(at-80, 0):min(at+80, len(text))]
				}
			}
		}
	}
	return found
}

// charge is an operation that says its input in every way it has.
type charge struct {
	Card string `json:"card"`
	How  string `json:"how"`
}

func (c *charge) UniqueID() string { return c.Card }

func (c *charge) Middleware() []sequencer.Middleware {
	return []sequencer.Middleware{middleware.WithoutOverlapping(c.Card)}
}

func (c *charge) run(ctx context.Context) error {
	if err := sequencer.Checkpoint(ctx, c); err != nil {
		return err
	}
	if err := sequencer.SetResult(ctx, "receipt for "+c.Card); err != nil {
		return err
	}
	switch c.How {
	case "error":
		return fmt.Errorf("charging %s: %w", c.Card, errDeclined)
	case "panic":
		panic("cannot charge " + c.Card)
	case "join":
		return errors.Join(sequencer.Fail(errors.New("no "+c.Card)), fmt.Errorf("%s: %w", c.Card, sequencer.Skip("x")))
	case "release":
		return fmt.Errorf("later, %s: %w", c.Card, sequencer.Release(0))
	}
	return nil
}

var errDeclined = errors.New("declined")

type (
	secretCharge struct {
		sequencer.Encrypted
		charge
	}
	plainCharge struct{ charge }
)

func (c *secretCharge) Handle(ctx context.Context) error { return c.run(ctx) }
func (c *plainCharge) Handle(ctx context.Context) error  { return c.run(ctx) }

func (c *secretCharge) Rollback(ctx context.Context) error { return undoCharge(ctx, c.charge) }
func (c *plainCharge) Rollback(ctx context.Context) error  { return undoCharge(ctx, c.charge) }

func undoCharge(ctx context.Context, c charge) error {
	receipt, err := sequencer.ResultOf[string](ctx, "")
	if err != nil || receipt != "receipt for "+c.Card {
		return fmt.Errorf("%q, %w", receipt, err)
	}
	return errors.New("cannot give back to " + c.Card)
}

func (c *secretCharge) Failed(_ context.Context, cause error) error {
	return fmt.Errorf("telling %s of %w", c.Card, cause)
}

// everywhere runs a charge in all ways there are, and watches.
func everywhere(t *testing.T, store storage.Store, dump func() string, secret bool) *watch {
	t.Helper()
	w := &watch{seen: map[string][]string{}}
	l := newLab(t)
	l.store = store
	l.cfg.Logger = slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
	l.cfg.Observers = []sequencer.Observer{func(_ context.Context, e sequencer.Event) { w.show("event", e) }}
	l.cfg.Middleware = []sequencer.Middleware{sequencer.MiddlewareFunc(func(next sequencer.Handler) sequencer.Handler {
		return func(ctx context.Context, a *sequencer.Attempt) error {
			err := next(ctx, a)
			w.show("attempt", a)
			sequencer.Log(ctx).InfoContext(ctx, "seen", "attempt", a)
			locks, lockErr := store.Locks(ctx)
			w.show("lock", locks, lockErr)
			return err
		}
	})}
	file, err := seal.NewFile("k1")
	if err != nil {
		t.Fatal(err)
	}
	if l.cfg.Sealer, err = file.Ring(); err != nil {
		t.Fatal(err)
	}
	make := func(how string) sequencer.Operation {
		if secret {
			return &secretCharge{charge: charge{Card: canary, How: how}}
		}
		return &plainCharge{charge{Card: canary, How: how}}
	}
	for name, how := range map[string]string{"20240101000000_charge": "", "20240102000000_decline": "error", "charge": ""} {
		sequencer.Register(l.reg, name, func() sequencer.Operation { return make(how) }, sequencer.Tries(2), sequencer.RetryFor(1e12))
	}
	l.open()
	if err := l.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for _, how := range []string{"", "error", "panic", "join", "release"} {
		op := sequencer.Named("charge", make(how))
		w.show("named", op)
		err := l.ExecuteSync(ctx, op)
		w.show("sync error", err)
		if how == "error" && !errors.Is(err, errDeclined) {
			t.Errorf("the caller cannot tell what happened: %v", err)
		}
		receipts, err := l.DispatchAll(ctx, op, op)
		w.show("receipt", receipts, err)
		l.drain()
	}
	plan, err := l.Preview(ctx, sequencer.RunOptions{})
	w.show("plan", plan, err)
	report, err := l.Process(ctx, sequencer.RunOptions{})
	w.show("run", report, err)
	report, err = l.Rollback(ctx, "20240101000000_charge", sequencer.RollbackOptions{})
	w.show("rollback", report, err)
	if err == nil {
		t.Error("the rollback was to fail")
	}
	for _, args := range [][]string{
		{"status", "-v"},
		{"status", "--json"},
		{"status", "--history", "--json"},
		{"plan", "--json"},
		{"process", "-v"},
		{"process", "--json"},
		{"rollback", "20240101000000_charge", "--yes", "-v"},
		{"rekey", "--dry-run", "--json"},
		{"rekey", "--json"},
		{"retry", "20240102000000_decline", "--json"},
		{"execute", "charge", "--sync", "-v", "--input", `{"card":"` + canary + `","how":"error"}`},
		{"execute", "charge", "--input", `{"card":"` + canary + `",}`},
		{"execute", "charge", "--input", `{"card":["` + canary + `"]}`},
		{"execute", "charge", "--async", "--json", "--input", `{"card":"` + canary + `","how":"panic"}`},
	} {
		var out bytes.Buffer
		code := cli.Main(ctx, l.Sequencer, args, strings.NewReader(""), &out, &out)
		w.show("command "+args[0], fmt.Sprint(code), out.String())
	}
	var ids []storage.ID
	rows, err := store.Executions(ctx, storage.Filter{Limit: 1000})
	w.show("execution", rows, err)
	for _, row := range rows {
		w.show("execution", row)
		ids = append(ids, row.ID)
	}
	attempts, err := store.Attempts(ctx, ids...)
	w.show("failed attempt", attempts, err)
	audit, err := store.Audit(ctx, storage.AuditFilter{})
	w.show("audit", audit, err)
	w.show("sequencer", l.Config(), file, l.cfg.Sealer)
	w.seen["database"] = append(w.seen["database"], dump())
	wantRevealed(t, l, attempts, secret)
	return w
}

// wantRevealed expects that whoever has the key reads the messages.
func wantRevealed(t *testing.T, l *lab, attempts []storage.Attempt, secret bool) {
	t.Helper()
	n, undo := 0, false
	for _, a := range attempts {
		message, err := l.Reveal(t.Context(), a)
		if err != nil {
			t.Errorf("Reveal: %v", err)
		}
		if strings.Contains(message, canary) {
			n++
		}
		undo = undo || message == "cannot give back to "+canary
		if secret && a.Outcome == "panic" && !strings.Contains(a.Trace, "canary_test.go") {
			t.Errorf("Q7.4: the stack is not kept: %s", a.Trace)
		}
		if secret && a.Outcome == "error" && a.Type == "" {
			t.Errorf("Q7.4: the kind of error is not kept: %+v", a)
		}
	}
	if n < 5 || !undo {
		t.Errorf("Q7.4: %d messages of %d were revealed, want those of handlers and of the rollback (%v)", n, len(attempts), undo)
	}
}

func TestTheInputOfAnEncryptedOperationIsSeenNowhere(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, store storage.Store, dump func() string) {
		w := everywhere(t, store, dump, true)
		for where, text := range w.leaks() {
			t.Errorf("S15.4 Q7.3 the secret is in: %s: %q", where, text)
		}
	})
}

// The control: without Encrypted, the same search finds it wherever it is kept or told.
func TestTheInputOfAnOrdinaryOperationIsSeenWhereItIsKept(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, store storage.Store, dump func() string) {
		found := everywhere(t, store, dump, false).leaks()
		for _, where := range []string{"log", "event", "lock", "sync error", "run", "rollback", "execution", "failed attempt", "database", "command status", "command execute", "command process"} {
			if _, ok := found[where]; !ok && (where != "database" || store.Name() != "memory") {
				t.Errorf("the search does not find the secret in: %s", where)
			}
		}
	})
}
