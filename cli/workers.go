package cli

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
)

func newWorkers(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "workers",
		Short: "Show who works on this ledger",
		Long: "Lists every process that has joined the ledger and not left it: workers with their queues, slots and build,\n" +
			"and runs. One whose process is seen to be dead is gone: whoever comes next takes over what it held.",
		Args: takes(),
		RunE: a.with(func(ctx context.Context, s *session) error {
			workers, err := s.Seq.Workers(ctx)
			if err != nil {
				return err
			}
			switch {
			case s.json:
				s.document(map[string]any{"workers": notNil(workers)})
			case len(workers) == 0:
				s.printf("Nobody works on this ledger.")
			default:
				s.workerTable(workers)
			}
			return nil
		}),
	}
}

func (u *ui) workerTable(workers []sequencer.WorkerStatus) {
	rows := make([][]string, len(workers))
	for i, w := range workers {
		lease := stamp(w.LeaseUntil)
		if w.Gone {
			lease = u.paint(red, "gone")
		}
		slots, build := "", ""
		if w.Slots > 0 {
			slots = strconv.Itoa(w.Slots)
		}
		if w.Build > 0 {
			build = number(w.Build)
		}
		rows[i] = []string{
			w.ID.String(), w.Purpose, w.Hostname, strconv.Itoa(w.PID), strings.Join(w.Queues, ","), slots, build, stamp(w.JoinedAt), lease, w.Actor,
		}
	}
	u.fitted([]string{"worker", "does", "host", "pid", "queues", "slots", "build", "since (UTC)", "lease (UTC)", "actor"}, rows,
		"worker", "actor", "build", "lease (UTC)")
}
