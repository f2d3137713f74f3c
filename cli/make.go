package cli

import (
	"cmp"
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer/cli/internal/scaffold"
)

// makeCommand writes the file of a new operation.
type makeCommand struct {
	o         scaffold.Options
	abilities map[string]*bool
	files     fileOpener // nil = operations are Go
	asGo      bool
}

func newMake(a *app) *cobra.Command {
	c := &makeCommand{abilities: map[string]*bool{}}
	cmd := &cobra.Command{
		Use:   "make NAME",
		Short: "Write the file of a new operation",
		Long: "Writes an operation named by the present time in UTC and NAME, and adds it to operations.go, which\n" +
			"registers all of a package. Ability flags combine.",
		Example: "  " + a.root.Name() + " make SyncWithAPI --retryable --timeout 30s --tags billing\n" +
			"  " + a.root.Name() + " make seed_admin --sql --rollback",
		Args: takes("NAME"),
		RunE: a.without(c.body),
	}
	f := cmd.Flags()
	for _, ability := range scaffold.Abilities {
		c.abilities[ability.Flag] = f.Bool(ability.Flag, false, ability.About)
	}
	f.StringSliceVar(&c.o.Tags, "tags", nil, "its tags")
	f.StringVar(&c.o.Queue, "queue", "", "the queue it waits in")
	f.DurationVar(&c.o.Timeout, "timeout", 0, "how long an attempt may take")
	f.StringVar(&c.o.Dir, "dir", "", "the directory to write to (default operations)")
	f.StringVar(&c.o.Package, "package", "", "the package, by default that of the directory")
	f.BoolVar(&c.o.Test, "test", false, "write a test too")
	if files, ok := a.opener.(fileOpener); ok {
		c.files = files
		cmd.Long = "Writes an SQL operation named by the present time in UTC and NAME; with --go one for an application."
		f.BoolVar(&c.asGo, "go", false, "write Go for an application")
	}
	f.BoolVar(&c.o.SQL, "sql", c.files != nil, "write an SQL file for the stock command")
	f.BoolVar(&c.o.Force, "force", false, "overwrite an operation of that name")
	return cmd
}

func (c *makeCommand) body(_ context.Context, s *session) error {
	c.o.Name, c.o.Now = s.args[0], time.Now()
	for _, ability := range scaffold.Abilities {
		if *c.abilities[ability.Flag] {
			c.o.Abilities = append(c.o.Abilities, ability.Flag)
		}
	}
	dir := "operations"
	if c.files != nil {
		c.o.SQL, dir = !c.asGo, c.files.OperationsDir()
	}
	c.o.Dir = cmp.Or(c.o.Dir, dir)
	if c.o.Timeout < 0 {
		return usagef("--timeout %s: want a duration above zero", c.o.Timeout)
	}
	if err := c.o.Check(); err != nil {
		return &usageError{err}
	}
	files, err := c.o.Write()
	if err != nil {
		return err
	}
	if s.json {
		s.document(map[string]any{"files": files})
		return nil
	}
	for _, f := range files {
		s.printf("wrote %s", f)
	}
	return nil
}
