package cli

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/wording"
)

// selection is the flags by which failed executions are picked.
type selection struct {
	name, group, queue string
	tags               []string
	since              moment
	limit              int
	all                bool
}

func (c *selection) flags(f *pflag.FlagSet) {
	f.StringVar(&c.name, "name", "", "of this operation; * stands for anything")
	f.StringArrayVar(&c.tags, "tag", nil, "with one of these tags; -TAG leaves those with it out; repeatable")
	f.StringVar(&c.group, "group", "", "with this error group, as failed --groups shows it")
	f.StringVar(&c.queue, "queue", "", "of this queue")
	f.Var(&c.since, "since", "failed since then: how long ago (2h, 7d), or a date and time in UTC")
}

// bulk adds what commands have that change what they select.
func (c *selection) bulk(f *pflag.FlagSet, does string) {
	c.flags(f)
	f.BoolVar(&c.all, "all", false, does+" everything that failed")
	f.IntVar(&c.limit, "limit", 0, "at most so many, the newest first; 0 = no limit")
}

func (c *selection) given() bool {
	return c.name+c.group+c.queue != "" || len(c.tags) > 0 || !c.since.at.IsZero()
}

// one reports whether the command line names one execution; otherwise flags must
// say which are meant.
func (c *selection) one(args []string) (bool, error) {
	switch filters := c.given() || c.all; {
	case c.all && c.given():
		return false, usagef("--all and a filter exclude each other: give one of them")
	case len(args) == 1 && (filters || c.limit != 0):
		return false, usagef("%s and flags that select exclude each other: give one of them", args[0])
	case len(args) == 0 && !filters:
		return false, usagef("nothing is selected: give NAME or ID, a filter such as --name, or --all")
	case c.limit < 0:
		return false, usagef("--limit %d: want 0 (no limit) or more", c.limit)
	}
	return len(args) == 1, nil
}

func (c *selection) selection() sequencer.Selection {
	return sequencer.Selection{
		Name: c.name, Tags: c.tags, Group: c.group, Queue: c.queue, Since: c.since.at, All: c.all, Limit: c.limit,
	}
}

// preview shows what a selection selects without doing anything to it.
func (s *session) preview(ctx context.Context, sel sequencer.Selection) error {
	groups, err := s.Seq.FailureGroups(ctx, sel)
	if err != nil {
		return err
	}
	if s.json {
		s.document(map[string]any{"groups": groups})
		return nil
	}
	s.groups(groups)
	return nil
}

// selected says what became of a selection, "retried" or "forgotten".
func (s *session) selected(did string, r sequencer.Selected) {
	if s.json {
		s.document(map[string]any{did: r.Done, "left_out": r.LeftOut})
		return
	}
	s.printf("%s %s.", count(r.Done, "execution"), did)
	for _, why := range slices.Sorted(maps.Keys(r.LeftOut)) {
		s.sayf("note: %s left out: %s", count(r.LeftOut[why], "execution"), why)
	}
}

// total sums groups.
func total(groups []sequencer.FailureGroup) int {
	n := 0
	for _, g := range groups {
		n += g.Count
	}
	return n
}

// groups is a table of what went wrong and how often.
func (u *ui) groups(groups []sequencer.FailureGroup) {
	if len(groups) == 0 {
		u.printf("Nothing failed.")
		return
	}
	u.printf("%s in %s", count(total(groups), "failed execution"), count(len(groups), "error group"))
	rows := make([][]string, len(groups))
	for i, g := range groups {
		rows[i] = []string{g.Group, strconv.Itoa(g.Count), g.Name, stamp(g.Last), wording.FirstLine(g.Error)}
	}
	u.listing([]string{"group", "count", "name", "last (UTC)", "error"}, rows)
}
