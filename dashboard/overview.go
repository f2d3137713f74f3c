package dashboard

import (
	"slices"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// overview is what goes on: throughput, each queue, the latest failures, the last
// deploy.
func overview(p *request) (page, error) {
	h, err := p.history(p.ctx, p.chosen())
	if err != nil {
		return page{}, err
	}
	now, err := p.pulse(p.ctx)
	if err != nil {
		return page{}, err
	}
	if now.missing {
		return page{}, &storage.SchemaError{}
	}
	failed, err := p.by.Store().Executions(p.ctx, storage.Filter{Kinds: worked, States: []storage.State{storage.Failed}, Limit: 5})
	if err != nil {
		return page{}, err
	}
	runs, err := p.by.Store().Flows(p.ctx, storage.FlowFilter{Kinds: deployKinds, Limit: 3})
	if err != nil {
		return page{}, err
	}
	throughput := card("Throughput", p.spans("/"),
		el("p", class("legend"),
			el("span", class("key good"), textf("%s completed", grouped(h.all.sum.Completed))),
			el("span", class("key bad"), textf("%s failed", grouped(h.all.sum.Failed))),
			el("span", class("quiet"), textf("%s retried", grouped(h.all.sum.Retried))),
			el("span", class("quiet"), textf("%s a minute", perMinute(h)))),
		bars(h, &h.all))
	return page{title: "Overview", nav: "Overview", body: list{
		live("throughput", throughput),
		live("queues", card("Queues", p.queueCharts(h, now.queues))),
		el("div", class("columns"),
			live("recent-failures", card("Latest failures", p.briefly(failed, "Nothing has failed."), more(p.to("/failures"), "By cause"))),
			live("recent-deploys", card("Deploys", p.deployLines(runs), more(p.to("/deploys"), "All deploys")))),
	}}, nil
}

func more(to attr, what string) node { return el("p", class("more"), el("a", to, text(what))) }

// perMinute is how much ended in a minute, on average over the span.
func perMinute(h *history) string {
	n := float64(h.all.sum.Completed+h.all.sum.Failed+h.all.sum.Others) / h.long.Minutes()
	if n < 10 {
		return string(textf("%.1f", n))
	}
	return grouped(int64(n))
}

// queueCharts shows each queue that did or holds something.
func (p *request) queueCharts(h *history, queues []sequencer.QueueStatus) node {
	var names []string
	for i := range queues {
		names = append(names, queues[i].Queue)
	}
	for i := range h.queues {
		names = append(names, h.queues[i].name)
	}
	slices.Sort(names)
	var rows []list
	for _, name := range slices.Compact(names) {
		s, _ := named(h.queues, name)
		var q sequencer.QueueStatus
		if i := slices.IndexFunc(queues, func(q sequencer.QueueStatus) bool { return q.Queue == name }); i >= 0 {
			q = queues[i]
		}
		label := el("span", queueText(name))
		if q.Paused {
			label = el("span", queueText(name), text(" "), el("span", class("state is-paused"), text("paused")))
		}
		row := list{label, some(q.Ready), some(q.Running), text(""), text(""), text("")}
		if s.sum.N() > 0 {
			row = append(row[:3],
				el("span", class("sparked"), spark("what ended, over time", s.values(ended)), text(grouped(s.sum.Completed+s.sum.Failed+s.sum.Others))),
				el("span", class("sparked"), spark("run time, over time", s.values(runTime)), text(took(s.sum.MeanRan()))),
				el("span", class("sparked"), spark("wait time, over time", s.values(waitTime)), text(took(s.sum.MeanWaited()))))
		}
		rows = append(rows, row)
	}
	return table("Queues: what they hold, and what they did", "No queue holds anything, and nothing ran in this time.",
		[]string{"Queue", "#Ready", "#Running", "#Ended", "#Run time, mean", "#Wait, mean"}, rows)
}

// briefly lists executions in two lines each.
func (p *request) briefly(rows []storage.Execution, none string) node {
	if len(rows) == 0 {
		return el("p", class("empty"), text(none))
	}
	var items list
	for i := range rows {
		e := &rows[i]
		at := e.FinishedAt
		if at.IsZero() {
			at = e.CreatedAt
		}
		items = append(items, el("li",
			el("div", class("line"), el("a", p.to("/executions/"+e.ID.String()), text(e.Name)), stateOf(e), el("span", class("quiet"), p.ago(at))),
			el("div", class("quiet clip"), text(shortly(e.LastError)))))
	}
	return el("ul", class("lines"), items)
}

// deployLines lists runs in a line each.
func (p *request) deployLines(runs []storage.Flow) node {
	if len(runs) == 0 {
		return el("p", class("empty"), text("There was no deploy yet."))
	}
	var items list
	for i := range runs {
		f := &runs[i]
		items = append(items, el("li",
			el("div", class("line"), el("a", p.to("/deploys/"+f.ID.String()), text(runName(f))), plainState(f.State), el("span", class("quiet"), p.ago(f.CreatedAt))),
			el("div", class("quiet clip"), textf("%s, by %s on %s", plural(f.Total, "task"), f.Actor, f.Host))))
	}
	return el("ul", class("lines"), items)
}

// elapsedOf is how long a flow took, or has taken so far.
func (p *request) elapsedOf(created, finished time.Time) string {
	if finished.IsZero() {
		return took(p.now.Sub(created).Truncate(time.Second))
	}
	return took(finished.Sub(created))
}
