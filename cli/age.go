package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gosequencer/sequencer"
)

const (
	dayLong  = 24 * time.Hour
	weekLong = 7 * dayLong
)

// age is a flag for long durations: what Go writes, and before it days and weeks,
// as in 7d, 2w or 1d12h.
type age struct {
	d     time.Duration
	never bool // "never" is an answer, the longest
}

func (a *age) Type() string { return "duration" }

func (a *age) String() string {
	switch {
	case a.d == sequencer.KeepForever:
		return "never"
	case a.d == 0:
		return ""
	case a.d%dayLong == 0:
		return fmt.Sprintf("%dd", a.d/dayLong)
	}
	return a.d.String()
}

func (a *age) Set(text string) error {
	if a.never && text == "never" {
		a.d = sequencer.KeepForever
		return nil
	}
	d, err := parseAge(text)
	if err == nil && d <= 0 {
		err = errors.New("want more than nothing")
	}
	a.d = d
	return err
}

func parseAge(text string) (time.Duration, error) {
	total, rest := time.Duration(0), text
	for _, unit := range []struct {
		letter string
		long   time.Duration
	}{{"w", weekLong}, {"d", dayLong}} {
		before, after, found := strings.Cut(rest, unit.letter)
		if !found {
			continue
		}
		n, err := strconv.ParseUint(before, 10, 16)
		if err != nil {
			return 0, fmt.Errorf("%q is no duration: write 90s, 5m, 36h, 7d or 2w", text)
		}
		total += time.Duration(n) * unit.long
		rest = after
	}
	if rest == "" && total > 0 {
		return total, nil
	}
	d, err := time.ParseDuration(rest)
	if err != nil {
		return 0, fmt.Errorf("%q is no duration: write 90s, 5m, 36h, 7d or 2w", text)
	}
	return total + d, nil
}

// moment is a flag for a point in time: how long ago, or a date, or a date and a
// time, in UTC unless it says otherwise.
type moment struct {
	at    time.Time
	ahead bool // it is one to come, and a duration says in how long
}

func (i *moment) Type() string { return "time" }

func (i *moment) String() string {
	if i.at.IsZero() {
		return ""
	}
	return i.at.UTC().Format(time.RFC3339)
}

func (i *moment) Set(text string) error {
	if d, err := parseAge(text); err == nil {
		if !i.ahead {
			d = -d
		}
		i.at = time.Now().Add(d)
		return nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, "2006-01-02T15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			i.at = at
			return nil
		}
	}
	how := "how long ago"
	if i.ahead {
		how = "in how long"
	}
	return fmt.Errorf("%q is no time: write %s (90s, 2h, 7d), 2006-01-02 or 2006-01-02T15:04:05Z", text, how)
}
