package dashboard

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/wording"
	"github.com/gosequencer/sequencer/storage"
)

// execution is all there is of one.
func execution(p *request) (page, error) {
	id, err := storage.ParseID(p.r.PathValue("id"))
	if err != nil {
		return page{}, fmt.Errorf("%w: %w", storage.ErrNotFound, err)
	}
	why, err := p.by.Why(p.ctx, id.String())
	if err != nil {
		return page{}, err
	}
	e := &why.Execution
	if e.Kind == storage.KindApproval {
		return p.approval(why), nil
	}
	attempts, err := p.by.Store().Attempts(p.ctx, e.ID)
	if err != nil {
		return page{}, err
	}
	audit, err := p.by.Store().Audit(p.ctx, storage.AuditFilter{Target: e.ID.String(), Limit: 20})
	if err != nil {
		return page{}, err
	}
	asked := approvalIn(why)
	workers, err := p.workersOf(e, attempts)
	if err != nil {
		return page{}, err
	}
	return page{title: e.Name, nav: "Executions", body: list{
		el("p", class("below"), el("code", text(e.ID.String()))),
		live("standing", el("div", class("standing"), stateOf(e), p.progress(e), p.executionActions(e, asked))),
		live("why", card(whyTitle(e), p.reasons(why))),
		live("facts", card("Facts", p.executionFacts(e, asked))),
		p.inputCard(e),
		live("attempts", p.attemptCard(e, attempts, workers)),
		live("timeline", card("Timeline", p.timeline(e, attempts, audit, workers))),
	}}, nil
}

// workersOf reads who worked on an execution.
func (p *request) workersOf(e *storage.Execution, attempts []storage.Attempt) (map[storage.ID]storage.Worker, error) {
	var ids []storage.ID
	add := func(id storage.ID) {
		if !id.IsZero() && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	add(e.WorkerID)
	for i := range attempts {
		add(attempts[i].WorkerID)
	}
	all := map[storage.ID]storage.Worker{}
	if len(ids) == 0 {
		return all, nil
	}
	found, err := p.by.Store().Workers(p.ctx, ids...)
	for _, w := range found {
		all[w.ID] = w
	}
	return all, err
}

func (p *request) progress(e *storage.Execution) node {
	if e.Done == 0 {
		return list(nil)
	}
	if e.Total == 0 || e.State.Over() {
		return el("span", class("quiet"), textf("%s done", grouped(e.Done)))
	}
	left := text("")
	if d := e.Left(p.now); d > 0 {
		left = text(", about " + wording.Roughly(d) + " left")
	}
	return list{meter("progress", e.Done, e.Total), el("span", class("quiet"), textf("%s of %s", grouped(e.Done), grouped(e.Total)), left)}
}

func whyTitle(e *storage.Execution) string {
	switch {
	case e.State.Over():
		return "What became of it"
	case e.State == storage.Running:
		return "Who has it"
	}
	return "Why it is not running"
}

func (p *request) reasons(why *sequencer.Answer) node {
	var items list
	for i := range why.Reasons {
		r := &why.Reasons[i]
		var others list
		for _, id := range r.Others[:min(len(r.Others), 10)] {
			others = append(others, text(" "), p.idLink(id))
		}
		items = append(items, el("li", text(capital(r.Text)), others))
	}
	return el("ul", class("reasons"), items)
}

func (p *request) executionFacts(e *storage.Execution, asked *sequencer.Approval) node {
	question := node(text(""))
	if asked != nil {
		question = p.linkOf(asked.ID)
	}
	var tags list
	for _, tag := range e.Tags {
		tags = append(tags, el("a", class("tag"), p.to("/executions", "tag", tag), text(tag)))
	}
	build := ""
	if e.MinBuild > 0 {
		build = buildWord(e.MinBuild, "")
	}
	return facts(
		"Operation", p.nameLink(e.Name),
		"Queue", queueText(e.Queue),
		"Priority", grouped(e.Priority),
		"Asked for", fmt.Sprintf("%s, by %s", e.Method, e.Actor),
		"Dispatched", moment(e.CreatedAt),
		"Due", moment(e.DueAt),
		"Started", moment(e.StartedAt),
		"Ended", moment(e.FinishedAt),
		"Took", p.ran(e),
		"Deadline", moment(e.DeadlineAt),
		"Attempts", some(e.Attempts()),
		"Workers lost", some(e.Losses),
		"Tags", tags,
		"Flow", p.flowLink(e.FlowID),
		"Member", e.Member,
		"Undoes", p.idLink(e.Undoes),
		"Approval", question,
		"Unique key", e.UniqueKey,
		"Lowest build", build,
	)
}

// inputCard shows what the execution works on.
func (p *request) inputCard(e *storage.Execution) node {
	input, sealed := sequencer.StoredInput(e)
	switch {
	case sealed:
		return card("Input", el("p", class("quiet"), text("It is encrypted, and not shown here.")))
	case len(input) == 0 || string(input) == "null" || string(input) == "{}":
		return card("Input", el("p", class("quiet"), text("It has none.")))
	}
	const most = 64 << 10
	var pretty bytes.Buffer
	if json.Indent(&pretty, input, "", "  ") != nil {
		pretty.Reset()
		pretty.Write(input)
	}
	if pretty.Len() > most {
		pretty.Truncate(most)
		pretty.WriteString("\n…")
	}
	return card("Input", el("pre", attr{"tabindex", "0"}, text(legible(pretty.String()))))
}

// legible writes those characters as they are that JSON meant for a page spells out.
func legible(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		plain := map[string]string{`\u003c`: "<", `\u003e`: ">", `\u0026`: "&"}[s[i:min(i+6, len(s))]]
		if plain == "" {
			plain = s[i : i+2] // an escaped backslash begins nothing
			i++
		} else {
			i += 5
		}
		b.WriteString(plain)
	}
	return b.String()
}

// attemptCard shows the attempts that did not end well.
func (p *request) attemptCard(e *storage.Execution, attempts []storage.Attempt, workers map[storage.ID]storage.Worker) node {
	if len(attempts) == 0 {
		return card("Errors", el("p", class("quiet"), text("No attempt of it failed.")))
	}
	const most = 50
	_, sealed := sequencer.StoredInput(e)
	var items list
	for i := range slices.Backward(attempts) {
		a := &attempts[i]
		if len(items) == most {
			break
		}
		which := fmt.Sprintf("Attempt %d", a.Number)
		if a.Number == 0 {
			which = "Hook"
		}
		var more list
		if a.Trace != "" {
			more = append(more, el("details", el("summary", text("Stack")), el("pre", attr{"tabindex", "0"}, text(a.Trace))))
		}
		if a.Context != "" && !sealed { // of an encrypted one it is the sealed message
			more = append(more, el("details", el("summary", text("Context")), el("pre", attr{"tabindex", "0"}, text(a.Context))))
		}
		items = append(items, el("li",
			el("div", class("line"), el("strong", text(which)), el("span", class("state is-failed"), text(a.Outcome)),
				el("span", class("quiet"), p.ago(a.FinishedAt), textf(" · %s%s", took(a.FinishedAt.Sub(a.StartedAt)), onHost(workers, a.WorkerID)))),
			el("pre", class("message"), attr{"tabindex", "0"}, text(a.Message)),
			el("p", class("quiet"), el("code", text(a.Type))),
			more))
	}
	return card("Errors", el("ul", class("attempts"), items))
}

func onHost(workers map[storage.ID]storage.Worker, id storage.ID) string {
	if w, ok := workers[id]; ok {
		return fmt.Sprintf(" · on %s, process %d", w.Hostname, w.PID)
	}
	return ""
}

// timeline is what happened to it, in order.
func (p *request) timeline(e *storage.Execution, attempts []storage.Attempt, audit []storage.AuditEntry, workers map[storage.ID]storage.Worker) node {
	type entry struct {
		at   time.Time
		what string
	}
	all := []entry{{e.CreatedAt, fmt.Sprintf("Dispatched (%s) by %s", e.Method, e.Actor)}}
	if e.DueAt.After(e.CreatedAt.Add(time.Second)) {
		all = append(all, entry{e.DueAt, "Due"})
	}
	if !e.StartedAt.IsZero() {
		all = append(all, entry{e.StartedAt, "First attempt began" + onHost(workers, e.WorkerID)})
	}
	for i := range attempts {
		a := &attempts[i]
		all = append(all, entry{a.FinishedAt, fmt.Sprintf("Attempt %d ended: %s%s", a.Number, a.Outcome, onHost(workers, a.WorkerID))})
	}
	for _, a := range audit {
		why := ""
		if a.Reason != "" {
			why = ": " + a.Reason
		}
		all = append(all, entry{a.At, fmt.Sprintf("%s by %s%s", capital(a.Action), a.Actor, why)})
	}
	if !e.FinishedAt.IsZero() {
		all = append(all, entry{e.FinishedAt, capital(wording.State(e))})
	}
	slices.SortStableFunc(all, func(a, b entry) int { return a.at.Compare(b.at) })
	var items list
	for _, x := range all {
		items = append(items, el("li", exactly(x.at), el("span", text(x.what))))
	}
	return el("ol", class("timeline"), items)
}

func capital(s string) string {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return s
	}
	return string(s[0]-'a'+'A') + s[1:]
}
