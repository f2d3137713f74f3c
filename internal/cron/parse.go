package cron

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	netcron "github.com/netresearch/go-cron"
)

// parser reads fields and descriptors. The library is asked for nothing but the
// meaning of the fields on a calendar without zones: its own handling of clock
// changes loses a day whose midnight does not exist, and fires twice what comes
// twice. Intervals are ours for their origin. Ten years cover the eight without a
// 29th of February around 2100.
var parser = netcron.MustNewParser(netcron.SecondOptional | netcron.Minute | netcron.Hour | netcron.Dom | netcron.Month |
	netcron.Dow | netcron.Descriptor | netcron.DowOrDom | netcron.Extended).WithMaxSearchYears(10)

const (
	every = "@every"
	// maxLength keeps what is stored and shown in bounds.
	maxLength = 256
)

// fieldNames are those of an expression with seconds.
var fieldNames = []string{"second", "minute", "hour", "day of month", "month", "day of week"}

// Parse reads an expression and the name of its time zone, as the IANA database
// has it; empty is UTC. What is wrong is told with its column, counted from 1.
func Parse(spec, zone string) (*Expression, error) {
	loc, err := location(zone)
	if err != nil {
		return nil, err
	}
	e := &Expression{zone: loc}
	words := strings.Fields(spec)
	e.text = strings.Join(words, " ")
	switch {
	case len(words) == 0:
		return nil, errors.New("the expression is empty: write five fields, as in 0 3 * * *")
	case len(e.text) > maxLength:
		return nil, fmt.Errorf("the expression has %d bytes: use %d at most", len(e.text), maxLength)
	case strings.Contains(words[0], "TZ="):
		return nil, fmt.Errorf("column 1: %q: the zone is not part of the expression: give it by itself", words[0])
	case words[0] == every:
		if e.every, err = interval(spec, words); err != nil {
			return nil, err
		}
		if loc != time.UTC {
			return nil, fmt.Errorf("an interval has no time zone: leave %s out", zone)
		}
		return e, nil
	}
	e.calendar, err = parser.Parse(e.text)
	if err != nil {
		return nil, placed(spec, words, err)
	}
	e.paced = e.text == "@hourly" || words[0][0] != '@' && strings.HasPrefix(words[len(words)-4], "*")
	if e.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, errors.New("it is never due: there is no such day")
	}
	return e, nil
}

func location(zone string) (*time.Location, error) {
	switch zone {
	case "", "UTC":
		return time.UTC, nil
	case "Local":
		return nil, errors.New("time zone Local differs between machines: name one, as in Europe/Berlin")
	}
	loc, err := time.LoadLocation(zone)
	if err != nil {
		return nil, fmt.Errorf("time zone %q is unknown here: use a name such as Europe/Berlin, "+
			"and where the system has no zone database import time/tzdata", zone)
	}
	return loc, nil
}

func interval(spec string, words []string) (time.Duration, error) {
	if len(words) != 2 {
		return 0, fmt.Errorf("%s wants one duration behind it, as in %s 90s", every, every)
	}
	d, err := time.ParseDuration(words[1])
	if err != nil || d < time.Second || d%time.Second != 0 {
		return 0, fmt.Errorf("column %d: %q: want a duration of whole seconds, at least one, as in 90s or 1h30m", column(spec, 1), words[1])
	}
	return d, nil
}

// placed adds to the library's error where in spec the fault is: the first field
// that is refused although the others are plain.
func placed(spec string, words []string, err error) error {
	names := fieldNames[len(fieldNames)-min(max(len(words), 5), 6):]
	if len(words) < 5 || len(words) > 6 {
		if strings.HasPrefix(words[0], "@") {
			return fmt.Errorf("column %d: %q: want @hourly, @daily, @weekly, @monthly, @yearly or %s with a duration", column(spec, 0), words[0], every)
		}
		return fmt.Errorf("there are %d fields: want five (%s), or six with seconds in front", len(words), strings.Join(fieldNames[1:], ", "))
	}
	for i, word := range words {
		plain := strings.Fields("* * * * * *")[:len(words)]
		plain[i] = word
		if _, fault := parser.Parse(strings.Join(plain, " ")); fault != nil {
			return fmt.Errorf("column %d, %s: %w", column(spec, i), names[i], fault)
		}
	}
	return err
}

// column is where the n-th word begins, from 1.
func column(spec string, n int) int {
	at, inside := 0, false
	for i, r := range spec {
		blank := unicode.IsSpace(r)
		if !blank && !inside {
			if n == 0 {
				at = i
				break
			}
			n--
		}
		inside = !blank
	}
	return at + 1
}
