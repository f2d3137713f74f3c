package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/wording"
	"github.com/gosequencer/sequencer/storage"
)

// newFlow is about flows of every kind: batches, chains, runs and rollbacks.
func newFlow(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "flow",
		Short: "Show what waits for what in a batch, a chain or a run",
		Long:  "A flow is what a batch, a chain, a deploy run and a rollback have in common: executions, and what waits for what.",
		Args:  knownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newFlowShow(a))
	return cmd
}

// flowShow draws a flow.
type flowShow struct {
	dot bool
	all bool
}

func newFlowShow(a *app) *cobra.Command {
	c := &flowShow{}
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Draw a flow: members, what they wait for, callbacks",
		Long: "Draws a flow as a tree, with what is nested in it, and says of each member that waits for what it waits. Of\n" +
			"more than some members that stand alike the others are counted, unless --all is given. With --dot it is a\n" +
			"graph for Graphviz.",
		Example: "  " + a.root.Name() + " flow show 019a2b3c-4d5e-7f60-8a9b-0c1d2e3f4a5b --dot | dot -Tsvg > flow.svg",
		Args:    takes("ID"),
		RunE:    a.with(c.body),
	}
	f := cmd.Flags()
	f.BoolVar(&c.dot, "dot", false, "print a graph for Graphviz")
	f.BoolVar(&c.all, "all", false, "show each member")
	return cmd
}

func (c *flowShow) body(ctx context.Context, s *session) error {
	if c.dot && s.json {
		return usagef("--dot and --json exclude each other: give one of them")
	}
	f, err := s.Seq.Flow(ctx, s.args[0])
	if err != nil {
		return err
	}
	t, err := f.Tree(ctx)
	switch {
	case err != nil:
		return err
	case s.json:
		s.document(t)
	case c.dot:
		s.flowDOT(t)
	default:
		s.flowTree(t, c.all)
	}
	return nil
}

// flowLine is a flow in one line.
func (u *ui) flowLine(f *sequencer.FlowStatus) string {
	what := string(f.Kind)
	if f.Name != "" {
		what += " " + quote(f.Name)
	}
	line := fmt.Sprintf("%s  %s, %d of %d (%d%%)", u.paint(bold, what), u.flowState(f), f.Total-f.Pending-f.Running, f.Total, f.Percent)
	if f.Reason != "" {
		line += "  " + wording.FirstLine(f.Reason)
	}
	return line
}

// memberLine is a member in one line; names are those of what it may wait for.
func (u *ui) memberLine(m *sequencer.FlowMember, names map[storage.ID]string) string {
	name := m.Name
	if m.Kind == storage.KindCallback {
		name = m.Method + ": " + name
	} else if m.Member != "" && m.Member != m.Name {
		name = m.Member + " (" + m.Name + ")"
	}
	e := &entriesOf(oneOf(m.Execution))[0]
	parts := []string{wording.State(&e.Execution)}
	if len(m.Awaits) > 0 {
		parts[0] = string(m.State)
	}
	if m.Attempts() > 1 {
		parts[0] += fmt.Sprintf(" (attempt %d)", m.Attempts())
	}
	switch {
	case len(m.Awaits) > 0 && names != nil:
		parts = append(parts, "waits for "+u.awaited(m.Awaits, names))
	case m.State == storage.Failed || m.State == storage.Interrupted:
		parts = append(parts, wording.FirstLine(m.LastError))
	case m.Reason != "":
		parts = append(parts, wording.FirstLine(m.Reason))
	}
	return strings.TrimRight(name+"  "+strings.Join(parts, "  "), " ")
}

// awaited names what is waited for, the first of many.
func (u *ui) awaited(ids []storage.ID, names map[storage.ID]string) string {
	const most = 3
	var list []string
	for i, id := range ids {
		if i == most {
			list = append(list, fmt.Sprintf("%d more", len(ids)-most))
			break
		}
		list = append(list, names[id])
	}
	return strings.Join(list, ", ")
}

// alike is how many members that stand alike are shown.
const alike = 10

// branch is a line of a tree and those under it.
type branch struct {
	line  string
	under []branch
}

func (u *ui) flowTree(t *sequencer.FlowTree, all bool) {
	u.printf("%s", u.flowLine(&t.FlowStatus))
	u.printf("  id %s", t.ID)
	u.branches(u.flowBranches(t, all), "")
}

func (u *ui) flowBranches(t *sequencer.FlowTree, all bool) []branch {
	names := memberNames(t)
	var list []branch
	shown := map[string]int{}
	hidden := map[string]int{}
	var order []string
	add := func(members []sequencer.FlowMember) {
		for i := range members {
			m := &members[i]
			look := m.Name + " " + string(m.State)
			if shown[look]++; !all && m.Flow == nil && shown[look] > alike {
				if hidden[look]++; hidden[look] == 1 {
					order = append(order, look)
				}
				continue
			}
			b := branch{line: u.memberLine(m, names)}
			if m.Flow != nil {
				b.line = u.flowLine(&m.Flow.FlowStatus)
				if m.Kind == storage.KindCallback {
					b.line = m.Method + ": " + b.line
				}
				if len(m.Awaits) > 0 {
					b.line += "  waits for " + u.awaited(m.Awaits, names)
				}
				b.under = u.flowBranches(m.Flow, all)
			}
			list = append(list, b)
		}
		for _, look := range order {
			list = append(list, branch{line: fmt.Sprintf("and %d more: %s", hidden[look], look)})
		}
		clear(shown)
		clear(hidden)
		order = nil
	}
	add(t.Members)
	if len(t.Rollbacks) > 0 {
		at := len(list)
		add(t.Rollbacks)
		under := append([]branch(nil), list[at:]...)
		list = append(list[:at], branch{line: "rolling back", under: under})
	}
	add(t.Callbacks)
	for _, c := range t.Uncalled {
		list = append(list, branch{line: fmt.Sprintf("%s: %s  not called", c.Role, c.Name)})
	}
	return list
}

func memberNames(t *sequencer.FlowTree) map[storage.ID]string {
	names := map[storage.ID]string{}
	for _, members := range [][]sequencer.FlowMember{t.Members, t.Rollbacks, t.Callbacks} {
		for i := range members {
			names[members[i].ID] = members[i].Member
			if names[members[i].ID] == "" {
				names[members[i].ID] = members[i].Name
			}
		}
	}
	return names
}

func (u *ui) branches(list []branch, indent string) {
	for i, b := range list {
		fork, below := "├─ ", "│  "
		if i == len(list)-1 {
			fork, below = "└─ ", "   "
		}
		u.printf("%s%s%s", indent, fork, b.line)
		u.branches(b.under, indent+below)
	}
}

// flowDOT draws a flow for Graphviz: a box a member, a cluster a nested flow, solid
// arrows for what comes after what, dashed ones to callbacks.
func (u *ui) flowDOT(t *sequencer.FlowTree) {
	u.printf("digraph flow {")
	u.printf("  rankdir=LR; compound=true; node [shape=box, fontname=\"sans-serif\"];")
	u.printf("  label=%s;", quote(plainFlow(t)))
	u.dotMembers(t, "  ")
	u.printf("}")
}

func plainFlow(t *sequencer.FlowTree) string {
	name := string(t.Kind)
	if t.Name != "" {
		name += " " + t.Name
	}
	return fmt.Sprintf("%s\n%s, %d of %d", name, t.State, t.Total-t.Pending-t.Running, t.Total)
}

func (u *ui) dotMembers(t *sequencer.FlowTree, indent string) {
	for _, members := range [][]sequencer.FlowMember{t.Members, t.Rollbacks, t.Callbacks} {
		for i := range members {
			m := &members[i]
			label, look := m.Name, ""
			switch m.Kind { //nolint:exhaustive // the others have no look of their own
			case storage.KindCallback:
				label, look = m.Method+"\n"+label, ", style=dashed"
			case storage.Undo:
				label, look = "undo\n"+label, ", style=dotted"
			}
			switch m.State { //nolint:exhaustive // the others have no colour
			case storage.Failed, storage.Interrupted:
				look += ", color=red"
			case storage.Running:
				look += ", color=blue"
			case storage.Completed, storage.Skipped:
				look += ", color=darkgreen"
			case storage.Cancelled:
				look += ", color=gray"
			}
			u.printf("%s%s [label=%s%s];", indent, quote(m.ID.String()), quote(label+"\n"+string(m.State)), look)
			for _, from := range m.After {
				u.printf("%s%s -> %s;", indent, quote(from.String()), quote(m.ID.String()))
			}
			if m.Flow != nil {
				u.printf("%ssubgraph %s {", indent, quote("cluster "+m.Flow.ID))
				u.printf("%s  label=%s;", indent, quote(plainFlow(m.Flow)))
				u.dotMembers(m.Flow, indent+"  ")
				u.printf("%s}", indent)
			}
		}
	}
}
