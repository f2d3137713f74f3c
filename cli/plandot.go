package cli

import (
	"strings"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// printDOT draws the plan for Graphviz: solid arrows for dependencies, a dotted
// line for the order of the run.
func (u *ui) printDOT(p *sequencer.Plan) {
	u.printf("digraph plan {")
	u.printf("  rankdir=LR; node [shape=box, fontname=\"sans-serif\"];")
	known := map[string]bool{}
	for _, t := range p.Tasks {
		id := dotID(t.Kind, t.Name)
		known[id] = true
		u.printf("  %s [label=%s%s];", id, quote(strings.Join(append([]string{t.Name}, marks(t)...), "\n")), dotLook(t))
	}
	for i, t := range p.Tasks {
		id := dotID(t.Kind, t.Name)
		for _, d := range t.DependsOn {
			from := dotID(d.Kind, strings.TrimSuffix(d.Name, ".sql"))
			if !known[from] { // done in an earlier run
				known[from] = true
				u.printf("  %s [label=%s, style=dashed];", from, quote(d.Name+"\ndone"))
			}
			u.printf("  %s -> %s;", from, id)
		}
		if i > 0 {
			before := p.Tasks[i-1]
			u.printf("  %s -> %s [style=dotted, arrowhead=none, constraint=false];", dotID(before.Kind, before.Name), id)
		}
	}
	u.printf("}")
}

func dotID(kind storage.Kind, name string) string { return quote(kindWord(kind) + " " + name) }

func dotLook(t sequencer.Task) string {
	switch {
	case t.Kind == storage.Migration:
		return ", shape=cylinder"
	case t.Elsewhere:
		return ", style=dashed"
	case t.Async:
		return ", style=rounded"
	}
	return ""
}

// quote makes a DOT string: only quotes, backslashes and line ends are special.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}
