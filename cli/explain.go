package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/wording"
	"github.com/gosequencer/sequencer/storage"
)

// explain words an error for people: one line per thing that went wrong.
func explain(err error) string {
	var run *sequencer.RunError
	if !errors.As(err, &run) {
		return plainly(err)
	}
	var lines []string
	var waits *sequencer.ApprovalError
	if errors.As(err, &waits) {
		lines = append(lines, waits.Error())
	}
	for _, w := range run.Waves {
		lines = append(lines, w.Error())
	}
	for _, f := range run.Failures {
		lines = append(lines, plainly(f))
	}
	for _, u := range run.Undo {
		lines = append(lines, u.Error())
	}
	if errors.Is(err, sequencer.ErrShutdown) || len(lines) == 0 {
		lines = append(lines, "the run is "+string(run.State))
	}
	if len(run.Kept) > 0 {
		lines = append(lines, "not undone, because it has no rollback: "+strings.Join(run.Kept, ", "))
	}
	return strings.Join(lines, "\n")
}

// plainly leaves out of a timeout what context adds to it.
func plainly(err error) string {
	text := err.Error()
	if errors.Is(err, sequencer.ErrTimeout) {
		for _, e := range []error{context.DeadlineExceeded, context.Canceled} {
			text = strings.ReplaceAll(text, ": "+e.Error(), "")
		}
	}
	return text
}

// hint names the command that helps, "" if none does.
func (u *ui) hint(err error) string {
	var own interface{ Hint() string }
	var interrupted *sequencer.InterruptedError
	var detached *sequencer.DetachedError
	var schema *storage.SchemaError
	var run *sequencer.RunError
	var moved *storage.TransitionError
	var waits *sequencer.ApprovalError
	switch {
	case errors.As(err, &waits):
		return fmt.Sprintf("%s approve %s --reason …, or reject; then %[1]s process goes on, or let it wait with --wait-approval", u.name, waits.Waiting[0].Name)
	case errors.As(err, &own):
		return own.Hint()
	case errors.As(err, &interrupted):
		return u.settle(interrupted.Names[0])
	case errors.As(err, &detached):
		return fmt.Sprintf("wait for it with --isolate, and let workers run: %s work; %[1]s flow show %s says what is left", u.name, detached.Run)
	case errors.Is(err, sequencer.ErrLocked):
		return fmt.Sprintf("wait for it with --isolate; if its process is gone for certain: %s unlock --reason …", u.name)
	case errors.As(err, &schema) && schema.Missing():
		return fmt.Sprintf("the first %s process creates it", u.name)
	case errors.As(err, &schema) && schema.Outdated():
		return fmt.Sprintf("the next %s process does it; stop the workers of the release before first", u.name)
	case errors.As(err, &schema):
		return "nothing was changed; install the release that wrote this ledger, or a newer one"
	case errors.As(err, &run) && u.interrupted(run) != "":
		return u.interrupted(run)
	case errors.Is(err, sequencer.ErrShutdown) && errors.As(err, &run) && len(run.Undo) > 0:
		return fmt.Sprintf("%s process does, and then begins anew", u.name)
	case errors.Is(err, sequencer.ErrShutdown):
		return fmt.Sprintf("%s process goes on where it stopped", u.name)
	case errors.As(err, &run):
		return u.afterRun(run)
	case errors.As(err, &moved):
		return fmt.Sprintf("%s why %s says more", u.name, moved.ID)
	case errors.Is(err, sequencer.ErrOutOfOrder):
		return "--out-of-order=warn runs them all the same"
	case errors.Is(err, sequencer.ErrDuplicate):
		return fmt.Sprintf("%s status --running shows who is on it", u.name)
	case errors.Is(err, sequencer.ErrOperationNotFound):
		return fmt.Sprintf("%s status lists what is registered or was", u.name)
	case errors.Is(err, sequencer.ErrCircularDependency):
		return "take one of these dependencies away"
	case errors.Is(err, fs.ErrPermission):
		return "let the user who runs this read it, or run it as another one"
	case errors.Is(err, sequencer.ErrDependencyExcluded):
		return "drop the filters, or run the dependency first"
	}
	return ""
}

func (u *ui) settle(name string) string {
	return fmt.Sprintf("%s retry %s, or %[1]s resolve %[2]s --completed (or --failed)", u.name, name)
}

// interrupted is the hint for a run that left something a person must decide.
func (u *ui) interrupted(run *sequencer.RunError) string {
	for _, f := range run.Failures {
		if f.State == storage.Interrupted {
			return u.settle(f.Name)
		}
	}
	return ""
}

func (u *ui) afterRun(run *sequencer.RunError) string {
	if len(run.Undo) > 0 {
		return fmt.Sprintf("look at what was not undone: %s status --failed -v", u.name)
	}
	return fmt.Sprintf("mend the cause and run %s process again; details: %[1]s status --failed -v", u.name)
}

// trace lists what lies inside an error, outermost first, and where it panicked.
func trace(err error) string {
	var b strings.Builder
	var walk func(err error, depth int)
	walk = func(err error, depth int) {
		fmt.Fprintf(&b, "  %s%T: %s\n", strings.Repeat("  ", depth), err, wording.FirstLine(err.Error()))
		switch x := err.(type) { //nolint:errorlint // this prints the unwrapping
		case interface{ Unwrap() []error }:
			for _, child := range x.Unwrap() {
				walk(child, depth+1)
			}
		case interface{ Unwrap() error }:
			if child := x.Unwrap(); child != nil {
				walk(child, depth+1)
			}
		}
	}
	walk(err, 0)
	var panicked *sequencer.PanicError
	if errors.As(err, &panicked) {
		b.WriteString(panicked.Stack)
	}
	return strings.TrimRight(b.String(), "\n")
}
