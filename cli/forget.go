package cli

import (
	"context"

	"github.com/spf13/cobra"
)

// forgetCommand deletes failed executions.
type forgetCommand struct {
	selection

	reason string
	yes    bool
	dryRun bool
}

func newForget(a *app) *cobra.Command {
	c := &forgetCommand{}
	cmd := &cobra.Command{
		Use:   "forget [NAME|ID]",
		Short: "Delete failed executions",
		Long: "Deletes an execution that is over, by its id or as the newest that failed of an operation, or all failed\n" +
			"ones that flags select (they combine). It cannot be taken back. What runs know an ordered operation by is\n" +
			"kept.",
		Example: "  " + a.root.Name() + " forget 019a2b3c-4d5e-7f60-8a9b-0c1d2e3f4a5b\n" +
			"  " + a.root.Name() + ` forget --group 5f0c3a91d2e47b68 --reason "customers that are gone" --yes`,
		Args: takes("[NAME|ID]"),
		RunE: a.with(c.body),
	}
	f := cmd.Flags()
	c.bulk(f, "forget")
	f.StringVar(&c.reason, "reason", "", "why, for the audit log")
	f.BoolVar(&c.yes, "yes", false, "do not ask before several are deleted")
	f.BoolVar(&c.dryRun, "dry-run", false, "show what would be deleted")
	return cmd
}

func (c *forgetCommand) body(ctx context.Context, s *session) error {
	one, err := c.one(s.args)
	switch {
	case err != nil:
		return err
	case one && c.dryRun:
		return usagef("--dry-run is for several: look at one with why %s", s.args[0])
	case one:
		if err := s.Seq.Forget(ctx, s.args[0], c.reason); err != nil {
			return err
		}
		if s.json {
			s.document(map[string]any{"name": s.args[0], "forgotten": 1})
		} else {
			s.printf("%s is forgotten.", s.args[0])
		}
		return nil
	case c.dryRun:
		return s.preview(ctx, c.selection.selection())
	}
	if !c.yes {
		groups, err := s.Seq.FailureGroups(ctx, c.selection.selection())
		if err != nil {
			return err
		}
		if n := total(groups); n > 0 {
			if err := s.confirm(ctx, false, "delete %s", count(n, "failed execution")); err != nil {
				return err
			}
		}
	}
	r, err := s.Seq.ForgetAll(ctx, c.selection.selection(), c.reason)
	if err != nil && r.Done == 0 {
		return err
	}
	s.selected("forgotten", r)
	return err
}
