package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/wording"
	"github.com/gosequencer/sequencer/storage"
)

// display turns the events of a run into lines. The final line of a task is
// permanent. On a terminal one more line below shows what is running, and is
// redrawn in place until close.
type display struct {
	ui   *ui
	stop chan struct{}
	done chan struct{}

	mu      sync.Mutex // guards what follows, and writing
	tasks   int
	over    int
	running []*runningTask
	frame   int
	shown   bool // the live line is on the screen
}

// runningTask is a task whose end has not been heard of.
type runningTask struct {
	id, what, name string
	began          time.Time
	done, total    int64
	first          int64     // done when it was first heard of in this attempt…
	since          time.Time // …and when that was; zero = not yet
}

// hear takes in how far the task has come.
func (t *runningTask) hear(done, total int64) {
	if t.since.IsZero() {
		t.first, t.since = done, time.Now()
	}
	t.done, t.total = done, total
}

const redraw = 100 * time.Millisecond

func newDisplay(u *ui) *display {
	d := &display{ui: u, stop: make(chan struct{}), done: make(chan struct{})}
	go d.animate()
	return d
}

// animate redraws the live line until close. Without a terminal there is none.
func (d *display) animate() {
	defer close(d.done)
	if !d.ui.live {
		return
	}
	ticker := time.NewTicker(redraw)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			d.locked(func() { d.frame++ })
		case <-d.stop:
			d.locked(func() { d.running = nil })
			return
		}
	}
}

func (d *display) close() {
	close(d.stop)
	<-d.done
}

// locked takes the live line away, lets change write above it, and draws it anew.
func (d *display) locked(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shown {
		fmt.Fprint(d.ui.out, "\r\x1b[K")
		d.shown = false
	}
	change()
	if d.ui.live && len(d.running) > 0 {
		fmt.Fprint(d.ui.out, d.line(d.ui.width()-spare)) // one that wraps cannot be taken away
		d.shown = true
	}
}

// observe hears events from every goroutine of a run.
func (d *display) observe(_ context.Context, e sequencer.Event) {
	d.locked(func() { d.hear(e) })
}

func (d *display) hear(e sequencer.Event) {
	if e.Operation == storage.Nested || quiet(e) {
		return
	}
	switch e.Kind {
	case sequencer.EventRunStarted:
		d.tasks, d.over = e.Tasks, 0
	case sequencer.EventStarted:
		d.begin(e)
	case sequencer.EventProgress:
		if t := d.find(e.ID); t != nil {
			t.hear(e.Done, e.Total)
		}
	case sequencer.EventRetrying:
		d.ui.sayf("%s %s: attempt %d failed, next in %s: %v", wording.Kind(e.Operation), e.Name, e.Attempt, wording.Elapsed(e.Next), e.Err)
	case sequencer.EventReleased:
		if e.Next == 0 {
			d.ui.sayf("%s %s: put back", wording.Kind(e.Operation), e.Name)
			return
		}
		d.ui.sayf("%s %s: not yet, next in %s", wording.Kind(e.Operation), e.Name, wording.Elapsed(e.Next))
	case sequencer.EventApprovalNeeded:
		d.ui.sayf("waiting: %s %s: %s approve %s, or reject", e.Name, e.Reason, d.ui.name, approvable(e))
	case sequencer.EventLockWaiting:
		d.ui.sayf("waiting: %v", e.Err)
	case sequencer.EventWarning:
		d.ui.sayf("warning: %s %s", e.Name, e.Reason)
	case sequencer.EventRecovered:
		if e.RunID != "" {
			d.ui.sayf("recovered: %s", e.Reason)
		} else {
			d.ui.sayf("recovered: %s %s: %s", wording.Kind(e.Operation), e.Name, e.Reason)
		}
	case sequencer.EventQueued:
		d.ui.sayf("queued: %s", e.Name)
	case sequencer.EventFlowDispatched:
		d.ui.sayf("queued: %s %s with members: %d", e.Method, e.Name, e.Tasks)
	default:
		if word, style := ending(e); word != "" {
			d.end(e, word, style)
		}
	}
}

// approvable is what to call it in answers: the name stands for one execution only if it
// has a timestamp.
func approvable(e sequencer.Event) string {
	if e.Operation == storage.Ordered {
		return e.Name
	}
	return e.ID
}

// quiet reports whether an event is one of the many that a batch or chain makes which a
// task of the run dispatches and works off: of its members only what goes wrong is told.
func quiet(e sequencer.Event) bool {
	if e.Operation != storage.Unlisted || e.Method != string(storage.FlowBatch) && e.Method != string(storage.FlowChain) {
		return false
	}
	return slices.Contains(unremarkable, e.Kind)
}

var unremarkable = []sequencer.EventKind{
	sequencer.EventQueued, sequencer.EventStarted, sequencer.EventProgress, sequencer.EventCompleted, sequencer.EventSkipped,
}

func (d *display) begin(e sequencer.Event) {
	if t := d.find(e.ID); t != nil { // another attempt
		t.done, t.total, t.since = 0, 0, time.Time{}
		return
	}
	d.running = append(d.running, &runningTask{id: e.ID, what: wording.Kind(e.Operation), name: e.Name, began: time.Now()})
}

func (d *display) end(e sequencer.Event, word string, s style) {
	took := e.Elapsed
	for i, t := range d.running {
		if t.id == e.ID {
			took = max(took, time.Since(t.began))
			d.running = append(d.running[:i], d.running[i+1:]...)
			break
		}
	}
	d.over++
	line := fmt.Sprintf("%-9s %s  %s %s", wording.Kind(e.Operation), e.Name, d.ui.paint(s, word), wording.Elapsed(took))
	if e.Reason != "" {
		line += d.ui.paint(dim, " ("+e.Reason+")")
	}
	d.ui.printf("%s", line)
}

func (d *display) find(id string) *runningTask {
	for _, t := range d.running {
		if t.id == id {
			return t
		}
	}
	return nil
}

// ending words the end of a task, "" for any other event.
func ending(e sequencer.Event) (string, style) {
	if e.Kind == sequencer.EventFailed && e.Allowed {
		return "FAILED (allowed)", yellow
	}
	switch e.Kind {
	case sequencer.EventCompleted, sequencer.EventRolledBack:
		return "DONE", green
	case sequencer.EventSkipped:
		return "SKIPPED", yellow
	case sequencer.EventFailed, sequencer.EventUndoFailed:
		return "FAILED", red
	case sequencer.EventCancelled:
		return "CANCELLED", yellow
	case sequencer.EventInterrupted:
		return "INTERRUPTED", red
	default:
		return "", plain
	}
}

var spinner = []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}

// spare is how many columns the live line leaves free, for ^C and the cursor.
const spare = 3

// line shows the task that started last, and how many run beside it. Where that
// is too wide the name gives way.
func (d *display) line(width int) string {
	t := d.running[len(d.running)-1]
	ran := time.Since(t.began)
	head := d.ui.paint(cyan, spinner[d.frame%len(spinner)]) + " " + t.what + " "
	tail := d.tail(t, ran)
	const least = 8
	room := max(least, width-text.StringWidthWithoutEscSequences(head+tail))
	return text.Trim(head+text.Snip(t.name, room, "…")+tail, width)
}

// tail is what stands behind the name.
func (d *display) tail(t *runningTask, ran time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  %s %s", d.ui.paint(cyan, "RUNNING"), wording.Elapsed(ran.Truncate(redraw)))
	if t.total > 0 {
		b.WriteString(" " + t.bar())
	} else if t.done > 0 {
		fmt.Fprintf(&b, " %d", t.done)
	}
	if d.tasks > 1 {
		fmt.Fprintf(&b, "  %d/%d", d.over, d.tasks)
	}
	if others := len(d.running) - 1; others > 0 {
		fmt.Fprintf(&b, "  +%d beside it", others)
	}
	return b.String()
}

// bar draws done of total and, once it can be guessed, the time that is left: by what
// this attempt has done, which may have begun in the middle.
func (t *runningTask) bar() string {
	const width = 20
	done := min(max(t.done, 0), t.total)
	full := int(done * width / t.total)
	line := fmt.Sprintf("[%s%s] %d/%d", strings.Repeat("█", full), strings.Repeat("░", width-full), done, t.total)
	if ran := time.Since(t.since); ran > time.Second {
		if left := storage.Left(done-t.first, t.total-done, ran); left > 0 {
			line += fmt.Sprintf(" %s left", left.Round(time.Second))
		}
	}
	return line
}
