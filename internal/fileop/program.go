package fileop

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/gosequencer/sequencer"
)

// Exit codes by which a program says more than "done" and "failed".
const (
	exitNotYet     = 75 // EX_TEMPFAIL of sysexits.h
	exitSkip       = 100
	exitSkipForNow = 101
	exitFail       = 102
)

// Keys of log lines.
const (
	keyStdout = "stdout"
	keyStderr = "stderr"
)

// grace is how long a program may take to stop after SIGTERM.
const grace = 5 * time.Second

// program runs an executable as one attempt.
type program struct {
	path    string
	host    Host
	backoff []time.Duration
	tries   int
	running *groups
	input   []byte // for stdin; nil = none
}

func (p program) run(ctx context.Context) error {
	path, err := filepath.Abs(p.path) // a bare name would be looked up in PATH
	if err != nil {
		return err
	}
	log := sequencer.Log(ctx)
	mask := p.host.mask()
	stdout := &lines{mask: mask, log: func(s string) { log.InfoContext(ctx, "output", slog.String(keyStdout, s)) }}
	stderr := &lines{mask: mask, log: func(s string) { log.InfoContext(ctx, "output", slog.String(keyStderr, s)) }}
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = append(os.Environ(), p.environment(ctx)...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if len(p.input) > 0 && string(p.input) != "null" {
		cmd.Stdin = bytes.NewReader(append(p.input, '\n'))
	}
	cmd.WaitDelay = grace
	err = runGroup(cmd, p.running)
	_ = errors.Join(stdout.Close(), stderr.Close()) // they only pass the last line on
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return fmt.Errorf("%s: %w", p.path, cause)
	}
	return p.verdict(ctx, err, stdout, stderr)
}

func (p program) environment(ctx context.Context) []string {
	a := sequencer.Current(ctx)
	env := []string{
		"SEQUENCER_OPERATION=" + a.Name,
		"SEQUENCER_ATTEMPT=" + strconv.Itoa(a.Number),
		"SEQUENCER_EXECUTION=" + a.ID,
		"SEQUENCER_RUN=" + a.RunID,
		"SEQUENCER_ENV=" + p.host.Environment,
		"SEQUENCER_DATABASE_URL=" + p.host.DatabaseURL,
	}
	if a.Undo {
		env = append(env, "SEQUENCER_ROLLBACK=1")
	}
	return env
}

// verdict translates an exit code.
func (p program) verdict(ctx context.Context, err error, stdout, stderr *lines) error {
	if errors.Is(err, exec.ErrWaitDelay) { // it succeeded, and left a child that keeps its output open
		return nil
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return err
	}
	failure := fmt.Errorf("%s: %w", p.path, &ProgramError{Exit: exit.ExitCode(), Status: exit.Error(), Stderr: stderr.tail()})
	switch exit.ExitCode() {
	case exitNotYet:
		delay := time.Second
		if len(p.backoff) > 0 {
			delay = p.backoff[0]
		}
		if sequencer.Current(ctx).Number >= p.tries {
			return fmt.Errorf("%w, and it has used up its tries: allow more with \"# sequencer: tries N\"", failure)
		}
		return sequencer.Release(delay)
	case exitSkip:
		return sequencer.Skip(cmp.Or(stdout.last(), "exit 100"))
	case exitSkipForNow:
		return sequencer.SkipForNow(cmp.Or(stdout.last(), "exit 101"))
	case exitFail:
		return sequencer.Fail(failure)
	}
	return failure
}

// ProgramError is an executable that ended badly.
type ProgramError struct {
	Exit   int    // −1 for a signal
	Status string // as the system words it
	Stderr string // the last lines
}

func (e *ProgramError) Error() string {
	if e.Stderr == "" {
		return e.Status
	}
	return e.Status + ": " + e.Stderr
}

// Code is the exit code, for the ledger.
func (e *ProgramError) Code() int { return e.Exit }

var _ io.WriteCloser = (*lines)(nil)
