package dashboard

import (
	"fmt"
	"maps"
	"slices"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// limits are who holds which lock, and how much of the configured limits is used.
func limits(p *request) (page, error) {
	locks, err := p.by.Store().Locks(p.ctx)
	if err != nil {
		return page{}, err
	}
	rows := make([]list, len(locks))
	for i := range locks {
		l := &locks[i]
		holder := fmt.Sprintf("%s on %s, process %d", l.Worker.Purpose, l.Worker.Hostname, l.Worker.PID)
		if l.Worker.ID.IsZero() {
			holder = "its execution"
		}
		rows[i] = list{text(l.Name), text(holder), p.idLink(l.Execution), p.flowLink(l.Flow), p.ago(l.AcquiredAt), p.ago(l.FreeAt), p.lockActions(l)}
	}
	used, err := p.limitRows()
	if err != nil {
		return page{}, err
	}
	return page{title: "Limits and locks", nav: "Limits", body: list{
		live("locks", card("Locks", table("Locks", "Nobody holds a lock.", []string{"Lock", "Holder", "Execution", "Flow", "Held", "Free at the latest", "Do"}, rows))),
		live("limits", card("Limits", table("Limits of this build", "This build configures no limit.", []string{"Limit", "Allows", "#Used", "Share"}, used),
			el("p", class("quiet"), text("Of a limit with keys, what everybody uses together is shown; executions that wait for a limit say so on their own pages.")))),
	}}, nil
}

// limitRows looks at the counters of plain limits.
func (p *request) limitRows() ([]list, error) {
	all := p.seq.Config().Limiters
	var rows []list
	for _, name := range slices.Sorted(maps.Keys(all)) {
		l, plain := all[name].(sequencer.Limit)
		if !plain {
			rows = append(rows, list{text(name), text("decided for each attempt"), text(""), text("")})
			continue
		}
		taken, err := p.by.Store().Take(p.ctx, storage.TakeRequest{Action: storage.TakeLook, Limits: []storage.Limit{{Name: name, N: l.N, Window: l.Per}}})
		if err != nil {
			return nil, err
		}
		used := 0
		if len(taken.Used) > 0 {
			used = taken.Used[0]
		}
		rows = append(rows, list{text(name), textf("%s in %s", grouped(l.N), took(l.Per)), text(grouped(used)), meter("used of "+name, int64(used), int64(l.N))})
	}
	return rows, nil
}

// audited is how many entries of the audit log a page lists.
const audited = 200

// audit is who did what, and why.
func audit(p *request) (page, error) {
	target := p.q.Get("target")
	entries, err := p.by.Store().Audit(p.ctx, storage.AuditFilter{Target: target, Limit: audited})
	if err != nil {
		return page{}, err
	}
	rows := make([]list, len(entries))
	for i := range entries {
		a := &entries[i]
		about := node(el("span", class("clip"), text(a.Target)))
		if id, err := storage.ParseID(a.Target); err == nil {
			about = p.idLink(id)
			if a.Action == storage.AuditStopFlow || a.Action == string(storage.ActResumeFlow) {
				about = p.flowLink(id)
			}
		}
		rows[i] = list{moment(a.At), el("span", class("whole"), text(a.Actor)), text(a.Action), about, text(grouped(a.Count)), el("span", class("free"), text(a.Reason))}
	}
	return page{title: "Audit", nav: "Audit", body: list{
		el("form", class("filter"), attr{"method", "get"}, attr{"action", p.url("/audit")}, attr{"role", "search"},
			el("label", el("span", text("About")), el("input", attr{"name", "target"}, attr{"value", target}, attr{"placeholder", "an id, a queue, a filter"}, attr{"autocomplete", "off"})),
			el("button", text("Filter"))),
		live("audit", table("What people did, newest first", "Nobody has done anything yet.", []string{"When", "Who", "Did", "To", "#Executions", "Why"}, rows)),
	}}, nil
}
