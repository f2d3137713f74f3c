package sequencer

import (
	"fmt"
	"slices"

	"github.com/gosequencer/sequencer/internal/graph"
	"github.com/gosequencer/sequencer/storage"
)

// Arrangement is the shape of a flow.
type Arrangement struct {
	Policy storage.FlowPolicy
	// After lists, for each task, the indexes of tasks that must be over before it
	// may start, however they ended; nil is "after nobody", for all of them. Two things
	// are added by themselves: dependencies, and the barrier around migrations, which
	// wait for what is before them in the plan and are waited for by what is behind
	// (Async tasks are not waited for). Several tasks that wait for the same many
	// share one slice, and then cost one edge each.
	After [][]int
}

// layout is an arrangement worked out. Nodes are the tasks of a plan by index, then
// the joins: each stands for the end of several tasks, for which several wait.
type layout struct {
	policy storage.FlowPolicy
	joins  int
	arcs   []arc // by to, then in the order of joining
	wide   int   // no more tasks than this can run at a time
}

// arc is an edge between nodes.
type arc struct {
	from, to int
	needs    bool
}

// arrange has an orchestrator arrange a plan, refuses what cannot be carried out, and
// keeps the result in it. An empty plan has no shape.
func (p *Plan) arrange(o Orchestrator) error {
	p.Method = o.Name()
	p.queueLater(o)
	if p.Empty() {
		return nil
	}
	shape, err := o.Arrange(p)
	if err == nil {
		err = shape.check(len(p.Tasks))
	}
	if err == nil {
		err = p.lay(shape)
	}
	if err != nil {
		return fmt.Errorf("orchestrator %s: %w", p.Method, err)
	}
	return nil
}

func (a *Arrangement) check(tasks int) error {
	switch a.Policy {
	case storage.PolicyStop, storage.PolicyContinue, storage.PolicyCompensate, storage.PolicyAtomic:
	default:
		return fmt.Errorf("it has the policy %q, which there is not", a.Policy)
	}
	if a.After != nil && len(a.After) != tasks {
		return fmt.Errorf("it arranges %d tasks, the plan has %d", len(a.After), tasks)
	}
	for i, list := range a.After {
		for _, d := range list {
			if d < 0 || d >= tasks {
				return fmt.Errorf("task %d is to wait for task %d, and there are %d", i, d, tasks)
			}
		}
	}
	return nil
}

// lay works a shape out.
func (p *Plan) lay(shape Arrangement) error {
	l := layer{plan: p, waits: p.waits(&shape), ahead: make([][]int, len(p.Tasks)), joined: map[shared]int{}, users: map[shared]int{}}
	l.layout.policy = shape.Policy
	for _, lists := range l.waits {
		for _, list := range lists {
			l.users[shareOf(list)]++
		}
	}
	order, cycle := l.order()
	if cycle != nil {
		return p.cycle(cycle)
	}
	for _, i := range order {
		if i < len(p.Tasks) {
			l.place(i)
		}
	}
	l.number()
	p.layout = &l.layout
	return nil
}

func (p *Plan) cycle(nodes []int) error {
	path := make([]string, 0, len(nodes)+1)
	for _, i := range nodes {
		if i < len(p.Tasks) {
			path = append(path, p.Tasks[i].Name)
		}
	}
	return &CycleError{Path: append(path, path[0])}
}

// waits lists for each task whom it waits for, apart from its dependencies: what the
// orchestrator says, and the barrier around migrations. A task that is in a line
// between two migrations is covered by its neighbours, unless others go on when one
// fails: then it can be over before its turn.
func (p *Plan) waits(shape *Arrangement) [][][]int {
	waits := make([][][]int, len(p.Tasks))
	segment := make([]int, len(p.Tasks)) // how many migrations are before it
	migrations := 0
	for i := range p.Tasks {
		segment[i] = migrations
		if p.Tasks[i].Kind == storage.Migration {
			migrations++
		}
	}
	line := shape.Policy != storage.PolicyContinue
	between := func(from, to int) bool {
		return line && segment[from] == segment[to] && p.Tasks[from].Kind != storage.Migration && p.Tasks[to].Kind != storage.Migration
	}
	ahead, behind := make([]bool, len(p.Tasks)), make([]bool, len(p.Tasks)) // somebody of its segment is
	for i := range p.Tasks {
		if shape.After == nil || len(shape.After[i]) == 0 {
			continue
		}
		waits[i] = append(waits[i], shape.After[i])
		for _, d := range shape.After[i] {
			if between(d, i) && !p.Tasks[d].Async {
				ahead[i] = true
				behind[d] = behind[d] || !p.Tasks[i].Async
			}
		}
	}
	last, open := -1, []int(nil) // the migration before, and what the next one waits for
	for i := range p.Tasks {
		t := &p.Tasks[i]
		if t.Kind != storage.Migration {
			if last >= 0 && !ahead[i] {
				waits[i] = append(waits[i], []int{last})
			}
			if !t.Async && !behind[i] {
				open = append(open, i)
			}
			continue
		}
		if last >= 0 {
			open = append(open, last)
		}
		if len(open) > 0 {
			waits[i] = append(waits[i], open)
		}
		last, open = i, nil
	}
	return waits
}

// layer is a layout in the making.
type layer struct {
	layout
	plan  *Plan
	waits [][][]int
	// ahead are, for each task, the nodes to wait for by whoever comes after it: all of
	// them over means that the task is, and whatever it comes after itself. That is not
	// the task alone if it depends on others: it is cancelled as soon as one of them
	// fails, long before its turn.
	ahead  [][]int
	joined map[shared]int // the join of a list that many share
	users  map[shared]int // how many do
}

// shared is the identity of a slice.
type shared struct {
	first *int
	n     int
}

func shareOf(list []int) shared { return shared{&list[0], len(list)} }

// many reports a list that is worth a join.
func (l *layer) many(list []int) bool { return len(list) > 2 && l.users[shareOf(list)] > 2 }

// order sorts the tasks so that each comes after those it waits for. A list that many
// share counts as one node, behind the tasks, or this would look at every pair.
func (l *layer) order() (order, cycle []int) {
	tasks := len(l.plan.Tasks)
	node := map[shared]int{}
	var lists [][]int
	ahead := make([][]int, tasks)
	for i := range tasks {
		ahead[i] = slices.Clone(l.plan.Tasks[i].needs)
		for _, list := range l.waits[i] {
			if !l.many(list) {
				ahead[i] = append(ahead[i], list...)
				continue
			}
			n, ok := node[shareOf(list)]
			if !ok {
				n = tasks + len(lists)
				node[shareOf(list)], lists = n, append(lists, list)
			}
			ahead[i] = append(ahead[i], n)
		}
	}
	ahead = append(ahead, lists...)
	return graph.Order(len(ahead), func(a, b int) bool { return a < b }, func(i int) []int { return ahead[i] })
}

// place adds a task whose predecessors have their place.
func (l *layer) place(i int) {
	t := &l.plan.Tasks[i]
	for _, d := range t.needs {
		l.arcs = append(l.arcs, arc{d, i, true})
	}
	var before []int
	for _, list := range l.waits[i] {
		before = union(before, l.before(list))
	}
	for _, d := range before {
		if !slices.Contains(t.needs, d) {
			l.arcs = append(l.arcs, arc{d, i, l.migration(d)})
		}
	}
	l.ahead[i] = []int{i}
	early := slices.ContainsFunc(t.needs, func(d int) bool { // it may be cancelled before its turn
		return !l.migration(d) && (len(before) != 1 || before[0] != d)
	})
	if len(before) == 0 || !early {
		return
	}
	if l.ahead[i] = union(l.ahead[i], before); len(l.ahead[i]) > 2 { // it would grow along a line
		l.ahead[i] = []int{l.join(l.ahead[i])}
	}
}

// before are the nodes that stand for a list of tasks.
func (l *layer) before(list []int) []int {
	var nodes []int
	share, many := shareOf(list), l.many(list)
	if many {
		if j, ok := l.joined[share]; ok {
			return []int{j}
		}
	}
	seen := map[int]bool{}
	for _, d := range list {
		for _, n := range l.ahead[d] {
			if !seen[n] {
				seen[n] = true
				nodes = append(nodes, n)
			}
		}
	}
	if many {
		l.joined[share] = l.join(nodes)
		return []int{l.joined[share]}
	}
	return nodes
}

// join makes a node that is over when others are.
func (l *layer) join(nodes []int) int {
	j := len(l.plan.Tasks) + l.joins
	l.joins++
	for _, n := range nodes {
		l.arcs = append(l.arcs, arc{from: n, to: j})
	}
	return j
}

// migration reports a node that whoever comes after it needs: on a schema that is not
// there nothing works, even where all else goes on.
func (l *layer) migration(n int) bool {
	return n < len(l.plan.Tasks) && l.plan.Tasks[n].Kind == storage.Migration
}

// number gives each task its wave, and bounds how many can run at a time. Arcs lead
// from nodes that are placed to the one that is being placed, so they are in order.
func (l *layer) number() {
	tasks := l.plan.Tasks
	wave := make([]int, len(tasks)+l.joins)
	for i := range tasks {
		wave[i] = 1
	}
	for _, a := range l.arcs {
		w := wave[a.from]
		if a.from < len(tasks) {
			w++
		}
		wave[a.to] = max(wave[a.to], w)
	}
	longest := 1
	for i := range tasks {
		tasks[i].Wave = wave[i]
		longest = max(longest, wave[i])
	}
	l.wide = len(tasks) - longest + 1
	for _, a := range l.arcs {
		if a.to < len(tasks) && !slices.Contains(tasks[a.to].needs, a.from) {
			tasks[a.to].After = append(tasks[a.to].After, l.name(a.from))
		}
	}
	for j := range l.joins {
		l.plan.Joins = append(l.plan.Joins, Join{Name: l.name(len(tasks) + j)})
	}
	for _, a := range l.arcs {
		if a.to >= len(tasks) {
			join := &l.plan.Joins[a.to-len(tasks)]
			join.After = append(join.After, l.name(a.from))
		}
	}
}

func (l *layer) name(n int) string {
	if n < len(l.plan.Tasks) {
		return l.plan.Tasks[n].Name
	}
	return fmt.Sprintf("join %d", n-len(l.plan.Tasks)+1)
}

// union is without doubles, if a and b are.
func union(a, b []int) []int {
	if len(a) == 0 {
		return b
	}
	for _, n := range b {
		if !slices.Contains(a, n) {
			a = append(a, n)
		}
	}
	return a
}
