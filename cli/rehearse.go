package cli

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/fingerprint"
	"github.com/gosequencer/sequencer/internal/wording"
	"github.com/gosequencer/sequencer/storage"
)

// WithScratch lets rehearse work: open makes the application's sequencer on another
// database, the one that the user names with --scratch, with nothing in it that leads
// back to the first. An empty url asks for a copy that open makes itself, and removes
// on Close; it may refuse.
func WithScratch(open func(ctx context.Context, url string) (*Opened, error)) Option {
	return func(a *app) {
		a.scratch = func(ctx context.Context, _ *slog.Logger, url string) (*Opened, error) { return open(ctx, url) }
	}
}

// scratchOpener is an Opener that can open a scratch database.
type scratchOpener interface {
	Opener
	// OpenScratch is as the function of WithScratch.
	OpenScratch(ctx context.Context, log *slog.Logger, url string) (*Opened, error)
}

// rehearseCommand runs what is pending on a copy.
type rehearseCommand struct {
	o       sequencer.RehearseOptions
	scratch string
	yes     bool
	open    func(ctx context.Context, log *slog.Logger, url string) (*Opened, error)
}

func newRehearse(a *app) *cobra.Command {
	c := &rehearseCommand{open: a.scratch}
	if o, ok := a.opener.(scratchOpener); ok && c.open == nil {
		c.open = o.OpenScratch
	}
	cmd := &cobra.Command{
		Use:   "rehearse",
		Short: "Run what is pending on a copy, forward, back and forward again",
		Long: "Runs what is pending on a copy of the database, one by one: migrations forward, each operation forward, back,\n" +
			"and forward again. Tells which failed, which did not return to where they began, and which were left out: only\n" +
			"operations that say they are safe are rehearsed (SQL in the ledger's transaction is, by itself).\n\n" +
			"A SQLite database is copied for it. For others name a scratch database with --scratch: a copy that nobody needs,\n" +
			"since what is pending is really run there and nothing is cleaned up.",
		Example: "  " + a.root.Name() + " rehearse\n" +
			"  createdb --template app app_rehearsal && " + a.root.Name() + " rehearse --scratch postgres://localhost/app_rehearsal",
		Args: takes(),
		RunE: a.without(c.body),
	}
	f := cmd.Flags()
	f.StringVar(&c.scratch, "scratch", "", "the database to rehearse on; it is written to")
	f.BoolVar(&c.yes, "yes", false, "do not ask whether --scratch may be written to")
	f.StringSliceVar(&c.o.Tags, "tags", nil, "only operations with one of these tags; -TAG leaves out")
	f.StringSliceVar(&c.o.Only, "only", nil, "only these operations")
	f.StringVar(&c.o.From, "from", "", "only what has this timestamp or a later one")
	return cmd
}

func (c *rehearseCommand) body(ctx context.Context, s *session) (err error) {
	if c.open == nil {
		return usagef("this application does not say how to open a scratch database: pass cli.WithScratch to Main")
	}
	if c.scratch != "" {
		if err := s.confirm(ctx, c.yes, "What is pending will be run on the scratch database. Nobody needs what is in it?"); err != nil {
			return err
		}
	}
	opened, err := c.open(ctx, s.logger(), c.scratch)
	if err != nil {
		return err
	}
	if opened.Close != nil {
		defer func() { err = errors.Join(err, opened.Close()) }()
	}
	if opened.DB != nil {
		c.o.Fingerprint = func(ctx context.Context) (map[string]string, error) {
			return fingerprint.Of(ctx, opened.DB, opened.Seq.Store().Name())
		}
	}
	d := newDisplay(s.ui)
	r, err := opened.Seq.Rehearse(sequencer.WithObserver(ctx, d.observe), c.o)
	d.close()
	if err != nil {
		return err
	}
	if s.json {
		s.document(r)
	} else {
		s.rehearsal(r)
	}
	if r.Err() != nil {
		return &exitError{code: exitFailed}
	}
	return nil
}

// rehearsal prints what became of each task.
func (u *ui) rehearsal(r *sequencer.Rehearsal) {
	rows := make([][]string, len(r.Steps))
	back, wrong := 0, 0
	for i := range r.Steps {
		step := &r.Steps[i]
		result, remark := u.rehearsed(step)
		if step.Back {
			back++
		}
		if remark != "" {
			wrong++
		}
		rows[i] = []string{wording.Kind(step.Kind), step.Name, result, wording.Elapsed(step.Elapsed), remark}
	}
	if len(rows) > 0 {
		u.fitted([]string{"type", "name", "result", "took", "remark"}, rows, "took")
	}
	for _, n := range r.NotRehearsed {
		u.printf("not rehearsed: %s: %s", n.Name, n.Reason)
	}
	switch {
	case len(r.Steps)+len(r.NotRehearsed) == 0:
		u.printf("Nothing is pending.")
	default:
		u.printf("Rehearsed: %d, of these rolled back and run again: %d, with something wrong: %d. Not rehearsed: %d.",
			len(r.Steps), back, wrong, len(r.NotRehearsed))
	}
	if !r.Compared {
		u.printf("Whether rollbacks returned to where they began was not compared: there are no tables to look at.")
	}
}

// rehearsed is the result of a step in two words, and what is wrong with it.
func (u *ui) rehearsed(step *sequencer.RehearsalStep) (result, remark string) {
	switch {
	case step.Error != "":
		return u.paint(red, string(step.State)), wording.FirstLine(step.Error)
	case step.RollbackError != "":
		return u.paint(red, "not rolled back"), wording.FirstLine(step.RollbackError)
	case step.AgainError != "":
		return u.paint(red, "not run again"), wording.FirstLine(step.AgainError)
	case len(step.Left) > 0:
		return u.paint(red, "did not return"), "its rollback left differences in " + strings.Join(step.Left, ", ")
	case step.Back:
		return u.paint(green, "forward and back"), ""
	case step.Kind == storage.Migration || step.State != storage.Completed:
		return string(step.State), ""
	}
	return "forward, no rollback", ""
}
