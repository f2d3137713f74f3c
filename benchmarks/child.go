package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// taskVar holds the task of a child. A child writes messages to stdout, a JSON
// document each, and is told by the end of its stdin that it should come to an end;
// so none outlives its parent by more than the grace.
const taskVar = "SEQUENCER_BENCHMARK_TASK"

type message struct {
	Event  event  `json:"event"`
	Text   string `json:"text,omitempty"` // of an error, or why there is no figure
	Result result `json:"result,omitzero"`
}

type event string

const (
	eventReady   event = "ready"   // the worker has proved that it works
	eventHandled event = "handled" // a job that is kept in the handler has been started
	eventResult  event = "result"
	eventAbsent  event = "absent"
	eventError   event = "error"
)

// childLimit ends a child that hangs.
const childLimit = 15 * time.Minute

// child is a running process that was given a task.
type child struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	out    *json.Decoder
	stderr bytes.Buffer
	reap   func()
}

func start(ctx context.Context, t task) (*child, error) {
	text, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, childLimit)
	c := &child{cmd: exec.CommandContext(ctx, self)}
	c.cmd.Env = append(os.Environ(), taskVar+"="+string(text))
	c.cmd.Stderr = &c.stderr
	c.reap = sync.OnceFunc(func() {
		_ = c.cmd.Wait() // what a child has to say it says in its messages
		cancel()
	})
	stdout, err := c.cmd.StdoutPipe()
	if err == nil {
		c.stdin, err = c.cmd.StdinPipe()
	}
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	c.out = json.NewDecoder(stdout)
	return c, nil
}

// next waits for a message and returns an error unless it is the one wanted.
func (c *child) next(want event) (message, error) {
	var m message
	if err := c.out.Decode(&m); err != nil {
		c.kill()
		return m, fmt.Errorf("child ended: %w\n%s", err, bytes.TrimSpace(c.stderr.Bytes()))
	}
	switch m.Event {
	case want:
		return m, nil
	case eventAbsent:
		return m, absent(m.Text)
	case eventError:
		return m, errors.New(m.Text)
	default:
		return m, fmt.Errorf("child says %s, want %s", m.Event, want)
	}
}

// end asks the child to come to an end.
func (c *child) end() { c.stdin.Close() }

// kill ends the child by SIGKILL, if it has not ended, and waits until it is gone.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // fails if it is gone already
	c.reap()
}

// finish runs a task to its end.
func finish(ctx context.Context, t task) (result, error) {
	c, err := start(ctx, t)
	if err != nil {
		return result{}, err
	}
	m, err := c.next(eventResult)
	if err != nil {
		c.kill()
		return result{}, fmt.Errorf("%s: %w", t.Do, err)
	}
	c.end()
	c.reap()
	return m.Result, nil
}

// serve is the child's main.
func serve(text string) int {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	var writing sync.Mutex // guards stdout
	say := func(m message) {
		writing.Lock()
		defer writing.Unlock()
		if err := json.NewEncoder(os.Stdout).Encode(m); err != nil {
			os.Exit(1) // nobody listens
		}
	}
	var t task
	err := json.Unmarshal([]byte(text), &t)
	var r result
	if err == nil {
		r, err = t.do(ctx, say)
	}
	if why, ok := errors.AsType[absent](err); ok {
		say(message{Event: eventAbsent, Text: string(why)})
		return 0
	}
	if err != nil {
		say(message{Event: eventError, Text: err.Error()})
		return 1
	}
	say(message{Event: eventResult, Result: r})
	return 0
}
