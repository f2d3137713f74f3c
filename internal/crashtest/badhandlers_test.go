//go:build linux

package crashtest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/crashtest"
	"github.com/gosequencer/sequencer/storage"
)

// registerBad has handlers that do what handlers must not do.
func (d *desk) registerBad(reg *sequencer.Registry, l *ledger) []func(job) sequencer.Operation {
	register := func(name string, work func(ctx context.Context) error, opts ...sequencer.RegisterOption) func(job) sequencer.Operation {
		return sequencer.RegisterFuncOf(reg, name, func(ctx context.Context, in job) error {
			return d.around(ctx, name, in, func() error { return work(ctx) })
		}, opts...)
	}
	return []func(job) sequencer.Operation{
		register("panics", func(context.Context) error { panic("this handler is broken") }),
		register("exits", func(context.Context) error { runtime.Goexit(); return nil }),
		register("ignores", func(context.Context) error { select {} }, sequencer.Timeout(50*time.Millisecond)),
		register("leaks", func(context.Context) error { go func() { select {} }(); return nil }),
		register("fails", func(context.Context) error { return errors.New(strings.Repeat("too long a story ", 4000)) }),
		register("late", func(ctx context.Context) error { return lateAtFirst(ctx, l.Store) }),
	}
}

// lateAtFirst lets its worker lose the lease, and returns as if nothing were amiss
// once that was noticed. The second time it has nothing to do.
func lateAtFirst(ctx context.Context, store storage.Store) error {
	a := sequencer.Current(ctx)
	if a.Number > 1 {
		return nil
	}
	id, err := storage.ParseID(a.ID)
	if err != nil {
		return err
	}
	rows, err := store.Executions(ctx, storage.Filter{IDs: []storage.ID{id}})
	if err != nil || len(rows) == 0 {
		return fmt.Errorf("%d rows: %w", len(rows), err)
	}
	if err := store.Leave(ctx, rows[0].WorkerID); err != nil {
		return err
	}
	<-ctx.Done()
	if !errors.Is(context.Cause(ctx), sequencer.ErrLeaseLost) {
		return fmt.Errorf("the cause is %w, want the lost lease", context.Cause(ctx))
	}
	return nil
}

func TestCrashlikeHandlersNeitherStopAWorkerNorSpoilARow_Q2_9_Q2_13_Q2_15(t *testing.T) {
	t.Parallel()
	onBackends(t, every, func(t *testing.T, b backend) {
		s := newShift(t, b.at(t))
		s.Slots, s.Lease, s.Idle = 8, time.Second, 3*time.Second
		s.dispatch(t, func(all jobs) []sequencer.Operation {
			ops := some(all)
			for _, bad := range all.bad {
				ops = append(ops, bad(job{}))
			}
			return append(ops, some(all)...)
		})
		c := crashtest.Start(t, crashtest.Order{Program: "work"}, s)
		end := c.Wait()
		var e shiftEnd
		if end.Answer(t, &e); e.Error != "" {
			t.Errorf("the worker ended with %s\n%s", e.Error, end.Log)
		}
		tally := count(t, s, map[int]bool{c.PID(): true}, "error", "panic", "timeout")
		want := map[string]int{
			"panics failed": 1, "exits failed": 1, "ignores failed": 1, "fails failed": 1, "leaks completed": 1, "late completed": 1, "mail completed": 6,
		}
		if b.tables {
			want["pay completed"] = 4
		}
		tally.wantStates(t, want)
		for _, row := range tally.rows {
			if row.Name == "late" && (row.Losses != 0 || row.Errors != 0 || row.Attempts() < 2) { // a slow machine may lose the lease once more
				t.Errorf("what returned after its lease was gone: %d attempts, %d errors; want 2 and none", row.Attempts(), row.Errors)
			}
		}
	})
}

// SQLite says the same of a limit on its pages as of a disk without room.
func TestCrashlikeFullDiskIsToldAndLosesNothing_Q0_2(t *testing.T) {
	t.Parallel()
	onBackends(t, func(b backend) bool { return b.private == nil }, func(t *testing.T, b backend) {
		s := newShift(t, b.at(t))
		s.dispatch(t, func(all jobs) []sequencer.Operation {
			var ops []sequencer.Operation
			for range 100 { // each leaves 8 KiB of error behind
				ops = append(ops, all.bad[4](job{Micros: 1000}))
			}
			return ops
		})
		full := s
		full.Place.Address = "file:" + s.Place.Address + "?_pragma=max_page_count(120)"
		c := crashtest.Start(t, crashtest.Order{Program: "work"}, full)
		c.AwaitNote("the ledger cannot be written; trying again")
		c.Signal(9)
		if end := c.Wait(); !strings.Contains(end.Log, "full") {
			t.Errorf("the log does not say that the disk is full:\n%s", end.Log)
		}
		s.Idle = time.Millisecond
		mustWork(t, s)
		tally := count(t, s, map[int]bool{c.PID(): true}, "error")
		tally.wantStates(t, map[string]int{"fails failed": 100})
	})
}
