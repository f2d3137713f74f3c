package dashboard

import (
	"slices"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// worked are the kinds of executions that ran, or will: what failed of them is a failure,
// and what a person rejected is none beside the execution that fails of it.
var worked = []storage.Kind{storage.Ordered, storage.Unlisted, storage.Migration, storage.Undo, storage.Hook, storage.Nested, storage.KindCallback}

// approvals are what waits for a person, the oldest first.
func approvals(p *request) (page, error) {
	all, err := p.by.Approvals(p.ctx)
	if err != nil {
		return page{}, err
	}
	return page{title: "Approvals", nav: "Approvals", body: list{
		live("approvals", p.approvalTable("Nothing waits for anybody's approval.", all)),
		el("p", class("quiet"), text("An answer is for good. What is approved runs, what is rejected fails; both stand in "),
			el("a", p.to("/audit"), text("Audit")), text(" with who and why.")),
	}}, nil
}

// approvalTable lists questions with the forms that answer them.
func (p *request) approvalTable(none string, all []sequencer.Approval) node {
	const most = 200
	rows := make([]list, 0, min(len(all), most))
	for i := range all[:min(len(all), most)] {
		a := &all[i]
		waits := node(el("span", class("quiet"), text("nothing at the moment")))
		if a.Execution != "" {
			waits = p.linkOf(a.Execution)
		}
		rows = append(rows, list{p.nameLink(a.Name), text(a.By), waits, el("span", class("whole"), text(a.AskedBy)), p.ago(a.Since), p.linkOf(a.ID), el("div", class("actions"), p.answerForms(a))})
	}
	body := list{table("What waits for approval", none, []string{"Operation", "By whom", "Waits", "Asked by", "Since", "Id", "Do"}, rows)}
	if n := len(all) - most; n > 0 {
		body = append(body, el("p", class("quiet"), textf("and %s more, which came later", grouped(n))))
	}
	return body
}

// linkOf leads to the execution of an id in text.
func (p *request) linkOf(id string) node {
	parsed, err := storage.ParseID(id)
	if err != nil {
		return text(id)
	}
	return p.idLink(parsed)
}

// answerForms are the two answers to a question that is open; nothing otherwise.
func (p *request) answerForms(a *sequencer.Approval) node {
	if a == nil || a.State != storage.Pending {
		return list(nil)
	}
	return list{p.form(Approve, "Approve", a.ID), p.form(Reject, "Reject", a.ID)}
}

// approvalIn is the question that a look at an execution found: what it waits for, or
// itself.
func approvalIn(why *sequencer.Answer) *sequencer.Approval {
	for i := range why.Reasons {
		if a := why.Reasons[i].Approval; a != nil {
			return a
		}
	}
	return nil
}

// approval is the page of a question: who is asked what, and the answer.
func (p *request) approval(why *sequencer.Answer) page {
	e, a := &why.Execution, approvalIn(why)
	answer := node(el("p", class("quiet"), text("Nobody has answered yet.")))
	switch {
	case e.State == storage.Cancelled:
		answer = p.reasons(why) // who withdrew it
	case e.State.Over():
		answer = el("p", text(capital(e.Reason)))
	}
	var asked node
	if a != nil {
		waits := node(text("")) // one of the runs of an operation; any other question has its own execution
		if e.Undoes.IsZero() {
			waits = p.linkOf(a.Execution)
		}
		asked = facts("Operation", p.nameLink(a.Name), "By whom", a.By, "Asked by", a.AskedBy, "Since", moment(a.Since), "Of execution", p.idLink(e.Undoes),
			"Waits", waits, "Answered", moment(a.Answered))
	}
	return page{title: e.Name, nav: "Approvals", body: list{
		el("p", class("below"), text("approval "), el("code", text(e.ID.String()))),
		live("standing", el("div", class("standing"), answerState(e), el("div", class("actions"), p.answerForms(a)))),
		live("answer", card("Answer", answer)),
		live("facts", card("Question", asked)),
	}}
}

// answerState is how a question stands, in the words for it.
func answerState(e *storage.Execution) node {
	words := map[storage.State]string{
		storage.Pending: "waits for an answer", storage.Completed: "approved", storage.Failed: "rejected", storage.Cancelled: "withdrawn",
	}
	return state(e.State, words[e.State])
}

// runApprovals are the questions that the tasks of a run wait for, or stopped at: a run that is
// over leaves those of its operations open for the next one.
func (p *request) runApprovals(t *sequencer.FlowTree) (node, error) {
	waiting, stopped := map[string]bool{}, map[string]bool{}
	var add func(t *sequencer.FlowTree)
	add = func(t *sequencer.FlowTree) {
		everyMember(t, func(m *sequencer.FlowMember) {
			switch {
			case m.Flow != nil:
				add(m.Flow)
			case !m.State.Over():
				waiting[m.ID.String()] = true
			case m.State == storage.Cancelled && m.Kind == storage.Ordered:
				stopped[m.Name] = true
			}
		})
	}
	if add(t); len(waiting)+len(stopped) == 0 {
		return live("approvals"), nil
	}
	all, err := p.by.Approvals(p.ctx)
	mine := slices.DeleteFunc(all, func(a sequencer.Approval) bool {
		return !waiting[a.Execution] && (a.Execution != "" || !stopped[a.Name])
	})
	if err != nil || len(mine) == 0 {
		return live("approvals"), err
	}
	return live("approvals", card("Waits for approval", p.approvalTable("", mine))), nil
}

// approvalsWaiting is how many wait, for the navigation; nothing if none does.
func (p *request) approvalsWaiting() node {
	now, err := p.pulse(p.ctx)
	if err != nil || now.waits == 0 { // the page itself says what is wrong
		return el("span", attr{"id", "approvals-waiting"}, attr{"data-fragment", ""})
	}
	return el("span", attr{"id", "approvals-waiting"}, attr{"data-fragment", ""}, class("count"),
		text(grouped(now.waits)), el("span", class("unseen"), text(" waiting")))
}
