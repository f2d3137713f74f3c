package dashboard

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/wording"
	"github.com/gosequencer/sequencer/storage"
)

// flowsListed is how many flows are looked at for a list. Those inside others are left
// out of it.
const flowsListed = 200

// drawn is how many members a flow may have to be read whole and drawn; of a larger one
// the members are listed.
const drawn = 200

// flows lists batches and chains, newest first.
func flows(p *request) (page, error) {
	open := p.q.Get("open") != ""
	list0, err := p.by.Flows(p.ctx, storage.FlowFilter{
		Kinds: []storage.FlowKind{storage.FlowBatch, storage.FlowChain}, Open: open, Limit: flowsListed,
	})
	if err != nil {
		return page{}, err
	}
	all := slices.DeleteFunc(list0, func(f sequencer.FlowStatus) bool { return f.Parent != "" })
	rows := make([]list, len(all))
	for i := range all {
		f := &all[i]
		rows[i] = list{
			el("a", p.to("/flows/"+f.ID), attr{"title", f.ID}, text(cmp.Or(f.Name, string(f.Kind)+" "+shortID(f.ID)))), text(f.Kind),
			p.flowState(f), meter("members that ended", int64(f.Total-f.Pending-f.Running), int64(f.Total)),
			text(grouped(f.Total)), some(f.Failed + f.FailedAllowed + f.Interrupted), p.ago(f.CreatedAt), text(p.elapsedOf(f.CreatedAt, f.FinishedAt)),
		}
	}
	tab := func(value, word string) part {
		current := part(list(nil))
		if (value != "") == open {
			current = attr{"aria-current", "true"}
		}
		return el("a", p.to("/flows", "open", value), current, text(word))
	}
	return page{title: "Flows", nav: "Flows", body: list{
		el("p", class("tabs"), tab("", "all"), tab("yes", "not over")),
		live("flows", table("Batches and chains", "There is no batch or chain.",
			[]string{"Name", "Kind", "State", "Done", "#Members", "#Failed", "Dispatched", "#Took"}, rows)),
	}}, nil
}

func (p *request) flowState(f *sequencer.FlowStatus) node {
	if f.Generation > 1 {
		return list{plainState(f.State), el("span", class("quiet"), textf(" generation %d", f.Generation))}
	}
	return plainState(f.State)
}

// flow is one batch, chain or run, drawn.
func flow(p *request) (page, error) {
	f, err := p.by.Flow(p.ctx, p.r.PathValue("id"))
	if err != nil {
		return page{}, err
	}
	st, err := f.Status(p.ctx)
	if err != nil {
		return page{}, err
	}
	title, nav := cmp.Or(st.Name, capital(string(st.Kind))+" "+shortID(st.ID)), "Flows"
	if st.Kind == storage.FlowRun || st.Kind == storage.FlowRollback {
		nav = "Deploys"
	}
	head := list{
		el("p", class("below"), textf("%s ", st.Kind), el("code", text(st.ID))),
		live("standing", el("div", class("standing"), p.flowState(&st),
			meter("members that ended", int64(st.Total-st.Pending-st.Running), int64(st.Total)),
			el("span", class("quiet"), textf("%s of %s", grouped(st.Total-st.Pending-st.Running), plural(st.Total, "member"))),
			p.flowActions(&st)),
			reasonOf(st.Reason)),
		live("facts", card("Members", p.flowFacts(&st))),
	}
	if st.Total > drawn {
		members, err := p.largeFlow(&st)
		return page{title: title, nav: nav, body: append(head, members)}, err
	}
	t, err := f.Tree(p.ctx)
	if err != nil {
		return page{}, err
	}
	return page{title: title, nav: nav, body: append(head,
		live("graph", card("Graph", p.graph(t))),
		live("members", card("Members in order", p.memberTable(t))),
	)}, nil
}

func reasonOf(reason string) node {
	if reason == "" {
		return list(nil)
	}
	return el("p", class("quiet"), text(reason))
}

func (p *request) flowFacts(f *sequencer.FlowStatus) node {
	outer := node(text(""))
	if f.Parent != "" {
		outer = el("a", class("id"), p.to("/executions/"+f.Parent), text(shortID(f.Parent)))
	}
	return facts(
		"Pending", some(f.Pending), "Running", some(f.Running), "Completed", some(f.Completed), "Failed", some(f.Failed),
		"Failed, allowed to", some(f.FailedAllowed), "Skipped", some(f.Skipped), "Cancelled", some(f.Cancelled), "Interrupted", some(f.Interrupted),
		"Dispatched", moment(f.CreatedAt), "Ended", moment(f.FinishedAt), "Took", p.elapsedOf(f.CreatedAt, f.FinishedAt), "Stands in its flow as", outer,
	)
}

// largeFlow lists the members of a flow a page at a time.
func (p *request) largeFlow(st *sequencer.FlowStatus) (node, error) {
	id, err := storage.ParseID(st.ID)
	if err != nil {
		return nil, err
	}
	only := p.q.Get("state")
	f := storage.Filter{FlowID: id, Oldest: true, After: cursorOf(p.q.Get("after")), Limit: pageLength + 1}
	if slices.Contains(states, storage.State(only)) {
		f.States = []storage.State{storage.State(only)}
	}
	rows, err := p.by.Store().Executions(p.ctx, f)
	if err != nil {
		return nil, err
	}
	var pages list
	if len(rows) > pageLength {
		rows = rows[:pageLength]
		last := rows[len(rows)-1]
		pages = append(pages, el("a", attr{"rel", "next"}, p.to("/flows/"+st.ID, "state", only, "after", cursorText(last.CreatedAt, last.ID)), text("Further")))
	}
	tabs := list{el("a", p.to("/flows/"+st.ID), text("all"))}
	for _, s := range []storage.State{storage.Pending, storage.Running, storage.Completed, storage.Failed, storage.Cancelled} {
		current := part(list(nil))
		if string(s) == only {
			current = attr{"aria-current", "true"}
		}
		tabs = append(tabs, el("a", p.to("/flows/"+st.ID, "state", string(s)), current, text(s)))
	}
	return live("members", card("Members", el("p", class("quiet"), textf("It has more than %d members, so it is not drawn.", drawn)),
		el("p", class("tabs"), tabs), p.executionTable(rows, "No member is in this state."), el("p", class("pages"), pages))), nil
}

// memberTable lists members, what undoes them, and callbacks.
func (p *request) memberTable(t *sequencer.FlowTree) node {
	names := map[storage.ID]string{}
	var rows []list
	everyMember(t, func(m *sequencer.FlowMember) { names[m.ID] = memberName(m) })
	everyMember(t, func(m *sequencer.FlowMember) {
		to := p.to("/executions/" + m.ID.String())
		if m.Flow != nil {
			to = p.to("/flows/" + m.Flow.ID)
		}
		remark := wording.Remark(&m.Execution)
		if len(m.Awaits) > 0 {
			remark = "waits for " + names[m.Awaits[0]]
			if len(m.Awaits) > 1 {
				remark += fmt.Sprintf(" and %d more", len(m.Awaits)-1)
			}
		}
		rows = append(rows, list{el("a", to, text(memberName(m))), text(roleOf(m)), stateOf(&m.Execution), text(p.ran(&m.Execution)), some(m.Attempts()), el("span", class("clip quiet"), text(remark))})
	})
	for _, c := range t.Uncalled {
		rows = append(rows, list{text(c.Name), text(string(c.Role)), el("span", class("quiet"), text("not called")), text(""), text(""), text("")})
	}
	return table("Members", "It has no members.", []string{"Name", "Role", "State", "#Took", "#Attempts", "Remark"}, rows)
}

// everyMember calls fn with the members of a flow, what undoes them, and its callbacks.
func everyMember(t *sequencer.FlowTree, fn func(m *sequencer.FlowMember)) {
	for _, members := range [][]sequencer.FlowMember{t.Members, t.Rollbacks, t.Callbacks} {
		for i := range members {
			fn(&members[i])
		}
	}
}

func memberName(m *sequencer.FlowMember) string {
	if m.Flow != nil {
		return cmp.Or(m.Flow.Name, m.Member, string(m.Flow.Kind))
	}
	if m.Member != "" && m.Member != m.Name {
		return m.Member + " (" + m.Name + ")"
	}
	return cmp.Or(m.Name, m.Member, shortID(m.ID.String()))
}

func roleOf(m *sequencer.FlowMember) string {
	switch m.Kind { //nolint:exhaustive // the others are what people call them
	case storage.KindCallback:
		return m.Method
	case storage.Undo:
		return "rollback"
	case storage.Nested:
		if m.Flow != nil {
			return string(m.Flow.Kind)
		}
	}
	return wording.Kind(m.Kind)
}
