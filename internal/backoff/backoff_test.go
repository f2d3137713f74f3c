package backoff_test

import (
	"testing"
	"time"

	"github.com/gosequencer/sequencer/internal/backoff"
)

func TestDelay(t *testing.T) {
	t.Parallel()
	list := []time.Duration{1, 5, 10}
	for _, c := range []struct {
		name  string
		steps []time.Duration
		want  []time.Duration // after trouble 1, 2, …
	}{
		{"S12.2 none declared: at once", nil, []time.Duration{0, 0}},
		{"S12.2 one value: the same each time", []time.Duration{7}, []time.Duration{7, 7, 7}},
		{"Q1.23 a list: the last entry repeats", list, []time.Duration{1, 5, 10, 10, 10}},
	} {
		for i, want := range c.want {
			if got := backoff.Delay(c.steps, i+1); got != want {
				t.Errorf("%s: after trouble %d got %d, want %d", c.name, i+1, got, want)
			}
		}
	}
	if got := backoff.Delay(list, 0); got != 0 {
		t.Errorf("no trouble yet: got %d, want 0", got)
	}
}
