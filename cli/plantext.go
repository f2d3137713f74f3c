package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/wording"
	"github.com/gosequencer/sequencer/storage"
)

// printPlan is a header, one line per task, the count (S34.6), and what the run
// would leave.
func (u *ui) printPlan(p *sequencer.Plan) {
	if p.Empty() {
		u.printf("Nothing pending.")
	} else {
		u.printf("%s", u.paint(bold, "Plan ("+p.Method+")"))
		u.printTasks(p.Tasks)
		u.printf("%d pending", len(p.Tasks))
	}
	u.list("Interrupted: a person must decide first, with retry or resolve", p.Interrupted)
	u.list("In flight elsewhere, not offered again", p.InFlight)
	var later []string
	for _, l := range p.Scheduled {
		line := l.Name + "  " + stamp(l.At)
		if l.Queued {
			line += "  " + u.paint(dim, "to be queued")
		}
		later = append(later, line)
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

// printTasks prints a line for each; by wave, where several can run at the same time.
// Async operations run beside a line, which stays one.
func (u *ui) printTasks(tasks []sequencer.Task) {
	waves := map[int]int{}
	parallel := false
	for _, t := range tasks {
		if !t.Async {
			waves[t.Wave]++
			parallel = parallel || waves[t.Wave] > 1
		}
	}
	if parallel {
		tasks = slices.Clone(tasks)
		slices.SortStableFunc(tasks, func(a, b sequencer.Task) int { return a.Wave - b.Wave })
	}
	wave := 0
	for _, t := range tasks {
		if parallel && t.Wave != wave {
			wave = t.Wave
			u.printf("%s", u.paint(dim, fmt.Sprintf("Wave %d", wave)))
		}
		u.printf("%s", u.taskLine(t))
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
	e := t.Evaluation
	if e == nil {
		e = &sequencer.Evaluation{}
	}
	add(t.Conditional && e.Runs == nil, "conditional")
	add(e.Runs != nil && *e.Runs, "conditional: would run now")
	add(e.Runs != nil && !*e.Runs, "conditional: would be skipped now")
	if e.Rows != nil {
		m = append(m, count(int(*e.Rows), "row"))
	}
	add(e.Error != "", "cannot tell yet: "+wording.FirstLine(e.Error))
	add(t.AllowedToFail, "allowed to fail")
	add(t.Irreversible, "irreversible")
	add(t.ApprovedBy != "" && !t.Approved, "needs approval by "+t.ApprovedBy)
	add(t.ApprovedBy != "" && t.Approved, "approved for "+t.ApprovedBy)
	add(t.OutOfOrder, "out of order")
	add(t.Elsewhere, "skipped here: only for "+orNowhere(t.Environments))
	add(t.Last != "", "last "+strings.ReplaceAll(string(t.Last), "_", " "))
	add(len(t.Tags) > 0, "tags "+strings.Join(t.Tags, " "))
	for i, d := range t.DependsOn {
		add(i == 0, "after "+d.String())
		add(i > 0, "and "+d.String())
	}
	return m
}

func orNowhere(environments []string) string {
	if len(environments) == 0 {
		return "no environment"
	}
	return strings.Join(environments, ", ")
}
