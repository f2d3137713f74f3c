package sequencer_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gosequencer/sequencer"
)

func TestS197AnEvaluationAsksConditionsAndAmountsAndRunsNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	yes := func(context.Context) (bool, error) { return true, nil }
	l.op(first, nil, sequencer.When(yes), sequencer.Estimate(func(context.Context) (int64, error) { return 20_000, nil }))
	l.op(second, nil, sequencer.When(func(context.Context) (bool, error) { return false, nil }),
		sequencer.Estimate(func(context.Context) (int64, error) { return 0, errors.New("no such table: posts") }))
	l.op(third, nil, sequencer.Estimate(func(context.Context) (int64, error) { panic("here") }))
	const plain, elsewhere = "20240401000000_plain", "20240402000000_elsewhere"
	l.op(plain, nil)
	l.op(elsewhere, nil, sequencer.Environments("moon"), sequencer.When(yes))
	l.open()
	for _, task := range l.preview(sequencer.RunOptions{}).Tasks {
		if task.Evaluation != nil {
			t.Errorf("%s was asked without being told to", task.Name)
		}
	}
	runs, skips, rows := true, false, int64(20_000)
	want := map[string]*sequencer.Evaluation{
		first:  {Runs: &runs, Rows: &rows},
		second: {Runs: &skips, Error: "no such table: posts"},
		third:  {Error: "panic: here"},
		plain:  nil, elsewhere: nil,
	}
	got := map[string]*sequencer.Evaluation{}
	for _, task := range l.preview(sequencer.RunOptions{Evaluate: true}).Tasks {
		got[task.Name] = task.Evaluation
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	l.expect()
}
