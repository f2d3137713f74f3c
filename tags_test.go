package sequencer_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

func TestS16MatchTags(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		filter, tags string
		want         bool
	}{
		{"", "", true},
		{"", "billing", true},
		{"billing", "", false}, // S16.2: what has no tags is left out
		{"billing", "billing eu", true},
		{"billing eu", "eu", true}, // at least one
		{"billing", "Billing", false},
		{"billing", "billing2", false},
		{"-slow", "", true}, // S16.5
		{"-slow", "slow", false},
		{"billing -slow", "billing slow", false},
		{"billing -slow", "billing", true},
		{"billing -slow", "eu", false},
	} {
		if got := sequencer.MatchTags(strings.Fields(c.filter), strings.Fields(c.tags)); got != c.want {
			t.Errorf("filter %q, tags %q: %v, want %v", c.filter, c.tags, got, c.want)
		}
	}
}

func TestS164Q85WatchedTagsAreCountedAndOthersAreNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.cfg.WatchedTags = []string{"billing", "idle"}
		failures := 0
		op := sequencer.RegisterFuncOf(l.reg, "charge", func(_ context.Context, c count) error {
			time.Sleep(2 * time.Second) // in a bubble
			if c.N == 1 && failures < 3 {
				failures++
				return errBoom
			}
			return nil
		}, sequencer.Tagged("billing", "other"), sequencer.Tries(2))
		l.op(first, func(context.Context) error { return nil }, sequencer.Tagged("billing"))
		l.open()
		l.mustProcess() // the task of a run counts as well
		l.enqueue(func(i int) sequencer.Operation { return op(count{i}) }, 3)
		l.drain()
		l.enqueue(func(int) sequencer.Operation { return op(count{0}) }, 2, sequencer.Delay(time.Hour))
		got, err := l.TagStats(t.Context(), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		want := []sequencer.TagStatus{
			{Tag: "billing", Watched: true, Pending: 2, Tally: storage.Tally{Completed: 3, Failed: 1, Retried: 1, Ran: 8 * time.Second / 5}},
			{Tag: "idle", Watched: true},
		}
		for i := range got {
			got[i].Waited = 0
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("tags: %s", diff)
		}
		if _, err := l.Rollback(t.Context(), first, sequencer.RollbackOptions{}); err != nil {
			t.Fatal(err)
		}
		l.cfg.WatchedTags = nil
		l.open()
		if got, err = l.TagStats(t.Context(), time.Time{}); err != nil || len(got) != 1 || got[0].Watched || got[0].Completed != 3 {
			t.Errorf("what is not watched any more: %+v, %v; want billing with three completed: an undoing is none of its endings", got, err)
		}
	})
}

func TestQ85ALostAttemptCountsForItsTags(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.cfg.WatchedTags = []string{"billing"}
		once := true
		op := sequencer.RegisterFunc(l.reg, "charge", func(ctx context.Context) error {
			if once {
				once = false
				if err := l.store.Leave(ctx, l.running("charge")); err != nil {
					return err
				}
				<-ctx.Done()
			}
			return nil
		}, sequencer.Tagged("billing"))
		l.open()
		if _, err := l.Dispatch(t.Context(), op); err != nil {
			t.Fatal(err)
		}
		l.drain()
		got, err := l.TagStats(t.Context(), time.Time{})
		if err != nil || len(got) != 1 || got[0].Completed != 1 || got[0].Retried != 1 {
			t.Errorf("tags: %+v, %v; want one completed after one that was lost", got, err)
		}
	})
}

func TestQ85WatchedTagsAreBounded(t *testing.T) {
	t.Parallel()
	for want, tags := range map[string][]string{
		"100 at most":  strings.Fields(strings.Repeat("x ", sequencer.MaxWatchedTags+1)),
		"WatchedTags:": {"no spaces"},
	} {
		l := newLab(t)
		l.cfg.WatchedTags = tags
		if _, err := sequencer.New(l.store, l.reg, l.cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
