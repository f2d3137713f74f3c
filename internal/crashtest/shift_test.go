//go:build linux

package crashtest_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/crashtest"
	"github.com/gosequencer/sequencer/internal/faultstore"
)

// shift is what one worker process serves, and how.
type shift struct {
	Place   place
	Journal string // the file that handlers write to: what really happened
	Slots   int
	Queues  []string
	Lease   time.Duration // 0 = the default
	Idle    time.Duration // ends it when nothing was runnable for so long, 0 = it ends when it is ended
	Enough  int           // it notes enoughDone after so many attempts, 0 = never
	Points  bool          // pass points, which costs a line each

	backwards bool // the clock went back, so instants in the ledger contradict each other
}

// shiftEnd is what a worker tells whoever started it.
type shiftEnd struct{ Error string }

// job is the input of every operation here.
type job struct {
	Micros int `json:"micros"` // how long it takes
}

// jobs are the operations; each makes one of it.
type jobs struct {
	mail func(job) sequencer.Operation   // an effect outside of every transaction
	pay  func(job) sequencer.Operation   // an effect in the attempt's transaction; only where users' tables are
	once func(job) sequencer.Operation   // declares that it is attempted once at most
	kill func(job) sequencer.Operation   // a poison pill: its process dies of it
	bad  []func(job) sequencer.Operation // those of badhandlers_test.go
	care func(job) sequencer.Operation   // has hooks, as the next
	lose func(job) sequencer.Operation   // fails
	step func(step) sequencer.Operation  // what nests are made of
}

// newShift prepares a ledger, with the users' table beside it, and a journal.
func newShift(t *testing.T, p place) shift {
	t.Helper()
	within(t, p, func(l *ledger) {
		if _, err := l.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		if l.db == nil {
			return
		}
		if _, err := l.db.ExecContext(t.Context(), "CREATE TABLE paid (id varchar(64) NOT NULL)"); err != nil {
			t.Fatal(err)
		}
	})
	return shift{Place: p, Journal: filepath.Join(t.TempDir(), "journal"), Slots: 20}
}

// runShift is the child: a worker.
func runShift(ctx context.Context, in *crashtest.Inside) any {
	var s shift
	if err := in.Input(&s); err != nil {
		return shiftEnd{err.Error()}
	}
	l, err := open(ctx, s.Place)
	if err != nil {
		return shiftEnd{err.Error()}
	}
	defer l.Close()
	point := func(string) error { return nil }
	if s.Points {
		point = in.Point
	}
	if err := s.work(ctx, l, point, in.Note); err != nil {
		return shiftEnd{err.Error()}
	}
	return shiftEnd{}
}

// work serves until the shift is over.
func (s shift) work(ctx context.Context, l *ledger, point faultstore.Hook, note func(string)) error {
	journal, err := os.OpenFile(s.Journal, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer journal.Close()
	hooks, err := os.OpenFile(s.hooks(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer hooks.Close()
	seq, _, err := s.sequencer(l, &desk{journal: journal, hooks: hooks, point: point, note: note, left: int64(s.Enough)})
	if err != nil {
		return err
	}
	ctx = sequencer.WithObserver(ctx, func(_ context.Context, e sequencer.Event) {
		switch e.Kind {
		case sequencer.EventWorkerStarted, sequencer.EventWorkerStopped, sequencer.EventFenced, sequencer.EventRecovered:
			note(string(e.Kind))
		default:
		}
	})
	return seq.Work(ctx, sequencer.WorkerConfig{Slots: s.Slots, Queues: s.Queues, StopWhenEmptyFor: s.Idle})
}

// sequencer has every job. A desk without a journal is for dispatching only.
func (s shift) sequencer(l *ledger, d *desk) (*sequencer.Sequencer, jobs, error) {
	reg := sequencer.NewRegistry()
	all := jobs{
		mail: sequencer.RegisterFuncOf(reg, "mail", d.outside("mail")),
		once: sequencer.RegisterFuncOf(reg, "once", d.outside("once"), sequencer.Tries(1)),
		kill: sequencer.RegisterFuncOf(reg, "kill", d.kill),
	}
	all.bad = d.registerBad(reg, l)
	d.registerHooked(reg, l, &all)
	d.registerSteps(reg, s, &all)
	if l.db != nil {
		all.pay = sequencer.RegisterFuncOf(reg, "pay", d.inTx)
	}
	store := l.Store
	if s.Points {
		store = faultstore.New(store, d.point)
	}
	log := io.Writer(os.Stderr)
	if d.note == nil { // in the test's own process
		log = io.Discard
	}
	seq, err := sequencer.New(store, reg, sequencer.Config{
		Environment: "test", Actor: "crash test", Lease: s.Lease, ShutdownGrace: time.Second, TimeoutGrace: time.Second,
		Logger: slog.New(&heardLog{slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}), d.note}),
	})
	return seq, all, err
}

// dispatch puts jobs into the ledger, in writes of a thousand at most.
func (s shift) dispatch(t *testing.T, makes func(jobs) []sequencer.Operation, opts ...sequencer.DispatchOption) {
	t.Helper()
	within(t, s.Place, func(l *ledger) {
		s.Points = false
		seq, all, err := s.sequencer(l, &desk{})
		if err != nil {
			t.Fatal(err)
		}
		ops := makes(all)
		for i := range ops {
			ops[i] = sequencer.With(ops[i], opts...)
		}
		for len(ops) > 0 {
			n := min(len(ops), 1000)
			if _, err := seq.DispatchAll(t.Context(), ops[:n]...); err != nil {
				t.Fatal(err)
			}
			ops = ops[n:]
		}
	})
}

// desk is where handlers work.
type desk struct {
	journal *os.File
	hooks   *os.File // the journal of hooks
	point   faultstore.Hook
	note    func(string)
	left    int64 // attempts until enoughDone is noted
}

// enoughDone is noted by a worker that has done what it was to do before it dies.
const enoughDone = "enough"

// heardLog is a log whose messages are notes too, for a parent that waits for one.
type heardLog struct {
	slog.Handler
	note func(string)
}

func (h *heardLog) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if h.note != nil {
		h.note(r.Message)
	}
	return err
}

// write appends a line to the journal.
func (d *desk) write(ctx context.Context, what string) error {
	a := sequencer.Current(ctx)
	return appendLine(d.journal, fmt.Sprintf("%s %s %d %d", what, a.ID, a.Number, os.Getpid()))
}

// appendLine writes a line in one call: lines of several processes do not mix, and what
// was written stays, whoever dies. A process that is killed may leave a call half done
// where it crosses two pages of the file, so all lines are of one length that pages are
// multiples of.
func appendLine(file *os.File, line string) error {
	_, err := fmt.Fprintf(file, "%-127s\n", line)
	return err
}

// around does the work of a handler between two points and two lines.
func (d *desk) around(ctx context.Context, name string, in job, work func() error) error {
	if err := d.write(ctx, started); err != nil {
		return err
	}
	if err := d.point(name + "/before"); err != nil {
		return err
	}
	time.Sleep(time.Duration(in.Micros) * time.Microsecond) // sleep: the work of a handler takes time, and is what gets interrupted
	if err := work(); err != nil {
		return err
	}
	if err := d.point(name + "/after"); err != nil {
		return err
	}
	err := d.write(ctx, ended)
	if atomic.AddInt64(&d.left, -1) == 0 {
		d.note(enoughDone)
	}
	return err
}

func (d *desk) outside(name string) func(context.Context, job) error {
	return func(ctx context.Context, in job) error {
		return d.around(ctx, name, in, func() error { return nil })
	}
}

func (d *desk) inTx(ctx context.Context, in job) error {
	return d.around(ctx, "pay", in, func() error {
		tx, err := sequencer.Tx[*sql.Tx](ctx)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO paid (id) VALUES ('"+sequencer.Current(ctx).ID+"')")
		return err
	})
}

// kill ends the whole process, as what runs out of memory does.
func (d *desk) kill(ctx context.Context, in job) error {
	return d.around(ctx, "kill", in, func() error {
		os.Exit(1)
		return nil
	})
}

// live counts what is not over yet.
func live(ctx context.Context, l *ledger) (n int, err error) {
	queues, err := l.Queues(ctx, time.Time{})
	for _, q := range queues {
		n += int(q.Ready + q.Scheduled + q.Blocked + q.Parked + q.Running)
	}
	return n, err
}

func (s shift) left(t *testing.T) (n int) {
	t.Helper()
	within(t, s.Place, func(l *ledger) {
		var err error
		if n, err = live(t.Context(), l); err != nil {
			t.Fatal(err)
		}
	})
	return n
}
