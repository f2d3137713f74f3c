package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer/storage"
)

func newSchedulePause(a *app) *cobra.Command {
	c := &pauseCommand{}
	return c.ofSchedule(a, &cobra.Command{
		Use:     "pause NAME",
		Short:   "Keep a schedule from firing",
		Long:    "The schedule does not fire until it is resumed, like pause schedule NAME. What it has dispatched goes on.",
		Example: "  " + a.root.Name() + ` schedule pause nightly_report --reason "the warehouse moves"`,
	})
}

func newScheduleResume(a *app) *cobra.Command {
	c := &pauseCommand{lift: true}
	return c.ofSchedule(a, &cobra.Command{
		Use:   "resume NAME",
		Short: "Let a schedule fire again",
		Long: "Lifts the pause. The times that it has kept back are missed: the schedule fires once for the newest of them, unless\n" +
			"it says otherwise.",
		Example: "  " + a.root.Name() + " schedule resume nightly_report",
	})
}

func (c *pauseCommand) ofSchedule(a *app, cmd *cobra.Command) *cobra.Command {
	cmd.Args = takes("NAME")
	cmd.RunE = a.with(func(ctx context.Context, s *session) error {
		if _, err := s.Seq.NextTicks(ctx, s.args[0], 1); err != nil { // only what there is
			return err
		}
		s.args = []string{string(storage.PauseSchedule), s.args[0]}
		return c.body(ctx, s)
	})
	cmd.Flags().StringVar(&c.reason, "reason", "", "why, for the audit log and for whoever asks")
	return cmd
}
