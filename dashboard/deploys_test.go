package dashboard_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/dashboard"
	"github.com/gosequencer/sequencer/storage/memory"
)

func TestTheTasksOfALargeRunAreListedAPageAtATime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		tasks int
		drawn bool
	}{{200, true}, {201, false}} {
		reg := sequencer.NewRegistry()
		for i := range c.tasks {
			at := time.Date(2026, 1, 1, 0, 0, i, 0, time.UTC)
			sequencer.RegisterFunc(reg, at.Format("20060102150405")+"_step", func(context.Context) error { return nil })
		}
		seq, err := sequencer.New(memory.New(), reg, sequencer.Config{})
		if err != nil {
			t.Fatal(err)
		}
		report, err := seq.Process(t.Context(), sequencer.RunOptions{})
		if err != nil {
			t.Fatal(err)
		}
		h, err := dashboard.New(seq, dashboard.Options{})
		if err != nil {
			t.Fatal(err)
		}
		v := &visit{t: t, server: httptest.NewServer(h)}
		t.Cleanup(v.server.Close)
		body := v.page("/deploys/" + report.RunID)
		if got := strings.Contains(body, "Timeline"); got != c.drawn {
			t.Errorf("%d tasks: drawn is %t, want %t", c.tasks, got, c.drawn)
		}
		if n := strings.Count(body, "_step</a>"); !c.drawn && n > 50 {
			t.Errorf("%d of %d tasks stand on one page", n, c.tasks)
		}
		if !c.drawn && !strings.Contains(body, "Further") {
			t.Error("nothing leads to the tasks that are not on the page")
		}
	}
}
