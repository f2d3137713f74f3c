package dashboard

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/wording"
	"github.com/gosequencer/sequencer/storage"
)

// pageLength is how many executions a page lists.
const pageLength = 50

// ages are how far back a list may be asked to look.
var ages = []struct {
	name string
	long time.Duration
}{{"15m", 15 * time.Minute}, {"1h", time.Hour}, {"24h", 24 * time.Hour}, {"7d", 7 * 24 * time.Hour}}

// states are those that a list may be asked for, in the order of a life.
var states = []storage.State{
	storage.Pending, storage.Running, storage.Completed, storage.Failed, storage.Skipped, storage.Cancelled, storage.Interrupted, storage.RolledBack,
}

// wanted is what a list of executions was asked for, as it stands in addresses.
type wanted struct {
	state, name, queue, tag, group, age string
	since                               time.Time
	unread                              error // what could not be read and was left out
}

// wanted reads it. What nobody can have meant is left out of a list, which then shows
// that it is; an action on all that match is refused for it (see readable).
func (p *request) wanted() wanted {
	get := func(name string) string { return strings.TrimSpace(p.r.FormValue(name)) }
	w := wanted{state: get("state"), name: get("name"), queue: get("queue"), tag: get("tag"), group: get("group"), age: get("age")}
	if !slices.Contains(states, storage.State(w.state)) {
		if w.state != "" {
			w.unread = &filterError{fmt.Sprintf("there is no state %q", w.state)}
		}
		w.state = ""
	}
	w.since = p.sinceOf(w.age)
	if w.since.IsZero() {
		if w.age != "" {
			w.unread = &filterError{fmt.Sprintf("%q is no age such as 24h, and no instant", w.age)}
		}
		w.age = ""
	}
	return w
}

// sinceOf is the instant that an age of the list leads back to; an instant stays what it
// is, so that what was counted on one page is what the next one acts on.
func (p *request) sinceOf(age string) time.Time {
	for _, a := range ages {
		if a.name == age {
			return p.now.Add(-a.long)
		}
	}
	at, _ := time.Parse(time.RFC3339Nano, age)
	return at
}

// filterError is a filter that says nothing, or not what somebody may think it does; an
// action on all that match it is refused.
type filterError struct{ what string }

func (e *filterError) Error() string { return e.what }

// query is w as pairs for an address, with others after it.
func (w wanted) query(others ...string) []string {
	return append([]string{"state", w.state, "name", w.name, "queue", w.queue, "tag", w.tag, "group", w.group, "age", w.age}, others...)
}

// tagged refuses a tag that a selection would read as the tag that is not to be there,
// and a list as one to be.
func (w wanted) tagged() error {
	if strings.HasPrefix(w.tag, "-") {
		return &filterError{fmt.Sprintf("the tag %q: one that is not to be there cannot be asked for here", w.tag)}
	}
	return nil
}

func (w wanted) filter() storage.Filter {
	f := storage.Filter{Name: w.name, Queue: w.queue, Tag: w.tag, Group: w.group, Since: w.since, Limit: pageLength + 1}
	if w.state != "" {
		f.States = []storage.State{storage.State(w.state)}
	}
	return f
}

// selection is w for what concerns all that match it.
func (w wanted) selection() sequencer.Selection {
	sel := sequencer.Selection{Name: w.name, Queue: w.queue, Group: w.group, Since: w.since}
	if w.tag != "" {
		sel.Tags = []string{w.tag}
	}
	if w.state != "" {
		sel.States = []storage.State{storage.State(w.state)}
	}
	return sel
}

// everything reports that nothing but a state narrows w down.
func (w wanted) everything() bool {
	return w.name+w.queue+w.group+w.tag == "" && w.since.IsZero()
}

// readable refuses what an action would concern more or other executions for than
// somebody may think.
func (w wanted) readable() error {
	if w.unread != nil {
		return w.unread
	}
	return w.tagged()
}

// executions lists what a filter selects, newest first.
func executions(p *request) (page, error) {
	got := page{title: "Executions", nav: "Executions"}
	search := strings.TrimSpace(p.q.Get("id"))
	w := p.wanted()
	f := w.filter()
	if len(search) >= 8 && strings.Trim(strings.ToLower(search), "0123456789abcdef-") == "" {
		f.IDPrefix = strings.ToLower(search)
	} else if search != "" {
		got.body = list{p.filterForm(w, search), hint("An execution is found by at least 8 characters of its id.", "Names, queues and tags have fields of their own.")}
		return got, nil
	}
	if err := w.tagged(); err != nil {
		got.body = list{p.filterForm(w, search), hint("A list has those with a tag.", capital(err.Error()))}
		return got, nil
	}
	f.After = cursorOf(p.q.Get("after"))
	read, err := p.lists.get(p, func(ctx context.Context) (found, error) { return p.lookBack(ctx, f) })
	if err != nil {
		return got, err
	}
	rows, further := read.rows, read.further
	var pages list
	if f.After != nil {
		pages = append(pages, el("a", p.to("/executions", w.query()...), text("Newest")))
	}
	if len(rows) > pageLength {
		rows = rows[:pageLength]
		last := rows[len(rows)-1]
		pages = append(pages, el("a", attr{"rel", "next"}, p.to("/executions", w.query("after", cursorText(last.CreatedAt, last.ID))...), text("Older")))
	}
	none := "No execution matches."
	if further != nil {
		none = "No execution matches so far."
		pages = append(pages, el("span", class("quiet"), textf("Looked back to %s.", stamp(further.At))),
			el("a", attr{"rel", "next"}, p.to("/executions", w.query("after", cursorText(further.At, further.ID))...), text("Look further back")))
	}
	links := p.bulkLinks(w)
	if search != "" {
		links = list(nil) // a selection has no id: it would be of more than the list has
	}
	got.body = list{
		p.stateTabs(w),
		p.filterForm(w, search),
		links,
		live("executions", p.executionTable(rows, none), el("p", class("pages"), pages)),
	}
	return got, nil
}

// cursorText is a place in a list, for an address.
func cursorText(at time.Time, id storage.ID) string {
	return fmt.Sprintf("%d.%s", at.UnixMicro(), id)
}

// cursorOf reads it, nil where it is none.
func cursorOf(s string) *storage.Cursor {
	micro, id, _ := strings.Cut(s, ".")
	n, err := strconv.ParseInt(micro, 10, 64)
	if err != nil {
		return nil
	}
	at := &storage.Cursor{At: time.UnixMicro(n).UTC()}
	if id == "" {
		return at
	}
	if at.ID, err = storage.ParseID(id); err != nil {
		return nil
	}
	return at
}

func (p *request) stateTabs(w wanted) node {
	tab := func(s storage.State, word string) part {
		other := w
		other.state = string(s)
		current := list(nil)
		if w.state == other.state {
			current = list{attr{"aria-current", "true"}}
		}
		return el("a", p.to("/executions", other.query()...), current, text(word))
	}
	tabs := list{tab("", "all")}
	for _, s := range states {
		tabs = append(tabs, tab(s, strings.ReplaceAll(string(s), "_", " ")))
	}
	return el("p", class("tabs"), attr{"aria-label", "State"}, tabs)
}

func (p *request) filterForm(w wanted, search string) node {
	field := func(name, label, value, example string, more ...part) part {
		return el("label", el("span", text(label)),
			el("input", attr{"name", name}, attr{"value", value}, attr{"placeholder", example}, attr{"autocomplete", "off"}, attr{"spellcheck", "false"}, list(more)))
	}
	var names list
	for _, name := range p.seq.Names() {
		names = append(names, el("option", attr{"value", name}))
	}
	options := list{el("option", attr{"value", ""}, text("any time"))}
	known := w.age == ""
	for _, a := range ages {
		known = known || a.name == w.age
		options = append(options, el("option", attr{"value", a.name}, flag("selected", a.name == w.age), text("last "+a.name)))
	}
	if !known {
		options = append(options, el("option", attr{"value", w.age}, flag("selected", true), text("since "+stamp(w.since))))
	}
	group := list(nil)
	if w.group != "" {
		group = list{field("group", "Cause", w.group, "")}
	}
	return el("form", class("filter"), attr{"method", "get"}, attr{"action", p.url("/executions")}, attr{"role", "search"},
		el("input", attr{"type", "hidden"}, attr{"name", "state"}, attr{"value", w.state}),
		field("name", "Name", w.name, "import*", attr{"list", "names"}),
		el("datalist", attr{"id", "names"}, names),
		field("queue", "Queue", w.queue, "default"),
		field("tag", "Tag", w.tag, "billing"),
		group,
		el("label", el("span", text("Dispatched")), el("select", attr{"name", "age"}, options)),
		field("id", "Id", search, "019a2b3c…"),
		el("button", text("Filter")),
		el("a", class("reset"), p.to("/executions"), text("Reset")))
}

// executionTable lists executions in a table.
func (p *request) executionTable(rows []storage.Execution, none string) node {
	lines := make([]list, len(rows))
	for i := range rows {
		e := &rows[i]
		remark := part(el("span", class("clip quiet"), text(wording.Remark(e))))
		if e.Done > 0 && e.Total > 0 && !e.State.Over() {
			remark = meter("progress of "+e.Name, e.Done, e.Total)
		}
		lines[i] = list{
			el("a", p.to("/executions/"+e.ID.String()), attr{"title", e.ID.String()}, text(cmp.Or(e.Name, shortID(e.ID.String())))),
			stateOf(e), queueText(e.Queue), p.ago(e.CreatedAt), text(p.ran(e)), some(e.Attempts()), remark,
		}
	}
	return table("Executions", none, []string{"Name", "State", "Queue", "Dispatched", "#Took", "#Attempts", "Remark"}, lines)
}

// shortly is a text in a line of bounded length.
func shortly(s string) string {
	const most = 300
	line := []rune(wording.FirstLine(s))
	if len(line) > most {
		return string(line[:most]) + "…"
	}
	return string(line)
}
