package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/wording"
)

// monitorCommand compares queues with limits.
type monitorCommand struct {
	limits  sequencer.Limits
	maxAge  age
	special []string
}

const (
	defaultMaxReady = 1000 // Q10.20
	defaultMaxAge   = 5 * time.Minute
)

func newMonitor(a *app) *cobra.Command {
	c := &monitorCommand{maxAge: age{d: defaultMaxAge, never: true}}
	cmd := &cobra.Command{
		Use:   "monitor",
		Short: "Exit 5 if a queue is too full or too slow",
		Long: "Compares each queue with limits, once: how many executions are due, how long the oldest of them has waited,\n" +
			"how many there are with those that are due later and those that run. A limit that is reached makes the\n" +
			"exit code 5. --queue gives a queue limits of its own, and watches it although it holds nothing; what it\n" +
			"does not name has none there.",
		Example: "  " + a.root.Name() + " monitor\n" +
			"  " + a.root.Name() + " monitor --max-ready 500 --max-age 2m --queue high=ready:50,age:30s --queue reports=off",
		Args: takes(),
		RunE: a.with(c.body),
	}
	f := cmd.Flags()
	f.Int64Var(&c.limits.Ready, "max-ready", defaultMaxReady, "this many are due; 0 = no limit")
	f.Var(&c.maxAge, "max-age", "the oldest has been due for this long, or never")
	f.Int64Var(&c.limits.Size, "max-size", 0, "this many are due, due later or running; 0 = no limit")
	f.StringArrayVar(&c.special, "queue", nil, "limits of one queue, as NAME=ready:N,age:D,size:N or NAME=off; may be repeated")
	return cmd
}

func (c *monitorCommand) body(ctx context.Context, s *session) error {
	if c.limits.Ready < 0 || c.limits.Size < 0 {
		return usagef("--max-ready %d --max-size %d: want 0 (no limit) or more", c.limits.Ready, c.limits.Size)
	}
	if c.maxAge.d != sequencer.KeepForever {
		c.limits.Age = c.maxAge.d
	}
	t := sequencer.Thresholds{Default: c.limits, Queues: map[string]sequencer.Limits{}}
	for _, text := range c.special {
		name, limits, err := parseLimits(text)
		if err != nil {
			return err
		}
		if _, twice := t.Queues[name]; twice {
			return usagef("--queue %s is given twice", name)
		}
		t.Queues[name] = limits
	}
	found, err := s.Seq.Monitor(ctx, t)
	if err != nil {
		return err
	}
	exceeded := 0
	for _, q := range found {
		exceeded += len(q.Exceeded)
	}
	if s.json {
		s.document(map[string]any{"ok": exceeded == 0, "queues": found})
	} else {
		s.monitored(found)
	}
	if exceeded > 0 {
		return &exitError{code: exitFound}
	}
	return nil
}

func (u *ui) monitored(found []sequencer.Monitored) {
	if len(found) == 0 {
		u.printf("No queue holds anything, and no worker serves one.")
		return
	}
	rows := make([][]string, len(found))
	for i, q := range found {
		verdict := u.paint(green, "ok")
		if len(q.Exceeded) > 0 {
			verdict = u.paint(red, "TOO MUCH")
		}
		rows[i] = []string{
			q.Queue, verdict, number(q.Ready), number(q.Scheduled), number(q.Running), number(q.Size), wording.Roughly(q.Age), number(int64(q.Workers)),
		}
	}
	u.fitted([]string{"queue", "verdict", "ready", "later", "running", "size", "oldest", "workers"}, rows)
	for _, q := range found {
		for _, what := range q.Exceeded {
			u.printf("%s: %s", q.Queue, what)
		}
	}
}

// parseLimits reads NAME=ready:N,age:D,size:N or NAME=off.
func parseLimits(text string) (string, sequencer.Limits, error) {
	var l sequencer.Limits
	bad := func(why string) (string, sequencer.Limits, error) {
		return "", l, usagef("--queue %q: %s: write NAME=ready:N,age:D,size:N, or NAME=off", text, why)
	}
	name, list, found := strings.Cut(text, "=")
	switch {
	case !found || name == "":
		return bad("there is no NAME=")
	case list == "off":
		return name, l, nil
	}
	for part := range strings.SplitSeq(list, ",") {
		what, value, _ := strings.Cut(strings.TrimSpace(part), ":")
		n, notNumber := strconv.ParseInt(value, 10, 64)
		d, notAge := parseAge(value)
		switch {
		case what == "ready" && notNumber == nil && n > 0:
			l.Ready = n
		case what == "size" && notNumber == nil && n > 0:
			l.Size = n
		case what == "age" && notAge == nil && d > 0:
			l.Age = d
		case what == "ready" || what == "size":
			return bad(fmt.Sprintf("%s %q is no number above zero", what, value))
		case what == "age":
			return bad(fmt.Sprintf("age %q is no duration", value))
		default:
			return bad(fmt.Sprintf("%q is none of ready, age and size", what))
		}
	}
	return name, l, nil
}
