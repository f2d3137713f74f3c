package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/wording"
)

// tagsCommand shows what became of what has watched tags.
type tagsCommand struct {
	since moment
}

func newTags(a *app) *cobra.Command {
	c := &tagsCommand{}
	cmd := &cobra.Command{
		Use:   "tags",
		Short: "Show counts and times of watched tags",
		Long: "Lists each tag that the application watches (Config.WatchedTags): how executions with it ended since then, how\n" +
			"long attempts ran and waited on average, and how many wait and run now. Executions with any other tag\n" +
			"are found with status --tags and failed --tag.",
		Example: "  " + a.root.Name() + " tags\n" +
			"  " + a.root.Name() + " tags --since 7d",
		Args: takes(),
		RunE: a.with(c.body),
	}
	cmd.Flags().Var(&c.since, "since", "counted since then: how long ago (2h, 7d), or a date and time in UTC (default 24h)")
	return cmd
}

func (c *tagsCommand) body(ctx context.Context, s *session) error {
	since := c.since.at
	if since.IsZero() {
		since = time.Now().Add(-dayLong)
	}
	tags, err := s.Seq.TagStats(ctx, since)
	if err != nil {
		return err
	}
	switch {
	case s.json:
		s.document(map[string]any{"since": since.UTC(), "tags": notNil(tags)})
	case len(tags) == 0:
		s.printf("No tag is watched, and none was.")
	default:
		s.tagTable(tags)
	}
	return nil
}

func (u *ui) tagTable(tags []sequencer.TagStatus) {
	rows := make([][]string, len(tags))
	for i, t := range tags {
		name, more := t.Tag, ""
		if !t.Watched {
			name += " " + u.paint(dim, "(not watched here)")
		}
		if t.Overflowing {
			more = "+"
		}
		ran, waited := wording.Elapsed(t.Ran), wording.Elapsed(t.Waited)
		if t.Completed+t.Failed+t.Retried+t.Others == 0 {
			ran, waited = "", ""
		}
		rows[i] = []string{
			name, number(t.Completed), number(t.Failed), number(t.Retried), number(t.Others), ran, waited, number(t.Pending) + more, number(t.Running) + more,
		}
	}
	u.fitted([]string{"tag", "completed", "failed", "retried", "others", "runs for", "waits for", "pending", "running"}, rows)
}
