package dashboard

import (
	"fmt"
	"time"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/internal/wording"
	"github.com/gosequencer/sequencer/storage"
)

var deployKinds = []storage.FlowKind{storage.FlowRun, storage.FlowRollback}

func runName(f *storage.Flow) string {
	if f.Kind == storage.FlowRollback {
		return "Rollback " + shortID(f.ID.String())
	}
	return "Run " + shortID(f.ID.String())
}

// deploys are the runs and rollbacks, newest first, and what the next run would do.
func deploys(p *request) (page, error) {
	runs, err := p.by.Store().Flows(p.ctx, storage.FlowFilter{Kinds: deployKinds, Limit: pageLength})
	if err != nil {
		return page{}, err
	}
	rows := make([]list, len(runs))
	for i := range runs {
		f := &runs[i]
		rows[i] = list{
			el("a", class("whole"), p.to("/deploys/"+f.ID.String()), attr{"title", f.ID.String()}, text(runName(f))), plainState(f.State), text(f.Method),
			meter("tasks that ended", int64(f.Total-f.Open()), int64(f.Total)), text(grouped(f.Total)), some(f.Failed + f.Interrupted), some(f.UndoCompleted),
			p.ago(f.CreatedAt), text(p.elapsedOf(f.CreatedAt, f.FinishedAt)), el("span", class("whole"), text(f.Actor)), text(f.Host), text(buildWord(f.Build, "")),
		}
	}
	plan, err := p.by.Preview(p.ctx, sequencer.RunOptions{})
	if err != nil { // what is wrong with the plan keeps nobody from looking at the past
		return page{title: "Deploys", nav: "Deploys", body: list{card("Next run", el("p", class("bad"), text(err.Error()))), p.runTable(rows)}}, nil //nolint:nilerr // it is shown
	}
	return page{title: "Deploys", nav: "Deploys", body: list{
		live("next", card("Next run", p.nextRun(plan))),
		p.runTable(rows),
	}}, nil
}

func (p *request) runTable(rows []list) node {
	return live("runs", table("Runs and rollbacks", "There was no deploy yet.",
		[]string{"Run", "State", "Method", "Done", "#Tasks", "#Failed", "#Undone", "Began", "#Took", "By", "Host", "Build"}, rows))
}

// nextRun is what a run would do now.
func (p *request) nextRun(plan *sequencer.Plan) node {
	const most = 20
	if len(plan.Tasks) == 0 {
		return el("p", class("quiet"), text("Nothing is pending."))
	}
	var items list
	for i := range plan.Tasks[:min(len(plan.Tasks), most)] {
		t := &plan.Tasks[i]
		why := ""
		if t.Last != "" {
			why = " · last " + string(t.Last)
		}
		switch {
		case t.ApprovedBy != "" && t.Approved:
			why += " · approved for " + t.ApprovedBy
		case t.ApprovedBy != "":
			why += " · needs approval by " + t.ApprovedBy
		}
		items = append(items, el("li", el("span", text(t.Name)), el("span", class("quiet"), text(" "+wording.Kind(t.Kind)+why))))
	}
	if n := len(plan.Tasks) - most; n > 0 {
		items = append(items, el("li", class("quiet"), textf("and %s more", grouped(n))))
	}
	return list{el("p", textf("%s pending:", plural(len(plan.Tasks), "task"))), el("ol", class("plan"), items)}
}

// deploy is the timeline of one run: migrations and operations as they followed each
// other.
func deploy(p *request) (page, error) {
	id, err := storage.ParseID(p.r.PathValue("id"))
	if err != nil {
		return page{}, fmt.Errorf("%w: %w", storage.ErrNotFound, err)
	}
	found, err := p.by.Store().Flows(p.ctx, storage.FlowFilter{IDs: []storage.ID{id}})
	if err != nil {
		return page{}, err
	}
	if len(found) == 0 {
		return page{}, fmt.Errorf("run %s: %w", id, storage.ErrNotFound)
	}
	f := &found[0]
	h, err := p.by.Flow(p.ctx, id.String())
	if err != nil {
		return page{}, err
	}
	waits, timeline, err := p.tasksOf(f, h)
	if err != nil {
		return page{}, err
	}
	return page{title: runName(f), nav: "Deploys", body: list{
		live("standing", el("div", class("standing"), plainState(f.State), meter("tasks that ended", int64(f.Total-f.Open()), int64(f.Total)),
			el("a", class("plain"), p.to("/flows/"+f.ID.String()), text("As a graph"))), reasonOf(f.Reason)),
		waits,
		live("facts", card("Facts", facts(
			"Method", f.Method, "By", f.Actor, "Host", f.Host, "Build", buildWord(f.Build, ""), "Began", moment(f.CreatedAt), "Ended", moment(f.FinishedAt),
			"Took", p.elapsedOf(f.CreatedAt, f.FinishedAt), "Tasks", grouped(f.Total), "Completed", some(f.Completed), "Failed", some(f.Failed),
			"Failed, allowed to", some(f.FailedAllowed), "Skipped", some(f.Skipped), "Cancelled", some(f.Cancelled), "Interrupted", some(f.Interrupted), "Undone", some(f.UndoCompleted),
			"Undoing failed", some(f.UndoFailed)))),
		timeline,
	}}, nil
}

// tasksOf draws a run that is small enough to be read whole, with the flows inside it and
// what undoes its tasks, and the approvals it waits for; of a larger one the tasks are listed
// a page at a time.
func (p *request) tasksOf(f *storage.Flow, h *sequencer.Flow) (waits, timeline node, err error) {
	nest, err := p.by.Store().Flows(p.ctx, storage.FlowFilter{Root: f.ID, Limit: drawn + 1})
	if err != nil {
		return nil, nil, err
	}
	rows := len(nest)
	for i := range nest {
		rows += nest[i].Total + nest[i].UndoTotal
	}
	if rows-1 > drawn { // the run itself is no row
		st, err := h.Status(p.ctx)
		if err != nil {
			return nil, nil, err
		}
		timeline, err = p.largeFlow(&st)
		return live("approvals"), timeline, err
	}
	t, err := h.Tree(p.ctx)
	if err != nil {
		return nil, nil, err
	}
	waits, err = p.runApprovals(t)
	return waits, live("timeline", card("Timeline", p.runTimeline(f, t))), err
}

// runTimeline draws when each task ran, as a share of the whole run.
func (p *request) runTimeline(f *storage.Flow, t *sequencer.FlowTree) node {
	end := f.FinishedAt
	if end.IsZero() {
		end = p.now
	}
	at, columns, _ := layers(t.Members)
	heads := []string{"Task", "Type", "State", "When", "#Took", "Remark"}
	waves := f.Method == "dependency_graph" && columns > 1
	if waves {
		heads = append(heads[:2:2], append([]string{"#Wave"}, heads[2:]...)...)
	}
	var rows []list
	var add func(t *sequencer.FlowTree, inside string)
	add = func(t *sequencer.FlowTree, inside string) {
		everyMember(t, func(m *sequencer.FlowMember) {
			if m.Kind == storage.Nested && (m.Flow == nil || m.Flow.Total == 0) {
				return // it only keeps others apart
			}
			row := list{el("a", p.to("/executions/"+m.ID.String()), text(inside+memberName(m))), text(roleOf(m))}
			if waves {
				row = append(row, text(grouped(at[m.ID].column+1)))
			}
			rows = append(rows, append(row, stateOf(&m.Execution), stretch(f.CreatedAt, end, m.StartedAt, m.FinishedAt, p.now, string(m.State)),
				text(p.ran(&m.Execution)), el("span", class("clip quiet"), text(wording.Remark(&m.Execution)))))
			if m.Flow != nil {
				add(m.Flow, inside+"› ")
			}
		})
	}
	add(t, "")
	return table("Tasks of the run, in order", "It had no tasks.", heads, rows)
}

// stretch draws the part of a time that something took.
func stretch(from, to, began, ended, now time.Time, look string) node {
	if began.IsZero() || !to.After(from) {
		return text("")
	}
	if ended.IsZero() {
		ended = now
	}
	whole := float64(to.Sub(from))
	x := min(max(float64(began.Sub(from))/whole*100, 0), 99)
	w := min(max(float64(ended.Sub(began))/whole*100, 1), 100-x)
	return el("svg", class("stretch is-"+look), attr{"viewBox", "0 0 100 8"}, attr{"preserveAspectRatio", "none"}, attr{"aria-hidden", "true"},
		el("rect", class("track"), num("x", 0), num("y", 3), num("width", 100), num("height", 2)),
		el("rect", class("part"), num("x", x), num("y", 0), num("width", w), num("height", 8)))
}
