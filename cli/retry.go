package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
)

// retryCommand runs failed or interrupted executions again.
type retryCommand struct {
	selection

	reason string
	dryRun bool
}

func newRetry(a *app) *cobra.Command {
	c := &retryCommand{}
	cmd := &cobra.Command{
		Use:   "retry [NAME|ID]",
		Short: "Run failed or interrupted executions again",
		Long: "Makes an execution pending again, as the same execution: its counters start anew and its history stays. It\n" +
			"is the one with an id, or the newest of an operation. What waited in a queue goes back there, for a worker;\n" +
			"what was the task of a run, or was executed by hand, runs here and now.\n\n" +
			"Flags select failed work of queues instead, and combine; one entry of the audit log tells of all.",
		Example: "  " + a.root.Name() + ` retry 20240115120000_seed_admin --reason "the API is back"` + "\n" +
			"  " + a.root.Name() + " retry --name 'mail:*' --since 2h --dry-run\n" +
			"  " + a.root.Name() + " retry --group 5f0c3a91d2e47b68\n" +
			"  " + a.root.Name() + " retry --all --limit 1000",
		Args: takes("[NAME|ID]"),
		RunE: a.with(c.body),
	}
	f := cmd.Flags()
	c.bulk(f, "retry")
	f.StringVar(&c.reason, "reason", "", "why, for the audit log")
	f.BoolVar(&c.dryRun, "dry-run", false, "show what would be retried")
	return cmd
}

func (c *retryCommand) body(ctx context.Context, s *session) error {
	one, err := c.one(s.args)
	switch {
	case err != nil:
		return err
	case one && c.dryRun:
		return usagef("--dry-run is for several: look at one with why %s", s.args[0])
	case one:
		return c.single(ctx, s)
	case c.dryRun:
		return s.preview(ctx, c.selection.selection())
	}
	r, err := s.Seq.RetryAll(ctx, c.selection.selection(), c.reason)
	if err != nil && r.Done == 0 {
		return err
	}
	s.selected("retried", r)
	return err
}

func (c *retryCommand) single(ctx context.Context, s *session) error {
	w := &witness{result: executed{Name: s.args[0]}}
	d := newDisplay(s.ui)
	err := s.Seq.Retry(sequencer.WithObserver(sequencer.WithObserver(ctx, d.observe), w.observe), s.args[0], c.reason)
	d.close()
	if err := w.conclude(ctx, s, err); err != nil {
		return err
	}
	if others, err := s.Seq.Failed(ctx, sequencer.Selection{Name: s.args[0], Limit: 1}); err == nil && len(others) > 0 {
		s.sayf("note: %s has failed more than once: %s retry --name %[1]s", s.args[0], s.name)
	}
	return nil
}
