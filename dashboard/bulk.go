package dashboard

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gosequencer/sequencer/storage"
)

// counted is how many executions a preview counts.
const counted = 1000

// bulkAction is an action on all that match.
type bulkAction struct {
	action Action
	word   string
	states []storage.State
}

// concerns reports an action that is about what is in a state, or about any with "".
func (b *bulkAction) concerns(state string) bool {
	return state == "" || slices.Contains(b.states, storage.State(state))
}

// stateWord are the states, of those an action is about, that w asks for.
func (w wanted) stateWord(all []storage.State) string {
	if w.state != "" {
		return w.state
	}
	words := make([]string, len(all))
	for i, s := range all {
		words[i] = string(s)
	}
	return strings.Join(words, " or ")
}

// unreadable is a page in the place of one that a filter was to narrow down.
func unreadable(err error) page {
	return page{title: "Not understood", nav: "Executions", status: http.StatusBadRequest, body: list{hint("This filter cannot be read.", capital(err.Error()))}}
}

// bulks are the actions on all that match, by the states they are about.
var bulks = []bulkAction{
	{RetryAll, "Retry all", []storage.State{storage.Failed}},
	{ForgetAll, "Forget all", []storage.State{storage.Failed}},
	{CancelAll, "Cancel all", []storage.State{storage.Pending, storage.Running}},
}

// bulkLinks lead to what can be done with all that a list shows.
func (p *request) bulkLinks(w wanted) node {
	var links list
	for _, b := range bulks {
		if w.state != "" && b.concerns(w.state) && p.may(p.who, b.action) {
			links = append(links, el("a", class("plain"), p.to("/bulk", w.query("do", string(b.action))...), text(b.word+" that match…")))
		}
	}
	if len(links) == 0 {
		return list(nil)
	}
	return el("p", class("actions"), links)
}

// bulk shows what an action on all that match would concern, and asks whether it is
// meant.
func bulk(p *request) (page, error) {
	w := p.wanted()
	// An age would lead back to another instant by the time the form is sent.
	if !w.since.IsZero() {
		w.age = w.since.UTC().Format("2006-01-02T15:04:05.999999999Z")
	}
	if err := w.readable(); err != nil {
		return unreadable(err), nil
	}
	for _, b := range bulks {
		if string(b.action) != p.q.Get("do") || !p.may(p.who, b.action) || !b.concerns(w.state) {
			continue
		}
		sel := w.selection()
		sel.Limit = counted + 1
		read := p.by.Failed
		if b.action == CancelAll {
			read = p.by.Unfinished
		}
		rows, err := read(p.ctx, sel)
		if err != nil {
			return page{}, err
		}
		body := list{
			el("p", el("strong", text(capped(len(rows), counted))), textf(" executions that are %s match.", w.stateWord(b.states)),
				text(" What matches when the button is pressed is what it concerns.")),
			card("They match", facts("State", w.stateWord(b.states), "Name", w.name, "Queue", w.queue, "Tag", w.tag, "Cause", w.group, "Since", moment(w.since), "Narrowed by", map[bool]string{true: "nothing: all of them", false: ""}[w.everything()])),
		}
		if len(rows) > 0 {
			body = append(body, el("form", class("confirm"), attr{"method", "post"}, attr{"action", p.url("/act")},
				hidden("action", string(b.action)), hidden("back", p.url("/executions", w.query()...)),
				hidden("name", w.name), hidden("queue", w.queue), hidden("tag", w.tag), hidden("group", w.group), hidden("age", w.age), hidden("state", w.state), hidden("all", map[bool]string{true: "yes", false: ""}[w.everything()]),
				el("label", el("span", text("Reason")), el("input", attr{"name", "reason"}, attr{"maxlength", "500"}, attr{"autocomplete", "off"}, attr{"placeholder", "for the audit log"})),
				el("button", class(dangerous(b.action)), textf("%s %s", b.word, capped(len(rows), counted))),
				el("a", class("plain"), p.to("/executions", w.query()...), text("Leave them as they are"))))
		}
		body = append(body, card("The newest of them", p.executionTable(rows[:min(len(rows), 10)], "Nothing matches.")))
		return page{title: b.word, nav: "Executions", body: body}, nil
	}
	return lost(p)
}
