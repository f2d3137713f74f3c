package main

import "testing"

func TestFlowsOfEveryShapeAreWorkedOffOnEveryStore(t *testing.T) {
	t.Parallel()
	for _, c := range ours {
		t.Run(c.store, func(t *testing.T) {
			t.Parallel()
			for _, p := range places {
				if p.store == c.store {
					needServer(t, p)
				}
			}
			for _, s := range shapes {
				readings, err := flowBesidePlain(t.Context(), c, s, 250)
				if err != nil || len(readings) < 3 {
					t.Errorf("%s: %d figures, %v", s, len(readings), err)
				}
			}
			if readings, err := flowGrowing(t.Context(), c, shapeWaves, []int{10, 20}); err != nil || len(readings) != 8 {
				t.Errorf("%d figures of growth, %v; want 8", len(readings), err)
			}
		})
	}
	if _, err := flowBesidePlain(t.Context(), goqitePeer, shapeBatch, 10); err == nil {
		t.Error("a peer without flows has figures for them")
	}
}
