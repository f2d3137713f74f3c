// Package guides_test runs what the guides show. Each example declares an
// operation, hands it to a sequencer, and lets a worker serve it in a bubble in
// which hours take no time; what the sequencer said meanwhile is the output that
// the guide prints.
package guides_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage/memory"
)

// errUnavailable is what a flaky service answers.
var errUnavailable = errors.New("503 Service Unavailable")

// flaky fails so many times before it works.
type flaky struct{ failures int }

func (f *flaky) Post(ctx context.Context, _ string, _ any) error {
	if f.failures > 0 {
		f.failures--
		return errUnavailable
	}
	return nil
}

// page is the printed output of an example: one line each, with the time since it
// began. Times that a jitter makes inexact, of a minute and more, are cut to minutes
// in an example that is coarse.
type page struct {
	coarse bool
	began  time.Time
	into   *page      // what is said here belongs there
	mu     sync.Mutex // guards text
	text   strings.Builder
}

func (p *page) say(format string, args ...any) {
	if p.into != nil {
		p = p.into
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(&p.text, "%6s  %s\n", "+"+p.cut(time.Since(p.began)), fmt.Sprintf(format, args...))
}

func (p *page) cut(d time.Duration) string {
	if d = d.Round(time.Second); p.coarse && d >= time.Minute {
		d = d.Truncate(time.Minute)
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	return text
}

// identity is what differs from run to run.
var identity = regexp.MustCompile(` [0-9a-f]{8}-[0-9a-f-]{27} \(.*?\) until .*`)

// hear is an observer: the same events feed metrics, traces and alerts.
func (p *page) hear(_ context.Context, e sequencer.Event) {
	switch e.Kind {
	case sequencer.EventStarted:
		p.say("%s: attempt %d", e.Name, e.Attempt)
	case sequencer.EventRetrying:
		p.say("%s: %v, again in %s", e.Name, e.Err, p.cut(e.Next))
	case sequencer.EventReleased:
		why := identity.ReplaceAllString(e.Reason, " …")
		p.say("%s: %s", e.Name, strings.TrimSuffix("waits "+p.cut(e.Next)+": "+why, ": "))
	case sequencer.EventApprovalNeeded:
		asked, _, _ := strings.Cut(e.Reason, " (")
		p.say("%s: %s", e.Name, asked)
	case sequencer.EventFailed:
		p.say("%s: failed: %v", e.Name, e.Err)
	case sequencer.EventSkipped, sequencer.EventCancelled:
		p.say("%s: %s: %s", e.Name, e.Kind, e.Reason)
	case sequencer.EventCompleted, sequencer.EventDuplicate:
		p.say("%s: %s", e.Name, e.Kind)
	case sequencer.EventFlowEnded:
		p.say("%s: %s", strings.TrimSpace("the "+e.Method+" "+e.Name), e.State)
	default: // the others say nothing that an example is about
	}
}

// example runs an example and compares what it said with the block that follows
// <!-- output: NAME --> in the guide.
func example(t *testing.T, name string, reg *sequencer.Registry, cfg sequencer.Config, run func(ctx context.Context, seq *sequencer.Sequencer, out *page) error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		out := &page{began: time.Now(), coarse: len(cfg.Limiters) > 0 || name == "Throttle"}
		cfg.Observers = append(cfg.Observers, out.hear)
		cfg.Logger = slog.New(slog.DiscardHandler)
		seq, err := sequencer.New(memory.New(), reg, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := run(t.Context(), seq, out); err != nil {
			t.Fatal(err)
		}
		slots := 1
		if name == "Overlap" {
			slots = 2
		}
		if err := seq.Work(t.Context(), sequencer.WorkerConfig{Slots: slots, StopWhenEmptyFor: 10 * time.Minute}); err != nil {
			t.Fatal(err)
		}
		want, ok := printed(t, name)
		if got := out.text.String(); !ok || got != want {
			t.Errorf("advanced-operations.md does not print under <!-- output: %s --> what comes out:\n%s", name, got)
		}
	})
}

// printed is the output that the guide shows for an example.
func printed(t *testing.T, name string) (string, bool) {
	t.Helper()
	guide, err := os.ReadFile("advanced-operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(guide), "<!-- output: "+name+" -->\n```text\n")
	block, _, closed := strings.Cut(rest, "```\n")
	return block, found && closed
}

// dispatch is the whole example where nothing more is to be shown.
func dispatch(ops ...sequencer.Operation) func(ctx context.Context, seq *sequencer.Sequencer, out *page) error {
	return func(ctx context.Context, seq *sequencer.Sequencer, _ *page) error {
		_, err := seq.DispatchAll(ctx, ops...)
		return err
	}
}
