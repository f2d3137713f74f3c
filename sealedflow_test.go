package sequencer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

func TestSealedMembersAndCallbacks(t *testing.T) {
	t.Parallel()
	onFlows(t, func(t *testing.T, l *lab) { // Q6.14, Q7.1, Q7.7; W15
		ring := rings(t, "k1", "k1 k2", "k2")
		tell := sequencer.RegisterFuncOf(l.reg, "tell", func(_ context.Context, in secretNote) error {
			l.note(in.Text)
			if in.Text == "hush-bad" {
				return errors.New("the word is " + in.Text)
			}
			return nil
		}, sequencer.Mark[sequencer.Encrypted]())
		l.op("alert", func(ctx context.Context) error {
			f, _ := sequencer.FailureOf(ctx)
			l.note(fmt.Sprint(f.Name, strings.Contains(f.Message, "hush")))
			return nil
		})
		l.with(ring[0])
		say := func(text string) sequencer.Operation { return tell(secretNote{Text: text}) }
		l.start(l.Batch(say("hush-a")).
			Then(say("hush-then"), l.Chain(say("hush-b"), say("hush-c")).Finally(say("hush-d"))).Finally(say("hush-e")))
		l.start(l.Chain(op("alert"), say("hush-bad")).Catch(op("alert"), say("hush-f")))

		flows, err := l.store.Flows(t.Context(), storage.FlowFilter{})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range flows {
			callbacks, err := l.store.Callbacks(t.Context(), f.ID)
			if err != nil {
				t.Fatal(err)
			}
			text, err := storage.EncodeCallbacks(callbacks)
			if err != nil || bytes.Contains(text, []byte("hush")) {
				t.Errorf("callbacks are readable: %s, %v", text, err)
			}
		}

		l.with(ring[1]) // both keys, the new one seals
		done, err := l.Rekey(t.Context(), "a new key")
		if err != nil || done.Failed+done.Missed > 0 || done.Changed != 8 {
			t.Errorf("rekey: %+v, %v", done, err)
		}
		l.with(ring[2]) // the old one is gone
		uses, err := l.KeyUsage(t.Context())
		if err != nil || len(uses) != 1 || uses[0].KeyID != "k2" {
			t.Errorf("keys in use: %+v, %v", uses, err)
		}
		got := l.one()
		want := []string{"alert", "alert", "false", "hush-a", "hush-b", "hush-bad", "hush-c", "hush-d", "hush-e", "hush-f", "hush-then", "tellfalse"}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("did %q, want %q", got, want)
		}
	})
}
