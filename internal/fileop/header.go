package fileop

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Header is what a file declares about itself. Each field is one key; those with
// lists take commas and may be repeated.
type Header struct {
	Tries         *int            // tries 3
	Backoff       []time.Duration // backoff 10s, 1m
	Timeout       time.Duration   // timeout 5m
	FailOnTimeout bool            // fail-on-timeout
	MaxErrors     int             // max-errors 2
	Tags          []string        // tags billing, nightly
	Depends       []string        // depends operation:NAME, migration:NAME, NAME or its timestamp
	Environments  []string        // environments production, staging
	Bound         bool            // environments was given, if only to say "nowhere"
	Rollback      string          // rollback seed_admin_undo.sql: a file beside this one
	Irreversible  bool            // irreversible
	Rehearsable   bool            // rehearsable
	Idempotent    bool            // idempotent
	AllowedToFail bool            // allowed-to-fail
	Async         bool            // async
	Queue         string          // queue imports
	ApprovedBy    string          // approved-by dba
	Transaction   Transaction     // transaction never
	Former        []string        // former 20240115110000_seed
	Description   string          // description for people, one line

	Schedule string  // schedule 0 3 * * *: when a worker dispatches it by itself
	Zone     string  // schedule-zone Europe/Berlin
	Missed   *Missed // schedule-missed skip, once or all 10
}

// Missed is what becomes of ticks of a schedule that nobody fired in time: the
// newest so many of them still are; 0 = none.
type Missed int

// Transaction says how an SQL file meets the ledger's transaction.
type Transaction string

const (
	InTransaction Transaction = ""        // statements and outcome commit together; the default
	Require       Transaction = "require" // the same, and refused where the ledger has none
	Never         Transaction = "never"   // each statement by itself, as VACUUM wants it
)

// LineError is a fault in a file's header.
type LineError struct {
	File string
	Line int
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err) }

// Unwrap gives the fault.
func (e *LineError) Unwrap() error { return e.Err }

// ours finds a line of ours and cuts what stands behind the marker.
var ours = regexp.MustCompile(`^[ \t]*(?:--|#|//)[ \t]*sequencer:(.*)$`)

// nearly finds a line that was meant to be one of ours: capitals, a blank before
// the colon, no colon before a key.
var nearly = regexp.MustCompile(`(?i)^[ \t]*(?:--|#|//)[ \t]*sequencer[ \t]*(?::|[ \t](?:` + strings.Join(keyNames(), "|") + `)\b)`)

// ParseHeader reads the comments at the top of a file's text. It returns every
// fault at once, each a *LineError that names file.
func ParseHeader(file string, text []byte) (Header, error) {
	var h Header
	var faults []error
	given := map[string]int{} // key → line
	top := true
	number := 0
	for line := range bytes.Lines(bytes.TrimPrefix(text, []byte("\ufeff"))) {
		number++
		line = bytes.TrimRight(line, "\r\n")
		fault := func(err error) { faults = append(faults, &LineError{file, number, err}) }
		top = top && isComment(line)
		found := ours.FindSubmatch(line)
		switch {
		case found == nil && top && nearly.Match(line):
			fault(errors.New("write a header line as \"sequencer: KEY VALUE\", in small letters and with the colon right behind"))
		case found == nil:
		case !top:
			fault(errors.New("a sequencer: line below the first statement has no effect: move it to the top of the file"))
		default:
			key, value, _ := strings.Cut(strings.TrimSpace(string(found[1])), " ")
			if err := h.set(key, strings.TrimSpace(value), number, given); err != nil {
				fault(err)
			}
		}
	}
	return h, errors.Join(faults...)
}

// isComment reports whether a line may stand above a header line.
func isComment(line []byte) bool {
	line = bytes.TrimLeft(line, " \t")
	for _, start := range []string{"--", "#", "//"} {
		if bytes.HasPrefix(line, []byte(start)) {
			return true
		}
	}
	return len(line) == 0
}

func (h *Header) set(key, value string, line int, given map[string]int) error {
	if !utf8Text(value) {
		return fmt.Errorf("%s: the value is not plain text", key)
	}
	assign, ok := keys[key]
	if !ok {
		return fmt.Errorf("unknown key %q: the keys are %s", key, strings.Join(keyNames(), ", "))
	}
	if first, again := given[key]; again && !slices.Contains(lists, key) {
		return fmt.Errorf("%s is given twice, first in line %d", key, first)
	}
	given[key] = line
	if err := assign(h, value); err != nil {
		return fmt.Errorf("%s %s: %w", key, value, err)
	}
	return nil
}
