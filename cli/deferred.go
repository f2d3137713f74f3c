package cli

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/wording"
	"github.com/gosequencer/sequencer/storage"
)

// newDeferred has a command for each thing that can be done with deferred operations.
func newDeferred(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:                        "deferred",
		SuggestionsMinimumDistance: 2,

		Short: "Show what is deferred; move it to another time, or take it back",
		Long: "A deferred operation waits for a time. An application defers it, or \"execute NAME --at TIME\" does; any worker\n" +
			"runs it when it is due, also one that a timer starts with \"work --stop-when-empty\".",
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDeferredList(a), newDeferredReschedule(a), newDeferredCancel(a))
	return cmd
}

// newDeferredCancel is cancel, where those look for it who look for it here.
func newDeferredCancel(a *app) *cobra.Command {
	cmd := newCancel(a)
	cmd.Short = "Take back what is deferred"
	cmd.Example = "  " + a.root.Name() + ` deferred cancel send_reminder --reason "the customer has paid"`
	return cmd
}

// deferredList lists what is not over.
type deferredList struct {
	all   bool
	limit int
}

func newDeferredList(a *app) *cobra.Command {
	c := &deferredList{}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List deferred operations, the newest first",
		Long:  "Lists the deferred operations that are not over, or all of them, the newest first.",
		Args:  takes(),
		RunE:  a.with(c.body),
	}
	f := cmd.Flags()
	f.BoolVar(&c.all, "all", false, "those that are over too")
	f.IntVar(&c.limit, "limit", 20, "how many at most")
	return cmd
}

// deferredEntry is a deferred operation in the JSON document.
type deferredEntry struct {
	ID        storage.ID    `json:"id"`
	Name      string        `json:"name"`
	State     storage.State `json:"state"`
	DueAt     time.Time     `json:"due_at,omitzero"`
	Attempts  int           `json:"attempts"`
	Queue     string        `json:"queue"`
	LastError string        `json:"last_error,omitempty"`
}

func (c *deferredList) body(ctx context.Context, s *session) error {
	if c.limit < 1 {
		return usagef("--limit is %d: use 1 or more", c.limit)
	}
	f := storage.Filter{Method: sequencer.MethodDeferred, Kinds: []storage.Kind{storage.Unlisted, storage.Ordered}, Limit: c.limit}
	if !c.all {
		f.States = []storage.State{storage.Pending, storage.Running}
	}
	list, err := s.Seq.Store().Executions(ctx, f)
	if err != nil && !isMissingLedger(err) {
		return err
	}
	entries := make([]deferredEntry, len(list))
	for i, e := range list {
		entries[i] = deferredEntry{e.ID, e.Name, e.State, e.DueAt, e.Attempts(), e.Queue, e.LastError}
	}
	switch {
	case s.json:
		s.document(map[string]any{"deferred": entries})
	case len(entries) == 0 && c.all:
		s.printf("Nothing was ever deferred.")
	case len(entries) == 0:
		s.printf("Nothing is deferred.")
	default:
		s.deferredTable(entries)
	}
	return nil
}

func (u *ui) deferredTable(entries []deferredEntry) {
	rows := make([][]string, len(entries))
	for i, e := range entries {
		state := string(e.State)
		if e.State == storage.Pending && e.Attempts > 0 {
			state += " (retrying)"
		}
		rows[i] = []string{e.ID.String(), e.Name, state, stamp(e.DueAt), strconv.Itoa(e.Attempts), e.Queue, wording.FirstLine(e.LastError)}
	}
	u.fitted([]string{"id", "name", "state", "due (UTC)", "attempts", "queue", "last error"}, rows, "queue", "attempts")
}

// deferredReschedule moves one to another time.
type deferredReschedule struct {
	at     moment
	reason string
}

func newDeferredReschedule(a *app) *cobra.Command {
	c := &deferredReschedule{at: moment{ahead: true}}
	cmd := &cobra.Command{
		Use:   "reschedule NAME|ID --at TIME",
		Short: "Move what is queued to another time",
		Long: "Moves the newest queued execution of an operation, or the one with an id, to another time; one in the past is\n" +
			"due at once. What runs, or is over, or waits for others is refused.",
		Example: "  " + a.root.Name() + ` deferred reschedule send_reminder --at 2026-12-24T09:00:00Z --reason "after the holidays"` + "\n" +
			"  " + a.root.Name() + " deferred reschedule send_reminder --at 2h",
		Args: takes("NAME|ID"),
		RunE: a.with(c.body),
	}
	cmd.Flags().Var(&c.at, "at", "when it is due from now on: a time, or in how long (2h, 7d)")
	cmd.Flags().StringVar(&c.reason, "reason", "", "why, for the audit log")
	return cmd
}

func (c *deferredReschedule) body(ctx context.Context, s *session) error {
	if c.at.at.IsZero() {
		return usagef("--at is missing: say when %s is due, as in --at 2h or --at 2026-12-24T09:00:00Z", s.args[0])
	}
	if err := s.Seq.Reschedule(ctx, s.args[0], c.at.at, c.reason); err != nil {
		return err
	}
	if s.json {
		s.document(map[string]any{"name": s.args[0], "due_at": c.at.at.UTC()})
		return nil
	}
	s.printf("%s is due %s UTC.", s.args[0], stamp(c.at.at))
	return nil
}
