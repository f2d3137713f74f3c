package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
)

// rollbackCommand undoes one operation, or what a selection names.
type rollbackCommand struct {
	o      sequencer.RollbackOptions
	dryRun bool
	yes    bool
}

func newRollback(a *app) *cobra.Command {
	c := &rollbackCommand{}
	cmd := &cobra.Command{
		Use:   "rollback [NAME | --run ID | --last | --to TIMESTAMP]",
		Short: "Undo operations, newest first",
		Long: "Calls the rollback of one operation, of everything a run did, or of everything after a timestamp.\n" +
			"What was undone is pending again. Migrations are never rolled back.",
		Example: "  " + a.root.Name() + " rollback 20240115120000_seed_admin\n" +
			"  " + a.root.Name() + " rollback --last --dry-run",
		Args: takes("[NAME]"),
		RunE: a.with(c.body),
	}
	f := cmd.Flags()
	f.StringVar(&c.o.Run, "run", "", "what the run with this id did (8 characters are enough)")
	f.BoolVar(&c.o.Last, "last", false, "what the latest run did")
	f.StringVar(&c.o.To, "to", "", "everything with a later timestamp than this")
	f.BoolVar(&c.o.Cascade, "cascade", false, "first roll back what depends on it")
	f.BoolVar(&c.o.Force, "force", false, "although the newest execution did not complete")
	f.BoolVar(&c.o.Isolate, "isolate", false, "wait for another run to end")
	f.DurationVar(&c.o.WaitLock, "wait-lock", 0, "how long --isolate waits (default 1m)")
	f.BoolVar(&c.dryRun, "dry-run", false, "print what would be undone, in order")
	f.BoolVar(&c.yes, "yes", false, "do not ask")
	return cmd
}

func (c *rollbackCommand) body(ctx context.Context, s *session) error {
	name := ""
	selected := 0
	if len(s.args) > 0 {
		name = s.args[0]
		selected++
	}
	for _, given := range []bool{c.o.Run != "", c.o.Last, c.o.To != ""} {
		if given {
			selected++
		}
	}
	if selected != 1 {
		return usagef("give one of NAME, --run, --last and --to")
	}
	c.o.Isolate = c.o.Isolate || c.o.WaitLock > 0
	names, err := s.Seq.PreviewRollback(ctx, name, c.o)
	if err != nil {
		return err
	}
	if c.dryRun {
		return c.preview(s, names)
	}
	ok, err := s.confirm(c.yes, "%s", question(names))
	if !ok || err != nil {
		return err
	}
	d := newDisplay(s.ui)
	report, err := s.Seq.Rollback(sequencer.WithObserver(ctx, d.observe), name, c.o)
	d.close()
	return s.conclude(report, err)
}

func question(names []string) string {
	if len(names) == 1 {
		return "roll back " + names[0]
	}
	return fmt.Sprintf("roll back %d operations", len(names))
}

func (c *rollbackCommand) preview(s *session, names []string) error {
	if s.json {
		s.document(map[string]any{"rollback": notNil(names)})
		return nil
	}
	for _, n := range names {
		s.printf("rollback  %s", n)
	}
	s.printf("%d to roll back", len(names))
	return nil
}
