package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
)

// planCommand prints what process would do.
type planCommand struct {
	run    runFlags
	format string
}

func newPlan(a *app) *cobra.Command {
	c := &planCommand{}
	cmd := &cobra.Command{
		Use:     "plan",
		Short:   "Print what process would do, and do nothing",
		Long:    "Prints the tasks of the next run in their order. Nothing is run and nothing is written.",
		Example: "  " + a.root.Name() + " plan\n  " + a.root.Name() + " plan --format dot | dot -Tsvg > plan.svg",
		Args:    takes(),
		RunE:    a.with(c.body),
	}
	c.run.add(cmd.Flags())
	c.run.addEvaluate(cmd.Flags())
	cmd.Flags().StringVar(&c.format, "format", "text", "text, json or dot")
	return cmd
}

func (c *planCommand) body(ctx context.Context, s *session) error {
	switch c.format {
	case "text", "dot":
	case "json":
		s.json = true
	default:
		return usagef("--format %s: want text, json or dot", c.format)
	}
	if c.format == "dot" && s.json {
		return usagef("--json and --format dot exclude each other: give one of them")
	}
	o, err := c.run.options()
	if err != nil {
		return err
	}
	c.run.announce(s.ui)
	if err := c.run.checkTags(ctx, s.Seq); err != nil {
		return err
	}
	return preview(ctx, s, o, c.format)
}

// planDocument always has a list of tasks.
type planDocument struct {
	*sequencer.Plan
	Tasks []sequencer.Task `json:"tasks"`
}

func preview(ctx context.Context, s *session, o sequencer.RunOptions, format string) error {
	plan, err := s.Seq.Preview(ctx, o)
	if err != nil {
		return err
	}
	switch {
	case s.json:
		doc := planDocument{Plan: plan, Tasks: plan.Tasks}
		if doc.Tasks == nil {
			doc.Tasks = []sequencer.Task{}
		}
		s.document(doc)
	case format == "dot":
		s.printDOT(plan)
	default:
		s.printPlan(plan)
	}
	return nil
}
