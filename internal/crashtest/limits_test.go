//go:build linux

package crashtest_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/crashtest"
	"github.com/gosequencer/sequencer/middleware"
	"github.com/gosequencer/sequencer/storage"
)

// Limits and keys hold among many workers, and while these are killed. What happened is
// told by a file that all processes append to, by the one clock of the machine.

const (
	limitProcesses = 4
	limitWorkers   = 4 // in each process
	limitN         = 40
	limitWindow    = 2 * time.Second
	limitKeys      = 12
	limitJobs      = 240
	limitKills     = 8
)

// limits is what a process serves, and where it tells of it.
type limits struct {
	Place place
	Log   string
}

// limited is the input.
type limited struct {
	Key int `json:"key"`
}

// What is appended to the log: by whom, about which attempt of which key, and when.
const (
	asks   = "asks" // the limiter, right after this
	begins = "begins"
	ends   = "ends"
)

func (l limits) sequencer(store storage.Store, log *os.File) (*sequencer.Sequencer, func(limited) sequencer.Operation, error) {
	note := func(ctx context.Context, what string, in limited) error {
		a := sequencer.Current(ctx)
		_, err := fmt.Fprintf(log, "%s %d %s %d %d %d\n", what, os.Getpid(), a.ID, a.Number, in.Key, time.Now().UnixNano())
		return err
	}
	reg := sequencer.NewRegistry()
	around := sequencer.MiddlewareFunc(func(next sequencer.Handler) sequencer.Handler {
		return func(ctx context.Context, a *sequencer.Attempt) error {
			in, _ := sequencer.InputOf[limited](a)
			asking := sequencer.MiddlewareFunc(func(next sequencer.Handler) sequencer.Handler {
				return func(ctx context.Context, a *sequencer.Attempt) error {
					if err := note(ctx, asks, in); err != nil {
						return err
					}
					return next(ctx, a)
				}
			})
			limit := middleware.RateLimited("api").ReleaseAfter(200 * time.Millisecond).Wrap(next)
			return middleware.WithoutOverlapping(in.Key).ReleaseAfter(100*time.Millisecond).Wrap(asking.Wrap(limit))(ctx, a)
		}
	})
	op := sequencer.RegisterFuncOf(reg, "limited", func(ctx context.Context, in limited) error {
		if err := note(ctx, begins, in); err != nil {
			return err
		}
		time.Sleep(time.Duration(20+rand.IntN(60)) * time.Millisecond) // sleep: the work of a handler takes time, and is what must not overlap
		return note(ctx, ends, in)
	}, sequencer.Use(around))
	seq, err := sequencer.New(store, reg, sequencer.Config{
		Environment: "test", Actor: "crash test", Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
		Limiters: map[string]sequencer.Limiter{"api": sequencer.Limit{N: limitN, Per: limitWindow}},
	})
	return seq, op, err
}

// runLimits is the child: four workers.
func runLimits(ctx context.Context, in *crashtest.Inside) any {
	var l limits
	if err := in.Input(&l); err != nil {
		return shiftEnd{err.Error()}
	}
	led, err := open(ctx, l.Place)
	if err != nil {
		return shiftEnd{err.Error()}
	}
	defer led.Close()
	log, err := os.OpenFile(l.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return shiftEnd{err.Error()}
	}
	defer log.Close()
	seq, _, err := l.sequencer(led.Store, log)
	if err != nil {
		return shiftEnd{err.Error()}
	}
	in.Note(started)
	errs := make([]error, limitWorkers)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { errs[i] = seq.Work(ctx, sequencer.WorkerConfig{Slots: 3}) })
	}
	all.Wait()
	return shiftEnd{fmt.Sprint(errors.Join(errs...))}
}

func TestLimitsAndKeysHoldWhileWorkersAreKilled_Q3_14_S13_6(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	onBackends(t, withServer, func(t *testing.T, b backend) {
		random := rand.New(rand.NewPCG(seed, 1))
		l := limits{Place: b.at(t), Log: filepath.Join(t.TempDir(), "log")}
		died := map[int]int64{} // by process, the moment before it was killed
		within(t, l.Place, func(led *ledger) {
			l.dispatch(t, led, random)
			processes := make([]*crashtest.Child, limitProcesses)
			for i := range processes {
				processes[i] = crashtest.Start(t, crashtest.Order{Program: "limits"}, l)
			}
			kill := func(c *crashtest.Child) {
				died[c.PID()] = time.Now().UnixNano()
				c.Signal(syscall.SIGKILL)
				if end := c.Wait(); !end.Killed {
					t.Fatalf("a process ended by itself\n%s", end.Log)
				}
			}
			look := time.NewTicker(100 * time.Millisecond)
			defer look.Stop()
			for left := limitJobs; left > 0; {
				<-look.C
				now, err := live(t.Context(), led)
				if err != nil {
					t.Fatal(err)
				}
				if was := left * limitKills / limitJobs; now*limitKills/limitJobs < was { // so many in all, whatever the pace
					i := random.IntN(limitProcesses)
					kill(processes[i])
					processes[i] = crashtest.Start(t, crashtest.Order{Program: "limits"}, l)
				}
				left = now
			}
			for _, c := range processes {
				kill(c)
			}
			rows, err := led.Executions(t.Context(), storage.Filter{Name: "limited", Limit: limitJobs + 1})
			if err != nil {
				t.Fatal(err)
			}
			l.check(t, rows, died)
		})
	})
}

func (l limits) dispatch(t *testing.T, led *ledger, random *rand.Rand) {
	t.Helper()
	if _, err := led.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	seq, op, err := l.sequencer(led.Store, nil)
	if err != nil {
		t.Fatal(err)
	}
	ops := make([]sequencer.Operation, limitJobs)
	for i := range ops {
		ops[i] = op(limited{random.IntN(limitKeys)})
	}
	if _, err := seq.DispatchAll(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
}

// admission is an attempt that was let in. Somewhere between asked and began it was counted.
type admission struct {
	id                  string
	number, pid, key    int
	asked, began, ended int64
}

// admissions reads the log. Where a process died the handler ended with it.
func (l limits) admissions(t *testing.T, died map[int]int64) (list []*admission) {
	t.Helper()
	text, err := os.ReadFile(l.Log)
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string]int64{} // by attempt, the last time
	open := map[string]*admission{}
	for line := range strings.Lines(string(text)) {
		var what string
		var a admission
		var at int64
		if _, err := fmt.Sscan(line, &what, &a.pid, &a.id, &a.number, &a.key, &at); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		attempt := fmt.Sprint(a.id, a.number, a.pid)
		switch what {
		case asks:
			asked[attempt] = at
		case begins:
			a.asked, a.began, a.ended = asked[attempt], at, died[a.pid]
			open[attempt] = &a
			list = append(list, &a)
		case ends:
			open[attempt].ended = at
		}
	}
	return list
}

func (l limits) check(t *testing.T, rows []storage.Execution, died map[int]int64) {
	t.Helper()
	list := l.admissions(t, died)
	deferred, lost := 0, 0
	for i := range rows {
		deferred += rows[i].Excused
		if rows[i].State != storage.Completed && rows[i].Losses == 0 {
			t.Errorf("%s is %s: %s", rows[i].ID, rows[i].State, rows[i].LastError)
		}
	}
	last := map[int]*admission{}
	slices.SortFunc(list, func(a, b *admission) int { return cmp.Compare(a.began, b.began) })
	for _, a := range list {
		if a.ended == died[a.pid] {
			lost++
		}
		if before := last[a.key]; before != nil && a.began < before.ended {
			t.Errorf("S13.6: key %d: %s began %s before %s of process %d had ended", a.key, a.id, time.Duration(before.ended-a.began), before.id, before.pid)
		}
		if before := last[a.key]; before == nil || a.ended > before.ended {
			last[a.key] = a
		}
	}
	// Whatever began as late as b and had not asked before a was counted between the two:
	// in the windows that begin there, and in the one that was open already.
	starts := slices.SortedFunc(slices.Values(list), func(a, b *admission) int { return cmp.Compare(a.asked, b.asked) })
	most := 0
	for i, from := range starts {
		between := slices.SortedFunc(slices.Values(starts[i:]), func(a, b *admission) int { return cmp.Compare(a.began, b.began) })
		for n, to := range between {
			windows := int(time.Duration(to.began-from.asked)/limitWindow) + 2
			if i == 0 { // none was open before the first
				windows--
			}
			if n+1 > windows*limitN {
				t.Fatalf("Q3.14: %d were let in within %s, %d each %s are allowed", n+1, time.Duration(to.began-from.asked), limitN, limitWindow)
			}
			if to.began-from.asked < int64(limitWindow) {
				most = max(most, n+1)
			}
		}
	}
	t.Logf("%d executions, %d attempts let in, %d of them lost with %d processes, %d deferrals, at most %d within %s",
		len(rows), len(list), lost, len(died), deferred, most, limitWindow)
	if len(rows) != limitJobs || len(list) < limitJobs || deferred < limitJobs/4 || len(died) <= limitProcesses {
		t.Error("that shows nothing")
	}
}
