package cli

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gosequencer/sequencer"
)

// Opened is what commands work with.
type Opened struct {
	Seq     *sequencer.Sequencer
	DB      *sql.DB  // where imports read; nil = nowhere
	Notices []string // for validate
	Warning string   // why there may be nothing to do, or what the ledger cannot promise; for process and verify
	// Check looks at what a command is about to run, before anything is written, and
	// for validate at what is pending; nil = there is nothing to look at.
	Check func(ctx context.Context, tasks []sequencer.Task) error
	Close func() error // called when the command has ended; nil = nothing to close
	Abort func()       // called before the process ends without waiting; nil = nothing to stop
}

// Opener makes a sequencer from flags of its own, when a command needs one. The
// stock command is built on it; an application hands its sequencer to Main.
type Opener interface {
	// Flags adds to the flags that every command has.
	Flags(flags *pflag.FlagSet)
	// Open is called at most once. An opener that also has OperationsDir() string
	// makes operations of files, and make writes such.
	// log writes to stderr, with -v only.
	Open(ctx context.Context, log *slog.Logger) (*Opened, error)
}

// fileOpener is an Opener whose operations are files.
type fileOpener interface {
	Opener
	OperationsDir() string
}

// Option changes the tree.
type Option func(*app)

// WithDB is the database that import reads from.
func WithDB(db *sql.DB) Option { return func(a *app) { a.db = db } }

// WithCommands adds an application's own commands.
func WithCommands(extra ...*cobra.Command) Option {
	return func(a *app) { a.extra = append(a.extra, extra...) }
}

// WithOpener takes the place of a ready sequencer.
func WithOpener(o Opener) Option { return func(a *app) { a.opener = o } }

// Command is the tree, for mounting in another. Its errors are for [ExitCode] and
// are not printed. The tree serves one execution.
func Command(seq *sequencer.Sequencer, options ...Option) *cobra.Command {
	return newApp("sequencer", seq, options).root
}

// Main runs one command and returns the exit code. It may be called with any
// context, streams and arguments; while it runs, SIGINT and SIGTERM stop the
// command gracefully, and a second one at once.
func Main(ctx context.Context, seq *sequencer.Sequencer, args []string, in io.Reader, out, errOut io.Writer, options ...Option) int {
	a := newApp(filepath.Base(os.Args[0]), seq, options) //nolint:contextcheck // its commands get theirs from ExecuteContextC
	a.root.SetArgs(args)
	a.root.SetIn(in)
	a.root.SetOut(out)
	a.root.SetErr(errOut)
	return untilSignal(ctx, errOut, a.abort, func(ctx context.Context) int {
		ran, err := a.root.ExecuteContextC(ctx)
		if err == nil {
			return exitOK
		}
		a.json = a.json || slices.Contains(args, "--json") // an error while parsing flags comes before it is read
		return a.report(ran, err)
	})
}

// app is one tree: what its commands share.
type app struct {
	root   *cobra.Command
	opener Opener
	db     *sql.DB
	extra  []*cobra.Command
	// scratch opens a scratch database; nil = nobody said how.
	scratch func(ctx context.Context, log *slog.Logger, url string) (*Opened, error)

	json    bool
	verbose bool
	noColor bool
	ui      *ui // of the command that runs
	opened  atomic.Pointer[Opened]
}

func newApp(name string, seq *sequencer.Sequencer, options []Option) *app {
	a := &app{opener: ready{seq}}
	for _, o := range options {
		o(a)
	}
	a.root = &cobra.Command{
		Use:   name,
		Short: "Run migrations and operations in order, once",
		Long: "Runs schema migrations and operations in the order of their timestamps, once,\n" +
			"and remembers in a ledger what happened.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          knownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	a.root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	flags := a.root.PersistentFlags()
	flags.BoolVar(&a.json, "json", false, "print one JSON document on stdout")
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "show traces of errors, and log lines")
	flags.BoolVar(&a.noColor, "no-color", false, "no colours, also not on a terminal")
	a.opener.Flags(flags)
	a.group("deploy", "Deploy:", newProcess(a), newPlan(a), newStatus(a), newVerify(a), newWait(a), newValidate(a), newRehearse(a), newRollback(a), newUnlock(a))
	a.group("queue", "Queues:", newWork(a), newExecute(a), newBatch(a), newFlow(a), newTop(a), newQueues(a), newWorkers(a), newTags(a), newMonitor(a), newDashboard(a), newPause(a), newResume(a), newSchedule(a), newDeferred(a))
	a.group("work", "Single executions:", newWhy(a), newFailed(a), newRetry(a), newForget(a), newCancel(a), newApprove(a), newReject(a), newResolve(a), newPrune(a), newRekey(a))
	a.root.AddCommand(newMake(a), newImport(a), newVersion(a))
	narrow(a.root)
	a.root.AddCommand(a.extra...)
	return a
}

// group adds commands under a title of the help.
func (a *app) group(id, title string, commands ...*cobra.Command) {
	a.root.AddGroup(&cobra.Group{ID: id, Title: title})
	for _, cmd := range commands {
		cmd.GroupID = id
	}
	a.root.AddCommand(commands...)
}

// ready is the Opener of an application.
type ready struct{ seq *sequencer.Sequencer }

func (ready) Flags(*pflag.FlagSet) {}

func (r ready) Open(context.Context, *slog.Logger) (*Opened, error) {
	if r.seq == nil {
		return nil, errors.New("there is no sequencer: Main and Command need one from sequencer.New")
	}
	return &Opened{Seq: r.seq}, nil
}

// session is what the body of one command gets.
type session struct {
	*ui
	*Opened
	args  []string
	files bool // operations are files
}

// with makes a command of a body: streams, an open sequencer, and its end.
func (a *app) with(body func(ctx context.Context, s *session) error) func(*cobra.Command, []string) error {
	return a.without(func(ctx context.Context, s *session) error {
		opened, err := a.opener.Open(ctx, s.logger())
		if err != nil {
			return err
		}
		s.Opened = opened
		_, s.files = a.opener.(fileOpener)
		a.opened.Store(opened)
		if s.DB == nil {
			s.DB = a.db
		}
		err = body(ctx, s)
		if opened.Close != nil {
			err = errors.Join(err, opened.Close())
		}
		return err
	})
}

// check asks the opener about what is about to run.
func (s *session) check(ctx context.Context, tasks []sequencer.Task) error {
	if s.Check == nil {
		return nil
	}
	return s.Check(ctx, tasks)
}

// abort stops at once what would outlive the process.
func (a *app) abort() {
	if opened := a.opened.Load(); opened != nil && opened.Abort != nil {
		opened.Abort()
	}
}

// without is with for commands that need no sequencer.
func (a *app) without(body func(ctx context.Context, s *session) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.ui = newUI(a, cmd)
		ctx := cmd.Context()
		err := body(ctx, &session{ui: a.ui, args: args})
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			err = &stoppedError{err}
		}
		if a.ui.out.err != nil {
			if _, answered := errors.AsType[*exitError](err); answered { // it has not been
				err = nil
			}
			err = errors.Join(err, fmt.Errorf("writing the answer: %w", a.ui.out.err))
		}
		return err
	}
}
