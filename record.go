package sequencer

import (
	"context"
	"slices"

	"github.com/gosequencer/sequencer/storage"
)

// record is a dispatch, or a synchronous execution, with a Recorder.
func (s *Sequencer) record(ctx context.Context, ops []Operation, rows []storage.Execution) ([]Receipt, error) {
	receipts := make([]Receipt, len(rows))
	for i, row := range rows {
		reg, value, _, err := s.reg.resolve(ops[i])
		if err != nil {
			return nil, err
		}
		input, err := reg.encode(value, s.cfg.MaxInput)
		if err != nil {
			return nil, err
		}
		fresh, err := reg.decode(input)
		if err != nil {
			return nil, err
		}
		receipts[i] = Receipt{ID: row.ID.String()}
		if s.recordable(ctx, reg, fresh) {
			s.cfg.Recorder.Record(row.Name, value)
		}
	}
	return receipts, nil
}

// recordPlan is Process with a Recorder.
func (s *Sequencer) recordPlan(ctx context.Context, plan *Plan, err error) (*Report, error) {
	if err != nil {
		return nil, err
	}
	for _, name := range plan.operations() {
		reg, ok := s.reg.lookup(name)
		if !ok {
			continue
		}
		op, err := reg.fresh()
		if err != nil {
			return nil, err
		}
		if s.recordable(ctx, reg, op) {
			s.cfg.Recorder.Record(name, op)
		}
	}
	return &Report{Method: plan.Method, State: storage.Completed, Plan: plan}, nil
}

// recordable reports whether a fresh value would get as far as its handler (S33.5).
func (s *Sequencer) recordable(ctx context.Context, reg *registration, op Operation) bool {
	if all, ok := s.cfg.Recorder.(interface{ RecordsAll() bool }); ok && all.RecordsAll() {
		return true
	}
	list, declared, err := reg.environments(op)
	if err == nil && declared && !slices.Contains(list, s.cfg.Environment) {
		return false
	}
	should := reg.condition(op)
	if should == nil {
		return true
	}
	runs := true
	err = guarded(func() (err error) {
		runs, err = should(ctx)
		return err
	})
	if err != nil {
		return IsFailure(err)
	}
	return runs
}
