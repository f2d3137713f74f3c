package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// pauseCommand pauses something, or lifts the pause.
type pauseCommand struct {
	lift   bool
	reason string
}

// pausable are what it can be of.
var pausable = []storage.PauseKind{storage.PauseQueue, storage.PauseOperation, storage.PauseSchedule}

func newPause(a *app) *cobra.Command {
	c := &pauseCommand{}
	return c.command(a, &cobra.Command{
		Use:   "pause queue|operation|schedule NAME",
		Short: "Keep a queue, an operation or a schedule from starting anything",
		Long: "No worker takes anything more from the queue, or executions of the operation, and the schedule does not fire,\n" +
			"until resume. What runs goes on; delays and deadlines keep running. It need not exist yet. status lists\n" +
			"what is paused, by whom and why.",
		Example: "  " + a.root.Name() + ` pause queue high --reason "the bank is down"` + "\n" +
			"  " + a.root.Name() + " pause operation sync_customer",
	})
}

func newResume(a *app) *cobra.Command {
	c := &pauseCommand{lift: true}
	return c.command(a, &cobra.Command{
		Use:     "resume queue|operation|schedule NAME",
		Short:   "Let go on what was paused",
		Long:    "Lifts a pause: workers take at once what has become due meanwhile.",
		Example: "  " + a.root.Name() + ` resume queue high --reason "the bank is back"`,
	})
}

func (c *pauseCommand) command(a *app, cmd *cobra.Command) *cobra.Command {
	cmd.Args, cmd.RunE = takes("queue, operation or schedule", "NAME"), a.with(c.body)
	cmd.Flags().StringVar(&c.reason, "reason", "", "why, for the audit log and for whoever asks")
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return []string{"queue", "operation", "schedule"}, cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

func (c *pauseCommand) body(ctx context.Context, s *session) error {
	p := storage.Pause{Kind: storage.PauseKind(s.args[0]), Name: s.args[1]}
	if !slices.Contains(pausable, p.Kind) {
		return usagef("%q cannot be paused: give queue, operation or schedule, and its name", s.args[0])
	}
	pauses, err := s.Seq.Pauses(ctx)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(pauses, func(q storage.Pause) bool { return q.Kind == p.Kind && q.Name == p.Name })
	if c.lift {
		err = s.Seq.Resume(ctx, p.Kind, p.Name, c.reason)
	} else {
		err = s.Seq.Pause(ctx, p.Kind, p.Name, c.reason)
	}
	if err != nil {
		return err
	}
	if s.json {
		s.document(map[string]any{"kind": p.Kind, "name": p.Name, "paused": !c.lift, "changed": (at >= 0) == c.lift})
		return nil
	}
	switch {
	case c.lift && at < 0:
		s.printf("The %s was not paused.", p.Target())
	case c.lift:
		s.printf("The %s goes on.", p.Target())
	case at >= 0:
		s.printf("The %s is paused already, %s.", p.Target(), pausedBy(pauses[at]))
	default:
		s.printf("The %s is paused.", p.Target())
	}
	if !c.lift {
		return s.stranger(ctx, p)
	}
	return nil
}

func pausedBy(p storage.Pause) string {
	by := fmt.Sprintf("since %s by %s", stamp(p.At), p.Actor)
	if p.Reason != "" {
		by += ": " + p.Reason
	}
	return by
}

// stranger says that nobody has heard of what was paused: it may be a typing error.
func (s *session) stranger(ctx context.Context, p storage.Pause) error {
	known := false
	switch p.Kind {
	case storage.PauseQueue:
		queues, err := s.Seq.Queues(ctx)
		if err != nil {
			return err
		}
		known = slices.ContainsFunc(queues, func(q sequencer.QueueStatus) bool {
			return q.Queue == p.Name && q.Size+q.Blocked+q.Parked+int64(q.Workers) > 0
		})
	case storage.PauseOperation:
		rows, err := s.Seq.Store().Executions(ctx, storage.Filter{Name: p.Name, Limit: 1})
		if err != nil {
			return err
		}
		known = len(rows) > 0 || slices.Contains(s.Seq.Names(), p.Name)
	case storage.PauseSchedule:
		schedules, err := s.Seq.Schedules(ctx)
		if err != nil {
			return err
		}
		known = slices.ContainsFunc(schedules, func(x sequencer.ScheduleState) bool { return x.Name == p.Name })
	}
	if !known {
		s.sayf("note: there is no %s yet", p.Target())
	}
	return nil
}
