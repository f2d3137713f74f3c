//go:build linux

package crashtest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/crashtest"
	"github.com/gosequencer/sequencer/storage"
)

// some is a little of everything that does not kill by itself.
func some(all jobs) []sequencer.Operation {
	ops := []sequencer.Operation{all.mail(job{}), all.mail(job{})}
	if all.pay != nil {
		ops = append(ops, all.pay(job{}), all.pay(job{}))
	}
	return append(ops, all.mail(job{}))
}

// inOneSlot is a shift that passes the same points each time, until nothing is left.
func inOneSlot(s shift) shift {
	s.Slots, s.Points, s.Idle = 1, true, time.Millisecond
	return s
}

// mustWork runs a shift to its end and returns the points it passed.
func mustWork(t *testing.T, s shift) []string {
	t.Helper()
	end := crashtest.Run(t, crashtest.Order{Program: "work"}, s)
	var e shiftEnd
	if end.Answer(t, &e); e.Error != "" {
		t.Fatalf("a worker ended with %s\n%s", e.Error, end.Log)
	}
	return end.Points
}

// killWorker lets a worker die at a point and returns its process.
func killWorker(t *testing.T, s shift, point string) map[int]bool {
	t.Helper()
	c := crashtest.Start(t, crashtest.Order{Program: "work", KillAt: point}, s)
	if end := c.Wait(); !end.Killed {
		t.Fatalf("the worker was to die at %s and passed only %q\n%s", point, end.Points, end.Log)
	}
	return map[int]bool{c.PID(): true}
}

func (c *tally) wantStates(t *testing.T, want map[string]int) {
	t.Helper()
	if got := c.states(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestCrashOfAWorkerAtEachPointAndTheNextOneGoesOn_Q0_2_Q2_16(t *testing.T) {
	t.Parallel()
	onBackends(t, every, func(t *testing.T, b backend) {
		s := inOneSlot(newShift(t, b.at(t)))
		s.dispatch(t, some)
		points := decisive(mustWork(t, s))
		want := count(t, s, nil).states()
		for _, point := range points {
			t.Run(point, func(t *testing.T) {
				t.Parallel()
				s := inOneSlot(newShift(t, b.at(t)))
				s.dispatch(t, some)
				gone := killWorker(t, s, point)
				mustWork(t, s)
				count(t, s, gone).wantStates(t, want)
			})
		}
	})
}

// The rescuer serves a queue that is empty, so that all it writes is the rescue.
func TestCrashOfARescuerAtEachPointAndTheNextOneRescuesOnce_Q2_16(t *testing.T) {
	t.Parallel()
	onBackends(t, every, func(t *testing.T, b backend) {
		lost := func(t *testing.T) (shift, shift, map[int]bool) {
			t.Helper()
			s := inOneSlot(newShift(t, b.at(t)))
			s.dispatch(t, some)
			rescuer := s
			rescuer.Queues = []string{"nothing"}
			return s, rescuer, killWorker(t, s, "mail/after")
		}
		s, rescuer, gone := lost(t)
		points := mustWork(t, rescuer)
		if !slices.ContainsFunc(points, func(p string) bool { return strings.HasPrefix(p, "Finish#") }) {
			t.Fatalf("the rescuer recorded no loss: it passed %q", points)
		}
		mustWork(t, s)
		c := count(t, s, gone)
		want := c.states()
		if c.lost != 1 {
			t.Errorf("%d attempts were lost, want 1", c.lost)
		}
		for _, point := range decisive(points) {
			t.Run(point, func(t *testing.T) {
				t.Parallel()
				s, rescuer, gone := lost(t)
				killWorker(t, rescuer, point)
				mustWork(t, s)
				c := count(t, s, gone)
				c.wantStates(t, want)
				if c.lost != 1 {
					t.Errorf("%d attempts were lost, want 1", c.lost)
				}
			})
		}
	})
}

func TestCrashInWhatIsAttemptedOnceAtMostEndsIt_Q1_8_Q2_16(t *testing.T) {
	t.Parallel()
	onBackends(t, every, func(t *testing.T, b backend) {
		for _, point := range []string{"once/before", "once/after"} {
			t.Run(point, func(t *testing.T) {
				t.Parallel()
				s := inOneSlot(newShift(t, b.at(t)))
				s.dispatch(t, func(all jobs) []sequencer.Operation {
					return []sequencer.Operation{all.once(job{}), all.mail(job{})}
				})
				gone := killWorker(t, s, point)
				mustWork(t, s)
				c := count(t, s, gone)
				c.wantStates(t, map[string]int{"mail completed": 1, "once failed": 1})
				for _, row := range c.rows {
					if row.State == storage.Failed && (row.Attempts() != 1 || row.Losses != 1 || !strings.Contains(row.LastError, sequencer.ErrLost.Error())) {
						t.Errorf("after %d attempts and %d losses: %s; want one of each, and the worker's death", row.Attempts(), row.Losses, row.LastError)
					}
				}
			})
		}
	})
}
