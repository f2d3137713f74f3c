package dashboard

import (
	"fmt"
	"strings"

	"github.com/gosequencer/sequencer"
	"github.com/gosequencer/sequencer/storage"
)

// A flow is drawn in columns: a member stands one column behind the last of those it
// comes after. What is nested is one box, and a flow of its own behind it; callbacks
// stand in the last column.

// Measures of the drawing, in its own units.
const (
	boxWide, boxHigh = 216, 46
	gapWide, gapHigh = 56, 16
)

// place is where a member stands.
type place struct{ column, row int }

func (at place) xy() (x, y int) { return at.column * (boxWide + gapWide), at.row * (boxHigh + gapHigh) }

// layers puts members into columns.
func layers(members []sequencer.FlowMember) (at map[storage.ID]place, columns, rows int) {
	byID := map[storage.ID]*sequencer.FlowMember{}
	for i := range members {
		byID[members[i].ID] = &members[i]
	}
	depth := map[storage.ID]int{}
	var deep func(m *sequencer.FlowMember) int
	deep = func(m *sequencer.FlowMember) int {
		if d, done := depth[m.ID]; done {
			return d
		}
		depth[m.ID] = 0 // a circle, which the ledger never holds, would end here
		d := 0
		for _, from := range m.After {
			if before := byID[from]; before != nil {
				d = max(d, deep(before)+1)
			}
		}
		depth[m.ID] = d
		return d
	}
	at = map[storage.ID]place{}
	high := map[int]int{}
	for i := range members {
		column := deep(&members[i])
		at[members[i].ID] = place{column, high[column]}
		high[column]++
		columns, rows = max(columns, column+1), max(rows, high[column])
	}
	return at, columns, rows
}

// graph draws a flow.
func (p *request) graph(t *sequencer.FlowTree) node {
	at, columns, rows := layers(t.Members)
	everything := append([]sequencer.FlowMember(nil), t.Members...)
	last := columns
	add := func(members []sequencer.FlowMember) {
		if len(members) == 0 {
			return
		}
		for i := range members {
			at[members[i].ID] = place{last, i}
			rows = max(rows, i+1)
		}
		everything = append(everything, members...)
		last++
	}
	add(t.Rollbacks)
	add(t.Callbacks)
	if len(everything) == 0 {
		return el("p", class("empty"), text("It has no members."))
	}
	var lines, boxes list
	for i := range everything {
		m := &everything[i]
		to := at[m.ID]
		for _, id := range m.After {
			if from, there := at[id]; there {
				lines = append(lines, arrow(from, to))
			}
		}
		boxes = append(boxes, p.box(m, to))
	}
	wide, high := last*(boxWide+gapWide)-gapWide+2, rows*(boxHigh+gapHigh)-gapHigh+2
	return el("div", class("scroll"), attr{"tabindex", "0"}, attr{"aria-label", "Drawing of the flow"},
		el("svg", class("graph"), attr{"viewBox", fmt.Sprintf("-1 -1 %d %d", wide, high)}, num("width", float64(wide)), num("height", float64(high)),
			attr{"role", "group"}, lines, boxes))
}

func arrow(from, to place) node {
	x1, y1 := from.xy()
	x2, y2 := to.xy()
	x1, y1, y2 = x1+boxWide, y1+boxHigh/2, y2+boxHigh/2
	bend := (x2 - x1) / 2
	return el("path", class("edge"), attr{"d", fmt.Sprintf("M%d %d C%d %d %d %d %d %d", x1, y1, x1+bend, y1, x2-bend, y2, x2, y2)})
}

func (p *request) box(m *sequencer.FlowMember, at place) node {
	x, y := at.xy()
	to := p.to("/executions/" + m.ID.String())
	second := strings.ReplaceAll(string(m.State), "_", " ")
	if m.Flow != nil {
		to = p.to("/flows/" + m.Flow.ID)
		second = fmt.Sprintf("%s, %d of %d", second, m.Flow.Total-m.Flow.Pending-m.Flow.Running, m.Flow.Total)
	}
	look := "box is-" + string(m.State)
	switch m.Kind { //nolint:exhaustive // the others have no look of their own
	case storage.KindCallback:
		look, second = look+" callback", m.Method+": "+second
	case storage.Undo:
		look, second = look+" callback", "rollback: "+second
	}
	return el("a", to, class(look),
		el("title", text(memberName(m)+": "+second)),
		el("rect", num("x", float64(x)), num("y", float64(y)), num("width", boxWide), num("height", boxHigh), attr{"rx", "8"}),
		el("circle", num("cx", float64(x+16)), num("cy", float64(y+17)), attr{"r", "4"}),
		el("text", num("x", float64(x+28)), num("y", float64(y+21)), text(clipped(memberName(m), 22))),
		el("text", class("second"), num("x", float64(x+28)), num("y", float64(y+37)), text(clipped(second, 26))))
}

// clipped is a text that fits into a box.
func clipped(s string, most int) string {
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most-1]) + "…"
}
