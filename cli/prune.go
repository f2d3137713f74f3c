package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
)

// pruneCommand deletes old history.
type pruneCommand struct{ completed, failed, others age }

func newPrune(a *app) *cobra.Command {
	c := &pruneCommand{completed: age{never: true}, failed: age{never: true}, others: age{never: true}}
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Delete old history",
		Long: "Deletes executions that ended longer ago than they are kept, by how they ended. Workers do it by themselves,\n" +
			"every hour; this is for a ledger without workers, or to keep less. What has no flag is kept as configured:\n" +
			"completed 7 days, failed 30, others 7 unless the application says otherwise. Migrations, and what runs\n" +
			"know an ordered operation by, are kept for ever.",
		Example: "  " + a.root.Name() + " prune\n" +
			"  " + a.root.Name() + " prune --completed 1d --failed never",
		Args: takes(),
		RunE: a.with(c.body),
	}
	f := cmd.Flags()
	f.Var(&c.completed, "completed", "how long completed ones are kept, as 36h, 7d, 2w or never")
	f.Var(&c.failed, "failed", "how long failed ones are kept")
	f.Var(&c.others, "others", "how long those skipped, cancelled, interrupted or rolled back are kept")
	return cmd
}

func (c *pruneCommand) body(ctx context.Context, s *session) error {
	n, err := s.Seq.Prune(ctx, sequencer.Retention{Completed: c.completed.d, Failed: c.failed.d, Others: c.others.d})
	if err != nil && n == 0 {
		if isMissingLedger(err) {
			err = nil
		} else {
			return err
		}
	}
	if s.json {
		s.document(map[string]any{"pruned": n})
	} else {
		s.printf("%s deleted.", count(n, "execution"))
	}
	return err
}
