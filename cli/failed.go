package cli

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer/internal/wording"
)

// failedCommand lists what failed.
type failedCommand struct {
	selection

	byGroup bool
	limit   int
}

func newFailed(a *app) *cobra.Command {
	c := &failedCommand{}
	cmd := &cobra.Command{
		Use:   "failed",
		Short: "List work that failed, the newest first",
		Long: "Lists executions that failed for good, those dispatched last first, with their ids and errors. What\n" +
			"failed as a task of a run is shown by status. --groups counts them by cause: operation, type of the\n" +
			"error, and its text without numbers and quoted parts. -v adds the traces.",
		Example: "  " + a.root.Name() + " failed --groups\n" +
			"  " + a.root.Name() + " failed --name 'mail:*' --since 2h\n" +
			"  " + a.root.Name() + " retry --group 5f0c3a91d2e47b68",
		Args: takes(),
		RunE: a.with(c.body),
	}
	f := cmd.Flags()
	c.flags(f)
	f.BoolVar(&c.byGroup, "groups", false, "count them by error group")
	f.IntVar(&c.limit, "limit", 100, "how many to list; 0 = all")
	return cmd
}

func (c *failedCommand) body(ctx context.Context, s *session) error {
	if c.limit < 0 {
		return usagef("--limit %d: want 0 (all) or more", c.limit)
	}
	sel := c.selection.selection()
	if c.byGroup {
		return s.preview(ctx, sel)
	}
	if sel.Limit = c.limit; sel.Limit > 0 {
		sel.Limit++ // to know whether there are more
	}
	rows, err := s.Seq.Failed(ctx, sel)
	if err != nil {
		return err
	}
	more := c.limit > 0 && len(rows) > c.limit
	if more {
		rows = rows[:c.limit]
	}
	entries := entriesOf(rows)
	if s.json || s.verbose {
		all := make([]*entry, len(entries))
		for i := range entries {
			all[i] = &entries[i]
		}
		if err := readAttempts(ctx, s.Seq.Store(), all); err != nil {
			return err
		}
	}
	switch {
	case s.json:
		s.document(map[string]any{"failed": entries, "more": more})
	case len(rows) == 0:
		s.printf("Nothing failed.")
	default:
		s.failedTable(entries)
	}
	if more {
		s.sayf("note: there are more: --limit shows them, --groups counts them")
	}
	return nil
}

func (u *ui) failedTable(entries []entry) {
	rows := make([][]string, len(entries))
	for i, e := range entries {
		rows[i] = []string{e.ID.String(), e.Name, stamp(e.FinishedAt), wording.Queue(e.Queue), strconv.Itoa(e.Attempts), wording.FirstLine(e.LastError)}
	}
	u.listing([]string{"id", "name", "failed (UTC)", "queue", "attempts", "error"}, rows)
	if u.verbose {
		u.traces(entries)
	}
}

// listing is a table whose last column is text. Where it does not fit, the text
// goes below each row, cut to the terminal, and columns between the first two and
// it give way.
func (u *ui) listing(header []string, rows [][]string) {
	if u.fits(header, rows) {
		u.table(header, rows)
		return
	}
	last := len(header) - 1
	texts := make([]string, len(rows))
	short := make([][]string, len(rows))
	for i, r := range rows {
		texts[i], short[i] = r[last], r[:last:last]
	}
	head := header[:last:last]
	for !u.fits(head, short) && len(head) > 2 {
		head = head[:len(head)-1]
		for i := range short {
			short[i] = short[i][:len(head)]
		}
	}
	for i, line := range u.lines(head, short) {
		u.printf("  %s", line)
		if i > 0 && texts[i-1] != "" {
			u.printf("    %s", u.paint(dim, cut(texts[i-1], u.width()-spare-4))) //nolint:mnd // the indent
		}
	}
}

func (u *ui) traces(entries []entry) {
	for _, e := range entries {
		for _, f := range e.Failures {
			u.printf("")
			u.printf("  %s %s, attempt %d at %s: %s", e.Name, e.ID, f.Number, stamp(f.FinishedAt), f.Outcome)
			for line := range strings.Lines(f.Trace) {
				u.printf("    %s", strings.TrimRight(line, "\n"))
			}
			if f.Context != "" {
				u.printf("    %s", f.Context)
			}
		}
	}
}
