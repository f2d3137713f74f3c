package sequencer_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

func TestWhatIsPausedWaitsUntilItIsResumedAndBothAreAudited(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, l *lab) { // Q10.18
		mail := sequencer.RegisterFuncOf(l.reg, "mail", func(context.Context, count) error { return nil }, sequencer.OnQueue("high"))
		ping := sequencer.RegisterFuncOf(l.reg, "ping", func(context.Context, count) error { return nil })
		pong := sequencer.RegisterFuncOf(l.reg, "pong", func(context.Context, count) error { return nil })
		l.open()
		pause := func(kind storage.PauseKind, name string) {
			t.Helper()
			if err := l.Pause(t.Context(), kind, name, "a fire"); err != nil {
				t.Fatal(err)
			}
		}
		pause(storage.PauseQueue, "high")
		want := storage.AuditEntry{Actor: "tester@lab", Action: "pause", Target: "queue high", Count: 1, Reason: "a fire"}
		if diff := cmp.Diff(want, l.audit()); diff != "" {
			t.Errorf("audit: %s", diff)
		}
		pause(storage.PauseOperation, "ping")
		for _, op := range []func(count) sequencer.Operation{mail, ping, pong} {
			l.enqueue(func(i int) sequencer.Operation { return op(count{i}) }, 3)
		}
		l.drain("high", "default")
		l.wantStates(map[string]int{"mail pending": 3, "ping pending": 3, "pong completed": 3})
		pauses, err := l.Pauses(t.Context())
		if err != nil || len(pauses) != 2 || pauses[0].Target() != "operation ping" || pauses[1].Reason != "a fire" {
			t.Errorf("pauses: %v, %v", pauses, err)
		}

		for kind, name := range map[storage.PauseKind]string{storage.PauseQueue: "high", storage.PauseOperation: "ping"} {
			if err := l.Resume(t.Context(), kind, name, "it is out"); err != nil {
				t.Fatal(err)
			}
			if e := l.audit(); e.Action != "resume" || e.Target != string(kind)+" "+name || e.Reason != "it is out" {
				t.Errorf("audit: %+v", e)
			}
		}
		l.drain("high", "default")
		l.wantStates(map[string]int{"mail completed": 3, "ping completed": 3, "pong completed": 3})
	})
}

func TestWhatCannotBePausedIsRefused(t *testing.T) {
	t.Parallel()
	l := newLab(t).open()
	for _, c := range []struct {
		kind       storage.PauseKind
		name, want string
	}{
		{"worker", "x", "it can be of a queue, an operation or a schedule"},
		{storage.PauseQueue, "", "needs the name of the queue"},
		{storage.PauseQueue, "@private", "is private"},
		{storage.PauseOperation, "two words", "contains ' '"},
	} {
		if err := l.Pause(t.Context(), c.kind, c.name, ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %q: %v, want %s", c.kind, c.name, err, c.want)
		}
	}
}
