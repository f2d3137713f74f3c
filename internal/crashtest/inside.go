//go:build linux

package crashtest

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
)

// orderVar carries an Order to a child.
const orderVar = "SEQUENCER_CRASHTEST_ORDER"

// Order tells a child what to do.
type Order struct {
	Program string          // a key of what Main was given
	Input   json.RawMessage // for the program
	KillAt  string          // the point at which the child dies by SIGKILL
	PauseAt []string        // points at which it waits for Child.Resume, the first time it passes
}

// Program is what a child runs. What it returns is the child's answer.
type Program func(ctx context.Context, in *Inside) any

// sideBySide is how many tests run at a time where nobody says: most of them wait for a
// lease, or for a process, and not for the processor.
const sideBySide = 6

// Main is TestMain's: in a child it runs the program, otherwise the tests.
func Main(m *testing.M, programs map[string]Program) {
	text := os.Getenv(orderVar)
	if text == "" {
		if UnderRace {
			remove, err := withoutRace()
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			defer remove()
		}
		flag.Parse()
		if atOnce := flag.Lookup("test.parallel"); atOnce.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
			_ = atOnce.Value.Set(strconv.Itoa(sideBySide)) // a number is one
		}
		m.Run()
		return
	}
	in := &Inside{resume: make(chan struct{}), out: json.NewEncoder(os.Stdout)}
	if err := json.Unmarshal([]byte(text), &in.order); err != nil {
		fmt.Fprintln(os.Stderr, "order:", err)
		return
	}
	go in.listen()
	in.say(line{Kind: answered, Answer: programs[in.order.Program](context.Background(), in)})
}

// Inside is a child's own view.
type Inside struct {
	order  Order
	resume chan struct{}

	mu  sync.Mutex // guards out and PauseAt
	out *json.Encoder
}

// line is what a child says, one on each line of its standard output.
type line struct {
	Kind   string
	Text   string `json:",omitempty"`
	Answer any    `json:",omitempty"`
}

const (
	passed   = "passed"   // a point
	paused   = "paused"   // at a point, until it is resumed
	noted    = "noted"    // Note
	answered = "answered" // the program is over
)

// Input decodes the order's input.
func (in *Inside) Input(v any) error { return json.Unmarshal(in.order.Input, v) }

// Note tells the parent something it may wait for.
func (in *Inside) Note(text string) { in.say(line{Kind: noted, Text: text}) }

// Point is where the child may die, or wait. It is a faultstore.Hook.
func (in *Inside) Point(point string) error {
	in.say(line{Kind: passed, Text: point})
	if point == in.order.KillAt {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way
	}
	if in.pausesAt(point) {
		in.say(line{Kind: paused, Text: point})
		<-in.resume
	}
	return nil
}

// pausesAt is true once for each point: a retry passes its points again.
func (in *Inside) pausesAt(point string) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	i := slices.Index(in.order.PauseAt, point)
	if i >= 0 {
		in.order.PauseAt = slices.Delete(in.order.PauseAt, i, i+1)
	}
	return i >= 0
}

func (in *Inside) say(l line) {
	in.mu.Lock()
	defer in.mu.Unlock()
	_ = in.out.Encode(l) // a parent that is gone is found out by listen
}

// listen takes a line on standard input as a Resume. Its end means that the parent
// is gone: nobody is left to look at what this child does.
func (in *Inside) listen() {
	for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		in.resume <- struct{}{}
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
}
