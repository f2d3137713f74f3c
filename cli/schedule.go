package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
)

// newSchedule has a command for each thing that can be done with schedules.
func newSchedule(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:                        "schedule",
		SuggestionsMinimumDistance: 2,

		Short: "Show what is dispatched at set times; run, pause or resume it",
		Long: "A schedule has an operation dispatched at set times, by whatever worker there is, once for each of them.\n" +
			"It is declared with the operations; the ledger keeps how far it has fired.",
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newScheduleList(a), newScheduleNext(a), newScheduleRun(a), newSchedulePause(a), newScheduleResume(a))
	return cmd
}

func newScheduleList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the schedules",
		Long: "Lists the schedules of the ledger and of this program: when they are due, what they dispatch, the next tick and\n" +
			"the last one with the state of its execution. One that is orphaned is declared no more, and does not fire.",
		Args: takes(),
		RunE: a.with(func(ctx context.Context, s *session) error {
			list, err := s.Seq.Schedules(ctx)
			if err != nil {
				return err
			}
			switch {
			case s.json:
				s.document(map[string]any{"schedules": notNil(list)})
			case len(list) == 0:
				s.printf("There is no schedule.")
			default:
				s.scheduleTable(list)
			}
			return nil
		}),
	}
}

func (u *ui) scheduleTable(list []sequencer.ScheduleState) {
	rows := make([][]string, len(list))
	for i, x := range list {
		last := ""
		if !x.LastID.IsZero() { // before the first execution the last tick is when it was announced
			last = stamp(x.LastTick)
		}
		standing := string(x.Standing)
		switch x.Standing {
		case sequencer.SchedulePaused:
			standing = u.paint(yellow, standing)
		case sequencer.ScheduleOrphaned:
			standing = u.paint(red, standing)
		case sequencer.ScheduleActive, sequencer.ScheduleNew, sequencer.ScheduleChanged, sequencer.ScheduleElsewhere, sequencer.ScheduleNewer:
		}
		rows[i] = []string{x.Name, x.Spec, x.Zone, x.Operation, x.Queue, x.Missed, stamp(x.Next), last, string(x.LastState), standing}
	}
	u.fitted([]string{"schedule", "when", "zone", "operation", "queue", "missed", "next (UTC)", "last (UTC)", "its state", "standing"}, rows,
		"missed", "queue", "operation")
}
