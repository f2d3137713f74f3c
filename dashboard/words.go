package dashboard

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/internal/wording"
	"github.com/gosequencer/sequencer/storage"
)

// state is a state as a word in its colour.
func state(s storage.State, word string) *element {
	return el("span", class("state is-"+string(s)), text(word))
}

// stateOf is that of an execution.
func stateOf(e *storage.Execution) *element { return state(e.State, wording.State(e)) }

// plainState is that of a flow, or of anything that has no more to it.
func plainState(s storage.State) *element {
	return state(s, strings.ReplaceAll(string(s), "_", " "))
}

// ago is an instant as an age, with the instant itself for who points at it.
func (p *request) ago(at time.Time) node {
	if at.IsZero() {
		return text("")
	}
	d := p.now.Sub(at)
	word := wording.Roughly(d.Abs())
	switch {
	case word == "0s" || word == "":
		word = "now"
	case d < 0:
		word = "in " + word
	default:
		word += " ago"
	}
	return el("time", attr{"datetime", at.UTC().Format(time.RFC3339Nano)}, attr{"title", stamp(at)}, text(word))
}

// moment is an instant in full.
func moment(at time.Time) node {
	if at.IsZero() {
		return text("")
	}
	return el("time", attr{"datetime", at.UTC().Format(time.RFC3339Nano)}, text(stamp(at)))
}

// exactly is an instant to the millisecond.
func exactly(at time.Time) node {
	return el("time", attr{"datetime", at.UTC().Format(time.RFC3339Nano)}, text(at.UTC().Format("2006-01-02 15:04:05.000")))
}

func stamp(at time.Time) string { return at.UTC().Format(time.DateTime) + " UTC" }

// took is a duration for people: exact while it is short.
func took(d time.Duration) string {
	switch {
	case d <= 0:
		return ""
	case d < time.Millisecond:
		return "<1ms"
	case d < time.Minute:
		return wording.Elapsed(d)
	}
	return wording.Roughly(d)
}

// ran is how long an execution took, or has taken so far.
func (p *request) ran(e *storage.Execution) string {
	switch {
	case e.StartedAt.IsZero():
		return ""
	case !e.FinishedAt.IsZero():
		return took(e.FinishedAt.Sub(e.StartedAt))
	case e.State == storage.Running:
		return took(p.now.Sub(e.StartedAt).Truncate(time.Second))
	}
	return ""
}

// grouped is a number with its thousands apart.
func grouped[N int | int64](n N) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// some is a number, or nothing where that is zero.
func some[N int | int64](n N) text {
	if n == 0 {
		return ""
	}
	return text(grouped(n))
}

// capped is a number that was counted no further than most.
func capped(n, most int) string {
	if n > most {
		return grouped(most) + "+"
	}
	return grouped(n)
}

// plural is a number of things.
func plural[N int | int64](n N, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return grouped(n) + " " + one + "s"
}

// shortID is enough of an id to find it by, and its end, in which ids of one instant
// differ.
func shortID(id string) string {
	if len(id) < 36 {
		return id
	}
	return id[:8] + "…" + id[32:]
}

// idLink leads to an execution.
func (s *server) idLink(id storage.ID) node {
	if id.IsZero() {
		return text("")
	}
	return el("a", class("id"), s.to("/executions/"+id.String()), attr{"title", id.String()}, text(shortID(id.String())))
}

// flowLink leads to a flow.
func (s *server) flowLink(id storage.ID) node {
	if id.IsZero() {
		return text("")
	}
	return el("a", class("id"), s.to("/flows/"+id.String()), attr{"title", id.String()}, text(shortID(id.String())))
}

// nameLink leads to what there is of an operation.
func (s *server) nameLink(name string) node {
	return el("a", s.to("/operations/"+name), text(name))
}

// queueText is the name of a queue; private ones are the process's own business.
func queueText(queue string) text {
	if q := wording.Queue(queue); q != "" {
		return text(q)
	}
	return "(its own process)"
}

// meter is how far something has come.
func meter(label string, done, total int64) node {
	if total <= 0 {
		return text("")
	}
	percent := min(max(done*100/total, 0), 100)
	return el("span", class("meter"),
		el("progress", attr{"max", strconv.FormatInt(total, 10)}, attr{"value", strconv.FormatInt(min(done, total), 10)}, attr{"aria-label", label}),
		el("span", class("percent"), text(fmt.Sprintf("%d %%", percent))))
}

// facts is a list of names and values; what has no value is left out.
func facts(pairs ...any) node {
	var rows list
	for i := 0; i+1 < len(pairs); i += 2 {
		name, _ := pairs[i].(string)
		value, ok := pairs[i+1].(node)
		if s, isString := pairs[i+1].(string); isString {
			value, ok = text(s), true
		}
		if !ok || blank(value) {
			continue
		}
		rows = append(rows, el("div", el("dt", text(name)), el("dd", value)))
	}
	return el("dl", class("facts"), rows)
}
