package guard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Hours is one span of time that comes back every week, read from a wall clock.
type Hours struct {
	// Days are the days on which the span opens; none means every day. A span over
	// midnight belongs to the day it opens on: Friday 22:00 to 04:00 is still open
	// on Saturday at 03:59, and Friday at 03:59 belongs to Thursday.
	Days []time.Weekday
	// From is the first minute ("22:00"), To the first one after the span ("04:00",
	// at most "24:00"). Empty means the start and the end of the day. A To before
	// From lies on the next day; equal ones are an error.
	From, To string
	// Location is where the clock hangs; nil means UTC. When clocks change, what the
	// clock shows counts.
	Location *time.Location
}

// Weekdays are Monday to Friday.
var Weekdays = []time.Weekday{time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday}

// Windows allows by time; see [Window].
type Windows struct{ spans []span }

type span struct {
	days     [7]bool
	from, to time.Duration // since midnight on the clock; to ≤ from is on the next day
	loc      *time.Location
}

// Window allows while at least one of the spans is open. No span at all disables
// the guard.
func Window(spans ...Hours) (*Windows, error) {
	g := &Windows{}
	var problems []error
	for i, h := range spans {
		s, err := h.parse()
		if err != nil {
			problems = append(problems, fmt.Errorf("window guard: span %d: %w", i+1, err))
			continue
		}
		g.spans = append(g.spans, s)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return g, nil
}

// Name is "window".
func (g *Windows) Name() string { return "window" }

// Allow compares the time with the spans.
func (g *Windows) Allow(context.Context) (ok bool, reason string, err error) {
	now := time.Now()
	if g.empty() || slices.ContainsFunc(g.spans, func(s span) bool { return s.open(now) }) {
		return true, "", nil
	}
	return false, fmt.Sprintf("it is %s, outside of %s",
		now.In(g.spans[0].loc).Format("Mon 15:04 MST"), some(g.spans)), nil
}

func (g *Windows) empty() bool { return len(g.spans) == 0 }

func (h Hours) parse() (span, error) {
	s := span{loc: h.Location, to: 24 * time.Hour}
	if s.loc == nil {
		s.loc = time.UTC
	}
	for _, d := range h.Days {
		if d < time.Sunday || d > time.Saturday {
			return s, fmt.Errorf("field Days: %d is no weekday", d)
		}
		s.days[d] = true
	}
	if len(h.Days) == 0 {
		s.days = [7]bool{true, true, true, true, true, true, true}
	}
	var err error
	if h.From != "" {
		if s.from, err = clock(h.From); err != nil || s.from == 24*time.Hour {
			return s, fmt.Errorf("field From: %q is not a time from 00:00 to 23:59", h.From)
		}
	}
	if h.To != "" {
		if s.to, err = clock(h.To); err != nil {
			return s, fmt.Errorf("field To: %q is not a time from 00:00 to 24:00", h.To)
		}
	}
	if s.from == s.to {
		return s, fmt.Errorf("fields From and To are both %q; leave both empty for the whole day", h.To)
	}
	return s, nil
}

// clock reads hh:mm as the time since midnight.
func clock(text string) (time.Duration, error) {
	if text == "24:00" {
		return 24 * time.Hour, nil
	}
	t, err := time.Parse("15:04", text)
	if err != nil {
		return 0, err
	}
	return sinceMidnight(t), nil
}

func sinceMidnight(t time.Time) time.Duration {
	h, m, s := t.Clock()
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(s)*time.Second
}

func (s span) open(at time.Time) bool {
	at = at.In(s.loc)
	today, yesterday := at.Weekday(), (at.Weekday()+6)%7
	now := sinceMidnight(at)
	if s.from < s.to {
		return s.days[today] && s.from <= now && now < s.to
	}
	return s.days[today] && s.from <= now || s.days[yesterday] && now < s.to
}

func (s span) String() string {
	var days []string
	for d, open := range s.days {
		if open {
			days = append(days, time.Weekday(d).String()[:3])
		}
	}
	when := strings.Join(days, " ")
	if len(days) == 7 {
		when = "every day"
	}
	return fmt.Sprintf("%s %s to %s %s", when, hhmm(s.from), hhmm(s.to), s.loc)
}

func hhmm(d time.Duration) string {
	return fmt.Sprintf("%02d:%02d", int(d.Hours()), int(d.Minutes())%60)
}
