package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/wording"
	"github.com/gosequencer/sequencer/storage"
)

// processCommand runs what is pending.
type processCommand struct {
	run    runFlags
	dryRun bool
	slots  int
	detach bool
	wait   time.Duration // for approvals
}

func newProcess(a *app) *cobra.Command {
	c := &processCommand{}
	cmd := &cobra.Command{
		Use:     "process",
		Aliases: []string{"operate"},
		Short:   "Run everything that is pending, in order",
		Long: "Runs pending migrations and operations by timestamp, each once. A failure stops the run\n" +
			"and rolls back what it did. A second run is refused while one holds the lock.\n\n" +
			"Another --orchestrator runs the operations between two migrations side by side:\n" +
			"batch stops at the first failure and keeps what is done; transactional-batch is all or\n" +
			"nothing; allowed-to-fail-batch goes on; dependency-graph runs them in waves. scheduled is the\n" +
			"line, and queues for workers what has its time later.\n\n" +
			"An operation that needs an approval is asked for when its turn comes. A run that has nothing\n" +
			"else to do stops then, keeps what it did, and exits 8; once it is approved the next one goes on.",
		Example: "  " + a.root.Name() + " process\n" +
			"  " + a.root.Name() + " process --dry-run\n" +
			"  " + a.root.Name() + " process --isolate --wait-lock 5m --tags billing\n" +
			"  " + a.root.Name() + " process --orchestrator transactional-batch --slots 8",
		Args: takes(),
		RunE: a.with(c.body),
	}
	f := cmd.Flags()
	c.run.add(f)
	f.BoolVar(&c.dryRun, "dry-run", false, "print the plan and run nothing")
	c.run.addEvaluate(f)
	f.IntVar(&c.slots, "slots", 0, "how many executions may run at a time (default 4; a line uses one)")
	f.BoolVar(&c.detach, "detach", false, "leave operations, and their rollbacks, to workers; return when no migration is left")
	f.IntVar(&c.slots, "concurrency", 0, "the same as --slots")
	f.BoolVar(&c.run.isolate, "isolate", false, "wait for another run to end instead of being refused")
	f.BoolVar(&c.run.isolate, "isolated", false, "the same as --isolate")
	f.DurationVar(&c.run.waitLock, "wait-lock", 0, "how long --isolate waits (default 1m)")
	f.DurationVar(&c.wait, "wait-approval", 0, "how long to wait for approvals once nothing else is left to do (default: stop at once, exit 8)")
	return cmd
}

func (c *processCommand) body(ctx context.Context, s *session) error {
	o, err := c.run.options()
	if err != nil {
		return err
	}
	if c.slots < 0 {
		return usagef("--slots %d: want 1 or more", c.slots)
	}
	if c.wait < 0 {
		return usagef("--wait-approval %s: want a duration that is not negative", c.wait)
	}
	o.Slots, o.Detach, o.WaitApproval = c.slots, c.detach, c.wait
	if o.Evaluate && !c.dryRun {
		return usagef("--evaluate needs --dry-run: a run asks each operation when its turn comes")
	}
	c.run.announce(s.ui)
	if c.detach {
		s.sayf("option: operations are left to workers")
	}
	if c.wait > 0 {
		s.sayf("option: waiting for approvals")
	}
	s.warn()
	if err := c.run.checkTags(ctx, s.Seq); err != nil {
		return err
	}
	if c.dryRun {
		return preview(ctx, s, o, "text")
	}
	o.Check = func(ctx context.Context, p *sequencer.Plan) error { return s.check(ctx, p.Tasks) }
	d := newDisplay(s.ui)
	report, err := s.Seq.Process(sequencer.WithObserver(ctx, d.observe), o)
	d.close()
	return s.conclude(report, err)
}

// runReport is the JSON document of a run.
type runReport struct {
	*sequencer.Report
	Tasks []sequencer.TaskReport `json:"tasks"`
	Error string                 `json:"error,omitempty"`
	Hint  string                 `json:"hint,omitempty"`
}

// conclude prints what a run came to.
func (s *session) conclude(report *sequencer.Report, err error) error {
	if report == nil {
		return err
	}
	for _, t := range report.Tasks {
		if t.Allowed && t.State == storage.Failed {
			s.sayf("warning: %s failed, which is allowed: %s", t.Name, wording.FirstLine(t.Error))
		}
	}
	if s.json {
		doc := runReport{Report: report, Tasks: report.Tasks}
		if doc.Tasks == nil {
			doc.Tasks = []sequencer.TaskReport{}
		}
		if err != nil {
			doc.Error, doc.Hint = explain(err), s.hint(err)
		}
		s.document(doc)
		return err
	}
	switch {
	case report.RunID != "":
		s.printf("%s", summary(report))
	case len(report.Queued) > 0:
		s.printf("Queued for later: %s.", count(len(report.Queued), "operation"))
	case report.Plan != nil && report.Plan.Filtered > 0:
		s.printf("Nothing pending with these filters; %d pending without them.", report.Plan.Filtered)
	default:
		s.printf("Nothing pending.")
	}
	return err
}

// warn says on stderr why there may be nothing to do.
func (s *session) warn() {
	if s.Warning != "" {
		s.sayf("warning: %s", s.Warning)
	}
}

// summary is one line with the numbers of a run (S34.5).
func summary(r *sequencer.Report) string {
	n := map[storage.State]int{}
	undone, notUndone, allowed := 0, 0, 0
	for _, t := range r.Tasks {
		switch {
		case t.State == storage.Failed && t.Allowed:
			allowed++
		case t.Kind != storage.Undo:
			n[t.State]++
		case t.State == storage.Completed:
			undone++
		default:
			notUndone++
		}
	}
	parts := []string{
		count(r.Count(storage.Migration, storage.Completed), "migration"),
		count(r.Count(storage.Ordered, storage.Completed), "operation"),
	}
	for _, x := range []struct {
		n    int
		what string
	}{
		{n[storage.Skipped], "skipped"},
		{n[storage.Failed] + notUndone, "failed"},
		{allowed, "failed (allowed)"},
		{n[storage.RolledBack] + undone, "rolled back"},
		{n[storage.Cancelled], "not started"},
		{n[storage.Interrupted], "interrupted"},
	} {
		if x.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", x.n, x.what))
		}
	}
	if r.State == storage.Running {
		parts = append(parts, fmt.Sprintf("%d left to workers", n[storage.Pending]+n[storage.Running]))
	}
	words := map[storage.State]string{storage.Running: "Detached", storage.Completed: "Done", storage.Failed: "Failed", storage.Interrupted: "Interrupted"}
	return fmt.Sprintf("%s: %s in %s", cmp.Or(words[r.State], string(r.State)), strings.Join(parts, ", "), wording.Elapsed(r.Elapsed))
}

// runFlags are what process and plan have in common.
type runFlags struct {
	from       string
	tags       []string
	only       []string
	repeat     bool
	sync       bool
	async      bool
	isolate    bool
	waitLock   time.Duration
	outOfOrder string
	method     methodFlags
	evaluate   bool
}

// addEvaluate is for what only shows a plan.
func (r *runFlags) addEvaluate(f *pflag.FlagSet) {
	f.BoolVar(&r.evaluate, "evaluate", false, "also ask operations whether they would run, and how much they have to do")
}

func (r *runFlags) add(f *pflag.FlagSet) {
	f.StringVar(&r.from, "from", "", "leave out what has an older timestamp")
	f.StringSliceVar(&r.tags, "tags", nil, "only operations with one of these tags; -tag leaves one out; migrations always run")
	f.StringSliceVar(&r.only, "only", nil, "only the operations of these names; migrations always run")
	f.BoolVar(&r.repeat, "repeat", false, "run operations that are done as well")
	f.BoolVar(&r.sync, "sync", false, "run asynchronous operations in the line")
	f.BoolVar(&r.async, "async", false, "run every operation beside the line")
	f.StringVar(&r.outOfOrder, "out-of-order", "", "what to do with what is older than the newest done: warn or refuse (default warn)")
	r.method.add(f)
}

func (r *runFlags) options() (sequencer.RunOptions, error) {
	o := sequencer.RunOptions{
		From: r.from, Tags: r.tags, Only: r.only, Repeat: r.repeat, Sync: r.sync, Async: r.async,
		Isolate: r.isolate || r.waitLock > 0, WaitLock: r.waitLock, OutOfOrder: sequencer.OutOfOrder(r.outOfOrder),
		Evaluate: r.evaluate,
	}
	switch {
	case r.sync && r.async:
		return o, usagef("--sync and --async exclude each other: give one of them")
	case r.waitLock < 0:
		return o, usagef("--wait-lock %s: want a duration that is not negative", r.waitLock)
	}
	switch o.OutOfOrder {
	case "", sequencer.OutOfOrderWarn, sequencer.OutOfOrderRefuse:
	default:
		return o, usagef("--out-of-order %s: want warn or refuse", r.outOfOrder)
	}
	var err error
	o.Orchestrator, err = r.method.orchestrator()
	return o, err
}

// checkTags refuses a tag that no operation has: a typo is no "nothing to do".
// Repeat shows what is done too.
func (r *runFlags) checkTags(ctx context.Context, seq *sequencer.Sequencer) error {
	for _, tag := range r.tags {
		tag = strings.TrimPrefix(tag, "-")
		plan, err := seq.Preview(ctx, sequencer.RunOptions{Tags: []string{tag}, Repeat: true})
		if err != nil { // it has something to refuse, or the run itself will tell
			continue
		}
		has := slices.ContainsFunc(plan.Tasks, func(t sequencer.Task) bool { return t.Kind == storage.Ordered })
		if !has && len(plan.Scheduled)+len(plan.InFlight)+len(plan.Interrupted) == 0 {
			return usagef("no operation has the tag %q", tag)
		}
	}
	return nil
}

// announce says which options are in effect (S34.3).
func (r *runFlags) announce(u *ui) {
	for _, x := range []struct {
		active bool
		text   string
	}{
		{r.isolate || r.waitLock > 0, "waiting for other runs to end"},
		{r.from != "", "from " + r.from},
		{len(r.tags) > 0, "tags " + strings.Join(r.tags, ", ")},
		{len(r.only) > 0, "only " + strings.Join(r.only, ", ")},
		{r.repeat, "repeating what is done"},
		{r.sync, "asynchronous operations run in the line"},
		{r.async, "operations run beside the line"},
		{r.outOfOrder != "", "out of order: " + r.outOfOrder},
		{r.method.name != "", "orchestrator " + r.method.name},
		{r.method.strict, "only what can be rolled back"},
		{r.method.eager, "without waiting for waves"},
		{r.method.rollback, "rolled back on failure"},
	} {
		if x.active {
			u.sayf("option: %s", x.text)
		}
	}
}
