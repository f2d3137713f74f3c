//go:build linux

package crashtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/crashtest"
	"github.com/gosequencer/sequencer/internal/faultstore"
	"github.com/gosequencer/sequencer/migration"
	"github.com/gosequencer/sequencer/migration/goose"
	"github.com/gosequencer/sequencer/storage"
)

func TestMain(m *testing.M) {
	crashtest.Main(m, map[string]crashtest.Program{"deploy": runDeploy, "work": runShift, "dispatch": runDispatch, "raise": runRaise, "start nests": runStart, "limits": runLimits})
}

// atOnce is far below the lease of 30 s and far above what a run takes: a run that
// is over in time has not waited for a dead process's lease.
const atOnce = 20 * time.Second

// start is the point where the store is open and nothing has happened.
const start = "start"

// deploy is one run of a program.
type deploy struct {
	Place    place
	Program  string // a key of registries
	Isolate  bool
	Detach   bool
	WaitLock time.Duration
	Lease    time.Duration
	Patience time.Duration // with approvals
	quiet    bool          // no log: in-process, the test's own
}

// outcome is what a run tells whoever started it.
type outcome struct {
	Error       string
	Locked      bool     // refused, because another run holds the lock
	Interrupted []string // refused, because a person must decide about these
	Asks        bool     // stopped, because it waits for an approval
	LeaseLost   bool
	State       storage.State // of the run, "" when it could not start
	Tasks       int
}

// runDeploy is the child: it opens the store, runs what is pending once, and tells.
func runDeploy(ctx context.Context, in *crashtest.Inside) any {
	var d deploy
	if err := in.Input(&d); err != nil {
		return outcome{Error: err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, atOnce)
	defer cancel()
	l, err := open(ctx, d.Place)
	if err != nil {
		return outcome{Error: err.Error()}
	}
	defer l.Close()
	_ = in.Point(start)
	ctx = sequencer.WithObserver(ctx, func(_ context.Context, e sequencer.Event) { in.Note(string(e.Kind)) })
	return d.process(ctx, l, in.Point)
}

// sequencer makes one with points at every step.
func (d deploy) sequencer(l *ledger, hook faultstore.Hook) (*sequencer.Sequencer, error) {
	source, err := goose.New(l.dialect, l.db, registries[d.Program].migrations, goose.Options{Tx: l.tx})
	if err != nil {
		return nil, err
	}
	reg := sequencer.NewRegistry()
	registries[d.Program].register(&program{Registry: reg, db: l.db, point: hook})
	log := io.Writer(os.Stderr)
	if d.quiet {
		log = io.Discard
	}
	return sequencer.New(faultstore.New(l.Store, hook), reg, sequencer.Config{
		Migrations: &points{source, hook}, Environment: "test", Actor: "crash test", Orchestrator: orchestrators[d.Program],
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Lease:  d.Lease, ShutdownGrace: time.Second, TimeoutGrace: time.Second,
	})
}

// process runs what is pending.
func (d deploy) process(ctx context.Context, l *ledger, hook faultstore.Hook) outcome {
	seq, err := d.sequencer(l, hook)
	if err != nil {
		return outcome{Error: err.Error()}
	}
	report, err := seq.Process(ctx, sequencer.RunOptions{Isolate: d.Isolate, WaitLock: d.WaitLock, Detach: d.Detach, WaitApproval: d.Patience})
	var o outcome
	if report != nil {
		o.State, o.Tasks = report.State, len(report.Tasks)
	}
	if err != nil {
		o.Error, o.Locked, o.LeaseLost = err.Error(), errors.Is(err, sequencer.ErrLocked), errors.Is(err, sequencer.ErrLeaseLost)
		o.Asks = errors.Is(err, sequencer.ErrNotApproved)
		if left := (*sequencer.InterruptedError)(nil); errors.As(err, &left) {
			o.Interrupted = left.Names
		}
	}
	return o
}

// points is a source of migrations with points around each one.
type points struct {
	migration.Source
	hook faultstore.Hook
}

func (p *points) Apply(ctx context.Context, version int64, record func(context.Context, storage.Tx) error) error {
	if err := p.hook(fmt.Sprintf("migration %d/before", version)); err != nil {
		return err
	}
	err := p.Source.Apply(ctx, version, record)
	if broken := p.hook(fmt.Sprintf("migration %d/after", version)); broken != nil {
		return broken
	}
	return err
}

// script is one migration's file.
func script(up string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte("-- +goose Up\n" + up + "\n")}
}

var registries = map[string]struct {
	migrations fs.FS
	register   func(*program)
}{
	"everything": {everythingMigrations, registerEverything},
	"once":       {settingsMigrations, registerOnce},
	"failing":    {settingsMigrations, func(p *program) { registerUndoable(p, errors.New("this deploy is broken")) }},
	"approved":   {settingsMigrations, registerApproved},
	"fixed":      {settingsMigrations, func(p *program) { registerUndoable(p, nil) }},
}
