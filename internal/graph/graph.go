// Package graph orders things that depend on one another. It is pure: no I/O, no
// knowledge of what the nodes are.
package graph

import "container/heap"

// Order sorts the nodes 0…n-1 so that each comes after everything it needs and,
// as far as that allows, in the order of less: a delayed node runs as early as it
// can (S3.5). needs(i) lists what node i needs. If that is impossible, order is
// nil and cycle is a path of nodes whose last needs the first. It takes
// O((V+E) log V).
func Order(n int, less func(a, b int) bool, needs func(i int) []int) (order, cycle []int) {
	open := make([]int, n)      // how many needs of i are not placed yet
	before := make([][]int, n)  // who needs i
	ready := &queue{less: less} // nodes with no open need
	for i := range n {
		for _, d := range needs(i) {
			before[d] = append(before[d], i)
			open[i]++
		}
	}
	for i := range n {
		if open[i] == 0 {
			ready.nodes = append(ready.nodes, i)
		}
	}
	heap.Init(ready)
	order = make([]int, 0, n)
	for ready.Len() > 0 {
		i := heap.Pop(ready).(int)
		order = append(order, i)
		for _, j := range before[i] {
			if open[j]--; open[j] == 0 {
				heap.Push(ready, j)
			}
		}
	}
	if len(order) == n {
		return order, nil
	}
	return nil, findCycle(open, needs)
}

// findCycle walks from any node that could not be placed along needs that could
// not be placed either; it must come back to a node it has seen.
func findCycle(open []int, needs func(i int) []int) []int {
	at := 0
	for open[at] == 0 {
		at++
	}
	seen := map[int]int{}
	var path []int
	for {
		if start, ok := seen[at]; ok {
			return path[start:]
		}
		seen[at] = len(path)
		path = append(path, at)
		for _, d := range needs(at) {
			if open[d] > 0 {
				at = d
				break
			}
		}
	}
}

// Waves gives each node the number of its wave: 0 for those that need nothing,
// else one more than the highest wave it needs. order must come from Order.
func Waves(order []int, needs func(i int) []int) []int {
	wave := make([]int, len(order))
	for _, i := range order {
		for _, d := range needs(i) {
			wave[i] = max(wave[i], wave[d]+1)
		}
	}
	return wave
}

type queue struct {
	nodes []int
	less  func(a, b int) bool
}

func (q *queue) Len() int           { return len(q.nodes) }
func (q *queue) Less(i, j int) bool { return q.less(q.nodes[i], q.nodes[j]) }
func (q *queue) Swap(i, j int)      { q.nodes[i], q.nodes[j] = q.nodes[j], q.nodes[i] }
func (q *queue) Push(x any)         { q.nodes = append(q.nodes, x.(int)) }
func (q *queue) Pop() any {
	last := q.nodes[len(q.nodes)-1]
	q.nodes = q.nodes[:len(q.nodes)-1]
	return last
}
