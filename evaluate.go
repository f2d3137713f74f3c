package sequencer

import (
	"context"
	"errors"
	"fmt"

	"github.com/gosequencer/sequencer/storage"
)

// Evaluation is what an operation says of itself before its turn, see
// RunOptions.Evaluate. It may say something else then.
type Evaluation struct {
	Runs  *bool  `json:"runs,omitempty"`  // what ShouldRun answers; nil = it has no condition
	Rows  *int64 `json:"rows,omitempty"`  // what Estimate answers; nil = it cannot tell
	Error string `json:"error,omitempty"` // why it could not answer, for example because a migration before it makes the table
}

// evaluate asks the operations of a plan what they would do. It goes on after errors:
// an operation may not be able to answer before those ahead of it have run.
func (s *Sequencer) evaluate(ctx context.Context, plan *Plan) error {
	for i := range plan.Tasks {
		t := &plan.Tasks[i]
		reg, ok := s.reg.lookup(t.Name)
		if !ok || t.Kind != storage.Ordered || t.Elsewhere {
			continue
		}
		op, err := reg.fresh()
		if err != nil {
			return err
		}
		ctx := context.WithValue(ctx, prospectKey{}, prospect{s, reg})
		var e Evaluation
		var problems []error
		if should := reg.condition(op); should != nil {
			problems = append(problems, guarded(func() error {
				runs, err := should(ctx)
				if err == nil {
					e.Runs = &runs
				}
				return err
			}))
		}
		if count := reg.estimate(op); count != nil {
			problems = append(problems, guarded(func() error {
				rows, err := count(ctx)
				if err == nil {
					e.Rows = &rows
				}
				return err
			}))
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := errors.Join(problems...); err != nil {
			e.Error = s.redact(err.Error())
			if reg.encrypted {
				e.Error = fmt.Sprintf("%T (the text is withheld: the operation is encrypted)", err)
			}
		}
		if len(problems) > 0 {
			t.Evaluation = &e
		}
	}
	return nil
}
