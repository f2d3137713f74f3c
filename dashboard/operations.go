package dashboard

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

// How many executions percentiles are taken of: of each operation in a list, and of one.
const (
	sampledEach = 100
	sampledOne  = 200
)

// operationsPage is how many operations a page lists.
const operationsPage = 15

// operations are all that this build has, or that ran lately.
func operations(p *request) (page, error) {
	h, err := p.history(p.ctx, p.chosen())
	if err != nil {
		return page{}, err
	}
	names := p.seq.Names()
	for i := range h.names {
		names = append(names, h.names[i].name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if only := strings.TrimSpace(p.q.Get("name")); only != "" {
		names = slices.DeleteFunc(names, func(name string) bool { return !strings.Contains(name, only) })
	}
	busy := func(name string) int64 {
		s, _ := named(h.names, name)
		return s.sum.N()
	}
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(busy(b), busy(a)) })
	from, _ := strconv.Atoi(p.q.Get("from"))
	from = min(max(from, 0), len(names))
	shown := names[from:min(from+operationsPage, len(names))]
	var rows []list
	for _, name := range shown {
		s, _ := named(h.names, name)
		quantiles, err := p.quantiles(name)
		if err != nil {
			return page{}, err
		}
		trend := node(text(""))
		if s.sum.N() > 0 {
			trend = spark("what ended, over time", s.values(ended))
		}
		rows = append(rows, list{
			p.nameLink(name), some(s.sum.Completed), some(s.sum.Failed), text(errorRate(&s.sum)), some(s.sum.Retried),
			text(took(quantiles[0])), text(took(quantiles[1])), text(took(quantiles[2])), text(took(s.sum.MeanWaited())), trend,
		})
	}
	var pages list
	if from > 0 {
		pages = append(pages, el("a", p.to("/operations", "span", p.q.Get("span"), "name", p.q.Get("name"), "from", strconv.Itoa(max(from-operationsPage, 0))), text("Before")))
	}
	if from+operationsPage < len(names) {
		pages = append(pages, el("a", p.to("/operations", "span", p.q.Get("span"), "name", p.q.Get("name"), "from", strconv.Itoa(from+operationsPage)), text("More")))
	}
	return page{title: "Operations", nav: "Operations", body: list{
		el("form", class("filter"), attr{"method", "get"}, attr{"action", p.url("/operations")}, attr{"role", "search"},
			el("label", el("span", text("Name")), el("input", attr{"name", "name"}, attr{"value", p.q.Get("name")}, attr{"autocomplete", "off"})),
			el("button", text("Filter"))),
		p.spans("/operations"),
		el("p", class("quiet"), textf("Counts are of the last %s. Run times are of those that completed among the newest %d that are over. Tasks of deploys are in Deploys.", h.name, sampledEach)),
		live("operations", table("Operations: what they did, and how long it took", "No operation is registered here, and none ran in this time.",
			[]string{"Name", "#Completed", "#Failed", "#Errors", "#Retried", "#p50", "#p95", "#p99", "#Wait, mean", "Trend"}, rows),
			el("p", class("pages"), pages)),
	}}, nil
}

// errorRate is the part of what ended or was tried again that failed.
func errorRate(b *storage.Tally) string {
	bad := b.Failed + b.Retried
	if bad == 0 || b.N() == 0 {
		return ""
	}
	return string(textf("%.1f %%", float64(bad)*100/float64(b.N())))
}

// quantilesAge is how old percentiles in a list may be: they cost more rows than all
// else on a page, and move slowly.
const quantilesAge = time.Minute

// quantiles are the median, the 95th and the 99th percentile of how long the newest
// executions of a name ran. Names are those of this build and of the statistics.
func (p *request) quantiles(name string) ([3]time.Duration, error) {
	known, _ := p.runTimes.LoadOrStore(name, &shared[[3]time.Duration]{})
	return known.(*shared[[3]time.Duration]).get(p.ctx, quantilesAge, func(ctx context.Context) (q [3]time.Duration, _ error) {
		rows, err := p.seq.Store().Executions(ctx, storage.Filter{Name: name, States: ends, Limit: sampledEach})
		q, _ = quantilesOf(rows)
		return q, err
	})
}

// ends are the states of what is over. Asking for completed ones alone would walk over
// all that there ever was of an operation that always fails.
var ends = slices.DeleteFunc(slices.Clone(storage.States), func(s storage.State) bool { return !s.Over() })

// quantilesOf are those of the rows that completed, and of how many that is.
func quantilesOf(rows []storage.Execution) (q [3]time.Duration, of int) {
	var runs []time.Duration
	for i := range rows {
		if e := &rows[i]; e.State == storage.Completed && !e.StartedAt.IsZero() && !e.FinishedAt.IsZero() {
			runs = append(runs, e.FinishedAt.Sub(e.StartedAt))
		}
	}
	if len(runs) == 0 {
		return q, 0
	}
	slices.Sort(runs)
	for i, part := range []float64{.5, .95, .99} {
		q[i] = runs[min(int(part*float64(len(runs))), len(runs)-1)]
	}
	return q, len(runs)
}

// operation is what there is of one name.
func operation(p *request) (page, error) {
	name := p.r.PathValue("name")
	h, err := p.history(p.ctx, p.chosen())
	if err != nil {
		return page{}, err
	}
	now, err := p.pulse(p.ctx)
	if err != nil {
		return page{}, err
	}
	rows, err := p.by.Store().Executions(p.ctx, storage.Filter{Name: name, Limit: sampledOne})
	if err != nil {
		return page{}, err
	}
	s, known := named(h.names, name)
	if !known {
		s = series{name: name, buckets: make([]storage.Tally, len(h.all.buckets))}
		if len(rows) == 0 && !slices.Contains(p.seq.Names(), name) {
			return page{}, storage.ErrNotFound
		}
	}
	q, done := quantilesOf(rows)
	paused := pauseOf(now.pauses, storage.PauseOperation, name)
	var builds list
	for i := range now.workers {
		if w := &now.workers[i]; w.Serves() && slices.Contains(w.Names, name) {
			builds = append(builds, el("li", textf("%s, process %d: build %s", w.Hostname, w.PID, buildWord(w.Build, w.Version))))
		}
	}
	known = slices.Contains(p.seq.Names(), name)
	registered := map[bool]string{true: "yes", false: "no"}[known]
	return page{title: name, nav: "Operations", body: list{
		live("standing", el("div", class("standing"), pausedBadge(paused), p.pauseForms(storage.PauseOperation, name, paused != nil),
			el("a", class("plain"), p.to("/executions", "name", name), text("Its executions")))),
		live("throughput", card("Throughput", p.spans("/operations/"+name),
			el("p", class("legend"),
				el("span", class("key good"), textf("%s completed", grouped(s.sum.Completed))),
				el("span", class("key bad"), textf("%s failed", grouped(s.sum.Failed))),
				el("span", class("quiet"), textf("%s retried", grouped(s.sum.Retried)))),
			bars(h, &s))),
		live("facts", card("Run time", facts(
			"Median", took(q[0]), "95th percentile", took(q[1]), "99th percentile", took(q[2]),
			"Mean", took(s.sum.MeanRan()), "Wait, mean", took(s.sum.MeanWaited()), "Errors", errorRate(&s.sum),
			"Registered here", registered),
			el("p", class("quiet"), textf("Percentiles are of the %s that completed among the newest %d.", plural(done, "execution"), len(rows))))),
		live("workers", card("Versions", listOr(builds, "No worker that lives now knows it by name."))),
		live("latest", card("Latest executions", p.executionTable(rows[:min(len(rows), 20)], "It never ran."))),
	}}, nil
}

func listOr(items list, none string) node {
	if len(items) == 0 {
		return el("p", class("empty"), text(none))
	}
	return el("ul", items)
}

func buildWord(build int64, version string) string {
	switch {
	case version != "" && build > 0:
		return version + " (" + strconv.FormatInt(build, 10) + ")"
	case build > 0:
		return strconv.FormatInt(build, 10)
	}
	return cmp.Or(version, "unknown")
}

// pauseOf finds a pause.
func pauseOf(pauses []storage.Pause, kind storage.PauseKind, name string) *storage.Pause {
	for i := range pauses {
		if pauses[i].Kind == kind && pauses[i].Name == name {
			return &pauses[i]
		}
	}
	return nil
}

func pausedBadge(pause *storage.Pause) node {
	if pause == nil {
		return list(nil)
	}
	why := ""
	if pause.Reason != "" {
		why = ": " + pause.Reason
	}
	return list{
		el("span", class("state is-paused"), text("paused")), text(" "),
		el("span", class("quiet free"), textf("by %s since %s%s", pause.Actor, stamp(pause.At), why)),
	}
}
