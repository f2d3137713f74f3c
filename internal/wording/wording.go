// Package wording has the words that commands and the dashboard share: how states,
// durations and what is remarkable about an execution read, so that both say the same.
package wording

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/gosequencer/sequencer/storage"
)

const day = 24 * time.Hour

// State is the state of an execution for people, with what a bare state hides.
func State(e *storage.Execution) string {
	word := strings.ReplaceAll(string(e.State), "_", " ")
	switch {
	case e.State == storage.Failed && e.AllowedToFail:
		word += " (allowed)"
	case e.State == storage.Skipped && e.ForNow:
		word += " (for now)"
	case e.State == storage.Pending && e.Attempts() > 0:
		word += " (retrying)"
	case e.State == storage.Pending:
		word += " (queued)"
	}
	return word
}

// Kind is what people call a kind of execution in deploy runs.
func Kind(k storage.Kind) string {
	switch k {
	case storage.Migration:
		return "migration"
	case storage.Undo:
		return "rollback"
	case storage.KindApproval:
		return "approval"
	default:
		return "operation"
	}
}

// Queue is the name of a queue, "" of one that is private to a process.
func Queue(queue string) string {
	if strings.HasPrefix(queue, storage.PrivateQueue) {
		return ""
	}
	return queue
}

// Remark is what else there is to say about an execution, in a line.
func Remark(e *storage.Execution) string {
	switch {
	case e.UndoError != "":
		return "rollback failed: " + FirstLine(e.UndoError)
	case e.Reason != "":
		return FirstLine(e.Reason)
	case (e.State == storage.Running || e.State == storage.Pending) && e.Done > 0:
		return Progress(e)
	case e.State == storage.Completed: // what went wrong on the way is history
		return ""
	}
	return FirstLine(e.LastError)
}

// Progress is how far it has come, and what went wrong on the way.
func Progress(e *storage.Execution) string {
	text := strconv.FormatInt(e.Done, 10) + " done"
	if e.Total > 0 {
		text = fmt.Sprintf("%d of %d (%d %%)", e.Done, e.Total, e.Done*100/e.Total)
	}
	if left := e.Left(time.Now()); left > 0 {
		text += ", about " + Roughly(left) + " left"
	}
	if e.LastError != "" {
		text += "; " + FirstLine(e.LastError)
	}
	return text
}

// FirstLine is the first line of a text, without control characters.
func FirstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, strings.TrimRight(line, "\r"))
}

// Elapsed is a measured duration.
func Elapsed(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%dms", d.Round(time.Millisecond).Milliseconds())
	}
	return fmt.Sprintf("%.2fs", d.Seconds())
}

// Roughly is an age for people: two units at most, "" for none.
func Roughly(d time.Duration) string {
	switch {
	case d == 0:
		return ""
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < day:
		return Short(d.Truncate(time.Minute))
	}
	return strconv.FormatInt(int64(d/day), 10) + "d" + Short((d % day).Truncate(time.Hour))
}

// Short leaves out units that are zero.
func Short(d time.Duration) string {
	text := d.String()
	for _, none := range []string{"0s", "0m"} {
		if len(text) > len(none) && strings.HasSuffix(text, none) && (text[len(text)-len(none)-1] < '0' || text[len(text)-len(none)-1] > '9') {
			text = strings.TrimSuffix(text, none)
		}
	}
	if text == "0s" {
		return ""
	}
	return text
}
