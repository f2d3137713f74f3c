package sequencer

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

const (
	timestampLayout = "20060102150405"
	originalDashes  = "dddd_dd_dd_dddddd" // the form of the PHP original; d stands for a digit
)

// parseName tells ordered names from unlisted ones (S2.9): a name that starts
// with a digit belongs to deploy runs and must begin with a full, possible
// timestamp, in goose's form (20240115120000_seed) or the original's
// (2024_01_15_120000_seed). It answers the 14 digits as one number, by which
// ordered names are sorted; they are no instant, since names carry no zone.
// Anything else is unlisted and answers zero. A typo
// in a date is therefore an error, never an operation that no run offers (S2.3).
// The name is expected trimmed.
func parseName(name string) (int64, error) {
	if err := checkIdentifier("name", name); err != nil {
		return 0, err
	}
	if !isDigit(name[0]) {
		return 0, nil
	}
	digits, rest := cutTimestamp(name)
	if digits == "" || rest != "" && rest[0] != '_' {
		return 0, fmt.Errorf("name %q starts with a digit but not with a timestamp: "+
			"write YYYYMMDDhhmmss_name to make it part of deploy runs, or let it start with a letter", name)
	}
	t, err := possibleTimestamp(digits)
	if err != nil {
		return 0, fmt.Errorf("name %q: %w", name, err)
	}
	if len(rest) < 2 {
		return 0, fmt.Errorf("name %q has nothing after its timestamp: write %s_ and what the operation does", name, digits)
	}
	return t, nil
}

// parseFrom reads where a run is to start: a timestamp in either form, alone or
// as the beginning of a name. Empty means no filter and answers zero; anything
// else that is no timestamp is an error, since compared as text a typo would
// silently leave nothing to do (S3.7).
func parseFrom(from string) (int64, error) {
	from = strings.TrimSpace(from)
	if from == "" {
		return 0, nil
	}
	digits, rest := cutTimestamp(from)
	if digits == "" || rest != "" && rest[0] != '_' {
		return 0, fmt.Errorf("from %q: %w: write YYYYMMDDhhmmss, as names begin, for example 20240115120000", from, ErrTimestamp)
	}
	t, err := possibleTimestamp(digits)
	if err != nil {
		return 0, fmt.Errorf("from %q: %w: %w", from, ErrTimestamp, err)
	}
	return t, nil
}

// cutTimestamp splits s after its timestamp and answers the 14 digits of either
// form, or none. The digits need not be a possible date.
func cutTimestamp(s string) (digits, rest string) {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	if n == len(timestampLayout) {
		return s[:n], s[n:]
	}
	if len(s) < len(originalDashes) {
		return "", s
	}
	for i := range originalDashes {
		if isDigit(s[i]) != (originalDashes[i] == 'd') || !isDigit(s[i]) && s[i] != '_' {
			return "", s
		}
	}
	head := s[:len(originalDashes)]
	return strings.ReplaceAll(head, "_", ""), s[len(head):]
}

// possibleTimestamp refuses what no calendar has: month 13, February 30, hour 24.
func possibleTimestamp(digits string) (int64, error) {
	if _, err := time.Parse(timestampLayout, digits); err != nil {
		reason := "it does not exist"
		if pe, ok := errors.AsType[*time.ParseError](err); ok && pe.Message != "" {
			reason = strings.TrimPrefix(pe.Message, ": ")
		}
		return 0, fmt.Errorf("the timestamp %s is no possible date (%s): write YYYYMMDDhhmmss", digits, reason)
	}
	return strconv.ParseInt(digits, 10, 64)
}

// checkIdentifier holds names of operations, queues, tags and environments to one
// alphabet, so that none needs quoting in a URL, a log line or a shell. What says
// which of them it is.
func checkIdentifier(what, s string) error {
	const remedy = "use letters, digits and . _ : / -"
	switch {
	case s == "":
		return fmt.Errorf("the %s is empty: %s", what, remedy)
	case len(s) > storage.MaxName:
		return fmt.Errorf("%s %.20q… has %d bytes: %d is the limit", what, s, len(s), storage.MaxName)
	}
	for _, c := range s {
		if !isIdentifier(c) {
			return fmt.Errorf("%s %q contains %q: %s", what, s, c, remedy)
		}
	}
	return nil
}

func isIdentifier(c rune) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("._:/-", c)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
