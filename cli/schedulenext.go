package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

// scheduleNextCommand shows when a schedule is due.
type scheduleNextCommand struct{ n int }

func newScheduleNext(a *app) *cobra.Command {
	c := &scheduleNextCommand{}
	cmd := &cobra.Command{
		Use:   "next NAME",
		Short: "Show when a schedule is due next",
		Long: "Shows the next times, in the schedule's zone and in UTC, whether it is paused or not. Where clocks change it shows\n" +
			"what becomes of times that do not exist or come twice.",
		Example: "  " + a.root.Name() + " schedule next nightly_report -n 5",
		Args:    takes("NAME"),
		RunE:    a.with(c.body),
	}
	cmd.Flags().IntVarP(&c.n, "number", "n", 1, "how many")
	return cmd
}

func (c *scheduleNextCommand) body(ctx context.Context, s *session) error {
	if c.n < 1 || c.n > 10_000 {
		return usagef("-n %d: want 1 to 10000", c.n)
	}
	ticks, err := s.Seq.NextTicks(ctx, s.args[0], c.n)
	if err != nil {
		return err
	}
	if s.json {
		for i := range ticks {
			ticks[i] = ticks[i].UTC()
		}
		s.document(map[string]any{"name": s.args[0], "next": notNil(ticks)})
		return nil
	}
	rows := make([][]string, len(ticks))
	for i, at := range ticks {
		rows[i] = []string{at.Format("Mon " + time.DateTime + " MST"), stamp(at)}
	}
	s.table([]string{"in its zone", "UTC"}, rows)
	return nil
}
