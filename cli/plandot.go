package cli

import (
	"strings"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/wording"
	"github.com/gosequencer/sequencer/storage"
)

// printDOT draws the plan for Graphviz: solid arrows for dependencies, dotted ones for
// what merely comes after. Where many wait for many they meet in a point.
func (u *ui) printDOT(p *sequencer.Plan) {
	u.printf("digraph plan {")
	u.printf("  rankdir=LR; node [shape=box, fontname=\"sans-serif\"];")
	known := map[string]bool{}
	node := map[string]string{} // by name, as After has it
	for _, j := range p.Joins {
		node[j.Name] = quote(j.Name)
		u.printf("  %s [shape=point];", quote(j.Name))
	}
	for _, t := range p.Tasks {
		id := dotID(t.Kind, t.Name)
		known[id], node[t.Name] = true, id
		u.printf("  %s [label=%s%s];", id, quote(strings.Join(append([]string{t.Name}, marks(t)...), "\n")), dotLook(t))
	}
	after := func(id string, names []string) {
		for _, name := range names {
			u.printf("  %s -> %s [style=dotted];", node[name], id)
		}
	}
	for _, j := range p.Joins {
		after(quote(j.Name), j.After)
	}
	for _, t := range p.Tasks {
		id := dotID(t.Kind, t.Name)
		for _, d := range t.DependsOn {
			from := dotID(d.Kind, strings.TrimSuffix(d.Name, ".sql"))
			if !known[from] { // done in an earlier run
				known[from] = true
				u.printf("  %s [label=%s, style=dashed];", from, quote(d.Name+"\ndone"))
			}
			u.printf("  %s -> %s;", from, id)
		}
		after(id, t.After)
	}
	u.printf("}")
}

func dotID(kind storage.Kind, name string) string { return quote(wording.Kind(kind) + " " + name) }

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
