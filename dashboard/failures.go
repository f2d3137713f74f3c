package dashboard

import (
	"context"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// looked is how many failed executions causes are taken of: the newest.
const looked = 1000

// failures groups the newest failed executions by cause.
func failures(p *request) (page, error) {
	w := p.wanted()
	if err := w.tagged(); err != nil {
		return unreadable(err), nil
	}
	w.state = string(storage.Failed)
	sel := w.selection()
	sel.Limit = looked
	groups, err := p.causes.get(p, func(ctx context.Context) ([]sequencer.FailureGroup, error) { return p.seq.FailureGroups(ctx, sel) })
	if err != nil {
		return page{}, err
	}
	total := 0
	rows := make([]list, len(groups))
	for i := range groups {
		g := &groups[i]
		total += g.Count
		rows[i] = list{
			el("a", p.to("/executions", "state", "failed", "name", g.Name, "group", g.Group), text(g.Name)),
			el("span", class("clip"), text(shortly(g.Error))), text(grouped(g.Count)), p.ago(g.First), p.ago(g.Last), p.idLink(g.ID),
		}
	}
	scope := plural(total, "failed execution") + "."
	if total >= looked {
		scope = "The newest " + scope + " Older ones are in Executions."
	}
	return page{title: "Failures", nav: "Failures", body: list{
		live("scope", el("p", class("quiet"), text(scope+" Tasks of deploys are in Deploys."))),
		live("failures", table("Failed executions by cause", "Nothing has failed.",
			[]string{"Operation", "Cause", "#Executions", "First", "Last", "Latest"}, rows)),
		p.bulkLinks(w),
	}}, nil
}
