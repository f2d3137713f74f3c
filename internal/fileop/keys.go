package fileop

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gosequencer/sequencer/internal/cron"
)

// lists may be repeated, each line adding to the one before.
var lists = []string{"tags", "depends", "environments", "former"}

// keys says how each key takes its value.
var keys = map[string]func(h *Header, value string) error{
	"tries": func(h *Header, v string) error {
		n, err := count(v)
		h.Tries = &n
		return err
	},
	"backoff": func(h *Header, v string) error {
		for _, step := range list(v) {
			d, err := duration(step)
			if err != nil {
				return err
			}
			h.Backoff = append(h.Backoff, d)
		}
		return needed(v)
	},
	"timeout": func(h *Header, v string) (err error) {
		h.Timeout, err = duration(v)
		return err
	},
	"max-errors": func(h *Header, v string) (err error) {
		h.MaxErrors, err = count(v)
		return err
	},
	"fail-on-timeout": func(h *Header, v string) error { return flag(&h.FailOnTimeout, v) },
	"rehearsable":     func(h *Header, v string) error { return flag(&h.Rehearsable, v) },
	"irreversible":    func(h *Header, v string) error { return flag(&h.Irreversible, v) },
	"idempotent":      func(h *Header, v string) error { return flag(&h.Idempotent, v) },
	"allowed-to-fail": func(h *Header, v string) error { return flag(&h.AllowedToFail, v) },
	"async":           func(h *Header, v string) error { return flag(&h.Async, v) },
	"tags": func(h *Header, v string) error {
		h.Tags = append(h.Tags, list(v)...)
		return needed(v)
	},
	"depends": func(h *Header, v string) error {
		h.Depends = append(h.Depends, list(v)...)
		return needed(v)
	},
	"former": func(h *Header, v string) error {
		h.Former = append(h.Former, list(v)...)
		return needed(v)
	},
	"environments": func(h *Header, v string) error {
		h.Environments, h.Bound = append(h.Environments, list(v)...), true
		return nil
	},
	"rollback": func(h *Header, v string) error {
		h.Rollback = v
		if v != path.Base(v) || strings.ContainsRune(v, '\\') || v == "." || v == ".." {
			return errors.New("want the name of a file in the same directory")
		}
		return needed(v)
	},
	"queue": func(h *Header, v string) error {
		h.Queue = v
		return needed(v)
	},
	"approved-by": func(h *Header, v string) error {
		h.ApprovedBy = v
		return needed(v)
	},
	"description": func(h *Header, v string) error {
		h.Description = v
		return needed(v)
	},
	"schedule": func(h *Header, v string) error {
		h.Schedule = v
		_, err := cron.Parse(v, "")
		return err
	},
	"schedule-zone": func(h *Header, v string) error {
		h.Zone = v
		_, err := cron.Parse("@daily", v)
		return errors.Join(needed(v), err)
	},
	"schedule-missed": func(h *Header, v string) error {
		n, err := missed(v)
		h.Missed = &n
		return err
	},
	"transaction": func(h *Header, v string) error {
		h.Transaction = Transaction(v)
		if h.Transaction != Never && h.Transaction != Require {
			return fmt.Errorf("want %q or %q", Never, Require)
		}
		return nil
	},
}

func keyNames() []string { return slices.Sorted(maps.Keys(keys)) }

func needed(value string) error {
	if len(list(value)) == 0 {
		return errors.New("the value is missing")
	}
	return nil
}

func list(value string) []string {
	var items []string
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

func count(value string) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		return 0, errors.New("want a whole number of at least 1")
	}
	return n, nil
}

func missed(value string) (Missed, error) {
	switch value {
	case "skip":
		return 0, nil
	case "once":
		return 1, nil
	}
	if most, ok := strings.CutPrefix(value, "all "); ok {
		n, err := count(strings.TrimSpace(most))
		return Missed(n), err
	}
	return 0, errors.New("want skip, once, or all and how many at most, as in all 10")
}

func duration(value string) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 {
		return 0, errors.New("want durations such as 500ms, 30s or 1h30m")
	}
	return d, nil
}

func flag(to *bool, value string) error {
	switch value {
	case "", "true", "yes":
		*to = true
	case "false", "no":
		*to = false
	default:
		return errors.New("want nothing, true or false")
	}
	return nil
}

// utf8Text keeps what cannot be shown in a terminal out of names and messages.
func utf8Text(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
