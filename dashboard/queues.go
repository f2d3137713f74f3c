package dashboard

import (
	"strings"

	"github.com/gosequencer/sequencer/internal/wording"
	"github.com/gosequencer/sequencer/storage"
)

// queues are how deep each is, and whether somebody works on it.
func queues(p *request) (page, error) {
	now, err := p.pulse(p.ctx)
	if err != nil {
		return page{}, err
	}
	h, err := p.history(p.ctx, 0)
	if err != nil {
		return page{}, err
	}
	rows := make([]list, len(now.queues))
	for i := range now.queues {
		q := &now.queues[i]
		s, _ := named(h.queues, q.Queue)
		workers := node(some(q.Workers))
		if q.Workers == 0 {
			workers = el("span", class("state is-warn"), text("nobody"))
		}
		rows[i] = list{
			el("a", p.to("/executions", "queue", q.Queue, "state", "pending"), text(q.Queue)),
			some(q.Ready), some(q.Scheduled), some(q.Blocked), some(q.Parked), some(q.Running), text(wording.Roughly(q.Age)), text(took(s.sum.MeanWaited())), workers,
			list{pausedBadge(q.Pause), p.pauseForms(storage.PauseQueue, q.Queue, q.Paused)},
		}
	}
	var others []list
	for i := range now.pauses {
		if pause := &now.pauses[i]; pause.Kind != storage.PauseQueue {
			others = append(others, list{text(pause.Kind), text(pause.Name), moment(pause.At), text(pause.Actor), text(pause.Reason), p.pauseForms(pause.Kind, pause.Name, true)})
		}
	}
	body := list{live("queues", table("Queues", "No queue holds anything, and no worker serves one.",
		[]string{"Queue", "#Ready", "#Later", "#Waiting", "#Parked", "#Running", "#Oldest", "#Wait, mean 1h", "#Workers", "Pause"}, rows))}
	if len(others) > 0 {
		body = append(body, live("paused", card("Also paused", table("What else is paused", "", []string{"What", "Name", "Since", "By", "Reason", "Pause"}, others))))
	}
	return page{title: "Queues", nav: "Queues", body: body}, nil
}

// schedules are what is dispatched at set times.
func schedules(p *request) (page, error) {
	all, err := p.by.Schedules(p.ctx)
	if err != nil {
		return page{}, err
	}
	rows := make([]list, len(all))
	for i := range all {
		x := &all[i]
		last := list{text("")}
		if !x.LastID.IsZero() { // before the first execution the last tick is when it was announced
			last = list{el("a", p.to("/executions/"+x.LastID.String()), p.ago(x.LastTick))}
			if x.LastState != "" {
				last = append(last, text(" "), plainState(x.LastState))
			}
		}
		rows[i] = list{
			text(x.Name), el("span", el("code", text(x.Spec)), el("span", class("quiet"), text(" "+x.Zone))), p.nameLink(x.Operation), text(x.Queue),
			el("span", class("state is-"+string(x.Standing)), text(string(x.Standing))), p.ago(x.Next), last,
			p.scheduleActions(x),
		}
	}
	return page{title: "Schedules", nav: "Schedules", body: list{
		live("schedules", table("Schedules", "There is no schedule.",
			[]string{"Schedule", "When", "Operation", "Queue", "Standing", "Next", "Last", "Do"}, rows)),
	}}, nil
}

// workers are the processes on this ledger.
func workers(p *request) (page, error) {
	now, err := p.pulse(p.ctx)
	if err != nil {
		return page{}, err
	}
	rows := make([]list, len(now.workers))
	for i := range now.workers {
		w := &now.workers[i]
		standing := el("span", class("state is-running"), text("alive"))
		if w.Gone {
			standing = el("span", class("state is-failed"), text("gone"))
		}
		lease := node(text("seen directly"))
		if !w.LeaseUntil.IsZero() {
			lease = p.ago(w.LeaseUntil)
		}
		names := node(text(""))
		if len(w.Names) > 0 {
			names = el("details", el("summary", text(plural(len(w.Names), "operation"))), el("p", class("names"), text(strings.Join(w.Names, ", "))))
		}
		queues := make([]string, len(w.Queues))
		for i, q := range w.Queues {
			queues[i] = string(queueText(q))
		}
		rows[i] = list{
			el("span", attr{"title", w.ID.String()}, textf("%s · %d", w.Hostname, w.PID)), text(w.Purpose), standing, text(strings.Join(queues, ", ")), some(w.Slots),
			text(buildWord(w.Build, w.Version)), names, p.ago(w.JoinedAt), lease, text(w.Actor),
		}
	}
	return page{title: "Workers", nav: "Workers", body: list{
		live("workers", table("Processes on this ledger", "Nobody works on this ledger.",
			[]string{"Process", "Does", "Standing", "Queues", "#Slots", "Build", "Knows", "Joined", "Lease ends", "Actor"}, rows)),
	}}, nil
}
