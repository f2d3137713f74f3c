//go:build linux

package crashtest_test

import (
	"cmp"
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/crashtest"
	"github.com/gosequencer/sequencer/storage"
)

const (
	workers    = 3
	executions = 10_000

	// fleetLimit is for machines that do much else; it is less than a child may live.
	fleetLimit = 4 * time.Minute
)

// many is how many executions there are: fewer where nobody has time, and in "make test",
// which has the race detector and much else to do.
func many() int {
	if testing.Short() || crashtest.UnderRace {
		return executions / 5
	}
	return executions
}

// fleet is a number of workers, each replaced by another when it is gone.
type fleet struct {
	shift shift
	from  place // where the test looks, by a way that stays good
	// random decides when each is killed: mostly after some executions, by which a slow
	// machine gets its work done too, and sometimes while it begins. nil: nobody is.
	random *rand.Rand
	most   int // executions one does at most before it is killed, 0 = 400

	mayFail bool // to begin

	gone map[int]bool // processes that were killed
}

// serve returns when nothing is left to do in the ledger. Every now and then it tells
// meanwhile how much is left.
func (f *fleet) serve(t *testing.T, meanwhile func(left int)) {
	t.Helper()
	f.gone = map[int]bool{}
	over := make(chan struct{})
	vacant := make(chan *crashtest.Child, workers)
	for range workers {
		vacant <- nil
	}
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	limit := time.NewTimer(fleetLimit)
	defer limit.Stop()
	within(t, f.from, func(l *ledger) {
		for {
			select {
			case c := <-vacant:
				f.bury(t, c)
				c, soon := f.hire(t)
				go func() {
					mind(c, soon, over)
					vacant <- c
				}()
			case <-look.C:
				left, err := live(t.Context(), l)
				if err != nil { // the server may be away
					t.Log(err)
					continue
				}
				if left == 0 {
					close(over)
					for range workers {
						f.bury(t, <-vacant)
					}
					return
				}
				meanwhile(left)
			case <-limit.C:
				left, err := live(t.Context(), l)
				t.Fatalf("after %s %d executions are not over, %v", fleetLimit, left, err)
			}
		}
	})
}

// hire starts a worker; soon is how long it may live whatever it does.
func (f *fleet) hire(t *testing.T) (c *crashtest.Child, soon time.Duration) {
	t.Helper()
	s := f.shift
	if f.random != nil {
		if s.Enough = 1 + f.random.IntN(cmp.Or(f.most, 400)); f.random.IntN(8) == 0 {
			soon = time.Duration(f.random.Int64N(int64(100 * time.Millisecond)))
		}
	}
	return crashtest.Start(t, crashtest.Order{Program: "work"}, s), soon
}

// mind ends a worker when it has done enough, or lived long enough, or all is over.
func mind(c *crashtest.Child, soon time.Duration, over <-chan struct{}) {
	enough := make(chan struct{})
	go func() {
		defer close(enough)
		c.Noted(enoughDone)
	}()
	var early <-chan time.Time
	if soon > 0 {
		early = time.After(soon)
	}
	select {
	case <-enough:
	case <-early:
	case <-over:
	}
	c.Signal(syscall.SIGKILL)
	c.Wait()
}

// bury files how a worker ended. One that could not begin, because the server is away,
// says so and ends; whoever started it starts another.
func (f *fleet) bury(t *testing.T, c *crashtest.Child) {
	t.Helper()
	if c == nil {
		return
	}
	end := c.Wait()
	if end.Killed {
		f.gone[c.PID()] = true
	} else {
		var e shiftEnd
		end.Answer(t, &e)
		t.Logf("process %d: %s", c.PID(), e.Error)
		if !f.mayFail || c.Noted(string(sequencer.EventWorkerStarted)) {
			t.Fatalf("a worker ended by itself after %s\n%s", end.Took, end.Log)
		}
	}
	for line := range strings.Lines(end.Log) {
		if strings.Contains(line, "begins anew") {
			t.Logf("process %d: %s", c.PID(), line)
		}
	}
}

// mixture is n jobs of random length, of each kind that the backend has.
func mixture(random *rand.Rand, n, micros int) func(jobs) []sequencer.Operation {
	return func(all jobs) []sequencer.Operation {
		ops := make([]sequencer.Operation, n)
		for i := range ops {
			in := job{Micros: random.IntN(micros)}
			if ops[i] = all.mail(in); i%4 == 0 && all.pay != nil {
				ops[i] = all.pay(in)
			}
		}
		return ops
	}
}

func TestCrashOfWorkersAtRandomTenThousandTimesLosesNothing_Q0_6_Q2_16(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	onBackends(t, every, func(t *testing.T, b backend) {
		random := rand.New(rand.NewPCG(seed, 1))
		s := newShift(t, b.at(t))
		accepted := dispatchAndDie(t, s, random)
		s.dispatch(t, mixture(random, many()-s.left(t), 20_000))

		f := fleet{shift: s, from: s.Place, random: random}
		began := time.Now()
		f.serve(t, func(int) {})
		took := time.Since(began)
		c := count(t, s, f.gone)
		t.Logf("%s: %d executions, %d processes killed, %d attempts lost, in %s: %v", b.name, len(c.rows), len(f.gone), c.lost, took.Round(time.Millisecond), c.states())
		// A server may commit what a process sent last after it died, and after the count.
		if extra := len(c.rows) - many(); extra < 0 || extra > 2*handful {
			t.Errorf("the ledger holds %d executions, want %d, and at most %d more", len(c.rows), many(), 2*handful)
		}
		have := map[string]bool{}
		for _, row := range c.rows {
			have[row.ID.String()] = true
		}
		for _, id := range accepted {
			if !have[id] {
				t.Errorf("%s was accepted and is not in the ledger", id)
			}
		}
		if n := c.ended(storage.Failed); n > many()/1000 {
			t.Errorf("%d executions lost five workers in a row: too many for chance", n)
		}
		if len(f.gone) <= workers || c.lost == 0 {
			t.Errorf("%d processes were killed and %d attempts lost: that shows nothing", len(f.gone), c.lost)
		}
	})
}

// dispatchAndDie lets two processes dispatch and kills them. It returns the ids that
// they were told were accepted.
func dispatchAndDie(t *testing.T, s shift, random *rand.Rand) []string {
	t.Helper()
	for range 2 {
		c := crashtest.Start(t, crashtest.Order{Program: "dispatch"}, s)
		c.AwaitNote(started)
		select {
		case <-time.After(time.Duration(random.Int64N(int64(100 * time.Millisecond)))):
		case <-c.Over():
		}
		c.Signal(syscall.SIGKILL)
		c.Wait()
	}
	text, err := os.ReadFile(s.Journal + ".accepted")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}

// accepting opens the file of the ids that dispatchers were told were accepted.
func (s shift) accepting() (*os.File, error) {
	return os.OpenFile(s.Journal+".accepted", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// handful is how many the child dispatches at once.
const handful = 10

// runDispatch is the child: it dispatches a fifth of the work at most.
func runDispatch(ctx context.Context, in *crashtest.Inside) any {
	var s shift
	if err := in.Input(&s); err != nil {
		return err.Error()
	}
	l, err := open(ctx, s.Place)
	if err != nil {
		return err.Error()
	}
	defer l.Close()
	accepted, err := s.accepting()
	if err != nil {
		return err.Error()
	}
	defer accepted.Close()
	seq, all, err := s.sequencer(l, &desk{})
	if err != nil {
		return err.Error()
	}
	in.Note(started)
	for range executions / 5 / 5 / handful {
		ops := make([]sequencer.Operation, handful)
		for i := range ops {
			ops[i] = all.mail(job{Micros: i * 1000})
		}
		receipts, err := seq.DispatchAll(ctx, ops...)
		if err != nil {
			return err.Error()
		}
		for _, r := range receipts {
			if err := appendLine(accepted, r.ID); err != nil {
				return err.Error()
			}
		}
	}
	return strconv.Itoa(executions / 5)
}
