package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
)

// workCommand serves queues until it is stopped.
type workCommand struct {
	cfg     sequencer.WorkerConfig
	maxTime age
	idle    age
	quiet   bool
}

func newWork(a *app) *cobra.Command {
	c := &workCommand{}
	cmd := &cobra.Command{
		Use:   "work",
		Short: "Run what waits in queues, until it is stopped",
		Long: "Takes executions from queues and runs them, several at a time, with a line on stderr for each that ended.\n" +
			"Queues are served in the order given: as long as one has work that is due, those behind it wait.\n\n" +
			"The first Ctrl-C or SIGTERM takes nothing new and lets what runs end, within the grace period; then it is\n" +
			"put back at no cost. A second one ends the process at once, and what ran is taken over by another worker.\n" +
			"A worker that stops by itself or as it was told exits 0; 1 when its handlers do not end (--max-abandoned).",
		Example: "  " + a.root.Name() + " work\n" +
			"  " + a.root.Name() + " work --queue high,default --slots 50\n" +
			"  " + a.root.Name() + " work --stop-when-empty --max-time 55s    # from cron",
		Args: takes(),
		RunE: a.with(c.body),
	}
	f := cmd.Flags()
	f.StringSliceVar(&c.cfg.Queues, "queue", nil, "queues in the order they are served, separated by commas (default the configured one)")
	f.IntVar(&c.cfg.Slots, "slots", sequencer.DefaultWorkerSlots, "how many executions run at a time")
	f.BoolVar(&c.cfg.Once, "once", false, "take one execution at most, then stop")
	f.BoolVar(&c.cfg.StopWhenEmpty, "stop-when-empty", false, "stop when nothing is due and nothing runs")
	f.Var(&c.idle, "stop-when-empty-for", "stop when that has been so for this long")
	f.IntVar(&c.cfg.MaxJobs, "max-jobs", 0, "stop after so many executions; 0 = no limit")
	f.Var(&c.maxTime, "max-time", "stop after this long, between executions")
	f.IntVar(&c.cfg.MaxAbandoned, "max-abandoned", 0, "stop, with exit code 1, when so many handlers ignore their end (default half of the slots)")
	f.BoolVarP(&c.quiet, "quiet", "q", false, "no lines for what went well")
	return cmd
}

func (c *workCommand) body(ctx context.Context, s *session) error {
	if c.cfg.Slots < 1 {
		return usagef("--slots %d: want 1 or more", c.cfg.Slots)
	}
	for flag, n := range map[string]int{"--max-jobs": c.cfg.MaxJobs, "--max-abandoned": c.cfg.MaxAbandoned} {
		if n < 0 {
			return usagef("%s %d: want 0 or more", flag, n)
		}
	}
	s.warn()
	c.cfg.MaxTime, c.cfg.StopWhenEmptyFor = c.maxTime.d, c.idle.d
	began := time.Now()
	j := &journal{ui: s.ui, quiet: c.quiet}
	err := s.Seq.Work(sequencer.WithObserver(ctx, j.observe), c.cfg)
	if j.worked() && (err == nil || errors.Is(err, sequencer.ErrShutdown) || errors.Is(err, sequencer.ErrAbandoned)) {
		j.conclude(time.Since(began))
	}
	return err
}
