package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// statusCommand shows what was done, what is left, and what is in the way.
type statusCommand struct {
	wanted   map[string]*bool // by section
	history  bool
	limit    int
	exitCode bool
	reveal   bool
	tags     []string
}

func newStatus(a *app) *cobra.Command {
	c := &statusCommand{wanted: map[string]*bool{}}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what was done, what is pending, and what is in the way",
		Long: "Shows every migration and operation with its times. Section flags restrict and combine.\n" +
			"Of each operation the newest execution counts; --history lists all of them.",
		Example: "  " + a.root.Name() + " status\n" +
			"  " + a.root.Name() + " status --pending --failed --exit-code\n" +
			"  " + a.root.Name() + " status --tags billing",
		Args: takes(),
		RunE: a.with(c.body),
	}
	f := cmd.Flags()
	for _, section := range sections {
		c.wanted[section.key] = f.Bool(section.flag, false, "only "+section.flag+" (flags combine)")
	}
	f.BoolVar(&c.history, "history", false, "list every execution, newest first")
	f.IntVar(&c.limit, "limit", 100, "how many executions --history lists")
	f.StringSliceVar(&c.tags, "tags", nil, "only what has one of these tags; -tag leaves one out")
	f.BoolVar(&c.reveal, "reveal", false, "show the messages of errors of encrypted operations")
	f.BoolVar(&c.exitCode, "exit-code", false, "exit 5 if something is pending or failed, 7 if only applied migrations changed")
	return cmd
}

func (c *statusCommand) body(ctx context.Context, s *session) error {
	if c.limit < 1 || c.limit > 10_000 {
		return usagef("--limit %d: want 1 to 10000", c.limit)
	}
	show := c.current
	if c.history {
		show = c.past
	}
	if err := show(ctx, s); err != nil || !c.exitCode {
		return err
	}
	gate, err := s.Seq.Verify(ctx)
	if err != nil {
		return err
	}
	return verdict(gate)
}

// current shows the sections that were asked for, all of them without a flag.
func (c *statusCommand) current(ctx context.Context, s *session) error {
	st, err := readStatus(ctx, s.Seq, c.tags)
	if err != nil {
		return err
	}
	if c.reveal {
		s.revealed(ctx, st.entries)
	}
	asked := slices.ContainsFunc(sections, func(x section) bool { return *c.wanted[x.key] })
	doc := map[string]any{}
	for _, section := range sections {
		if asked && !*c.wanted[section.key] || !asked && len(c.tags) > 0 && !section.tagged {
			continue
		}
		if s.json {
			doc[section.key] = section.data(st)
		} else {
			section.print(s.ui, st, asked || section.always)
		}
	}
	if s.json {
		if !asked {
			doc["last_run"] = st.Last
		}
		s.document(doc)
	} else if st.Last != nil && !asked && len(c.tags) == 0 {
		s.printf("")
		s.printf("Last run: %s by %s, %s", st.Last.State, st.Last.Actor, stamp(st.Last.CreatedAt))
	}
	return nil
}

// revealed puts the messages of encrypted operations' errors in clear.
func (s *session) revealed(ctx context.Context, entries []entry) {
	for _, e := range entries {
		for i, f := range e.Failures {
			message, err := s.Seq.Reveal(ctx, f)
			if err != nil {
				s.sayf("warning: %v", err)
				continue
			}
			e.Failures[i].Message = message
		}
	}
}

// past lists executions, those that were rolled back or cancelled too.
func (c *statusCommand) past(ctx context.Context, s *session) error {
	f := storage.Filter{Limit: c.limit}
	for _, section := range sections {
		if *c.wanted[section.key] {
			f.States = append(f.States, section.states...)
		}
	}
	rows, err := c.tagged(ctx, s.Seq.Store(), f)
	if err != nil && !isMissingLedger(err) {
		return err
	}
	if s.json {
		s.document(map[string]any{"executions": entriesOf(rows)})
		return nil
	}
	if len(rows) == 0 {
		s.printf("No executions.")
		return nil
	}
	s.executions(entriesOf(rows))
	return nil
}

// tagged reads until so many pass the filter of tags.
func (c *statusCommand) tagged(ctx context.Context, store storage.Store, f storage.Filter) ([]storage.Execution, error) {
	if len(c.tags) == 0 {
		return store.Executions(ctx, f)
	}
	if len(c.tags) == 1 && !strings.HasPrefix(c.tags[0], "-") {
		f.Tag = c.tags[0]
	}
	var found []storage.Execution
	const page = 1000
	for f.Limit = page; ; {
		rows, err := store.Executions(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			if sequencer.MatchTags(c.tags, row.Tags) {
				found = append(found, row)
			}
		}
		if len(found) >= c.limit || len(rows) < page {
			return found[:min(len(found), c.limit)], nil
		}
		last := rows[page-1]
		f.After = &storage.Cursor{At: last.CreatedAt, ID: last.ID}
	}
}
