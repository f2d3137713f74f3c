package graph_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/gosequencer/sequencer/internal/graph"
)

func order(needs map[int][]int, n int) (order, cycle []int) {
	return graph.Order(n, func(a, b int) bool { return a < b }, func(i int) []int { return needs[i] })
}

func TestOrder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		n     int
		needs map[int][]int
		want  []int
	}{
		{"S9.6 nothing sorts to nothing", 0, nil, []int{}},
		{"S9.6 independent nodes keep their order", 3, nil, []int{0, 1, 2}},
		{"S9.1 a need wins over the order", 3, map[int][]int{0: {2}}, []int{1, 2, 0}},
		{"S3.5 a delayed node runs as early as it can", 4, map[int][]int{0: {1}}, []int{1, 0, 2, 3}},
		{"S9.6 diamond", 4, map[int][]int{1: {0}, 2: {0}, 3: {1, 2}}, []int{0, 1, 2, 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, cycle := order(c.needs, c.n)
			if cycle != nil || !slices.Equal(got, c.want) {
				t.Errorf("Order = %v, cycle %v; want %v", got, cycle, c.want)
			}
		})
	}
}

func TestCyclesArePrintedAsAPath(t *testing.T) {
	t.Parallel()
	_, cycle := order(map[int][]int{0: {1}, 1: {2}, 2: {1}}, 3)
	if len(cycle) != 2 || !slices.Contains(cycle, 1) || !slices.Contains(cycle, 2) {
		t.Errorf("S9.4: cycle = %v, want 1 and 2", cycle)
	}
	if _, self := order(map[int][]int{0: {0}}, 1); !slices.Equal(self, []int{0}) {
		t.Errorf("S9.6: a node that needs itself gives %v, want [0]", self)
	}
}

func TestRandomGraphsAgainstABruteForceCheck(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "n")
		needs := map[int][]int{}
		for range rapid.IntRange(0, 20).Draw(t, "edges") {
			i, d := rapid.IntRange(0, n-1).Draw(t, "from"), rapid.IntRange(0, n-1).Draw(t, "to")
			needs[i] = append(needs[i], d)
		}
		got, cycle := order(needs, n)
		if cycle != nil {
			for k, i := range cycle {
				if next := cycle[(k+1)%len(cycle)]; !slices.Contains(needs[i], next) {
					t.Fatalf("cycle %v: %d does not need %d", cycle, i, next)
				}
			}
			return
		}
		place := map[int]int{}
		for at, i := range got {
			place[i] = at
		}
		for i, ds := range needs {
			for _, d := range ds {
				if place[d] >= place[i] {
					t.Fatalf("order %v: %d comes before %d, which it needs", got, i, d)
				}
			}
		}
		waves := graph.Waves(got, func(i int) []int { return needs[i] })
		for i, ds := range needs {
			for _, d := range ds {
				if waves[d] >= waves[i] {
					t.Fatalf("S24.2: %d is in wave %d with %d, which it needs", i, waves[i], d)
				}
			}
		}
	})
}
