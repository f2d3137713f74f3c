package cli

import (
	"fmt"
	"strings"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// printPlan is a header, one line per task, the count (S34.6), and what the run
// would leave.
func (u *ui) printPlan(p *sequencer.Plan) {
	if p.Empty() {
		u.printf("Nothing pending.")
	} else {
		u.printf("%s", u.paint(bold, "Plan ("+p.Method+")"))
		for _, t := range p.Tasks {
			u.printf("%s", u.taskLine(t))
		}
		u.printf("%d pending", len(p.Tasks))
	}
	u.list("Interrupted: a person must decide first, with retry or resolve", p.Interrupted)
	u.list("In flight elsewhere, not offered again", p.InFlight)
	var later []string
	for _, l := range p.Scheduled {
		later = append(later, l.Name+"  "+stamp(l.At))
	}
	u.list("Scheduled for later (UTC)", later)
	var drift []string
	for _, d := range p.Drift {
		drift = append(drift, d.Name)
	}
	u.list("Changed after it was applied", drift)
	u.list("Applied, and the file is gone", p.Missing)
	u.list("In the ledger, and not registered", p.Unknown)
	if p.Filtered > 0 {
		u.printf("")
		u.printf("%d left out by the options", p.Filtered)
	}
	if p.Blocked != "" {
		u.printf("")
		u.printf("%s %s", u.paint(red, "Blocked:"), p.Blocked)
	}
}

// list is a section of names; an empty one is left out.
func (u *ui) list(title string, names []string) {
	if len(names) == 0 {
		return
	}
	u.printf("")
	u.printf("%s", u.paint(bold, title))
	for _, name := range names {
		u.printf("  %s", name)
	}
}

// taskLine is the type capitalised, the name, PENDING, and what is special.
func (u *ui) taskLine(t sequencer.Task) string {
	kind := "Operation"
	if t.Kind == storage.Migration {
		kind = "Migration"
	}
	line := fmt.Sprintf("  %-9s %s  %s", kind, t.Name, u.paint(yellow, "PENDING"))
	if m := marks(t); len(m) > 0 {
		line += "  " + u.paint(dim, strings.Join(m, ", "))
	}
	return line
}

func marks(t sequencer.Task) []string {
	var m []string
	add := func(is bool, text string) {
		if is {
			m = append(m, text)
		}
	}
	add(t.Async, "async")
	add(t.Conditional, "conditional")
	add(t.AllowedToFail, "allowed to fail")
	add(t.Irreversible, "irreversible")
	add(t.OutOfOrder, "out of order")
	add(t.Elsewhere, "skipped here: only for "+orNowhere(t.Environments))
	add(t.Last != "", "last "+strings.ReplaceAll(string(t.Last), "_", " "))
	add(len(t.Tags) > 0, "tags "+strings.Join(t.Tags, " "))
	for i, d := range t.DependsOn {
		add(i == 0, "after "+d.String())
		add(i > 0, "and "+d.String())
	}
	add(t.Wave > 0, fmt.Sprintf("wave %d", t.Wave))
	return m
}

func orNowhere(environments []string) string {
	if len(environments) == 0 {
		return "no environment"
	}
	return strings.Join(environments, ", ")
}
