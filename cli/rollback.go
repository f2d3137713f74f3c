package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/migration"
	"github.com/gosequencer/sequencer/storage"
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
	f.StringVar(&c.o.Run, "run", "", "what the run with this id did; its first characters are enough if no other run shares them")
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
		return c.why(ctx, s, name, err)
	}
	if c.dryRun {
		return c.preview(s, names)
	}
	if err := s.confirm(ctx, c.yes, "%s", question(names)); err != nil {
		return err
	}
	d := newDisplay(s.ui)
	report, err := s.Seq.Rollback(sequencer.WithObserver(ctx, d.observe), name, c.o)
	d.close()
	return s.conclude(report, err)
}

// why says more of a refusal than the library can know.
func (c *rollbackCommand) why(ctx context.Context, s *session, name string, err error) error {
	if errors.Is(err, sequencer.ErrOperationNotFound) {
		st, findErr := s.Seq.Status(ctx)
		if findErr == nil && slices.ContainsFunc(st.Migrations, func(m migration.Migration) bool { return m.Name == name }) {
			return fmt.Errorf("%s is a migration: migrations are never rolled back; write a new one that undoes it", name)
		}
	}
	if s.files && name != "" && errors.Is(err, sequencer.ErrNotRollbackable) {
		return fmt.Errorf("%s: %w: name the file that undoes it in its header, as \"sequencer: rollback FILE\"", name, sequencer.ErrNotRollbackable)
	}
	if c.o.Run == "" && !c.o.Last || !errors.Is(err, sequencer.ErrNotRollbackable) {
		return err
	}
	runs, findErr := s.Seq.Store().Flows(ctx, storage.FlowFilter{Kinds: []storage.FlowKind{storage.FlowRun}, Limit: 1000})
	which := slices.IndexFunc(runs, func(f storage.Flow) bool { return c.o.Last || strings.HasPrefix(f.ID.String(), c.o.Run) })
	if findErr != nil || which < 0 {
		return err
	}
	return c.nothing(ctx, s, runs[which].ID, err)
}

// nothing says why a run leaves nothing to undo.
func (c *rollbackCommand) nothing(ctx context.Context, s *session, run storage.ID, err error) error {
	rows, findErr := s.Seq.Store().Executions(ctx, storage.Filter{FlowID: run, Kinds: []storage.Kind{storage.Ordered}, Limit: 10_000})
	if findErr != nil {
		return err
	}
	has := func(state storage.State) bool {
		return slices.ContainsFunc(rows, func(row storage.Execution) bool { return row.State == state })
	}
	reason := "none of its operations completed"
	switch {
	case len(rows) == 0:
		reason = "it ran no operation"
	case has(storage.Completed):
		reason = "what it completed has no rollback, or has run again since"
	case has(storage.RolledBack):
		reason = "what it did is rolled back already"
	}
	which := map[bool]string{true: "the last run,", false: "run"}[c.o.Last]
	return fmt.Errorf("nothing to undo of %s %s: %s", which, run, reason)
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
