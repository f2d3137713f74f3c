//go:build linux

package crashtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// childLimit ends a child that hangs, and with it the test that waits for it.
const childLimit = 5 * time.Minute

// Child is a process that runs a program.
type Child struct {
	tb     testing.TB
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr bytes.Buffer
	began  time.Time
	over   chan struct{} // closed when it has ended; what is below "heard" is set then

	mu    sync.Mutex // guards heard
	more  *sync.Cond
	heard []heard
	eof   bool

	ended End
}

// heard is a line as the parent reads it.
type heard struct {
	Kind, Text string
	Answer     json.RawMessage
}

// End is how a child ended.
type End struct {
	Killed bool
	Points []string // that it passed, in order
	Log    string   // its standard error
	Took   time.Duration
	answer json.RawMessage
}

// Start runs the tests' binary as a child. It is killed when tb ends, if it has not
// ended before.
func Start(tb testing.TB, o Order, input any) *Child {
	tb.Helper()
	var err error
	if o.Input, err = json.Marshal(input); err != nil {
		tb.Fatal(err)
	}
	order, err := json.Marshal(o)
	if err != nil {
		tb.Fatal(err)
	}
	// Not the test's context: that is done before the cleanup, which waits for the child.
	ctx, cancel := context.WithTimeout(context.Background(), childLimit)
	c := &Child{tb: tb, cmd: exec.CommandContext(ctx, binary), over: make(chan struct{}), began: time.Now()}
	c.more = sync.NewCond(&c.mu)
	// With the race detector a process sleeps for a second before it exits, unless it is told not to.
	c.cmd.Env = append(os.Environ(), orderVar+"="+string(order), "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	c.cmd.Stderr = &c.stderr
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go func() {
		defer cancel()
		c.listen(stdout)
	}()
	tb.Cleanup(func() {
		c.Signal(syscall.SIGKILL)
		<-c.over
	})
	return c
}

// Run starts a child and waits for its end.
func Run(tb testing.TB, o Order, input any) End {
	tb.Helper()
	return Start(tb, o, input).Wait()
}

// listen files what the child says until it has ended.
func (c *Child) listen(stdout io.Reader) {
	defer close(c.over)
	var end End
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var h heard
		if err := json.Unmarshal(lines.Bytes(), &h); err != nil {
			continue // cut short by its death
		}
		switch h.Kind {
		case passed:
			end.Points = append(end.Points, h.Text)
		case answered:
			end.answer = h.Answer
		}
		c.mu.Lock()
		c.heard = append(c.heard, h)
		c.more.Broadcast()
		c.mu.Unlock()
	}
	err := c.cmd.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		status, ok := exit.Sys().(syscall.WaitStatus)
		end.Killed = ok && status.Signaled() && status.Signal() == syscall.SIGKILL
	}
	end.Log, end.Took = c.stderr.String(), time.Since(c.began)
	c.ended = end
	c.mu.Lock()
	c.eof = true
	c.more.Broadcast()
	c.mu.Unlock()
}

// PID is the child's.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Over is closed when the child has ended.
func (c *Child) Over() <-chan struct{} { return c.over }

// Signal sends one; a child that has ended does not get it.
func (c *Child) Signal(sig syscall.Signal) { _ = c.cmd.Process.Signal(sig) }

// Stop stops the child and returns when it stands still. Continue lets it go on.
func (c *Child) Stop() {
	c.tb.Helper()
	c.Signal(syscall.SIGSTOP)
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(c.PID(), &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		c.tb.Fatalf("the child did not stop: %v, status %v\n%s", err, status, c.stderr.String())
	}
}

// Continue is the opposite of Stop.
func (c *Child) Continue() { c.Signal(syscall.SIGCONT) }

// Resume lets a child go on that waits at a point. One that has ended meanwhile,
// because something else in it failed, does not mind.
func (c *Child) Resume() { _, _ = io.WriteString(c.stdin, "\n") }

// AwaitPause returns when the child waits at a point.
func (c *Child) AwaitPause(point string) { c.tb.Helper(); c.await(paused, point) }

// AwaitPoint returns when the child has passed a point.
func (c *Child) AwaitPoint(point string) { c.tb.Helper(); c.await(passed, point) }

// AwaitNote returns when the child has noted a text.
func (c *Child) AwaitNote(text string) { c.tb.Helper(); c.await(noted, text) }

// Noted waits like AwaitNote, and is false when the child ends without it.
func (c *Child) Noted(text string) bool { return c.hear(noted, text) }

func (c *Child) await(kind, text string) {
	c.tb.Helper()
	if !c.hear(kind, text) {
		<-c.over
		c.tb.Fatalf("the child ended and never %s %q\n%s", kind, text, c.ended.describe())
	}
}

func (c *Child) hear(kind, text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for from := 0; ; {
		for ; from < len(c.heard); from++ {
			if h := c.heard[from]; h.Kind == kind && h.Text == text {
				return true
			}
		}
		if c.eof {
			return false
		}
		c.more.Wait()
	}
}

// Wait returns when the child has ended.
func (c *Child) Wait() End {
	<-c.over
	return c.ended
}

// Answer decodes what the program returned; a child that was killed has none.
func (e End) Answer(tb testing.TB, v any) {
	tb.Helper()
	if e.answer == nil {
		tb.Fatalf("the child gave no answer\n%s", e.describe())
	}
	if err := json.Unmarshal(e.answer, v); err != nil {
		tb.Fatal(err)
	}
}

// Answered reports whether the program came to its end.
func (e End) Answered() bool { return e.answer != nil }

func (e End) describe() string {
	return fmt.Sprintf("killed: %v, after %s, points %q, log:\n%s", e.Killed, e.Took, e.Points, e.Log)
}
