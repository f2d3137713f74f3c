package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
)

const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitBlocked     = 3
	exitLocked      = 4
	exitFound       = 5
	exitTimeout     = 6
	exitDrift       = 7
	exitApproval    = 8
	exitInterrupted = 130
)

// ExitCode is the process's answer for an error of one of the commands.
func ExitCode(err error) int {
	var coded *exitError
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &usage), errors.Is(err, sequencer.ErrTimestamp):
		return exitUsage
	case errors.Is(err, errStopped), errors.Is(err, sequencer.ErrShutdown):
		return exitInterrupted
	case errors.Is(err, sequencer.ErrNotApproved):
		return exitApproval
	case errors.Is(err, sequencer.ErrGuard):
		return exitBlocked
	case errors.Is(err, sequencer.ErrLocked):
		return exitLocked
	}
	return exitFailed
}

// exitError is an answer that is told by the exit code. Its text, if any, has
// been printed as the command's answer already.
type exitError struct {
	code int
	text string
}

func (e *exitError) Error() string { return e.text }

// stoppedError is what came of a command whose context ended under it, told from
// an operation that was cancelled or timed out by itself.
type stoppedError struct{ error }

func (e *stoppedError) Is(target error) bool { return target == errStopped }
func (e *stoppedError) Unwrap() error        { return e.error }

// usageError is a command line that cannot be meant.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// Usage marks an error of an [Opener] or an own command as a mistake in the
// command line: exit code 2.
func Usage(err error) error { return &usageError{err} }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// knownCommand refuses what the root does not have; cobra's own check has no type.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usagef("unknown command %q: do you mean %s?", args[0], strings.Join(near, " or "))
	}
	return usagef("unknown command %q", args[0])
}

// takes is a command's arguments by name, as "NAME" or "[NAME]".
func takes(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > len(names) {
			return usagef("unexpected argument %q", args[len(names)])
		}
		for _, missing := range names[len(args):] {
			if !strings.HasPrefix(missing, "[") {
				return usagef("%s is missing", missing)
			}
		}
		return nil
	}
}

// failure is the JSON document of a command that has no other.
type failure struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
	Code  int    `json:"exit_code"`
}

// report prints an error, once, and returns its exit code.
func (a *app) report(ran *cobra.Command, err error) int {
	u := a.ui
	if u == nil {
		u = newUI(a, ran)
	}
	code := ExitCode(err)
	message, hint := explain(err), u.hint(err)
	if _, answered := errors.AsType[*exitError](err); answered && message == "" {
		return code
	}
	if u.json && !u.answered {
		u.document(failure{Error: message, Hint: hint, Code: code})
	}
	u.fail(message)
	if u.verbose {
		u.sayf("%s", trace(err))
	}
	if code == exitUsage && hint == "" {
		hint = ran.CommandPath() + " --help"
	}
	if hint != "" {
		u.sayf("hint: %s", hint)
	}
	return code
}
