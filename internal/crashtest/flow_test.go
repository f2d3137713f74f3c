//go:build linux

package crashtest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/crashtest"
	"github.com/gosequencer/sequencer/storage"
)

// step is the input of the one operation that nests are made of.
type step struct {
	Label  string
	Micros int
	Adds   int  // so many members to its batch
	Breaks bool // it fails for good, until the shift is mended
}

// mended is the file whose presence makes broken steps good.
func (s shift) mended() string { return s.Journal + ".mended" }

func (d *desk) registerSteps(reg *sequencer.Registry, s shift, all *jobs) {
	all.step = sequencer.RegisterFuncOf(reg, "step", func(ctx context.Context, in step) error {
		return d.around(ctx, in.Label, job{in.Micros}, func() error {
			if _, err := os.Stat(s.mended()); in.Breaks && err != nil {
				return sequencer.Fail(errors.New("broken"))
			}
			for i := range in.Adds {
				added := fmt.Sprintf("%s-added%d", in.Label, i)
				if err := sequencer.CurrentBatch(ctx).Add(ctx, sequencer.With(all.step(step{Label: added, Micros: in.Micros}), sequencer.As(added))); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// A nest is a batch of chains that have a batch as a step, and of plain members, one of
// which adds others. Callbacks are operations, and one is a chain.
type nest struct {
	seq    *sequencer.Sequencer
	jobs   jobs
	chains int
	plain  int
	random *rand.Rand // how long members take; nil: no time
	breaks string     // a label that fails
}

func (n *nest) step(label string) sequencer.Operation {
	in := step{Label: label, Breaks: label == n.breaks}
	if n.random != nil {
		in.Micros = n.random.IntN(10_000)
	}
	if label == "adder" {
		in.Adds = 2
	}
	return sequencer.With(n.jobs.step(in), sequencer.As(label))
}

func (n *nest) steps(labels ...string) []sequencer.Operation {
	all := make([]sequencer.Operation, len(labels))
	for i, label := range labels {
		all[i] = n.step(label)
	}
	return all
}

func (n *nest) build(name string) *sequencer.Batch {
	var members []sequencer.Operation
	for i := range n.chains {
		inner := n.seq.Batch(n.steps(fmt.Sprintf("b%d", i), fmt.Sprintf("c%d", i))...).Name("inner").
			Then(n.step("inner-then")).Catch(n.step("inner-catch")).Finally(n.step("inner-finally"))
		members = append(members, n.seq.Chain(n.step(fmt.Sprintf("a%d", i)), inner, n.step(fmt.Sprintf("d%d", i)), n.step(fmt.Sprintf("e%d", i))).
			Name("chain").Catch(n.step("chain-catch")).Finally(n.step("chain-finally")))
	}
	members = append(members, n.step("adder"))
	for i := range n.plain {
		members = append(members, n.step(fmt.Sprintf("m%d", i)))
	}
	return n.seq.Batch(members...).Name(name).AllowFailures().
		Then(n.seq.Chain(n.steps("then1", "then2")...).Name("report")).Catch(n.step("catch")).Finally(n.step("finally"))
}

// nests is for the test's own process: it makes and operates nests.
func (s shift) nests(t *testing.T, do func(l *ledger, n *nest)) {
	t.Helper()
	within(t, s.Place, func(l *ledger) {
		s.Points = false
		seq, all, err := s.sequencer(l, &desk{})
		if err != nil {
			t.Fatal(err)
		}
		do(l, &nest{seq: seq, jobs: all, chains: 2, plain: 5})
	})
}

// runStart is the child: it dispatches nests until it is killed, and writes down the id
// of each that was accepted.
func runStart(ctx context.Context, in *crashtest.Inside) any {
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
	seq, all, err := s.sequencer(l, &desk{point: in.Point})
	if err != nil {
		return err.Error()
	}
	in.Note(started)
	for i := range s.Enough {
		f, err := (&nest{seq: seq, jobs: all, chains: 2, plain: 5}).build(fmt.Sprintf("nest %d", i)).Dispatch(ctx)
		if err != nil {
			return err.Error()
		}
		if err := appendLine(accepted, f.ID()); err != nil {
			return err.Error()
		}
	}
	return ""
}

// smallest is a nest that passes few points.
func smallest(t *testing.T, s shift, breaks string) {
	t.Helper()
	s.nests(t, func(_ *ledger, n *nest) {
		n.chains, n.plain, n.breaks = 1, 0, breaks
		if _, err := n.build("nest").Dispatch(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCrashOfAWorkerAtEachPointOfANestCallsBackOnceAndKeepsTheOrder_Q5_22_Q6_2(t *testing.T) {
	t.Parallel()
	onBackends(t, every, func(t *testing.T, b backend) {
		for _, breaks := range []string{"", "b0"} {
			s := inOneSlot(newShift(t, b.at(t)))
			smallest(t, s, breaks)
			points := decisive(mustWork(t, s))
			want := tallyNests(t, s, nil).outcome()
			for _, point := range points {
				t.Run(strings.TrimPrefix(breaks+" broken, "+point, " broken, "), func(t *testing.T) {
					t.Parallel()
					s := inOneSlot(newShift(t, b.at(t)))
					smallest(t, s, breaks)
					gone := killWorker(t, s, point)
					mustWork(t, s)
					if got := tallyNests(t, s, gone).outcome(); got != want {
						t.Errorf("it came to %s, want %s", got, want)
					}
				})
			}
		}
	})
}

func TestCrashOfADispatcherLeavesWholeNestsOrNone_Q5_35(t *testing.T) {
	t.Parallel()
	onBackends(t, every, func(t *testing.T, b backend) {
		for point, nests := range map[string]int{"Enqueue#2/before": 1, "Enqueue#2/after": 2} {
			t.Run(point, func(t *testing.T) {
				t.Parallel()
				s := inOneSlot(newShift(t, b.at(t)))
				s.Enough = 3
				end := crashtest.Run(t, crashtest.Order{Program: "start nests", KillAt: point}, s)
				if !end.Killed {
					t.Fatalf("the dispatcher was to die at %s and passed only %q\n%s", point, end.Points, end.Log)
				}
				s.Enough, s.Points = 0, false
				mustWork(t, s)
				if c := tallyNests(t, s, nil); len(c.roots) != nests {
					t.Errorf("the ledger holds %d nests, want %d", len(c.roots), nests)
				}
			})
		}
	})
}

// howMany nests there are in what takes long.
func howMany() int {
	if testing.Short() || crashtest.UnderRace {
		return 12
	}
	return 30
}

// While workers and a dispatcher die, people cancel some nests and retry what failed.
func TestCrashOfWorkersAtRandomInNestsThatAreCancelledAndRetried_Q5_22_Q5_29_Q6_2(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	onBackends(t, every, func(t *testing.T, b backend) {
		random := rand.New(rand.NewPCG(seed, 1))
		s := newShift(t, b.at(t))
		accepted := startAndDie(t, s, random)
		s.nests(t, func(l *ledger, n *nest) {
			n.random = random
			var broken, unwanted []*sequencer.Flow
			for i := range howMany() {
				n.breaks = []string{"", "b0", "m1", "d1"}[i%4]
				f, err := n.build(fmt.Sprintf("own %d", i)).Dispatch(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				accepted = append(accepted, f.ID())
				if i%5 == 4 { // it may be over before it is cancelled, but is not retried
					unwanted = append(unwanted, f)
				} else if n.breaks != "" {
					broken = append(broken, f)
				}
			}
			retry := func() {
				for _, f := range broken {
					if st, err := f.Status(t.Context()); err != nil {
						t.Fatal(err)
					} else if st.Over() && st.State == storage.Failed && st.Generation == 1 {
						if err := f.Retry(t.Context(), sequencer.RetryOptions{}); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			all, mended := s.left(t), false
			f := fleet{shift: s, from: s.Place, random: random, most: 40}
			gone := map[int]bool{}
			serve := func() {
				f.serve(t, func(left int) {
					if left < all*2/3 && len(unwanted) > 0 {
						if err := unwanted[0].Cancel(t.Context(), "not wanted"); err != nil {
							t.Fatal(err)
						}
						unwanted = unwanted[1:]
					}
					if left < all/2 {
						if !mended {
							mended = true
							if err := os.WriteFile(s.mended(), nil, 0o600); err != nil {
								t.Fatal(err)
							}
						}
						retry()
					}
				})
				for pid := range f.gone {
					gone[pid] = true
				}
			}
			serve()
			if err := os.WriteFile(s.mended(), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			retry()
			serve()
			c := tallyNests(t, s, gone)
			t.Logf("%s: %d nests, %d rows, %d processes killed, %d attempts lost, generations %v: %v",
				b.name, len(c.roots), len(c.rows), len(gone), c.lost, c.generations(), c.states())
			for _, id := range accepted {
				if !c.hasRoot(id) {
					t.Errorf("nest %s was accepted and is not in the ledger", id)
				}
			}
			if len(gone) <= workers || c.lost == 0 || c.generations()[2] == 0 {
				t.Errorf("%d processes were killed, %d attempts lost, generations %v: that shows nothing", len(gone), c.lost, c.generations())
			}
		})
	})
}

// startAndDie lets two processes dispatch nests, and kills them. It returns the ids that
// they were told were accepted.
func startAndDie(t *testing.T, s shift, random *rand.Rand) []string {
	t.Helper()
	s.Enough = 5
	for range 2 {
		c := crashtest.Start(t, crashtest.Order{Program: "start nests"}, s)
		c.AwaitNote(started)
		select {
		case <-time.After(time.Duration(random.Int64N(int64(50 * time.Millisecond)))):
		case <-c.Over():
		}
		if c.Signal(9); c.Wait().Answered() {
			t.Log("a dispatcher came to its end")
		}
	}
	text, err := os.ReadFile(s.Journal + ".accepted")
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}

func TestCrashOfTheServerInTheMiddleOfNestsLosesNothing_Q0_6_Q5_22(t *testing.T) {
	t.Parallel()
	onBackends(t, withServer, func(t *testing.T, b backend) {
		s, restart, _ := privately(t, b)
		s.nests(t, func(_ *ledger, n *nest) {
			n.random = rand.New(rand.NewPCG(1, 2))
			for i := range howMany() {
				if _, err := n.build(fmt.Sprintf("nest %d", i)).Dispatch(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		})
		all := s.left(t)
		f := fleet{shift: s, from: s.Place, mayFail: true}
		restarts := 0
		f.serve(t, func(left int) {
			if restarts < 2 && left < all*(2-restarts)/3 {
				restart()
				restarts++
			}
		})
		c := tallyNests(t, s, nil)
		t.Logf("%s: %d nests, %d rows, %d restarts: %v", b.name, len(c.roots), len(c.rows), restarts, c.states())
		if restarts < 2 || len(c.roots) != howMany() || c.lost > 0 {
			t.Errorf("%d restarts, %d nests of %d, %d attempts lost", restarts, len(c.roots), howMany(), c.lost)
		}
	})
}
