// Goapi loads the history of Go's own public API into a SQLite database: every
// release, every feature it added, and which packages grow fastest. The data lies
// on every machine that has Go, in $GOROOT/api.
//
//	go run ./examples/goapi process         does what is pending, in order, and prints a summary
//	go run ./examples/goapi status          lists every migration and operation with its times
//	go run ./examples/goapi summary         prints the summary again; --json for the counts alone
//	go run ./examples/goapi help            lists what else there is
//
// It is also a small tour of the library. This file puts an application together;
// migrations/ and operations.go are what it deploys; api.go and summary.go are the
// business that any program has.
package main

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"runtime"

	"github.com/spf13/pflag"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/cli"
	"github.com/gosequencer/sequencer/migration/goose"
	"github.com/gosequencer/sequencer/storage"
	"github.com/gosequencer/sequencer/storage/sqlite"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program, callable from tests.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	a := &app{}
	defer a.close()
	summary := a.summaryCommand() //nolint:contextcheck // cobra hands the context over
	code := cli.Main(ctx, nil, args, in, out, errOut, cli.WithOpener(a), cli.WithCommands(summary))
	if a.completed && !a.json() { // of a run that had something to do
		fmt.Fprintln(out)
		if err := a.printReport(ctx, out); err != nil {
			fmt.Fprintln(errOut, "error:", err)
			return 1
		}
	}
	return code
}

// app opens the sequencer when a command needs one, with flags of its own. An
// application without such flags hands its sequencer to cli.Main instead of nil.
type app struct {
	path, api string // --db, --api
	flags     *pflag.FlagSet
	store     *sqlite.Store
	seq       *sequencer.Sequencer
	db        *sql.DB
	completed bool
}

var _ cli.Opener = (*app)(nil)

// Flags adds to those of every command.
func (a *app) Flags(flags *pflag.FlagSet) {
	flags.StringVar(&a.path, "db", "goapi.db", "the database `FILE`")
	flags.StringVar(&a.api, "api", "", "`DIR` with the api files of Go (default: that of a Go on this machine)")
	a.flags = flags
}

func (a *app) json() bool {
	on, err := a.flags.GetBool("json")
	return err == nil && on
}

// connect opens the one file that holds ledger and tables: that is why operations
// and migrations can commit together with what the ledger says of them.
func (a *app) connect(ctx context.Context) (err error) {
	if a.store, err = sqlite.Open(ctx, a.path, sqlite.Options{}); err != nil {
		return err
	}
	a.db, err = a.store.DB()
	return err
}

func (a *app) close() {
	if a.store != nil {
		_ = a.store.Close() // whatever was to be kept has been committed
	}
}

//go:embed migrations/*.sql
var migrations embed.FS

// Open puts the application together.
func (a *app) Open(ctx context.Context, log *slog.Logger) (*cli.Opened, error) {
	if err := a.connect(ctx); err != nil {
		return nil, err
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	source, err := goose.New(goose.SQLite, a.db, files, goose.Options{Tx: sqlite.Tx})
	if err != nil {
		return nil, err
	}
	reg := sequencer.NewRegistry()
	register(reg, a, findAPI(a.api))
	a.seq, err = sequencer.New(a.store, reg, sequencer.Config{
		Migrations: source,
		Logger:     log,
		Observers:  []sequencer.Observer{a.observe},
	})
	if err != nil {
		return nil, err
	}
	return &cli.Opened{Seq: a.seq, DB: a.db}, nil
}

// work works a queue off.
func (a *app) work(ctx context.Context, queue string) error {
	return a.seq.Work(ctx, sequencer.WorkerConfig{Queues: []string{queue}, StopWhenEmpty: true, Slots: runtime.NumCPU()})
}

// observe hears what has happened once it is durable.
func (a *app) observe(_ context.Context, e sequencer.Event) {
	if e.Kind == sequencer.EventRunEnded && e.Method != "rollback" {
		a.completed = e.State == storage.Completed
	}
}
