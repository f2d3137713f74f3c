package sequencer

import (
	"github.com/gosequencer/sequencer/internal/graph"
	"github.com/gosequencer/sequencer/storage"
)

const methodGraph = "dependency_graph"

// DependencyGraph runs operations in waves (S24): the first depends on nothing that is
// open, each further one on those before it. A wave starts when the one before it is
// over, and its operations run side by side, as many as RunOptions.Slots allows. A
// migration is a wave of its own, and Async operations wait for what they depend on
// alone. A failure cancels what has not started, names its wave ([WaveError]), and
// undoes nothing.
func DependencyGraph() GraphOrchestrator { return GraphOrchestrator{} }

// GraphOrchestrator is what [DependencyGraph] makes.
type GraphOrchestrator struct{ eager, rollback bool }

// Eager starts an operation as soon as those it depends on are done, without waiting
// for their wave (S24.5).
func (g GraphOrchestrator) Eager() GraphOrchestrator {
	g.eager = true
	return g
}

// RollbackOnFailure undoes what completed when an operation fails, newest completion
// first, and so the last wave first (S24.6).
func (g GraphOrchestrator) RollbackOnFailure() GraphOrchestrator {
	g.rollback = true
	return g
}

// Name is "dependency_graph".
func (GraphOrchestrator) Name() string { return methodGraph }

// Arrange has each wave wait for the one before it.
func (g GraphOrchestrator) Arrange(p *Plan) (Arrangement, error) {
	a := Arrangement{Policy: storage.PolicyStop, After: make([][]int, len(p.Tasks))}
	if g.rollback {
		a.Policy = storage.PolicyCompensate
	}
	if g.eager {
		return a, nil
	}
	for first := 0; first < len(p.Tasks); {
		end := first
		for end < len(p.Tasks) && p.Tasks[end].Kind != storage.Migration {
			end++
		}
		waves(p, first, end, a.After)
		first = end + 1
	}
	return a, nil
}

// waves arranges the operations from first up to end, which no migration parts.
func waves(p *Plan, first, end int, after [][]int) {
	order := make([]int, end-first)
	for i := range order {
		order[i] = i
	}
	wave := graph.Waves(order, func(i int) []int {
		var needs []int
		for _, d := range p.Tasks[first+i].needs {
			if d >= first {
				needs = append(needs, d-first)
			}
		}
		return needs
	})
	var members [][]int // by wave
	for i, w := range wave {
		for len(members) <= w {
			members = append(members, nil)
		}
		if !p.Tasks[first+i].Async {
			members[w] = append(members[w], first+i)
		}
	}
	for i, w := range wave {
		for w--; w >= 0 && len(members[w]) == 0; w-- { // nothing but Async operations
		}
		if w >= 0 && !p.Tasks[first+i].Async {
			after[first+i] = members[w]
		}
	}
}
