//go:build linux

package crashtest_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/crashtest"
	"github.com/gosequencer/sequencer/storage"
)

// busyMachine is what a machine that has other things to do may add to a wait.
const busyMachine = 4 * time.Second

// awaitEmpty returns when nothing is left to do.
func awaitEmpty(t *testing.T, s shift, limit time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	within(t, s.Place, func(l *ledger) {
		for {
			n, err := live(ctx, l)
			if err == nil && n == 0 {
				return
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				t.Fatalf("after %s %d executions are not over, %v", limit, n, err)
			}
		}
	})
}

// awaitPending returns when nothing is in anybody's hands.
func awaitPending(t *testing.T, s shift) {
	t.Helper()
	within(t, s.Place, func(l *ledger) {
		for {
			running, err := l.Executions(t.Context(), storage.Filter{States: []storage.State{storage.Running}})
			if err != nil {
				t.Fatal(err)
			}
			if len(running) == 0 {
				return
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-t.Context().Done():
			}
		}
	})
}

func TestCrashOnlyInAppearanceAStoppedWorkerChangesNothingThatWasTakenOver_Q2_15(t *testing.T) {
	t.Parallel()
	onBackends(t, withServer, func(t *testing.T, b backend) {
		points := []string{"mail/before", "mail/after", "Finish#1/before"}
		if b.tables {
			points = append(points, "pay/after", "FinishTx#1/before")
		}
		for _, point := range points {
			t.Run(point, func(t *testing.T) {
				t.Parallel()
				const lease = 3 * time.Second
				s := inOneSlot(newShift(t, b.at(t)))
				s.Lease = lease
				s.dispatch(t, some)
				stopped := crashtest.Start(t, crashtest.Order{Program: "work", PauseAt: []string{point}}, s)
				stopped.AwaitPause(point)
				stopped.Stop()
				began := time.Now()

				second := s
				second.Idle, second.Points = 0, false
				other := crashtest.Start(t, crashtest.Order{Program: "work"}, second)
				awaitEmpty(t, s, 5*time.Second+busyMachine)
				t.Logf("taken over and done %s after the stop", time.Since(began).Round(10*time.Millisecond))
				gone := map[int]bool{stopped.PID(): true}
				before := count(t, s, gone)

				stopped.Continue()
				stopped.Resume()
				var e shiftEnd
				end := stopped.Wait()
				if end.Answer(t, &e); e.Error != "" {
					t.Errorf("the worker that was stopped did not begin anew: %s\n%s", e.Error, end.Log)
				}
				after := count(t, s, gone)
				after.wantStates(t, before.states())
				for i, row := range after.rows {
					if was := before.rows[i]; row.Delivery != was.Delivery || !row.FinishedAt.Equal(was.FinishedAt) {
						t.Errorf("%s is at delivery %d, finished at %v; before the stopped worker went on it was %d, %v",
							row.Name, row.Delivery, row.FinishedAt, was.Delivery, was.FinishedAt)
					}
				}
				if after.lost != 1 {
					t.Errorf("%d attempts were lost, want the one that was stopped", after.lost)
				}
				other.Signal(syscall.SIGKILL)
			})
		}
	})
}

// A commit that is on its way holds the row. Nobody can take it over, and when it
// arrives it is the outcome; what it has claimed is taken over then.
func TestCrashOnlyInAppearanceAStoppedWorkerMayFinishACommitOnItsWay_Q2_15(t *testing.T) {
	t.Parallel()
	onBackends(t, func(b backend) bool { return b.tables && b.private != nil }, func(t *testing.T, b backend) {
		const point = "Commit#1/before"
		s := inOneSlot(newShift(t, b.at(t)))
		s.Lease = 2 * time.Second
		s.dispatch(t, some)
		stopped := crashtest.Start(t, crashtest.Order{Program: "work", PauseAt: []string{point}}, s)
		stopped.AwaitPause(point)
		stopped.Stop()
		second := s
		second.Idle = 0
		other := crashtest.Start(t, crashtest.Order{Program: "work"}, second)
		other.AwaitPoint("Rescue#5/after") // one a second: the lease is over
		if n := s.left(t); n == 0 {
			t.Error("somebody finished what a transaction that may still commit has in hand")
		}
		stopped.Continue()
		stopped.Resume()
		awaitEmpty(t, s, 5*time.Second+busyMachine)
		stopped.Wait()
		other.Signal(syscall.SIGKILL)
		other.Wait()
		c := count(t, s, map[int]bool{stopped.PID(): true})
		c.wantStates(t, map[string]int{"mail completed": 3, "pay completed": 2})
	})
}

func TestCrashOnlyInAppearanceOnSQLiteAStoppedWorkerIsWaitedForUntilItIsKilled_Q2_14(t *testing.T) {
	t.Parallel()
	onBackends(t, func(b backend) bool { return b.private == nil }, func(t *testing.T, b backend) {
		const point = "mail/after"
		s := inOneSlot(newShift(t, b.at(t)))
		s.Lease = time.Second
		s.dispatch(t, func(all jobs) []sequencer.Operation { return []sequencer.Operation{all.mail(job{}), all.mail(job{})} })
		stopped := crashtest.Start(t, crashtest.Order{Program: "work", PauseAt: []string{point}}, s)
		stopped.AwaitPause(point)
		stopped.Stop()
		second := s
		second.Idle = 3 * s.Lease // it has looked after dead workers several times when it ends
		mustWork(t, second)
		within(t, s.Place, func(l *ledger) {
			rows, err := l.Executions(t.Context(), storage.Filter{States: []storage.State{storage.Running}})
			if err != nil || len(rows) != 1 || rows[0].Losses != 0 || rows[0].Delivery != 1 {
				t.Errorf("%+v, %v; want one execution still in the hands of the stopped worker", rows, err)
			}
		})
		stopped.Signal(syscall.SIGKILL)
		stopped.Wait()
		mustWork(t, s)
		c := count(t, s, map[int]bool{stopped.PID(): true})
		c.wantStates(t, map[string]int{"mail completed": 2})
		if c.lost != 1 {
			t.Errorf("%d attempts were lost, want 1", c.lost)
		}
	})
}

// A stopped process is not proved dead, so what it held has to wait for its lease.
func TestCrashOnlyInAppearanceWithTheDefaultLeaseWorkRunsAgainWithin35Seconds_Q2_14(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("left out by -short: it waits for 30 s")
	}
	onBackends(t, withServer, func(t *testing.T, b backend) {
		const point = "mail/before"
		s := inOneSlot(newShift(t, b.at(t)))
		s.dispatch(t, func(all jobs) []sequencer.Operation { return []sequencer.Operation{all.mail(job{})} })
		stopped := crashtest.Start(t, crashtest.Order{Program: "work", PauseAt: []string{point}}, s)
		stopped.AwaitPause(point)
		stopped.Stop()
		began := time.Now()
		second := s
		second.Idle, second.Points = 0, false
		crashtest.Start(t, crashtest.Order{Program: "work"}, second)
		awaitEmpty(t, s, 35*time.Second+busyMachine)
		t.Logf("done %s after the stop", time.Since(began).Round(10*time.Millisecond))
		count(t, s, map[int]bool{stopped.PID(): true})
	})
}

// A killed one is. Workers watch the processes of their neighbours, a new one looks at
// what it finds.
func TestCrashOnThisHostIsNoticedAtOnce_Q2_14(t *testing.T) {
	t.Parallel()
	onBackends(t, every, func(t *testing.T, b backend) {
		for name, running := range map[string]bool{"by one that works already": true, "by one that begins": false} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := newShift(t, b.at(t))
				s.dispatch(t, func(all jobs) []sequencer.Operation { return []sequencer.Operation{all.mail(job{})} })
				victim := crashtest.Start(t, crashtest.Order{Program: "work", PauseAt: []string{"mail/before"}}, inOneSlot(s))
				victim.AwaitPause("mail/before")
				other := s
				if running {
					other.Queues = []string{"nothing"} // it takes over, and does not claim
					c := crashtest.Start(t, crashtest.Order{Program: "work"}, other)
					c.AwaitNote(string(sequencer.EventWorkerStarted))
					defer c.AwaitNote(string(sequencer.EventRecovered))
				}
				victim.Signal(syscall.SIGKILL)
				victim.Wait()
				began := time.Now()
				if running {
					awaitPending(t, s)
				} else {
					crashtest.Start(t, crashtest.Order{Program: "work"}, s)
					awaitEmpty(t, s, busyMachine)
				}
				took := time.Since(began)
				t.Logf("taken over after %s", took.Round(time.Millisecond))
				if took > busyMachine { // the lease is 30 s, and a look without a reason comes after 5 s
					t.Errorf("it took %s", took)
				}
				mustWork(t, inOneSlot(s))
				gone := map[int]bool{victim.PID(): true}
				count(t, s, gone)
			})
		}
	})
}
