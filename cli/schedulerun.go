package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func newScheduleRun(a *app) *cobra.Command {
	reason := ""
	cmd := &cobra.Command{
		Use:   "run NAME",
		Short: "Dispatch what a schedule dispatches, now",
		Long: "Queues the schedule's operation for a worker at once, also while the schedule is paused. Its ticks go on as if that\n" +
			"had not been.",
		Example: "  " + a.root.Name() + ` schedule run nightly_report --reason "the import was late"`,
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, s *session) error {
			receipt, err := s.Seq.RunSchedule(ctx, s.args[0], reason)
			switch {
			case err != nil:
				return err
			case s.json:
				s.document(receipt)
			case receipt.Duplicate:
				s.printf("%s is in flight already, as %s.", s.args[0], receipt.HolderID)
			default:
				s.printf("Queued as %s.", receipt.ID)
			}
			return nil
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit log")
	return cmd
}
