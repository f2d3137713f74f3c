package cli

import (
	"context"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// newBatch has a command for each thing that can be done with batches and chains.
func newBatch(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:                        "batch",
		SuggestionsMinimumDistance: 2,

		Short: "Show batches and chains; cancel or retry one",
		Long: "A batch is operations that run in any order, a chain is operations that run one after the other. Both are\n" +
			"dispatched by an application, and worked off by its workers.",
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBatchList(a), newBatchShow(a), newBatchCancel(a), newBatchRetry(a))
	return cmd
}

// batchList lists them.
type batchList struct {
	open   bool
	nested bool
	limit  int
}

func newBatchList(a *app) *cobra.Command {
	c := &batchList{}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List batches and chains, the newest first",
		Long: "Lists batches and chains, the newest first: how many of their members have ended, and how. A batch or chain\n" +
			"inside another one counts there as one member, and is listed with --nested.",
		Args: takes(),
		RunE: a.with(c.body),
	}
	f := cmd.Flags()
	f.BoolVar(&c.open, "open", false, "only those that are not over")
	f.BoolVar(&c.nested, "nested", false, "those inside others too")
	f.IntVar(&c.limit, "limit", 20, "how many at most")
	return cmd
}

func (c *batchList) body(ctx context.Context, s *session) error {
	if c.limit < 1 {
		return usagef("--limit is %d: use 1 or more", c.limit)
	}
	list, err := s.Seq.Flows(ctx, storage.FlowFilter{
		Kinds: []storage.FlowKind{storage.FlowBatch, storage.FlowChain}, Open: c.open, Limit: 10_000,
	})
	if err != nil && !isMissingLedger(err) {
		return err
	}
	if !c.nested {
		list = slices.DeleteFunc(list, func(f sequencer.FlowStatus) bool { return f.Parent != "" })
	}
	list = list[:min(len(list), c.limit)]
	switch {
	case s.json:
		s.document(map[string]any{"flows": notNil(list)})
	case len(list) == 0 && c.open:
		s.printf("No batch or chain is open.")
	case len(list) == 0:
		s.printf("There is no batch or chain.")
	default:
		s.batchTable(list)
	}
	return nil
}

func (u *ui) batchTable(list []sequencer.FlowStatus) {
	rows := make([][]string, len(list))
	for i := range list {
		f := &list[i]
		rows[i] = []string{
			f.ID, string(f.Kind), f.Name, u.flowState(f), strconv.Itoa(f.Percent) + "%", strconv.Itoa(f.Total), nonzero(f.Pending + f.Running),
			nonzero(f.Completed), nonzero(f.Failed + f.FailedAllowed + f.Interrupted), nonzero(f.Skipped), nonzero(f.Cancelled), stamp(f.CreatedAt),
			stamp(f.FinishedAt),
		}
	}
	u.fitted([]string{
		"id", "kind", "name", "state", "done", "members", "open", "completed", "failed", "skipped", "cancelled", "created (UTC)", "ended (UTC)",
	}, rows, "ended (UTC)", "created (UTC)", "skipped", "cancelled", "completed")
}

// flowState is a state, and in which generation where that is not the first.
func (u *ui) flowState(f *sequencer.FlowStatus) string {
	word := string(f.State)
	switch f.State { //nolint:exhaustive // the others have no colour
	case storage.Failed, storage.Interrupted:
		word = u.paint(red, word)
	case storage.Cancelled:
		word = u.paint(yellow, word)
	case storage.Completed:
		word = u.paint(green, word)
	}
	if f.Generation > 1 {
		word += " (generation " + strconv.Itoa(f.Generation) + ")"
	}
	return word
}

func nonzero(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func newBatchShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show how a batch or chain stands, and what is wrong in it",
		Long: "Shows the counts of a batch or chain, its callbacks, and those members that run, failed or were interrupted.\n" +
			"All members, and what waits for what, is in flow show.",
		Args: takes("ID"),
		RunE: a.with(func(ctx context.Context, s *session) error {
			f, err := s.Seq.Flow(ctx, s.args[0])
			if err != nil {
				return err
			}
			t, err := f.Tree(ctx)
			if err != nil {
				return err
			}
			if s.json {
				s.document(t)
				return nil
			}
			s.batch(t)
			return nil
		}),
	}
}

func (u *ui) batch(t *sequencer.FlowTree) {
	u.printf("%s", u.flowLine(&t.FlowStatus))
	u.printf("  id %s, created %s UTC", t.ID, stamp(t.CreatedAt))
	if t.Over() {
		u.printf("  ended %s UTC", stamp(t.FinishedAt))
	}
	for _, c := range []struct {
		word string
		n    int
	}{
		{"pending", t.Pending},
		{"running", t.Running},
		{"completed", t.Completed},
		{"failed", t.Failed},
		{"failed, allowed to", t.FailedAllowed},
		{"skipped", t.Skipped},
		{"cancelled", t.Cancelled},
		{"interrupted", t.Interrupted},
	} {
		if c.n > 0 {
			u.printf("  %6d %s", c.n, c.word)
		}
	}
	for i := range t.Members {
		if m := &t.Members[i]; m.State == storage.Running || m.State == storage.Failed || m.State == storage.Interrupted {
			u.printf("  %s", u.memberLine(m, nil))
		}
	}
	for i := range t.Callbacks {
		u.printf("  %s", u.memberLine(&t.Callbacks[i], nil))
	}
	for _, c := range t.Uncalled {
		u.printf("  %s: %s, not called", c.Role, c.Name)
	}
}

// batchCancel stops one.
type batchCancel struct{ reason string }

func newBatchCancel(a *app) *cobra.Command {
	c := &batchCancel{}
	cmd := &cobra.Command{
		Use:   "cancel ID",
		Short: "Stop a batch or chain: what has not started never will",
		Long: "Cancels all members that have not started. Those that run are told, and end as they do; then the batch or\n" +
			"chain is over, and what it calls finally is called.",
		Example: "  " + a.root.Name() + ` batch cancel 019a2b3c-4d5e-7f60-8a9b-0c1d2e3f4a5b --reason "wrong file"`,
		Args:    takes("ID"),
		RunE:    a.with(c.body),
	}
	cmd.Flags().StringVar(&c.reason, "reason", "", "why, shown with it")
	return cmd
}

func (c *batchCancel) body(ctx context.Context, s *session) error {
	f, err := s.Seq.Flow(ctx, s.args[0])
	if err != nil {
		return err
	}
	before, err := f.Status(ctx)
	if err != nil {
		return err
	}
	if !before.Over() {
		if err := f.Cancel(ctx, c.reason); err != nil {
			return err
		}
	}
	return s.afterwards(ctx, f, func(st *sequencer.FlowStatus) {
		switch {
		case before.Over():
			s.printf("It is over already: %s", s.flowLine(st))
		case st.Over():
			s.printf("Cancelled: %s", s.flowLine(st))
		default:
			s.printf("Cancelled; %d that run are left to end: %s", st.Running, s.flowLine(st))
		}
	})
}

// afterwards shows how a flow stands after a change.
func (s *session) afterwards(ctx context.Context, f *sequencer.Flow, say func(st *sequencer.FlowStatus)) error {
	st, err := f.Status(ctx)
	if err != nil {
		return err
	}
	if s.json {
		s.document(st)
		return nil
	}
	say(&st)
	return nil
}

// batchRetry takes one up again.
type batchRetry struct{ o sequencer.RetryOptions }

func newBatchRetry(a *app) *cobra.Command {
	c := &batchRetry{}
	cmd := &cobra.Command{
		Use:   "retry ID",
		Short: "Try again what failed in a batch or chain",
		Long: "Takes back the members that failed, and those that were cancelled because of that, as a new generation. What\n" +
			"a person cancelled, and what is interrupted, comes back with --force only.",
		Example: "  " + a.root.Name() + ` batch retry 019a2b3c-4d5e-7f60-8a9b-0c1d2e3f4a5b --reason "the bank is open again"`,
		Args:    takes("ID"),
		RunE:    a.with(c.body),
	}
	cmd.Flags().StringVar(&c.o.Reason, "reason", "", "why, for the audit log")
	cmd.Flags().BoolVar(&c.o.Force, "force", false, "also what a person cancelled, and what is interrupted")
	return cmd
}

func (c *batchRetry) body(ctx context.Context, s *session) error {
	f, err := s.Seq.Flow(ctx, s.args[0])
	if err != nil {
		return err
	}
	if err := f.Retry(ctx, c.o); err != nil {
		return err
	}
	return s.afterwards(ctx, f, func(st *sequencer.FlowStatus) {
		s.printf("Generation %d: %s", st.Generation, s.flowLine(st))
	})
}
