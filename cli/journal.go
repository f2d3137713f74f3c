package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/wording"
)

// journal writes a worker's events to stderr, a line each, and counts them.
type journal struct {
	ui    *ui
	quiet bool // only what did not go well

	mu     sync.Mutex // guards what follows, and writing
	joined bool
	tally  tally
	reason string
}

// tally is what a worker did.
type tally struct {
	Completed   int `json:"completed"`
	Failed      int `json:"failed"`
	Retried     int `json:"retried"`
	Released    int `json:"released"`
	Skipped     int `json:"skipped"`
	Cancelled   int `json:"cancelled"`
	Interrupted int `json:"interrupted"`
	RolledBack  int `json:"rolled_back"`
}

// observe hears events from every goroutine of a worker.
func (j *journal) observe(_ context.Context, e sequencer.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if line := j.line(e); line != "" {
		j.ui.sayf("%s  %s", e.At.UTC().Format(time.TimeOnly), line)
	}
}

// line words an event, "" for one that is not told.
func (j *journal) line(e sequencer.Event) string {
	switch e.Kind {
	case sequencer.EventWorkerStarted:
		j.joined = true
		return fmt.Sprintf("worker %s started: %s, %s", e.ID, queuesWord(e.Reason), count(e.Tasks, "slot"))
	case sequencer.EventWorkerStopped:
		j.reason = e.Reason
		return "worker stopped: " + e.Reason
	case sequencer.EventRetrying:
		j.tally.Retried++
		next := "at once"
		if e.Next > 0 {
			next = "in " + wording.Elapsed(e.Next)
		}
		return fmt.Sprintf("%s  attempt %d failed, next %s: %s  (%s)", e.Name, e.Attempt, next, oneLine(e.Err), e.ID)
	case sequencer.EventReleased:
		j.tally.Released++
		return j.released(e)
	case sequencer.EventFailed:
		j.tally.Failed++
		return fmt.Sprintf("%s  FAILED %s: %s  (%s)", e.Name, wording.Elapsed(e.Elapsed), oneLine(e.Err), e.ID)
	case sequencer.EventCompleted:
		j.tally.Completed++
		return j.unlessQuiet("%s  DONE %s", e.Name, wording.Elapsed(e.Elapsed))
	case sequencer.EventSkipped:
		j.tally.Skipped++
		return j.unlessQuiet("%s  SKIPPED %s (%s)", e.Name, wording.Elapsed(e.Elapsed), e.Reason)
	case sequencer.EventCancelled:
		j.tally.Cancelled++
		return fmt.Sprintf("%s  CANCELLED %s  (%s)", e.Name, wording.Elapsed(e.Elapsed), e.ID)
	case sequencer.EventInterrupted:
		j.tally.Interrupted++
		return fmt.Sprintf("%s  INTERRUPTED  (%s)", e.Name, e.ID)
	case sequencer.EventRolledBack:
		j.tally.RolledBack++
		return j.unlessQuiet("%s  ROLLED BACK %s", e.Name, wording.Elapsed(e.Elapsed))
	case sequencer.EventUndoFailed:
		j.tally.Failed++
		return fmt.Sprintf("%s  ROLLBACK FAILED %s: %s  (%s)", e.Name, wording.Elapsed(e.Elapsed), oneLine(e.Err), e.ID)
	case sequencer.EventApprovalNeeded:
		return j.unlessQuiet("%s  %s", e.Name, e.Reason)
	case sequencer.EventFlowEnded:
		return j.unlessQuiet("%s  over: %s %s  (%s)", strings.TrimSpace(e.Method+" "+e.Name), e.State, wording.Elapsed(e.Elapsed), e.ID)
	case sequencer.EventRecovered:
		return fmt.Sprintf("%s  recovered: %s  (%s)", e.Name, e.Reason, e.ID)
	case sequencer.EventWarning:
		return "warning: " + strings.TrimSpace(e.Name+" "+e.Reason)
	case sequencer.EventFenced:
		return fmt.Sprintf("%s  came too late and was discarded  (%s)", e.Name, e.ID)
	default: // each start is followed by an end
		return ""
	}
}

func (j *journal) released(e sequencer.Event) string {
	switch {
	case errors.Is(e.Err, sequencer.ErrOperationNotFound):
		return fmt.Sprintf("%s  left for a worker that has it registered  (%s)", e.Name, e.ID)
	case errors.Is(e.Err, sequencer.ErrShutdown):
		return fmt.Sprintf("%s  put back: shutting down  (%s)", e.Name, e.ID)
	case e.Next > 0:
		return j.unlessQuiet("%s  not yet, next in %s", e.Name, wording.Elapsed(e.Next))
	}
	return j.unlessQuiet("%s  put back: %s", e.Name, oneLine(e.Err))
}

func (j *journal) unlessQuiet(format string, args ...any) string {
	if j.quiet {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

// worked reports that the worker had begun.
func (j *journal) worked() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.joined
}

// conclude is the answer: what was done in all.
func (j *journal) conclude(ran time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ui.json {
		j.ui.document(struct {
			tally

			Reason  string        `json:"reason"`
			Elapsed time.Duration `json:"elapsed_ns"`
		}{j.tally, j.reason, ran})
		return
	}
	parts := []string{fmt.Sprintf("%d completed", j.tally.Completed)}
	for _, p := range []struct {
		n    int
		word string
	}{
		{j.tally.Failed, "failed"},
		{j.tally.Retried, "retried"},
		{j.tally.Released, "put back"},
		{j.tally.Skipped, "skipped"},
		{j.tally.Cancelled, "cancelled"},
		{j.tally.Interrupted, "interrupted"},
		{j.tally.RolledBack, "rolled back"},
	} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.word))
		}
	}
	j.ui.printf("Worked for %s: %s", wording.Elapsed(ran), strings.Join(parts, ", "))
}

func queuesWord(list string) string {
	if strings.Contains(list, ",") {
		return "queues " + list
	}
	return "queue " + list
}

// oneLine is an error on a line of its own.
func oneLine(err error) string {
	if err == nil {
		return ""
	}
	return wording.FirstLine(plainly(err))
}
